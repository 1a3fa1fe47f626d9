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

// An answer need not say that a read was shown, and must say whatever else the server has written.
func TestSentAs(t *testing.T) {
	sent := pim.Command{Kind: pim.CommandRead, Subject: "d:alice:bob", Seq: 3, Count: 2, Known: 7}
	for name, c := range map[string]struct {
		write func(*pim.Command)
		want  bool
	}{
		"as it was sent": {func(*pim.Command) {}, true},
		"shown":          {func(c *pim.Command) { c.Shown = true }, true},
		"another count":  {func(c *pim.Command) { c.Count = 3 }, false},
		"mentioned":      {func(c *pim.Command) { c.All, c.Shown = 1, true }, false},
		"replaces":       {func(c *pim.Command) { c.Replaces = true }, false},
	} {
		written := sent
		c.write(&written)
		if got := SentAs(AppendCommand(nil, &written), AppendCommand(nil, &sent)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
