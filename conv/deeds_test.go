package conv_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/prometheus/client_golang/prometheus"
)

// society are Writers that bound what users do, and their users.
type society struct {
	t        *testing.T
	w        *conv.Writers
	rec      *recorder
	registry *prometheus.Registry
}

func newSociety(t *testing.T, s store.Store, perHour limit.Deed, free ...pim.UserID) *society {
	x := &society{t: t, rec: newRecorder(), registry: prometheus.NewRegistry()}
	x.w = conv.New(s, conv.Options{Outlet: x.rec, Shards: 4, Logger: quiet(), Metrics: conv.NewMetrics(x.registry), Deeds: perHour, Free: free})
	t.Cleanup(x.w.Close)
	return x
}

// do sends requests at once, and returns the answers.
func (x *society) do(requests ...*conv.Request) (answers []conv.Answer) {
	var sent []*conv.Request
	for _, r := range requests {
		sent = append(sent, x.rec.track(r))
	}
	for _, r := range sent {
		x.w.Submit([]*conv.Request{r})
	}
	for _, r := range sent {
		answers = append(answers, x.rec.wait(r))
	}
	return answers
}

// does sends r and fails the test unless it is answered with success.
func (x *society) does(what string, r *conv.Request) conv.Answer {
	x.t.Helper()
	a := x.do(r)[0]
	if a.Err != nil {
		x.t.Fatalf("%s: %v", what, a.Err)
	}
	return a
}

// refuses sends r and fails the test unless it is refused for reason, with a time to come back.
func (x *society) refuses(what string, r *conv.Request, reason limit.Reason) {
	x.t.Helper()
	before := x.refused(reason)
	a := x.do(r)[0]
	var e *pim.Error
	if !errors.As(a.Err, &e) || e.Kind != pim.KindOverloaded || e.RetryAfter <= 0 || e.RetryAfter > time.Minute {
		x.t.Errorf("%s: answered with %v", what, a.Err)
	}
	if n := x.refused(reason) - before; n != 1 {
		x.t.Errorf("%s: %v refusals for %s were counted", what, n, reason)
	}
}

func (x *society) refused(reason limit.Reason) float64 {
	families, err := x.registry.Gather()
	if err != nil {
		x.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "pim_send_refusals_total" && m.Label[0].GetValue() == reason.String() {
				return m.Counter.GetValue()
			}
		}
	}
	x.t.Fatalf("refusals for %s are not counted", reason)
	return 0
}

// A user writes to so many strangers in an hour; what follows the first message, answers and
// oneself count as nothing. A refusal writes nothing. An hour later all is possible again, in the order of the rate.
func TestStrangersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMemory()
		x := newSociety(t, s, limit.Deed{Strangers: 3}, "bot")
		defer x.w.Close()
		to := func(from, u pim.UserID) *conv.Request { return message(pim.Direct(from, u), from, "hi") }
		first := to("eve", "u0")
		x.does("the first", first)
		for i := 1; i < 3; i++ {
			x.does("a stranger", to("eve", pim.UserID(fmt.Sprint("u", i))))
		}
		for range 5 {
			x.refuses("one more stranger", to("eve", "u3"), limit.Strangers)
		}
		if last, fence, err := store.LogEnd(t.Context(), s, inbox.Entries(pim.Direct("eve", "u3"))); err != nil || last != 0 || fence != 0 {
			t.Errorf("the refused log ends at %d with the fence %d, %v", last, fence, err)
		}
		x.does("a second message", to("eve", "u0"))
		x.does("to oneself", to("eve", "eve"))
		x.does("an answer", message(pim.Direct("eve", "u1"), "u1", "who are you?"))
		if a := x.does("the first, again", first); !a.Duplicate || a.Seq != 1 {
			t.Errorf("the first again: %+v", a)
		}
		x.does("another user", to("alice", "u3"))
		for i := range 10 {
			x.does("a free user", to("bot", pim.UserID(fmt.Sprint("u", i))))
		}
		time.Sleep(20*time.Minute - time.Second)
		x.refuses("before its time", to("eve", "u4"), limit.Strangers)
		time.Sleep(time.Second)
		x.does("a third of an hour later", to("eve", "u4"))
		x.refuses("no more than that", to("eve", "u5"), limit.Strangers)
	})
}

