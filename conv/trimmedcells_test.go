package conv_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// cellsOf returns the cells of a partition.
func cellsOf(t *testing.T, s store.Store, p store.Partition) []store.Cell {
	t.Helper()
	cells, err := s.List(t.Context(), p, "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return cells
}

// chatters is a group, or a direct conversation, in which something happens at random.
type chatters struct {
	t     *testing.T
	rng   *rand.Rand
	s     store.Store
	rec   *recorder
	w     *conv.Writers
	c     pim.ConversationID
	users []pim.UserID
	last  pim.Seq
}

func (x *chatters) begin() {
	x.w = conv.New(x.s, conv.Options{Outlet: x.rec, Shards: 1, Logger: quiet()})
}

// does gives n entries: messages, of which some name users or all, what refers to them, and leaves
// and joins of a group. The text of each edit has its seq.
func (x *chatters) does(n int) {
	x.t.Helper()
	for range n {
		by := x.users[x.rng.IntN(len(x.users))]
		r := message(x.c, by, "x")
		switch k := x.rng.IntN(16); {
		case k < 3:
			r.Mentions = []pim.UserID{x.users[x.rng.IntN(len(x.users))], x.users[x.rng.IntN(len(x.users))]}
		case k == 3:
			r.MentionAll = x.c.IsGroup()
		case k < 9 && x.last > 0:
			r.Kind, r.Payload = []pim.EntryKind{pim.EntryEdit, pim.EntryReaction, pim.EntryPin}[k%3], nil
			r.Refers = pim.Seq(x.rng.IntN(int(x.last)) + 1)
			switch r.Kind {
			case pim.EntryEdit:
				r.Payload = []byte(secret(r.Refers))
			case pim.EntryReaction:
				r.Reaction = "+"
			}
		case k == 9 && x.c.IsGroup():
			r = inGroup(x.c, pim.EntryLeave, x.users[0], x.users[1])
		case k == 10 && x.c.IsGroup():
			r = inGroup(x.c, pim.EntryJoin, x.users[0], x.users[1])
		}
		if a, err := persist(x.w, x.rec, r); err == nil {
			x.last = a.Seq
		}
	}
}

func secret(seq pim.Seq) string { return fmt.Sprintf("(secret of %d)", seq) }

// positions returns what a read of each user up to each seq says.
func (x *chatters) positions() (all map[string]string) {
	all = make(map[string]string)
	box := inbox.New(x.s)
	for _, u := range x.users {
		for seq := pim.Seq(1); seq <= x.last; seq++ {
			p, err := box.Position(x.t.Context(), u, x.c, seq)
			all[fmt.Sprint(u, " ", seq)] = fmt.Sprintf("%+v %v", p, pim.KindOf(err))
		}
	}
	return all
}

// folds returns the folds of the entries that each user may read.
func (x *chatters) folds() (all map[string]string) {
	all = make(map[string]string)
	for _, u := range x.users {
		p, err := inbox.New(x.s).Pull(x.t.Context(), u, inbox.PullRequest{Conversation: x.c, Limit: 1000})
		if err != nil {
			x.t.Fatal(err)
		}
		for _, f := range p.Folds {
			all[fmt.Sprintf("%s %04d", u, f.Seq)] = fmt.Sprintf("%x", f.Data)
		}
	}
	return all
}

// A trim at any place takes the folds of what it takes, and the texts in them, and the mentions
// there but one for each user. What is read above the front has the same counts as before, also how
// often each user was named, and what is read below has those of the last entry that was trimmed.
func TestCellsGoWithATrim(t *testing.T) {
	const trims = 12 // between which something happens
	first, n := seeds.Schedules(t, seeds.Many(24), "")
	for seed := first; seed < first+n; seed++ {
		rng := rand.New(rand.NewPCG(seed, 0))
		x := &chatters{t: t, rng: rng, s: storetest.NewMemory(), rec: newRecorder(), c: pim.Direct("ann", "bob"), users: []pim.UserID{"ann", "bob"}}
		x.begin()
		if seed%3 > 0 {
			x.users = []pim.UserID{"ann", "bob", "bobby", "carl"}
			x.c, x.last = group(t, x.w, x.rec, "ann", "bob", "bobby", "carl"), 1
		}
		x.does(20 + rng.IntN(120))
		for front, round := pim.Seq(1), 0; front <= x.last; round++ {
			if rng.IntN(2) == 0 {
				x.w.Close()
				x.begin()
			}
			positions, folds := x.positions(), x.folds()
			front += pim.Seq(rng.IntN(int(x.last-front)+1)) + 1
			trimmed(t, x.w, x.c, front-1)
			after := x.positions()
			for _, u := range x.users {
				for seq := pim.Seq(1); seq <= x.last; seq++ {
					was := positions[fmt.Sprint(u, " ", max(seq, front-1))]
					if got := after[fmt.Sprint(u, " ", seq)]; got != was && !strings.HasSuffix(was, pim.KindInvalid.String()) {
						t.Fatalf("PIM_SEED=%d, trimmed up to %d, %s reads %d: %s, before the trim %s", seed, front-1, u, seq, got, was)
					}
				}
			}
			left := x.folds()
			for at, f := range folds {
				if _, seq, _ := strings.Cut(at, " "); left[at] != f && seq >= fmt.Sprintf("%04d", front) {
					t.Fatalf("PIM_SEED=%d, trimmed up to %d, the fold of %s is %.100s, before %.100s", seed, front-1, at, left[at], f)
				}
			}
			for _, cell := range cellsOf(t, x.s, inbox.Folds(x.c)) {
				f, err := inbox.ParseFold(cell)
				if err != nil || f.Target < front {
					t.Fatalf("PIM_SEED=%d, trimmed up to %d, there is the fold of %d, %v", seed, front-1, f.Target, err)
				}
			}
			below := make(map[string]int)
			for _, cell := range cellsOf(t, x.s, inbox.Mentions(x.c)) {
				if u, _, _ := strings.Cut(cell.Key, "/"); pim.Seq(cell.Version) < front {
					if below[u]++; below[u] > 1 {
						t.Fatalf("PIM_SEED=%d, trimmed up to %d, %s has another mention below: %d", seed, front-1, u, cell.Version)
					}
				}
			}
			if round < trims {
				x.does(rng.IntN(20))
			}
		}
		noIntents(t, x.s)
		x.w.Close()
	}
}

// keeping is a store that writes nothing that forgets a cell for good while fails is set.
type keeping struct {
	store.Store
	fails atomic.Bool
}

func (s *keeping) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, func(ctx context.Context, writes []*store.Write, d store.Durability) error {
		if c := writes[0].Cells; s.fails.Load() && len(c) > 0 && c[0].Forget && !c[0].Partition.Passing() {
			writes[0].Err = pim.Errorf(pim.KindUnavailable, "the process is dead")
			return writes[0].Err
		}
		return store.Commit(ctx, s.Store, writes, d)
	}, writes, d, done)
}

