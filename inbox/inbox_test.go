package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

var ctx = context.Background()

// fill writes a log of n entries, each with size bytes of payload, and, if m is not nil,
// alice's membership.
func fill(t interface{ Fatal(...any) }, s store.Store, c pim.ConversationID, n, size int, m *inbox.Membership) {
	w := &store.Write{Log: inbox.Entries(c)}
	for i := range n {
		e := pim.Entry{Seq: pim.Seq(i + 1), Anchor: pim.Seq(i + 1), Sender: "x", Device: "d", Payload: make([]byte, size)}
		w.Records = append(w.Records, wire.AppendEntry(nil, &e))
		if (i+1)*(size+100)/store.MaxRecordBytes > i*(size+100)/store.MaxRecordBytes {
			commit(t, s, w)
			w = &store.Write{Log: w.Log, After: e.Seq}
		}
	}
	if m != nil {
		w.Cells = append(w.Cells, store.CellWrite{
			Partition: inbox.Members(c), Cell: store.Cell{Key: "alice", Version: 1, Value: m.Value()},
		})
	}
	commit(t, s, w)
}

func commit(t interface{ Fatal(...any) }, s store.Store, w *store.Write) {
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil || w.Err != nil {
		t.Fatal(err, w.Err)
	}
}

// Whatever the membership and however the pages are asked for, walking over them
// gives every entry of the membership once, in order, and settles every seq.
func TestPullWalksOverTheMembership(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := storetest.NewMemory()
		n := rapid.IntRange(1, 120).Draw(t, "entries")
		var m inbox.Membership
		for seq := pim.Seq(1); seq <= pim.Seq(n); seq++ {
			switch {
			case rapid.IntRange(0, 9).Draw(t, "change") > 1:
			case m.Present() && m.Periods[len(m.Periods)-1].From < seq:
				m.Leave(seq)
			case !m.Present():
				m.Join(seq)
			}
		}
		if len(m.Periods) == 0 {
			m.Join(pim.Seq(n))
		}
		fill(t, s, "g:x", n, rapid.SampledFrom([]int{10, 300_000}).Draw(t, "size"), &m)
		x := inbox.New(s)
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		var got []pim.Seq
		next := pim.Seq(1)
		for {
			p, err := x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "g:x", From: next, Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			if p.From > p.To {
				break
			}
			if p.From != next {
				t.Fatalf("page from %d settles from %d", next, p.From)
			}
			for _, e := range p.Entries {
				if e.Seq < p.From || e.Seq > p.To {
					t.Fatalf("seq %d in a page for %d–%d", e.Seq, p.From, p.To)
				}
				got = append(got, e.Seq)
			}
			next = p.To + 1
		}
		var want []pim.Seq
		for seq := pim.Seq(1); seq <= pim.Seq(n); seq++ {
			if m.Reads(seq) {
				want = append(want, seq)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pulled %v, want %v of %+v", got, want, m)
		}
	})
}

func TestPullNewestFirst(t *testing.T) {
	s := storetest.NewMemory()
	fill(t, s, "d:alice:bob", 250, 10, nil)
	x := inbox.New(s)
	p, err := x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "d:alice:bob", NewestFirst: true})
	if err != nil || p.From != 151 || p.To != 250 || len(p.Entries) != 100 || p.Entries[0].Seq != 151 {
		t.Fatalf("the newest page is %d–%d with %d entries, %v", p.From, p.To, len(p.Entries), err)
	}
	p, err = x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "d:alice:bob", To: p.From - 1, Limit: 1000, NewestFirst: true})
	if err != nil || p.From != 1 || p.To != 150 || p.Newest != 250 {
		t.Fatalf("the page before it is %d–%d, %v", p.From, p.To, err)
	}
}