// Groups that are created, and members who are added. A join that names members adds nobody.
func TestGroupsAreBounded(t *testing.T) {
	x := newSociety(t, storetest.NewMemory(), limit.Deed{Groups: 3, Members: 10})
	create := inGroup("", pim.EntryCreate, "eve", "a", "b", "c")
	a := x.does("a group", create)
	g := a.Request.Conversation
	x.does("members", inGroup(g, pim.EntryJoin, "eve", "a", "b", "d", "e", "f")) // 6 until now
	x.refuses("five more", inGroup(g, pim.EntryJoin, "eve", "g", "h", "i", "j", "k"), limit.MembersAdded)
	x.refuses("a group of six", inGroup("", pim.EntryCreate, "eve", "a", "b", "c", "d", "e"), limit.MembersAdded)
	x.does("four more", inGroup(g, pim.EntryJoin, "eve", "g", "h", "i", "j"))
	x.does("a group of nobody else", inGroup("", pim.EntryCreate, "eve"))
	x.does("another", inGroup("", pim.EntryCreate, "eve"))
	x.refuses("a fourth group", inGroup("", pim.EntryCreate, "eve"), limit.GroupsCreated)
	x.does("a message to the group", message(g, "eve", "hi"))
	x.does("another member adds", inGroup(g, pim.EntryJoin, "a", "z"))
	if a := x.does("the first group, again", create); !a.Duplicate || a.Request.Conversation != g {
		t.Errorf("the first group again: %+v", a)
	}
	if a := x.do(inGroup(g, pim.EntryJoin, "eve", "a"))[0]; pim.KindOf(a.Err) != pim.KindInvalid {
		t.Errorf("a join of a member: %v", a.Err)
	}
}

// What begins at the same time, at different drivers, is no more than what one after the other may do.
func TestDeedsAtOnce(t *testing.T) {
	x := newSociety(t, storetest.NewMemory(), limit.Deed{Groups: 20})
	var all []*conv.Request
	for range 200 {
		all = append(all, inGroup("", pim.EntryCreate, "eve", "a"))
	}
	created := 0
	for _, a := range x.do(all...) {
		switch {
		case a.Err == nil:
			created++
		case pim.KindOf(a.Err) != pim.KindOverloaded:
			t.Error(a.Err)
		}
	}
	if created != 20 {
		t.Errorf("%d groups were created, 20 may be", created)
	}
}

// failing is a store whose appends fail as long as fail says so.
type failing struct {
	store.Store
	fail atomic.Pointer[error]
}

func (f *failing) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	err := f.fail.Load()
	if err == nil {
		f.Store.Begin(ctx, writes, d, done)
		return
	}
	for _, w := range writes {
		w.Err = *err
		done(w)
	}
}

// A deed whose append fails counts as nothing, nor does one of which nobody knows whether it took
// effect, since the state is read again and says so.
func TestFailedDeedsCountAsNothing(t *testing.T) {
	for _, err := range []error{pim.Errorf(pim.KindUnavailable, "the disk is gone"), store.ErrUnknown} {
		s := &failing{Store: storetest.NewMemory()}
		x := newSociety(t, s, limit.Deed{Groups: 2})
		s.fail.Store(&err)
		for range 10 {
			if a := x.do(inGroup("", pim.EntryCreate, "eve"))[0]; a.Err == nil || errors.Is(a.Err, context.Canceled) {
				t.Fatalf("answered with %v", a.Err)
			}
		}
		s.fail.Store(nil)
		x.does("the first", inGroup("", pim.EntryCreate, "eve"))
		x.does("the second", inGroup("", pim.EntryCreate, "eve"))
		x.refuses("the third", inGroup("", pim.EntryCreate, "eve"), limit.GroupsCreated)
	}
}

