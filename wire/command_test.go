package wire

import (
	"reflect"
	"testing"

	"github.com/pim-im/pim"
)

func FuzzParseCommand(f *testing.F) {
	for _, c := range []pim.Command{
		{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bob"), Known: 7},
		{Kind: pim.CommandBlock, Subject: "eve", Removed: true},
		{Kind: pim.CommandMute, Subject: "g:x", Until: 1 << 50},
		{Kind: pim.CommandRead, Subject: "d:a:b", Seq: 1 << 60, Count: 9},
	} {
		data := AppendCommand(nil, &c)
		if got, err := ParseCommand(data); err != nil || !reflect.DeepEqual(got, c) {
			f.Errorf("%+v became %+v, %v", c, got, err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCommand(data)
		if err != nil {
			if pim.KindOf(err) == pim.KindUnknown {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		again, err := ParseCommand(AppendCommand(nil, &c))
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}
