package pim_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/conformance"
	"pgregory.net/rapid"
)

// Worked cases that every SDK can run: the commands of one entity in the order of
// the log, and the setting that follows from them.
func TestCommandCases(t *testing.T) {
	const path = "testdata/commands.json"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name     string
		Commands []struct {
			At, Known, Seq pim.Seq
			Device         pim.DeviceID
			Kind, Subject  string
			Value          string
			Removed        bool
			Until          pim.Millis
			Count          uint64
			Replaces       bool
		}
		Want struct {
			At, Seq pim.Seq
			Value   string
			Removed bool
			Until   pim.Millis
			Count   uint64
		}
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]pim.CommandKind{}
	for k := pim.CommandContact; k <= pim.CommandNoPresence; k++ {
		kinds[k.String()] = k
	}
	for _, c := range cases {
		var s pim.Setting
		for _, x := range c.Commands {
			cmd := pim.Command{
				Kind: kinds[x.Kind], Subject: x.Subject, Removed: x.Removed, Value: []byte(x.Value),
				Until: x.Until, Seq: x.Seq, Count: x.Count, Known: x.Known, Replaces: x.Replaces,
			}
			if err := cmd.Validate(); err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			s.Apply(&cmd, x.At, x.Device)
		}
		w := &c.Want
		if s.At != w.At || string(s.Value) != w.Value || s.Removed != w.Removed || s.Seq != w.Seq || s.Until != w.Until || s.Count != w.Count {
			t.Errorf("%s: came to %+v, want %+v", c.Name, s, *w)
		}
		conformance.Ran(t, path, c.Name)
	}
}

// Versions that do not know a kind after read keep its entities under its number, and so do those
// that know it.
func TestEntitiesOfLaterKinds(t *testing.T) {
	for want, c := range map[string]pim.Command{
		"read/g:x": {Kind: pim.CommandRead, Subject: "g:x"},
		"7/alice":  {Kind: pim.CommandNoReceipts, Subject: "alice"},
		"8/alice":  {Kind: pim.CommandNoPresence, Subject: "alice"},
		"99/x":     {Kind: 99, Subject: "x"},
	} {
		if got := c.Entity(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

type given struct {
	c  pim.Command
	by pim.DeviceID
}

// commandLog draws the commands of one entity, at seqs 1, 2, 3 …
func commandLog(t *rapid.T) []given {
	kind := rapid.SampledFrom([]pim.CommandKind{pim.CommandContact, pim.CommandRead, pim.CommandNoReceipts, pim.CommandNoPresence}).Draw(t, "kind")
	var log []given
	for i := range rapid.IntRange(1, 12).Draw(t, "n") {
		c := pim.Command{Kind: kind, Subject: "x", Known: pim.Seq(rapid.IntRange(0, i).Draw(t, "known"))}
		if kind == pim.CommandRead {
			c.Seq = pim.Seq(rapid.IntRange(1, 9).Draw(t, "seq"))
		} else {
			c.Removed = rapid.Bool().Draw(t, "removed")
		}
		log = append(log, given{c, pim.DeviceID(fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "device")))})
	}
	return log
}

// After a whole log, the command in force is the one that the rules of the protocol
// page name.
func TestCommandsByTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := commandLog(t)
		var s pim.Setting
		for i, g := range log {
			s.Apply(&g.c, pim.Seq(i+1), g.by)
		}
		if want := inForce(log); s.At != want || !reflect.DeepEqual(s.Command, log[want-1].c) {
			t.Fatalf("came to %+v, want the command at %d", s, want)
		}
	})
}

// inForce returns the seq of the command in force, by the rules as they are
// written.
func inForce(log []given) (at pim.Seq) {
	var furthest, deleted pim.Seq
	for i, g := range log {
		seq := pim.Seq(i + 1)
		if g.c.Kind == pim.CommandRead {
			if g.c.Seq > furthest {
				furthest, at = g.c.Seq, seq
			}
			continue
		}
		if g.c.Removed {
			deleted = seq
		}
		knew := deleted == 0 || g.c.Known >= deleted || g.by == log[deleted-1].by || g.c.Kind == pim.CommandNoReceipts || g.c.Kind == pim.CommandNoPresence
		if g.c.Removed || knew {
			at = seq
		}
	}
	return at
}