// A page whose bytes run out is short, never too long, and still at the end of the
// range that was asked for.
func TestPullOfLargeEntries(t *testing.T) {
	s := storetest.NewMemory()
	const n = 200
	fill(t, s, "d:alice:bob", n, 60_000, nil)
	x := inbox.New(s)
	next, to := pim.Seq(1), pim.Seq(n)
	for next <= n || to >= 1 {
		up, err := x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "d:alice:bob", From: next})
		down, err2 := x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "d:alice:bob", To: to, NewestFirst: true})
		if err != nil || err2 != nil || up.From != next || down.To != to || down.From > down.To {
			t.Fatalf("upwards from %d: %d–%d, %v; downwards from %d: %d–%d, %v", next, up.From, up.To, err, to, down.From, down.To, err2)
		}
		for _, p := range []inbox.Page{up, down} {
			bytes := 0
			for i, e := range p.Entries {
				if bytes += len(e.Data); e.Seq != p.From+pim.Seq(i) {
					t.Fatalf("seq %d at place %d of %d–%d", e.Seq, i, p.From, p.To)
				}
			}
			if bytes > pim.MaxPageBytes || len(p.Entries) != int(p.To-p.From+1) {
				t.Fatalf("page %d–%d has %d entries, %d bytes", p.From, p.To, len(p.Entries), bytes)
			}
		}
		next, to = up.To+1, down.From-1
		if to == 0 {
			break
		}
	}
}

// reads counts the bytes that are read from logs.
type reads struct {
	store.Store
	bytes int
}

func (r *reads) Read(ctx context.Context, reads []store.Read) error {
	err := r.Store.Read(ctx, reads)
	for i := range reads {
		for _, data := range reads[i].Records {
			r.bytes += len(data)
		}
	}
	return err
}

// A page of the newest entries takes a few tries, not one for each entry, if large
// entries follow many small ones.
func TestPullOfGrowingEntries(t *testing.T) {
	s := &reads{Store: storetest.NewMemory()}
	w := &store.Write{Log: inbox.Entries("d:alice:bob")}
	for i := range 1000 {
		e := pim.Entry{Seq: pim.Seq(i + 1), Anchor: pim.Seq(i + 1), Sender: "x", Device: "d"}
		if i >= 984 {
			e.Payload = make([]byte, pim.MaxPayload)
		}
		w.Records = append(w.Records, wire.AppendEntry(nil, &e))
	}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	p, err := inbox.New(s).Pull(ctx, "alice", inbox.PullRequest{Conversation: "d:alice:bob", Limit: 1000, NewestFirst: true})
	if err != nil || p.To != 1000 || len(p.Entries) < 8 {
		t.Errorf("%d–%d with %d entries, %v", p.From, p.To, len(p.Entries), err)
	}
	if s.bytes > 10*pim.MaxPageBytes {
		t.Errorf("%d KiB were read for it", s.bytes>>10)
	}
}

// A page settles nothing outside the range that was asked for.
func TestPullKeepsToTheRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := storetest.NewMemory()
		m := inbox.Membership{Periods: []inbox.Period{{From: 1, To: 100}, {From: 200}}}
		fill(t, s, "g:x", 300, rapid.SampledFrom([]int{10, 60_000}).Draw(t, "size"), &m)
		seq := rapid.Map(rapid.IntRange(1, 300), func(n int) pim.Seq { return pim.Seq(n) })
		req := inbox.PullRequest{
			Conversation: "g:x", From: seq.Draw(t, "from"), To: seq.Draw(t, "to"),
			Limit: rapid.IntRange(1, 150).Draw(t, "limit"), NewestFirst: rapid.Bool().Draw(t, "newest first"),
		}
		p, err := inbox.New(s).Pull(ctx, "alice", req)
		if err != nil {
			t.Fatal(err)
		}
		if p.From > p.To {
			if req.From <= req.To {
				t.Fatalf("%+v: nothing was settled", req)
			}
			return
		}
		if p.From < req.From || p.To > req.To || len(p.Entries) > req.Limit || req.NewestFirst && p.To != req.To || !req.NewestFirst && p.From != req.From {
			t.Fatalf("%+v: %d–%d with %d entries", req, p.From, p.To, len(p.Entries))
		}
		var want []pim.Seq
		for seq := p.From; seq <= p.To; seq++ {
			if m.Reads(seq) {
				want = append(want, seq)
			}
		}
		if !slices.EqualFunc(p.Entries, want, func(e inbox.Encoded, seq pim.Seq) bool { return e.Seq == seq }) {
			t.Fatalf("%+v: %d–%d with %d entries, want %v", req, p.From, p.To, len(p.Entries), want)
		}
	})
}

