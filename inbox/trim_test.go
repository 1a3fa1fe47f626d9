package inbox_test

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// A pull settles what was trimmed as what the user may not read, up to the first entry that is
// left and beyond, in one page and in either direction.
func TestPullOfATrimmedLog(t *testing.T) {
	const c = pim.ConversationID("g:x")
	var m inbox.Membership
	m.Join(10)
	m.Leave(60)
	m.Join(120)
	for _, test := range []struct {
		trim     pim.Seq
		newest   bool
		from, to pim.Seq // what is asked for, and what the page settles
		settled  pim.Seq // its other end
		entries  int
		first    pim.Seq
	}{
		{trim: 0, from: 1, settled: 19, entries: 10, first: 10},
		{trim: 30, from: 1, settled: 40, entries: 10, first: 31},
		{trim: 59, from: 1, settled: 69, entries: 1, first: 60},
		{trim: 60, from: 1, settled: 129, entries: 10, first: 120},
		{trim: 150, from: 1, settled: 160, entries: 10, first: 151},
		{trim: 150, from: 1, to: 100, settled: 100},
		{trim: 195, from: 1, settled: 200, entries: 5, first: 196},
		{trim: 200, from: 1, settled: 200},
		{trim: 150, newest: true, settled: 191, entries: 10, first: 191},
		{trim: 195, newest: true, settled: 191, entries: 5, first: 196},
		{trim: 200, newest: true, settled: 1},
		{trim: 150, newest: true, to: 140, settled: 1},
	} {
		s := storetest.NewMemory()
		fill(t, s, c, 200, 10, &m)
		if err := store.Commit(ctx, s, []*store.Write{{Log: inbox.Entries(c), Trim: test.trim}}, store.Durable); err != nil {
			t.Fatal(err)
		}
		p, err := inbox.New(s).Pull(ctx, "alice", inbox.PullRequest{Conversation: c, From: test.from, To: test.to, Limit: 10, NewestFirst: test.newest})
		settled := p.To
		if test.newest {
			settled = p.From
		}
		if err != nil || settled != test.settled || p.Newest != 200 || len(p.Entries) != test.entries || test.entries > 0 && p.Entries[0].Seq != test.first {
			t.Errorf("%+v: the page settles %d to %d, it has %d entries, newest %d, %v", test, p.From, p.To, len(p.Entries), p.Newest, err)
		}
	}
}

// The count at the end of a log without entries is that of the user's line, if the line is of that
// end. It is not that of a later one, and not that of an earlier one.
func TestPositionAtTheEndOfATrimmedLog(t *testing.T) {
	const c = pim.ConversationID("d:alice:bob")
	for _, test := range []struct {
		line inbox.Line
		want uint64
		kind pim.Kind
	}{
		{line: inbox.Line{Newest: 20, Count: 15}, want: 15},
		{line: inbox.Line{Newest: 21, Count: 16}, kind: pim.KindUnavailable},
		{line: inbox.Line{Newest: 19, Count: 14}, kind: pim.KindUnavailable},
		{kind: pim.KindUnavailable},
	} {
		s := storetest.NewMemory()
		fill(t, s, c, 20, 10, &inbox.Membership{})
		w := &store.Write{Log: inbox.Entries(c), Trim: 20}
		if test.line.Newest != 0 {
			w.Cells = []store.CellWrite{{Partition: inbox.Fresh("alice"), Cell: test.line.Cell(c)}}
		}
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
			t.Fatal(err)
		}
		p, err := inbox.New(s).Position(ctx, "alice", c, 7)
		if p.Newest != 20 || p.Count != test.want && err == nil || pim.KindOf(err) != test.kind {
			t.Errorf("%+v: %+v, %v", test.line, p, err)
		}
	}
}