// A process died when it had trimmed a log, and before it had forgotten the folds of what it has
// trimmed. Another one forgets them, and the intent.
func TestCellsGoAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec := &keeping{Store: storetest.NewMemory()}, newRecorder()
		x := &chatters{t: t, rng: rand.New(rand.NewPCG(1, 2)), s: s, rec: rec, c: pim.Direct("ann", "bob"), users: []pim.UserID{"ann", "bob"}}
		x.begin()
		x.does(3000) // several steps
		folds := len(cellsOf(t, s, inbox.Folds(x.c)))
		s.fails.Store(true)
		if err := x.w.Trim(t.Context(), x.c, x.last-1); pim.KindOf(err) != pim.KindUnavailable {
			t.Fatal(err)
		}
		x.w.Close()
		if got := len(cellsOf(t, s, inbox.Folds(x.c))); got != folds || folds < 300 {
			t.Fatalf("%d folds of %d are left", got, folds)
		}
		s.fails.Store(false)
		x.begin()
		defer x.w.Close()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := len(cellsOf(t, s, inbox.Folds(x.c))); got > 1 {
			t.Errorf("%d folds are left", got)
		}
		noIntents(t, s)
	})
}

// mentionsLater is a store that calls next once, before a list of mentions.
type mentionsLater struct {
	store.Store
	next func()
}

func (s *mentionsLater) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if f := s.next; f != nil && strings.HasPrefix(string(p), "mentions/") {
		s.next = nil
		f()
	}
	return s.Store.List(ctx, p, after, limit)
}

// A trim comes while a read position is computed, between the read of the entry and that of the
// mentions. The mentions are those up to the read seq, or to the last one that was trimmed.
func TestAReadPositionUnderATrim(t *testing.T) {
	s, rec := &mentionsLater{Store: storetest.NewMemory()}, newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	g := group(t, w, rec, "ann", "bob") // 1
	for range 6 {
		for _, r := range []*conv.Request{message(g, "ann", "x"), mentioning(g, "ann", "bob")} { // at 2 and 3, 4 and 5 …
			if _, err := persist(w, rec, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		seq, upTo pim.Seq
		want      uint64
	}{{4, 1, 1}, {4, 3, 1}, {6, 5, 2}, {6, 8, 3}, {7, 12, 5}} {
		s.next = func() { trimmed(t, w, g, test.upTo) }
		if got := position(t, s, "bob", g, test.seq); got.Named != test.want {
			t.Errorf("trimmed up to %d meanwhile, bob has read %d: %+v, want %d", test.upTo, test.seq, got, test.want)
		}
	}
}

// The bytes of an edit are in no cell when its message was trimmed.
func TestNoCellHasTheTextOfATrimmedMessage(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	c := pim.Direct("ann", "bob")
	for seq := range pim.Seq(4) {
		r := message(c, "ann", "x")
		if seq%2 == 1 {
			r.Kind, r.Refers, r.Payload = pim.EntryEdit, seq, []byte(secret(seq))
		}
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(seq pim.Seq) bool {
		for _, p := range []store.Partition{inbox.Folds(c), "state/" + store.Partition(c)} {
			for _, cell := range cellsOf(t, s, p) {
				if strings.Contains(string(cell.Value), secret(seq)) {
					return true
				}
			}
		}
		return false
	}
	if !holds(1) || !holds(3) {
		t.Fatal("the edits are in no cell")
	}
	trimmed(t, w, c, 2)
	if holds(1) || !holds(3) {
		t.Errorf("after the trim, the text of 1 is in a cell: %v, that of 3: %v", holds(1), holds(3))
	}
}
