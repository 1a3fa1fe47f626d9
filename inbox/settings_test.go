package inbox_test

import (
	"reflect"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

func TestSettingCell(t *testing.T) {
	for _, s := range []pim.Setting{
		{Command: pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bob"), Known: 3}, At: 4},
		{Command: pim.Command{Kind: pim.CommandContact, Subject: "bob", Removed: true}, At: 7, Deleted: 7, By: "phone"},
		{Command: pim.Command{Kind: pim.CommandMute, Subject: "g:x", Until: 99}, At: 1},
		{Command: pim.Command{Kind: pim.CommandRead, Subject: "d:a:b", Seq: 100, Count: 90}, At: 2},
	} {
		cell := inbox.SettingCell(&s)
		got, err := inbox.ParseSetting(cell)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v, %v; want %+v", got, err, s)
		}
		if want := max(uint64(s.At), uint64(s.Seq)); cell.Version != want || cell.Key != s.Entity() {
			t.Errorf("cell %q of version %d, want %d", cell.Key, cell.Version, want)
		}
	}
}

func FuzzParseSetting(f *testing.F) {
	s := pim.Setting{Command: pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bob")}, At: 4, By: "d"}
	cell := inbox.SettingCell(&s)
	f.Add(cell.Key, cell.Value)
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s, err := inbox.ParseSetting(store.Cell{Key: key, Value: value})
		if err != nil {
			if pim.KindOf(err) != pim.KindCorrupt {
				t.Fatalf("an error of kind %s", pim.KindOf(err))
			}
			return
		}
		again, err := inbox.ParseSetting(inbox.SettingCell(&s))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}