// A member who joined late does not pull through all that came before, page by page.
func TestPullSkipsWhatIsNotReadable(t *testing.T) {
	s := storetest.NewMemory()
	fill(t, s, "g:x", 5000, 10, &inbox.Membership{Periods: []inbox.Period{{From: 2000, To: 2010}, {From: 4990}}})
	x := inbox.New(s)
	p, err := x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "g:x", Limit: 20})
	if err != nil || p.From != 1 || p.To != 2019 || len(p.Entries) != 11 {
		t.Fatalf("the first page settles %d–%d with %d entries, %v", p.From, p.To, len(p.Entries), err)
	}
	p, err = x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "g:x", From: 2020, Limit: 20})
	if err != nil || p.To != 5000 || len(p.Entries) != 11 {
		t.Fatalf("the second page settles %d–%d with %d entries, %v", p.From, p.To, len(p.Entries), err)
	}
	p, err = x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "g:x", To: 4000, Limit: 5, NewestFirst: true})
	if err != nil || p.From != 2006 || p.To != 4000 || len(p.Entries) != 5 {
		t.Fatalf("the newest page before 4000 settles %d–%d with %d entries, %v", p.From, p.To, len(p.Entries), err)
	}
}

func TestPullRefuses(t *testing.T) {
	s := storetest.NewMemory()
	fill(t, s, "g:x", 3, 10, &inbox.Membership{Periods: []inbox.Period{{From: 2}}})
	x := inbox.New(s)
	for _, test := range []struct {
		user pim.UserID
		c    pim.ConversationID
		want pim.Kind
	}{
		{"eve", "g:x", pim.KindNotMember},
		{"alice", "g:none", pim.KindNotMember},
		{"eve", "d:alice:bob", pim.KindNotMember},
		{"eve", "u:alice", pim.KindNotMember},
		{"alice", "nonsense", pim.KindInvalid},
		{"alice", "d:bob:alice", pim.KindInvalid},
	} {
		if _, err := x.Pull(ctx, test.user, inbox.PullRequest{Conversation: test.c}); pim.KindOf(err) != test.want {
			t.Errorf("%s pulls %s: %v, want %v", test.user, test.c, err, test.want)
		}
	}
	none := inbox.New(nil) // by the name alone: nothing is read
	for _, c := range []pim.ConversationID{"d:alice:bob", "u:alice"} {
		if _, err := none.Pull(ctx, "eve", inbox.PullRequest{Conversation: c}); pim.KindOf(err) != pim.KindNotMember {
			t.Errorf("a stranger pulls %s: %v", c, err)
		}
	}
	if p, err := x.Pull(ctx, "bob", inbox.PullRequest{Conversation: "d:alice:bob"}); err != nil || p.From <= p.To || p.Newest != 0 {
		t.Errorf("an empty direct conversation gives %+v, %v", p, err)
	}
}

func addLine(t interface{ Fatal(...any) }, s store.Store, c pim.ConversationID, newest pim.Seq) {
	w := &store.Write{Cells: []store.CellWrite{{
		Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: newest, Count: uint64(newest)}.Cell(c),
	}}}
	if newest%3 == 0 { // this line was folded, and an older one was written once more, late
		w.Cells[0].Partition = inbox.Lines("alice")
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: newest - 1}.Cell(c)})
	}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
}

