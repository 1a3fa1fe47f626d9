package engine

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// lostCommand returns the entry of a command that the phone gave at the local time.
func lostCommand(seq pim.Seq, local pim.Millis, c pim.Command) pim.Entry {
	return pim.Entry{Seq: seq, Kind: pim.EntryCommand, Device: "phone", Local: local, Payload: wire.AppendCommand(nil, &c)}
}

// What is sent again of the commands that the server has lost.
func TestWishes(t *testing.T) {
	mute := pim.Command{Kind: pim.CommandMute, Subject: "d:alice:bob"}
	unmute := pim.Command{Kind: pim.CommandMute, Subject: "d:alice:bob", Removed: true}
	read := func(seq pim.Seq) pim.Command {
		return pim.Command{Kind: pim.CommandRead, Subject: "d:alice:bob", Seq: seq, Count: uint64(seq)}
	}
	setting := func(c pim.Command) *pim.Setting { return &pim.Setting{Command: c, At: 1} }
	for _, test := range []struct {
		name   string
		lost   []pim.Command // at the local times 10, 20 and so on
		now    *pim.Setting  // present setting; nil: none
		obeyed pim.Millis    // local time of the newest command that the server still has
		before func(*wishes)
		want   *pim.Command // nil: nothing
	}{
		{name: "the last one", lost: []pim.Command{mute, unmute}, want: &unmute},
		{name: "another one is in force, an older one", lost: []pim.Command{unmute}, now: setting(mute), obeyed: 9, want: &unmute},
		{name: "another one is in force, a later one", lost: []pim.Command{unmute}, now: setting(mute), obeyed: 11},
		{name: "the same is in force", lost: []pim.Command{mute}, now: setting(mute), obeyed: 9},
		{name: "a read position", lost: []pim.Command{read(4), read(7), read(6)}, want: func() *pim.Command { c := read(7); return &c }()},
		{name: "a read position that another device is beyond", lost: []pim.Command{read(7)}, now: setting(read(8))},
		{name: "a read position beyond what is there", lost: []pim.Command{read(70)}},
		{
			name: "a read position of a conversation that was taken back", lost: []pim.Command{read(7)},
			before: func(ws *wishes) { ws.cut(read(9)); ws.cut(read(5)); ws.cut(read(6)) },
			want:   func() *pim.Command { c := read(5); return &c }(),
		},
		{
			name: "one of which nothing is left", lost: []pim.Command{read(7)},
			before: func(ws *wishes) { ws.cut(read(0)) },
		},
		{
			name: "one of which nobody knows how much is left", lost: []pim.Command{read(7)},
			before: func(ws *wishes) { ws.reads = nil; ws.cut(read(9)) },
		},
	} {
		var ws wishes
		ws.reset()
		ws.begin()
		if test.before != nil {
			test.before(&ws)
		}
		entity := test.lost[0].Entity()
		if test.obeyed != 0 {
			ws.obeyed(entity, test.obeyed)
			ws.obeyed(entity, 1)
		}
		var page []pim.Entry
		for i, c := range test.lost {
			page = append(page, lostCommand(pim.Seq(i+1), pim.Millis(10*(i+1)), c))
		}
		if !ws.page(page) || !slices.Equal(ws.entities(), []string{entity}) {
			t.Fatalf("%s: wishes of %q", test.name, ws.entities())
		}
		var now pim.Setting
		if test.now != nil {
			now = *test.now
		}
		entry, ok := ws.again(entity, now, test.now != nil, 33, 50)
		if ok != (test.want != nil) {
			t.Errorf("%s: sent again: %v", test.name, ok)
			continue
		}
		if !ok {
			continue
		}
		got, err := wire.ParseCommand(entry.Payload)
		if err != nil || got.Removed != test.want.Removed || got.Seq != test.want.Seq || got.Count != test.want.Count || got.Known != 33 {
			t.Errorf("%s: sent again is %+v, want %+v (%v)", test.name, got, *test.want, err)
		}
	}
}

// The commands are read a page at a time, and from the beginning again after the last.
func TestWishesInPages(t *testing.T) {
	var ws wishes
	ws.begin()
	page := make([]pim.Entry, commandPage)
	for i := range page {
		page[i] = lostCommand(pim.Seq(i+1), 1, pim.Command{Kind: pim.CommandPin, Subject: "d:alice:bob"})
	}
	page[5].Payload = []byte{0xff} // of a damaged store
	if ws.page(page) || ws.skip != commandPage {
		t.Errorf("after a whole page %d are skipped", ws.skip)
	}
	if !ws.page(page[:3]) || ws.skip != commandPage+3 {
		t.Errorf("after the last page %d are skipped", ws.skip)
	}
	s := settings{"b": {}, "a": {}}
	ws.forget(s)
	if got := ws.end(); !slices.Equal(got, []string{"a", "b"}) || len(s) != 0 || ws.skip != 0 {
		t.Errorf("shown are %q, %d settings are left, %d skipped", got, len(s), ws.skip)
	}
	if got := ws.end(); len(got) != 0 {
		t.Errorf("shown again: %q", got)
	}
}