// A device that gets commands again, from any point on, ends with the same setting.
func TestCommandsAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := commandLog(t)
		n := len(log)
		var once, again pim.Setting
		for i, g := range log {
			once.Apply(&g.c, pim.Seq(i+1), g.by)
		}
		upTo := rapid.IntRange(0, n).Draw(t, "up to")
		from := rapid.IntRange(0, upTo).Draw(t, "from")
		for i, g := range slices.Concat(log[:upTo], log[from:]) {
			if i >= upTo {
				i -= upTo - from
			}
			again.Apply(&g.c, pim.Seq(i+1), g.by)
		}
		if !reflect.DeepEqual(once, again) {
			t.Fatalf("came to %+v, and hearing %d to %d again to %+v", once, from+1, upTo, again)
		}
	})
}

// A device ends with the same setting if the commands that were superseded when it
// asked are kept from it.
func TestSupersededCommandsCanBeLeftOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := commandLog(t)
		asked := rapid.IntRange(0, len(log)).Draw(t, "asked after")
		var then, all, told pim.Setting
		for i := range asked {
			then.Apply(&log[i].c, pim.Seq(i+1), log[i].by)
		}
		for i, g := range log {
			seq := pim.Seq(i + 1)
			all.Apply(&g.c, seq, g.by)
			superseded := seq < then.At && seq != then.Deleted
			if !superseded || rapid.Bool().Draw(t, "told all the same") {
				told.Apply(&g.c, seq, g.by)
			}
		}
		if !reflect.DeepEqual(told, all) {
			t.Fatalf("came to %+v, want %+v", told, all)
		}
	})
}

func TestCommandValidate(t *testing.T) {
	for _, test := range []struct {
		c    pim.Command
		want pim.Kind
	}{
		{pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: make([]byte, pim.MaxCommandValue)}, 0},
		{pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: make([]byte, pim.MaxCommandValue+1)}, pim.KindTooLarge},
		{pim.Command{Kind: pim.CommandBlock, Subject: "a b"}, pim.KindInvalid},
		{pim.Command{Kind: pim.CommandBlock, Subject: "eve", Value: []byte("x")}, pim.KindInvalid},
		{pim.Command{Kind: pim.CommandMute, Subject: "g:x", Until: 1}, 0},
		{pim.Command{Kind: pim.CommandMute, Subject: "g:x", Until: -1}, pim.KindInvalid},
		{pim.Command{Kind: pim.CommandPin, Subject: "g:x", Until: 1}, pim.KindInvalid},
		{pim.Command{Kind: pim.CommandRead, Subject: "g:x", Seq: 1}, 0},
		{pim.Command{Kind: pim.CommandRead, Subject: "g:x"}, pim.KindInvalid},
		{pim.Command{Kind: pim.CommandRead, Subject: "g:x", Seq: 1, Removed: true}, pim.KindInvalid},
		{pim.Command{Kind: pim.CommandPin, Subject: "g:x", Seq: 1}, pim.KindInvalid},
		{pim.Command{Kind: pim.CommandPin, Subject: "g:x", Replaces: true}, pim.KindInvalid},
		{pim.Command{Kind: 99, Subject: "x"}, pim.KindUnsupported},
	} {
		if err := test.c.Validate(); pim.KindOf(err) != test.want || (err == nil) != (test.want == 0) {
			t.Errorf("%+v: %v, want kind %v", test.c, err, test.want)
		}
	}
}

func TestOwn(t *testing.T) {
	own := pim.Own("alice")
	if u, ok := own.OwnUser(); !ok || u != "alice" || own.Validate() != nil || own.IsGroup() {
		t.Errorf("%s: %s, %v, %v", own, u, ok, own.Validate())
	}
	for _, bad := range []pim.ConversationID{"u:", "u:a b", "u:a:b"} {
		if err := bad.Validate(); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, ok := pim.Direct("a", "b").OwnUser(); ok {
		t.Error("a direct conversation is nobody's own")
	}
}
