// Package storetest is the suite that every client.Store passes.
package storetest

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Run runs the suite. It calls open once for each test. The function that open returns
// opens a new store the first time, and afterwards the same store with what it holds.
func Run(t *testing.T, open func(t *testing.T) func() client.Store) {
	for name, test := range map[string]func(*testing.T, func() client.Store){
		"New":           testNew,
		"Snapshot":      testSnapshot,
		"AnyNumber":     testAnyNumber,
		"Settings":      testSettings,
		"Outbox":        testOutbox,
		"LaterVersion":  testLaterVersion,
		"DisplayOrder":  testDisplayOrder,
		"Pages":         testPages,
		"Repeated":      testRepeated,
		"Range":         testRange,
		"Since":         testSince,
		"Conversations": testConversations,
		"Rewind":        testRewind,
		"Trim":          testTrim,
		"Folds":         testFolds,
		"Recall":        testRecall,
		"FoldsRewind":   testFoldsRewind,
		"Erase":         testErase,
		"Concurrent":    testConcurrent,
		"Claim":         testClaim,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

const (
	direct = pim.ConversationID("d:alice:bob")
	group  = pim.ConversationID("g:abc")
)

func entry(c pim.ConversationID, seq, anchor pim.Seq, local pim.Millis) pim.Entry {
	return pim.Entry{
		Conversation: c, Seq: seq, Anchor: anchor, Count: uint64(seq), Kind: pim.EntryMessage,
		Sender: "alice", Device: "phone", ClientID: pim.ClientMessageID{1, byte(seq)},
		Local: local, Server: 1_000_000, Payload: fmt.Appendf(nil, "message %d", seq),
	}
}

// stored returns entries without numbers, as an earlier version stored them.
func stored(entries ...pim.Entry) []client.Stored {
	list := make([]client.Stored, len(entries))
	for i := range entries {
		list[i].Entry = entries[i]
	}
	return list
}

func apply(t *testing.T, s client.Store, b client.Batch) {
	t.Helper()
	if err := s.Apply(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// reopen closes s and opens it again.
func reopen(t *testing.T, s client.Store, open func() client.Store) client.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open()
}

func load(t *testing.T, s client.Store) client.Snapshot {
	t.Helper()
	snapshot, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(snapshot.Conversations, func(a, b client.ConversationRow) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(snapshot.Outbox, func(a, b client.Outgoing) int { return cmp.Compare(a.Number, b.Number) })
	for i := range snapshot.Conversations {
		snapshot.Conversations[i].Last, snapshot.Conversations[i].LastCut = pim.Entry{}, false // a Load need not give it
	}
	return snapshot
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// A new store is the zero snapshot.
func testNew(t *testing.T, open func() client.Store) {
	s := open()
	defer s.Close()
	if snapshot := load(t, s); snapshot.Meta != (client.Meta{}) || len(snapshot.Conversations)+len(snapshot.Outbox) > 0 {
		t.Errorf("a new store holds %+v", snapshot)
	}
	if m, err := s.Entries(t.Context(), direct, nil, 10); err != nil || len(m) > 0 {
		t.Errorf("messages of an unknown conversation: %v, %v", m, err)
	}
}

// Everything but the entries is loaded as it was last written.
func testSnapshot(t *testing.T, open func() client.Store) {
	s := open()
	meta := client.Meta{User: "[]`_^{|}-", Device: "phone", AckSerial: 7, FullSync: true, LastLocal: 1 << 50, Number: 9, Stored: 12, Confirms: true, Confirmed: 11, Key: [16]byte{0, 9, 255}, Store: "0f1e", Heard: 6, Doubt: true}
	list := []client.ConversationRow{
		{ID: direct, Known: 300, Newest: 500, Count: 4, Own: 299, OwnCount: 3, Holes: []client.Hole{{From: 1, To: 7, Lazy: true}, {From: 100, To: 200}}, Folded: 290, Stale: 280, Mentioned: pim.Mentioned{Named: 4, All: 3}, OwnAll: 2},
		{ID: group, Known: 2, Newest: 2, Left: true},
	}
	apply(t, s, client.Batch{Meta: &client.Meta{User: "old"}, Conversations: []client.ConversationRow{{ID: direct, Known: 1, Newest: 9}}})
	apply(t, s, client.Batch{Meta: &meta, Conversations: list})
	apply(t, s, client.Batch{}) // changes nothing
	s = reopen(t, s, open)
	defer s.Close()
	got := load(t, s)
	equal(t, "meta", got.Meta, meta)
	equal(t, "conversations", got.Conversations, list)
	list[0].Holes = nil
	apply(t, s, client.Batch{Conversations: list[:1]})
	equal(t, "with its holes filled", load(t, s).Conversations, list)
}

// A store keeps every number that a server may send, so that it can be loaded at the
// next start.
func testAnyNumber(t *testing.T, open func() client.Store) {
	s := open()
	meta := client.Meta{User: "alice", Device: "phone", AckSerial: math.MaxUint64, LastLocal: math.MinInt64, Number: 1, Stored: math.MaxUint64, Heard: math.MaxUint64}
	rows := []client.ConversationRow{{ID: direct, Known: 3, Newest: math.MaxUint64, Count: math.MaxUint64 - 1, Own: math.MaxUint64, OwnCount: math.MaxUint64, Holes: []client.Hole{{From: 1, To: 2}}, Folded: math.MaxUint64, Stale: math.MaxUint64, Mentioned: pim.Mentioned{Named: math.MaxUint64, All: math.MaxUint64}, OwnAll: math.MaxUint64}}
	read := client.Setting{Entity: "read/g:abc", Setting: pim.Setting{
		Command: pim.Command{Kind: pim.CommandRead, Subject: string(group), Seq: math.MaxUint64, Count: math.MaxUint64}, At: math.MaxUint64,
	}}
	apply(t, s, client.Batch{Meta: &meta, Conversations: rows, Settings: []client.Setting{read}})
	s = reopen(t, s, open)
	defer s.Close()
	got := load(t, s)
	equal(t, "meta", got.Meta, meta)
	equal(t, "conversations", got.Conversations, rows)
	equal(t, "settings", got.Settings, []client.Setting{read})
	list, err := s.Conversations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "list", list, rows)
}

// Settings are kept by entity; networks are replaced as a whole.
func testSettings(t *testing.T, open func() client.Store) {
	s := open()
	bob := client.Setting{Entity: "contact/bob", Setting: pim.Setting{
		Command: pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: []byte("Bob\x00"), Known: 2}, At: 3,
	}}
	gone := client.Setting{Entity: "contact/eve", Setting: pim.Setting{
		Command: pim.Command{Kind: pim.CommandContact, Subject: "eve", Removed: true}, At: 4, Deleted: 4, By: "phone",
	}}
	muted := client.Setting{Entity: "mute/g:abc", Setting: pim.Setting{
		Command: pim.Command{Kind: pim.CommandMute, Subject: string(group), Until: 1 << 50}, At: 5,
	}}
	home := client.Network{Name: "wifi/home", Every: 250 * time.Second, Stable: true, Used: 7}
	apply(t, s, client.Batch{Settings: []client.Setting{bob, gone}, Networks: []client.Network{{Name: "", Every: time.Minute}, home}})
	bob.Value, bob.At = []byte("Robert"), 6
	apply(t, s, client.Batch{Settings: []client.Setting{muted, bob}})
	s = reopen(t, s, open)
	defer s.Close()
	got := load(t, s)
	slices.SortFunc(got.Settings, func(a, b client.Setting) int { return cmp.Compare(a.Entity, b.Entity) })
	equal(t, "settings", got.Settings, []client.Setting{bob, gone, muted})
	if len(got.Networks) != 2 {
		t.Errorf("networks: %+v", got.Networks)
	}
	apply(t, s, client.Batch{Networks: []client.Network{home}})
	equal(t, "networks", load(t, s).Networks, []client.Network{home})
}

// A message stays in the outbox, with its latest state, until it is removed.
func testOutbox(t *testing.T, open func() client.Store) {
	s := open()
	a := client.Outgoing{ID: pim.ClientMessageID{1}, Number: 1, Conversation: direct, Kind: pim.EntryMessage, Payload: []byte("\x00\xff")}
	a.Refers, a.Reaction, a.Removed, a.Retain = 7, "👍", true, 9
	b := client.Outgoing{ID: pim.ClientMessageID{2}, Number: 2, Kind: pim.EntryCreate, Members: []pim.UserID{"bob", "carol|"}}
	gone := client.Outgoing{ID: pim.ClientMessageID{3}, Number: 3, Conversation: group, Kind: pim.EntryMessage, Payload: []byte("x")}
	apply(t, s, client.Batch{Outbox: []client.Outgoing{gone, a}})
	a.Local, a.First, a.Queued, a.Again = 5, 3, 4, true
	b.Failed = &pim.Error{Op: "send", Kind: pim.KindForbidden, Text: "blocked"}
	apply(t, s, client.Batch{Outbox: []client.Outgoing{b, a}, Remove: []pim.ClientMessageID{gone.ID, {99}}})
	s = reopen(t, s, open)
	defer s.Close()
	got := load(t, s).Outbox
	for i := range got {
		if len(got[i].Payload) == 0 {
			got[i].Payload = nil // as good as empty
		}
	}
	equal(t, "outbox", got, []client.Outgoing{a, b})
	b.Failed, b.Number = nil, 7
	apply(t, s, client.Batch{Outbox: []client.Outgoing{b}})
	equal(t, "queued again", load(t, s).Outbox[1].Failed, (*pim.Error)(nil))
}

// Kinds and fields that this version does not know come back as they were stored.
func testLaterVersion(t *testing.T, open func() client.Store) {
	s := open()
	unknown := []byte{0x98, 0x75, 7}
	e := entry(direct, 1, 1, 999_000)
	e.Kind, e.Members, e.Unknown = 300, []pim.UserID{"bob"}, unknown
	folder := client.Setting{Entity: "60/work", Setting: pim.Setting{
		Command: pim.Command{Kind: 60, Subject: "work", Value: []byte("Work"), Unknown: unknown}, At: 3,
	}}
	mute := client.Setting{Entity: "mute/g:abc", Setting: pim.Setting{ // which has no value in this version
		Command: pim.Command{Kind: pim.CommandMute, Subject: string(group), Value: []byte("softly"), Unknown: unknown}, At: 4,
	}}
	out := client.Outgoing{ID: pim.ClientMessageID{1}, Number: 1, Conversation: direct, Kind: 300, Payload: []byte("x")}
	apply(t, s, client.Batch{
		Entries: stored(e), Settings: []client.Setting{folder, mute}, Outbox: []client.Outgoing{out},
		Conversations: []client.ConversationRow{{ID: direct, Known: 1, Newest: 1, Last: e}},
	})
	s = reopen(t, s, open)
	defer s.Close()
	got := load(t, s)
	slices.SortFunc(got.Settings, func(a, b client.Setting) int { return cmp.Compare(a.Entity, b.Entity) })
	equal(t, "settings", got.Settings, []client.Setting{folder, mute})
	equal(t, "outbox", got.Outbox, []client.Outgoing{out})
	entries, err := s.Entries(t.Context(), direct, nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "entries", entries, []pim.Entry{e})
	row, err := s.Conversation(t.Context(), direct)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "last", row.Last, e)
}

// Entries returns the last entries of a conversation, in display order.
func testDisplayOrder(t *testing.T, open func() client.Store) {
	s := open()
	late := entry(direct, 4, 2, 899_000) // sent before 2, resent later
	late.Members = []pim.UserID{"dave"}
	apply(t, s, client.Batch{Entries: stored(entry(direct, 1, 1, 999_000), entry(direct, 2, 2, 900_000), entry(group, 1, 1, 5))})
	apply(t, s, client.Batch{Entries: stored(entry(direct, 3, 3, 900_001), late)})
	s = reopen(t, s, open)
	defer s.Close()
	for limit, want := range [][]pim.Seq{{}, {3}, {2, 3}, {4, 2, 3}, {1, 4, 2, 3}, {1, 4, 2, 3}} {
		list, err := s.Entries(t.Context(), direct, nil, limit)
		if err != nil {
			t.Fatal(err)
		}
		seqs := []pim.Seq{}
		for _, e := range list {
			seqs = append(seqs, e.Seq)
			if e.Seq == late.Seq {
				equal(t, "entry", e, late)
			}
		}
		equal(t, fmt.Sprintf("seqs of the last %d", limit), seqs, want)
	}
}

// Pages go back in display order, from any place.
func testPages(t *testing.T, open func() client.Store) {
	s := open()
	defer s.Close()
	var all []pim.Entry
	for seq := range pim.Seq(20) {
		all = append(all, entry(direct, seq+1, seq+1-seq%3, 900_000-pim.Millis(seq%2)))
	}
	apply(t, s, client.Batch{Entries: stored(all...)})
	slices.SortFunc(all, func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) })
	var got []pim.Entry
	var before *pim.Place
	for {
		page, err := s.Entries(t.Context(), direct, before, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got = append(page, got...)
		p := page[0].Place()
		before = &p
	}
	equal(t, "pages", got, all)
}

// An entry that comes again changes nothing.
func testRepeated(t *testing.T, open func() client.Store) {
	s := open()
	defer s.Close()
	e := entry(direct, 1, 1, 1)
	apply(t, s, client.Batch{Entries: stored(e)})
	apply(t, s, client.Batch{Entries: stored(e, entry(direct, 2, 2, 2), e)})
	if list, err := s.Entries(t.Context(), direct, nil, 10); err != nil || len(list) != 2 {
		t.Errorf("%d messages, %v; want 2", len(list), err)
	}
}

// A range goes up by seq, whatever the display order.
func testRange(t *testing.T, open func() client.Store) {
	s := open()
	defer s.Close()
	apply(t, s, client.Batch{Entries: stored(
		entry(direct, 1, 1, 5), entry(direct, 2, 1, 4), entry(direct, 4, 2, 3), entry(direct, 7, 1, 1), entry(group, 3, 3, 1),
	)})
	for _, c := range []struct {
		from, to pim.Seq
		limit    int
		want     []pim.Seq
	}{
		{1, math.MaxUint64, 10, []pim.Seq{1, 2, 4, 7}},
		{0, math.MaxUint64, 2, []pim.Seq{1, 2}},
		{3, 6, 10, []pim.Seq{4}},
		{2, 7, 3, []pim.Seq{2, 4, 7}},
		{8, math.MaxUint64, 10, nil},
		{5, 4, 10, nil},
		{1, 7, 0, nil},
		{1, 7, -1, nil},
	} {
		list, err := s.Range(t.Context(), direct, c.from, c.to, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var seqs []pim.Seq
		for _, e := range list {
			equal(t, "conversation", e.Conversation, direct)
			seqs = append(seqs, e.Seq)
		}
		equal(t, fmt.Sprintf("%d to %d, at most %d", c.from, c.to, c.limit), seqs, c.want)
	}
	if list, err := s.Range(t.Context(), "g:unknown", 1, 9, 9); err != nil || len(list) > 0 {
		t.Errorf("of an unknown conversation: %v, %v", list, err)
	}
}

// Since returns entries in the order of their numbers, over all conversations. Entries
// without a number were stored before there were numbers, and never come.
func testSince(t *testing.T, open func() client.Store) {
	s := open()
	numbered := func(number uint64, e pim.Entry, late bool) client.Stored {
		return client.Stored{Entry: e, Number: number, Late: late}
	}
	one, two := numbered(1, entry(direct, 9, 9, 5), false), numbered(2, entry(group, 1, 1, 5), false)
	three, five := numbered(3, entry(direct, 4, 1, 1), true), numbered(5, entry(direct, 10, 10, 9), false)
	apply(t, s, client.Batch{Entries: stored(entry(direct, 1, 1, 1))})
	apply(t, s, client.Batch{Entries: []client.Stored{one, two, three}})
	again := one
	again.Number = 4 // an entry that is there keeps its number
	apply(t, s, client.Batch{Entries: []client.Stored{again, five}})
	s = reopen(t, s, open)
	defer s.Close()
	for _, c := range []struct {
		number uint64
		limit  int
		want   []client.Stored
	}{
		{0, 10, []client.Stored{one, two, three, five}},
		{0, 2, []client.Stored{one, two}},
		{2, 2, []client.Stored{three, five}},
		{4, 9, []client.Stored{five}},
		{5, 9, nil},
		{math.MaxUint64, 9, nil},
		{0, 0, nil},
		{0, -1, nil},
	} {
		list, err := s.Since(t.Context(), c.number, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			list = nil
		}
		equal(t, fmt.Sprintf("after %d, at most %d", c.number, c.limit), list, c.want)
	}
}

// Conversations returns the last entry that the row has, or else the newest stored entry.
func testConversations(t *testing.T, open func() client.Store) {
	s := open()
	cut := entry(direct, 9, 9, 9)
	late := entry(group, 3, 1, 1)
	apply(t, s, client.Batch{
		Conversations: []client.ConversationRow{
			{ID: group, Known: 3, Newest: 3, Count: 3},
			{ID: direct, Known: 1, Newest: 9, Count: 9, Last: cut, LastCut: true},
		},
		Entries: stored(entry(direct, 1, 1, 1), entry(group, 1, 1, 2), entry(group, 2, 2, 3), late),
	})
	s = reopen(t, s, open)
	defer s.Close()
	list, err := s.Conversations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "conversations", list, []client.ConversationRow{
		{ID: direct, Known: 1, Newest: 9, Count: 9, Last: cut, LastCut: true},
		{ID: group, Known: 3, Newest: 3, Count: 3, Last: late},
	})
	for _, want := range list {
		got, err := s.Conversation(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "conversation", got, want)
	}
	if got, err := s.Conversation(t.Context(), "g:unknown"); err != nil || got.ID != "" {
		t.Errorf("an unknown conversation: %+v, %v", got, err)
	}
	apply(t, s, client.Batch{Conversations: []client.ConversationRow{{ID: direct, Known: 1, Newest: 1, Count: 1}}})
	if list, err = s.Conversations(t.Context()); err != nil || len(list) == 0 || list[0].Last.Seq != 1 {
		t.Errorf("after the summary was dropped: %+v, %v", list, err)
	}
}

// Only one client at a time has the claim on a store.
func testClaim(t *testing.T, open func() client.Store) {
	s := open()
	defer s.Close()
	for range 2 {
		release, err := s.Claim()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Claim(); pim.KindOf(err) != pim.KindConflict {
			t.Errorf("claimed twice: %v", err)
		}
		release()
		release() // a second call has no effect
	}
	release, err := s.Claim()
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// Reads run beside writes, and see whole batches.
func testConcurrent(t *testing.T, open func() client.Store) {
	s := open()
	defer s.Close()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 50 {
				list, err := s.Entries(t.Context(), direct, nil, 1000)
				if err != nil || len(list)%2 != 0 {
					t.Errorf("%d messages, %v; want whole batches of two", len(list), err)
					return
				}
			}
		})
	}
	for seq := pim.Seq(1); seq < 60; seq += 2 {
		apply(t, s, client.Batch{Entries: stored(entry(direct, seq, seq, 1), entry(direct, seq+1, seq+1, 2))})
	}
	wg.Wait()
}
