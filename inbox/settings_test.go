package inbox_test

import (
	"bytes"
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
		cell := inbox.SettingCell(&s, inbox.SettingVersion(&s))
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
	for _, version := range []uint64{4, store.MaxVersion} {
		cell := inbox.SettingCell(&s, version)
		f.Add(cell.Key, cell.Value)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s, err := inbox.ParseSetting(store.Cell{Key: key, Value: value})
		if err != nil {
			if pim.KindOf(err) != pim.KindCorrupt {
				t.Fatalf("an error of kind %s", pim.KindOf(err))
			}
			return
		}
		for _, version := range []uint64{inbox.SettingVersion(&s), store.MaxVersion} {
			again, err := inbox.ParseSetting(inbox.SettingCell(&s, version))
			if err != nil || !reflect.DeepEqual(again, s) {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
	})
}

// A cell of the greatest version is replaced by a greater value alone. So a later setting must
// have one, also if an earlier version of pim wrote the cell, whose values began with a uvarint.
func TestSettingsOfTheLastVersionReplaceEachOther(t *testing.T) {
	read := pim.Command{Kind: pim.CommandRead, Subject: "d:a:b", Seq: 1<<64 - 1}
	if v := inbox.SettingVersion(&pim.Setting{Command: read, At: 1}); v != store.MaxVersion {
		t.Errorf("the version of a position beyond all is %d", v)
	}
	ats := []pim.Seq{1, 2, 127, 128, 129, 255, 256, 257, 16383, 16384, 1 << 32, store.MaxVersion - 1, store.MaxVersion}
	for i, at := range ats {
		value := inbox.SettingCell(&pim.Setting{Command: read, At: at}, store.MaxVersion).Value
		for _, other := range ats {
			old := inbox.SettingCell(&pim.Setting{Command: read, At: other}, 1).Value
			if bytes.Compare(value, old) <= 0 {
				t.Errorf("that of seq %d does not replace one that an earlier version wrote at seq %d", at, other)
			}
		}
		for _, before := range ats[:i] {
			if bytes.Compare(value, inbox.SettingCell(&pim.Setting{Command: read, At: before}, store.MaxVersion).Value) <= 0 {
				t.Errorf("that of seq %d does not replace that of seq %d", at, before)
			}
		}
		set, err := inbox.ParseSetting(store.Cell{Key: read.Entity(), Version: store.MaxVersion, Value: value})
		if want := (pim.Setting{Command: read, At: at}); err != nil || !reflect.DeepEqual(set, want) {
			t.Errorf("got %+v, %v; want %+v", set, err, want)
		}
	}
}
