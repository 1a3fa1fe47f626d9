package engine

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
)

// What is pending is applied on top, in its order, and changes nothing that is kept.
func TestSettingsWithPendingCommands(t *testing.T) {
	read := func(seq pim.Seq) *pim.Command {
		return &pim.Command{Kind: pim.CommandRead, Subject: "d:alice:bob", Seq: seq}
	}
	entity := read(0).Entity()
	s := newSettings(nil)
	if !s.apply(entity, read(5), 1, "phone") || s.apply(entity, read(3), 2, "laptop") {
		t.Error("a read position takes the maximum")
	}
	pending := []*message{{command: read(7)}, {command: read(6)}}
	if got := with(s[entity], pending, "phone"); got.Seq != 7 || s[entity].Seq != 5 {
		t.Errorf("with what is pending: read up to %d; without: %d", got.Seq, s[entity].Seq)
	}
	mute := &pim.Command{Kind: pim.CommandMute, Subject: "d:alice:bob"}
	unmute := *mute
	unmute.Removed = true
	if got := with(s[mute.Entity()], []*message{{command: mute}, {command: &unmute}}, "phone"); !got.Removed {
		t.Errorf("muted, and not any more: %+v", got)
	}
	if _, ok := s[mute.Entity()]; ok {
		t.Error("what is pending is kept")
	}
	restored := newSettings([]Setting{{entity, s[entity]}})
	if restored[entity].Seq != 5 {
		t.Errorf("restored: %+v", restored[entity])
	}
}

func TestSettingsAreBounded(t *testing.T) {
	s := newSettings(nil)
	for i := range maxSettings {
		s[fmt.Sprint(i)] = pim.Setting{}
	}
	if s.full("1") || !s.full("one more") {
		t.Error("there is room for what is known, and for nothing else")
	}
}

// A read position beyond the log would hide everything to come.
func TestCheckRead(t *testing.T) {
	c := &conversation{newest: 10, counted: 8, count: 5}
	for _, test := range []struct {
		c     *conversation
		seq   pim.Seq
		count uint64
		want  uint64 // count
		ok    bool
	}{
		{nil, 1, 1, 0, false},
		{c, 11, 1, 0, false},
		{c, 8, 1, 5, true}, // the count there is known
		{c, 7, 5, 5, true},
		{c, 7, 6, 0, false},
		{c, 9, 6, 6, true},
		{c, 9, 10, 0, false},
	} {
		cmd := pim.Command{Kind: pim.CommandRead, Seq: test.seq, Count: test.count}
		err := checkRead(test.c, &cmd)
		if (err == nil) != test.ok || test.ok && cmd.Count != test.want {
			t.Errorf("read up to %d and %d messages: %v, %d messages", test.seq, test.count, err, cmd.Count)
		}
	}
	if err := checkRead(nil, &pim.Command{Kind: pim.CommandMute}); err != nil {
		t.Error(err)
	}
	if beyond(nil, 5) || beyond(c, 10) || !beyond(c, 11) {
		t.Error("beyond the log is what is above its newest entry")
	}
}
