package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// What is encoded comes back, a reaction that was taken back, too.
func TestFoldIsEncoded(t *testing.T) {
	for _, f := range []pim.Fold{
		{Target: 7},
		{Target: 7, Upto: 12, Recall: pim.Mark{Seq: 12, By: "alice", Time: 1700000000150}},
		{
			Target: 7, Upto: 9,
			Edit: pim.Edit{Seq: 8, By: "alice", Time: 1700000000150, Payload: []byte("hello")},
			Pin:  pim.Mark{Seq: 10, By: "bob", Time: 1700000000200, Removed: true},
			Reactions: []pim.Reaction{
				{Text: "🎉", User: "alice", Seq: 12}, {Text: "👍", User: "alice", Seq: 9}, {Text: "👍", User: "bob", Seq: 11, Removed: true},
			},
		},
	} {
		data := wire.AppendFold(nil, &f)
		got, err := wire.ParseFold(data)
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%x is %+v, %v, want %+v", data, got, err, f)
		}
		if again := wire.AppendFold(nil, &got); !bytes.Equal(again, data) {
			t.Errorf("encoded again it is %x, before %x", again, data)
		}
	}
}

func TestFoldThatIsNone(t *testing.T) {
	disorder := pim.Fold{Target: 7, Reactions: []pim.Reaction{{Text: "b", User: "bob", Seq: 9}, {Text: "a", User: "bob", Seq: 8}}}
	twice := pim.Fold{Target: 7, Reactions: []pim.Reaction{{Text: "a", User: "bob", Seq: 9}, {Text: "a", User: "bob", Seq: 8}}}
	for name, data := range map[string][]byte{
		"garbage":           {0xff},
		"no target":         wire.AppendFold(nil, &pim.Fold{Upto: 3}),
		"texts in no order": wire.AppendFold(nil, &disorder),
		"a user twice":      wire.AppendFold(nil, &twice),
	} {
		if f, err := wire.ParseFold(data); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

func FuzzParseFold(f *testing.F) {
	f.Add(wire.AppendFold(nil, &pim.Fold{Target: 7, Upto: 9, Reactions: []pim.Reaction{{Text: "a", User: "bob", Seq: 8}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		fold, err := wire.ParseFold(data)
		if err != nil {
			return
		}
		again, err := wire.ParseFold(wire.AppendFold(nil, &fold))
		if err != nil {
			t.Fatal(err)
		}
		fold.Merge(&again)
	})
}
