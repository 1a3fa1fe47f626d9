package inbox_test

import (
	"context"
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

// All that somebody who has left a group could read was trimmed, and more.
func TestPositionOfWhoHasLeft(t *testing.T) {
	const c = pim.ConversationID("g:1")
	s := storetest.NewMemory()
	fill(t, s, c, 20, 10, &inbox.Membership{Periods: []inbox.Period{{From: 1, To: 9}}})
	line := inbox.Line{Newest: 9, Count: 6}
	w := &store.Write{Log: inbox.Entries(c), Trim: 12, Cells: []store.CellWrite{{Partition: inbox.Fresh("alice"), Cell: line.Cell(c)}}}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	if p, err := inbox.New(s).Position(ctx, "alice", c, 7); err != nil || p.Newest != 9 || p.Count != 6 {
		t.Errorf("%+v, %v", p, err)
	}
}

// The line of a group that was left is gone, or a late fold has put an older one back. The cells of
// mentions tell what the line does not, as far as the log goes; behind that the count is gone with the line. No answer is one to
// try again for.
func TestPositionOfWhoHasLeftTheList(t *testing.T) {
	const c = pim.ConversationID("g:1")
	for _, line := range []inbox.Line{{}, {Newest: 3, Count: 2}} {
		for _, test := range []struct {
			front, seq pim.Seq
			named      uint64
			kind       pim.Kind
		}{
			{front: 1, seq: 3, named: 0},
			{front: 1, seq: 7, named: 1},
			{front: 6, seq: 7, named: 1},
			{front: 6, seq: 2, named: 1}, // up to the entry at 5, the last that was trimmed
			{front: 9, seq: 9, named: 1},
			{front: 12, seq: 7, kind: pim.KindNotMember},
		} {
			s := storetest.NewMemory()
			fill(t, s, c, 20, 10, &inbox.Membership{Periods: []inbox.Period{{From: 1, To: 9}}})
			w := &store.Write{Log: inbox.Entries(c), Trim: test.front - 1, Cells: []store.CellWrite{inbox.MentionCell(c, 4, pim.Mention{User: "alice", Count: 1})}}
			if line.Newest != 0 {
				w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: line.Cell(c)})
			}
			if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
				t.Fatal(err)
			}
			if p, err := inbox.New(s).Position(ctx, "alice", c, test.seq); pim.KindOf(err) != test.kind || err == nil && p.Named != test.named {
				t.Errorf("line at %d, log from %d: seq %d: %+v, %v", line.Newest, test.front, test.seq, p, err)
			}
		}
	}
}

// A page that may leave out what the user wrote, and what mentions the user, has the user's line: one with
// the newest first, and one that settles what was trimmed. Others have none.
func TestPullHasTheLineWhereEntriesAreLeftOut(t *testing.T) {
	const c = pim.ConversationID("d:alice:bob")
	line := inbox.Line{Newest: 20, Count: 15, Mark: inbox.Mark{Own: 3, OwnCount: 2}, All: 2, MentionsOf: inbox.MentionsOf{Named: 4, OwnAll: 1}}
	for _, test := range []struct {
		name string
		trim pim.Seq
		req  inbox.PullRequest
		want inbox.Line
	}{
		{"nothing is left out", 0, inbox.PullRequest{From: 1}, inbox.Line{}},
		{"the newest first", 0, inbox.PullRequest{From: 1, NewestFirst: true}, line},
		{"a part was trimmed", 5, inbox.PullRequest{From: 2}, line},
		{"its last seq was", 5, inbox.PullRequest{From: 5}, line},
		{"all of the range was", 5, inbox.PullRequest{From: 2, To: 4}, line},
		{"nothing of the range was", 5, inbox.PullRequest{From: 6}, inbox.Line{}},
		{"the range is empty", 5, inbox.PullRequest{From: 21, NewestFirst: true}, inbox.Line{}},
		{"changes", 5, inbox.PullRequest{From: 1, Changes: true}, inbox.Line{}},
	} {
		s := storetest.NewMemory()
		fill(t, s, c, 20, 10, &inbox.Membership{})
		w := &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fresh("alice"), Cell: line.Cell(c)}}}
		if test.trim > 0 {
			w.Log, w.Trim = inbox.Entries(c), test.trim
		}
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
			t.Fatal(err)
		}
		test.req.Conversation = c
		p, err := inbox.New(s).Pull(ctx, "alice", test.req)
		if err != nil || p.Line != test.want {
			t.Errorf("%s: the page has the line %+v, %v, want %+v", test.name, p.Line, err, test.want)
		}
	}
}

// Entries are trimmed after the pull has looked where the log begins, and before it reads them. The page
// says the front that it has met, and has the line.
func TestPullMeetsATrim(t *testing.T) {
	const c = pim.ConversationID("d:alice:bob")
	line := inbox.Line{Newest: 20, Count: 15, Mark: inbox.Mark{Own: 3, OwnCount: 2}}
	s := storetest.NewMemory()
	fill(t, s, c, 20, 10, &inbox.Membership{})
	if err := store.Commit(ctx, s, []*store.Write{{Cells: []store.CellWrite{{Partition: inbox.Fresh("alice"), Cell: line.Cell(c)}}}}, store.Durable); err != nil {
		t.Fatal(err)
	}
	trimming := &trimsAtRead{Store: s, log: inbox.Entries(c), after: 1, upTo: 8}
	p, err := inbox.New(trimming).Pull(ctx, "alice", inbox.PullRequest{Conversation: c, From: 2, To: 10})
	if err != nil || p.Front != 9 || p.Line != line || len(p.Entries) != 2 || p.From != 2 || p.To != 10 {
		t.Errorf("the page settles %d to %d with %d entries, front %d, line %+v, %v", p.From, p.To, len(p.Entries), p.Front, p.Line, err)
	}
}

// trimsAtRead is a store whose log is trimmed up to upTo after so many reads.
type trimsAtRead struct {
	store.Store
	log   store.Log
	after int
	upTo  pim.Seq
}

func (s *trimsAtRead) Read(ctx context.Context, reads []store.Read) error {
	if s.after--; s.after == -1 {
		if err := store.Commit(ctx, s.Store, []*store.Write{{Log: s.log, Trim: s.upTo}}, store.Durable); err != nil {
			return err
		}
	}
	return s.Store.Read(ctx, reads)
}