// A sync lists the conversations that are ahead of what the device acknowledged,
// each once, page by page; in full it lists all of them.
func TestSyncIsASubtraction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := storetest.NewMemory()
		acks := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
		defer acks.Close()
		x := inbox.New(s)
		var behind, all []pim.ConversationID
		n := rapid.IntRange(0, 1200).Draw(t, "conversations")
		var noted []inbox.Ack
		for i := range n {
			c := pim.ConversationID(fmt.Sprintf("g:%04d", i))
			newest := pim.Seq(1 + i%7)
			addLine(t, s, c, newest)
			all = append(all, c)
			acked := pim.Seq(rapid.IntRange(0, 12).Draw(t, "acked"))
			noted = append(noted, inbox.Ack{Conversation: c, Seq: acked})
			if acked < newest {
				behind = append(behind, c)
			}
		}
		acks.Note("alice", "phone", 3, append(noted, inbox.Ack{Conversation: "g:made-up", Seq: 9}))
		acks.Settle(ctx, "alice", "phone")
		limit := rapid.IntRange(1, 1000).Draw(t, "limit")
		for _, full := range []bool{false, true, false} {
			var got []pim.ConversationID
			req := inbox.SyncRequest{User: "alice", Device: "phone", Full: full, Limit: limit}
			for {
				page, err := x.Sync(ctx, req)
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Summaries) > limit {
					t.Fatalf("a page of %d, asked for %d", len(page.Summaries), limit)
				}
				for _, s := range page.Summaries {
					got = append(got, s.Conversation)
				}
				if req.After = page.Next; req.After == "" {
					break
				}
			}
			want := behind
			if full {
				want = all
			}
			if !slices.Equal(got, want) {
				t.Fatalf("full %v: listed %v, want %v", full, got, want)
			}
		}
		if serial, err := x.Serial(ctx, "alice", "phone"); serial != 3 || err != nil {
			t.Fatalf("serial %d, %v", serial, err)
		}
	})
}

// A device cannot acknowledge what it was not sent: seqs to come are cut, and
// conversations of others take up no room.
func TestAcksAreBoundedByTheLine(t *testing.T) {
	s := storetest.NewMemory()
	acks := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	addLine(t, s, "g:x", 5)
	acks.Note("alice", "phone", 1, []inbox.Ack{{Conversation: "g:x", Seq: 99}, {Conversation: "g:y", Seq: 1}})
	acks.Close()
	cells, err := s.List(ctx, inbox.Acked("alice", "phone"), "", 10)
	if err != nil || len(cells) != 1 || cells[0].Version != 5 {
		t.Fatalf("stored %+v, %v", cells, err)
	}
}

func TestMembershipCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := inbox.Membership{Maker: rapid.Bool().Draw(t, "owner")}
		seq := pim.Seq(0)
		for range rapid.IntRange(0, 200).Draw(t, "changes") {
			seq += pim.Seq(rapid.IntRange(1, 1000).Draw(t, "step"))
			if m.Present() {
				m.Leave(seq)
			} else {
				m.Join(seq)
			}
		}
		got, err := inbox.ParseMembership(m.Value())
		if err != nil || got.Maker != m.Maker || !slices.Equal(got.Periods, m.Periods) {
			t.Fatalf("%+v came back as %+v, %v", m, got, err)
		}
		if len(m.Periods) > 64 {
			t.Fatalf("%d periods", len(m.Periods))
		}
	})
}