// A request whose entry another node has written is answered as a duplicate, also if this node
// does not know the entry yet and the user may do no more here.
func TestDeedsOfAnotherNode(t *testing.T) {
	s := storetest.NewMemory()
	one, two := newSociety(t, s, limit.Deed{Members: 3}), newSociety(t, s, limit.Deed{Members: 3})
	g := one.does("a group", inGroup("", pim.EntryCreate, "eve", "a", "b", "c")).Request.Conversation
	join := inGroup(g, pim.EntryJoin, "eve", "d")
	if a := two.does("a member", join); a.Duplicate {
		t.Errorf("%+v", a)
	}
	if a := one.does("the same, here", join); !a.Duplicate || a.Seq != 2 {
		t.Errorf("the same, here: %+v", a)
	}
	_, fence, err := store.LogEnd(t.Context(), s, inbox.Entries(g))
	if err != nil {
		t.Fatal(err)
	}
	one.refuses("one more", inGroup(g, pim.EntryJoin, "eve", "e"), limit.MembersAdded)
	if _, after, err := store.LogEnd(t.Context(), s, inbox.Entries(g)); err != nil || after != fence {
		t.Errorf("the refusal has raised the fence from %d to %d, %v", fence, after, err)
	}
}

// A user who has stored a day's worth is refused with a time, may take back and leave nevertheless, and others go on. A repeat of
// what is in the log gets its answer. A free user is not bounded.
func TestBytesOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &society{t: t, rec: newRecorder(), registry: prometheus.NewRegistry()}
		x.w = conv.New(storetest.NewMemory(), conv.Options{
			Outlet: x.rec, Shards: 4, Logger: quiet(), Metrics: conv.NewMetrics(x.registry), Bytes: 100_000, Free: []pim.UserID{"bot"},
		})
		defer x.w.Close()
		g := x.does("a group", inGroup("", pim.EntryCreate, "eve", "alice", "bot")).Request.Conversation
		says := func(u pim.UserID, bytes int) *conv.Request { return message(g, u, strings.Repeat("x", bytes)) }
		first := says("eve", 40_000)
		at := x.does("the first message", first).Seq
		x.does("the second", says("eve", 40_000))
		x.does("the one that goes beyond", says("eve", 40_000))
		refused := says("eve", 1)
		x.refuses("the next", refused, limit.UserBytes)
		x.refuses("to another conversation", message(pim.Direct("eve", "alice"), "eve", "x"), limit.UserBytes)
		if a := x.does("a repeat", first); !a.Duplicate || a.Seq != at {
			t.Errorf("the repeat is answered %+v", a)
		}
		x.does("another user", says("alice", 50_000))
		for range 5 {
			x.does("a free user", says("bot", 60_000))
		}
		recall := inGroup(g, pim.EntryRecall, "eve")
		recall.Refers = at
		x.does("a recall", recall)
		time.Sleep(6 * time.Hour) // a quarter of a day's worth, of which a fifth was used up before
		x.does("what was refused", refused)
		x.does("some more", says("eve", 10_000))
		x.refuses("and then", says("eve", 1), limit.UserBytes)
		x.does("to leave", inGroup(g, pim.EntryLeave, "eve"))
	})
}

// What does not become an entry takes up nothing.
func TestFailedBytesCountAsNothing(t *testing.T) {
	s := &failing{Store: storetest.NewMemory()}
	x := &society{t: t, rec: newRecorder(), registry: prometheus.NewRegistry()}
	x.w = conv.New(s, conv.Options{Outlet: x.rec, Logger: quiet(), Metrics: conv.NewMetrics(x.registry), Bytes: 100_000})
	t.Cleanup(x.w.Close)
	err := error(pim.Errorf(pim.KindUnavailable, "the disk is gone"))
	s.fail.Store(&err)
	for range 5 {
		if a := x.do(message("d:alice:eve", "eve", strings.Repeat("x", 60_000)))[0]; a.Err == nil {
			t.Fatal("stored")
		}
	}
	s.fail.Store(nil)
	x.does("the first", message("d:alice:eve", "eve", strings.Repeat("x", 60_000)))
	x.does("the second", message("d:alice:eve", "eve", strings.Repeat("x", 60_000)))
	x.refuses("the third", message("d:alice:eve", "eve", "x"), limit.UserBytes)
}