func FuzzParseMembership(f *testing.F) {
	m := inbox.Membership{Maker: true, Periods: []inbox.Period{{From: 1, To: 300}, {From: 301}}}
	f.Add(m.Value())
	f.Add([]byte{2})
	f.Add([]byte{0, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := inbox.ParseMembership(data)
		if err != nil {
			if pim.KindOf(err) != pim.KindCorrupt {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again, err := inbox.ParseMembership(m.Value())
		if err != nil || !slices.Equal(again.Periods, m.Periods) {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
	})
}

func FuzzParseLine(f *testing.F) {
	f.Add(uint64(7), inbox.Line{Newest: 7, Count: 300, Left: true}.AppendValue(nil))
	f.Add(uint64(8), inbox.Line{Newest: 8, Count: 300, Time: 1_795_000_000_000, Mark: inbox.Mark{Own: 7, OwnCount: 299}}.AppendValue(nil))
	f.Add(uint64(7), []byte{1, 5}) // of an earlier version
	f.Add(uint64(1), []byte{0, 0x80})
	f.Fuzz(func(t *testing.T, version uint64, data []byte) {
		l, err := inbox.ParseLine(store.Cell{Key: "g:x", Version: version, Value: data})
		if err != nil {
			return
		}
		again, err := inbox.ParseLine(l.Cell("g:x"))
		if err != nil || again != l {
			t.Fatalf("%+v came back as %+v, %v", l, again, err)
		}
	})
}

// A summary shows its last entry whole, as Pull returns it, if that takes the place of a
// pull or costs nothing.
func TestSummaryThatSettles(t *testing.T) {
	for _, at := range []struct {
		name         string
		size         int
		entries      int
		acked        pim.Seq
		brief, whole bool
	}{
		{"all that is new", 100, 3, 2, true, true},
		{"the first of all", 100, 1, 0, true, true},
		{"more is new", 100, 3, 1, true, false},
		{"more is new, and it is shown in any case", 100, 3, 1, false, true},
		{"it is large", 600, 3, 2, true, false},
		{"it is large, and shown cut", 600, 3, 2, false, false},
	} {
		s := storetest.NewMemory()
		m := &inbox.Membership{Periods: []inbox.Period{{From: 1}}}
		fill(t, s, "g:x", at.entries, at.size, m)
		w := &store.Write{Cells: []store.CellWrite{
			{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: pim.Seq(at.entries)}.Cell("g:x")},
			{Partition: inbox.Acked("alice", "phone"), Cell: store.Cell{Key: "g:x", Version: uint64(at.acked)}},
		}}
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
			t.Fatal(err)
		}
		x := inbox.New(s)
		page, err := x.Sync(ctx, inbox.SyncRequest{User: "alice", Device: "phone", Brief: at.brief})
		if err != nil || len(page.Summaries) != 1 {
			t.Fatalf("%s: %+v, %v", at.name, page, err)
		}
		sum := page.Summaries[0]
		pulled, err := x.Pull(ctx, "alice", inbox.PullRequest{Conversation: "g:x", From: sum.Newest})
		if err != nil || len(pulled.Entries) != 1 {
			t.Fatalf("%s: %+v, %v", at.name, pulled, err)
		}
		if same := bytes.Equal(sum.Last, pulled.Entries[0].Data); sum.Whole != at.whole || sum.Whole && (!same || sum.Cut) {
			t.Errorf("%s: whole %v, cut %v, as it is pulled %v", at.name, sum.Whole, sum.Cut, same)
		}
	}
}

// A page holds as many conversations as were asked for if what is sent of them fits into a
// frame, however large their last entries are. What is sent has no more than that.
func TestPageOfLargeEntries(t *testing.T) {
	s := storetest.NewMemory()
	m := &inbox.Membership{Periods: []inbox.Period{{From: 1}}}
	lines := &store.Write{}
	for i := range 150 {
		c := pim.ConversationID(fmt.Sprintf("g:%03d", i))
		fill(t, s, c, 1, pim.MaxPayload, m)
		lines.Cells = append(lines.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: 1}.Cell(c)})
	}
	if err := store.Commit(ctx, s, []*store.Write{lines}, store.Durable); err != nil {
		t.Fatal(err)
	}
	x := inbox.New(s)
	for _, brief := range []bool{false, true} {
		req := inbox.SyncRequest{User: "alice", Device: "phone", Brief: brief}
		var sizes []int
		for {
			page, err := x.Sync(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(page.Summaries))
			for _, sum := range page.Summaries {
				if sum.Whole || !sum.Cut || len(sum.Last) > 400 {
					t.Fatalf("%s: whole %v, cut %v, %d bytes", sum.Conversation, sum.Whole, sum.Cut, len(sum.Last))
				}
			}
			if req.After = page.Next; req.After == "" {
				break
			}
		}
		if !slices.Equal(sizes, []int{100, 50}) {
			t.Errorf("brief %v: pages of %d conversations", brief, sizes)
		}
	}
}

// Whatever the last entries are, a page fits into one frame, and walking over the pages gives
// every conversation once.
func TestPagesFitIntoFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := storetest.NewMemory()
		m := &inbox.Membership{Periods: []inbox.Period{{From: 1}}}
		n := rapid.IntRange(1, 60).Draw(t, "conversations")
		lines := &store.Write{}
		for i := range n {
			c := pim.ConversationID(fmt.Sprintf("g:%0*d", rapid.SampledFrom([]int{3, pim.MaxIDBytes}).Draw(t, "name"), i))
			e := pim.Entry{Seq: 1, Anchor: 1, Sender: "x", Device: "d", Payload: make([]byte, rapid.SampledFrom([]int{0, 200, 5000}).Draw(t, "payload"))}
			if rapid.IntRange(0, 3).Draw(t, "of a later version") == 0 { // what is not known stays, however large
				e.Unknown = protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, 20_000))
			}
			lines.Cells = append(lines.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: 1, Count: math.MaxUint64}.Cell(c)})
			w := &store.Write{Log: inbox.Entries(c), Records: [][]byte{wire.AppendEntry(nil, &e)}, Cells: []store.CellWrite{
				{Partition: inbox.Members(c), Cell: store.Cell{Key: "alice", Version: 1, Value: m.Value()}},
			}}
			if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Commit(ctx, s, []*store.Write{lines}, store.Durable); err != nil {
			t.Fatal(err)
		}
		x := inbox.New(s)
		req := inbox.SyncRequest{User: "alice", Device: "phone", Brief: rapid.Bool().Draw(t, "brief")}
		got := map[pim.ConversationID]bool{}
		for {
			page, err := x.Sync(ctx, req)
			if err != nil || len(page.Summaries) == 0 {
				t.Fatalf("%d conversations, %v", len(page.Summaries), err)
			}
			resp := &wirepb.PIMSyncResp{RequestId: math.MaxUint64, NextAfter: string(page.Next)}
			for _, sum := range page.Summaries {
				last := new(wirepb.Entry)
				if err := last.UnmarshalVT(sum.Last); err != nil {
					t.Fatal(err)
				}
				resp.Conversations = append(resp.Conversations, &wirepb.Summary{
					Conversation: string(sum.Conversation), Newest: math.MaxUint64, Acked: math.MaxUint64, Count: sum.Count,
					Last: last, LastCut: true, Left: true, Whole: true, Own: math.MaxUint64, OwnCount: math.MaxUint64,
					Read: math.MaxUint64, ReadCount: math.MaxUint64, ReadAt: math.MaxUint64, Marked: true, MarkedAt: math.MaxUint64,
				})
				got[sum.Conversation] = true
			}
			if size := len(wire.Append(nil, resp)); size > pim.MaxFrame {
				t.Fatalf("a frame of %d bytes", size)
			}
			if req.After = page.Next; req.After == "" {
				break
			}
		}
		if len(got) != n {
			t.Fatalf("%d of %d conversations are listed", len(got), n)
		}
	})
}

// A last entry that is cut ends with a whole character, and has no members.
func TestCutLastEntry(t *testing.T) {
	s := storetest.NewMemory()
	e := pim.Entry{
		Seq: 1, Anchor: 1, Kind: pim.EntryCreate, Sender: "x", Device: "d", Members: []pim.UserID{"alice"},
		Payload: []byte(strings.Repeat("王", 200)),
	}
	w := &store.Write{Log: inbox.Entries("g:x"), Records: [][]byte{wire.AppendEntry(nil, &e)}, Cells: []store.CellWrite{
		{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: 1}.Cell("g:x")},
	}}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	page, err := inbox.New(s).Sync(ctx, inbox.SyncRequest{User: "alice", Device: "phone"})
	if err != nil || len(page.Summaries) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	sum := page.Summaries[0]
	got, err := wire.ParseEntry("g:x", sum.Last)
	if want := strings.Repeat("王", 256/3); err != nil || !sum.Cut || sum.Whole || string(got.Payload) != want || got.Members != nil || got.Seq != 1 {
		t.Errorf("cut %v, whole %v, %+v, %v", sum.Cut, sum.Whole, got, err)
	}
}
