package retain_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/retain"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

const (
	day  = 24 * time.Hour
	late = 3 * time.Hour // after its time an entry is gone, at most, on a node that stays on
)

// node has writers and sweepers over one store, in virtual time.
type node struct {
	t       *testing.T
	store   store.Store
	writers *conv.Writers
	began   time.Time
	skew    atomic.Int64 // of the wall clock, in ns
	sent    map[pim.ConversationID][]time.Time
}

// Deliver implements conv.Outlet.
func (n *node) Deliver(answers []conv.Answer, _ []conv.Published) {
	for _, a := range answers {
		a.Request.Origin.(chan conv.Answer) <- a
	}
}

func newNode(t *testing.T, s store.Store) *node { return newCareful(t, s, 0) }

// newCareful returns a node whose conversations keep less only after notice.
func newCareful(t *testing.T, s store.Store, notice time.Duration) *node {
	n := &node{t: t, store: s, began: time.Now(), sent: make(map[pim.ConversationID][]time.Time)}
	n.writers = conv.New(s, conv.Options{Outlet: n, Shards: 1, Logger: slog.New(slog.DiscardHandler), Now: n.now, RetainNotice: notice})
	t.Cleanup(n.writers.Close)
	return n
}

func (n *node) now() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) }

// options are those of a sweeper that keeps entries for age.
func (n *node) options(age time.Duration) retain.Options {
	return retain.Options{
		Store: n.store, Trim: n.writers.Trim, Age: age, Now: n.now, Mono: func() time.Duration { return time.Since(n.began) },
		Gate: func() error { return nil }, Logger: slog.New(slog.DiscardHandler),
	}
}

// sends sends a message and returns its conversation.
func (n *node) sends(c pim.ConversationID, from pim.UserID, members ...pim.UserID) pim.ConversationID {
	n.t.Helper()
	r := &conv.Request{Conversation: c, Kind: pim.EntryMessage, Sender: from, Members: members}
	if c == "" {
		r.Kind = pim.EntryCreate
	}
	if _, own := c.OwnUser(); own {
		r.Kind, r.Payload = pim.EntryCommand, wire.AppendCommand(nil, &pim.Command{Kind: pim.CommandContact, Subject: "bob"})
	}
	return n.submit(r)
}

// retains says for how long c keeps its entries.
func (n *node) retains(c pim.ConversationID, from pim.UserID, age time.Duration) {
	n.t.Helper()
	n.submit(&conv.Request{Conversation: c, Kind: pim.EntryRetain, Sender: from, Retain: pim.Millis(age.Milliseconds())})
}

func (n *node) submit(r *conv.Request) pim.ConversationID {
	n.t.Helper()
	r.Device, r.ClientID, r.Local = "d", pim.NewClientMessageID(n.now()), pim.MillisOf(n.now())
	r.Origin = make(chan conv.Answer, 1)
	n.writers.Submit([]*conv.Request{r})
	a := <-r.Origin.(chan conv.Answer)
	if a.Err != nil {
		n.t.Fatal(a.Err)
	}
	c := a.Request.Conversation
	n.sent[c] = append(n.sent[c], n.now())
	return c
}

// front returns the first seq of c that is left.
func (n *node) front(c pim.ConversationID) pim.Seq {
	n.t.Helper()
	reads := []store.Read{{Log: inbox.Entries(c), WithLast: true}}
	if err := n.store.Read(n.t.Context(), reads); err != nil {
		n.t.Fatal(err)
	}
	return reads[0].Front
}

// check returns what is wrong with the front of c, if its entries are kept for age.
func (n *node) check(c pim.ConversationID, age time.Duration) error {
	n.t.Helper()
	front := n.front(c)
	for i, sent := range n.sent[c] {
		switch old, seq := n.now().Sub(sent), pim.Seq(i+1); {
		case old < age && seq < front:
			return fmt.Errorf("seq %d of %s is gone after %v", seq, c, old)
		case old > age+late && seq >= front:
			return fmt.Errorf("seq %d of %s is still there after %v", seq, c, old)
		}
	}
	return nil
}

// Three weeks of messages, in busy and quiet conversations, with entries that are kept for
// nine days. Each is there for nine days, and is gone soon after. Pages say where the
// log begins, and what is unread stays right. A user's own log keeps everything.
func TestOldEntriesLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, storetest.NewMemory())
		const age, days = 9 * day, 21
		registry := prometheus.NewRegistry()
		o := n.options(age)
		o.Registerer = registry
		s := retain.New(o)
		defer s.Close()
		direct, quiet, own := pim.Direct("alice", "bob"), pim.Direct("alice", "carol"), pim.Own("alice")
		group := n.sends("", "alice", "bob", "carol")
		n.sends(quiet, "alice")
		x := inbox.New(n.store)
		for hour := range days * 24 {
			if hour%6 == 0 {
				n.sends(direct, "alice")
				n.sends(group, "bob")
				n.sends(own, "alice")
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			for _, c := range []pim.ConversationID{direct, group, quiet} {
				if err := n.check(c, age); err != nil {
					t.Fatal(err)
				}
			}
		}
		if front := n.front(own); front != 1 {
			t.Errorf("alice's own log begins at %d", front)
		}
		front := n.front(direct)
		p, err := x.Pull(t.Context(), "bob", inbox.PullRequest{Conversation: direct, From: 1, Limit: 5})
		if err != nil || p.Front != front || p.From != 1 || len(p.Entries) != 5 || p.Entries[0].Seq != front {
			t.Errorf("a page of a log that begins at %d: %+v, %v", front, p, err)
		}
		line, _, err := x.Line(t.Context(), "bob", direct)
		if err != nil {
			t.Fatal(err)
		}
		read, err := x.Position(t.Context(), "bob", direct, 10) // it was trimmed
		if left := uint64(4*days - front + 1); err != nil || line.Count-read.Count != left {
			t.Errorf("%d messages of %d that are left are unread, %v", line.Count-read.Count, left, err)
		}
		trimmed := float64(n.front(direct) + n.front(group) + n.front(quiet) - 3)
		if got := gathered(t, registry, "pim_retain_trimmed_total"); got != trimmed {
			t.Errorf("%v entries are counted as removed, and %v are", got, trimmed)
		}
		if got := gathered(t, registry, "pim_retain_pass_timestamp_seconds"); n.now().Unix()-int64(got) > int64(late.Seconds()) {
			t.Errorf("the last pass was at %v, and it is %d", got, n.now().Unix())
		}
	})
}

func gathered(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetCounter().GetValue() + f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("%s is not measured", name)
	return 0
}

// Of the server's age and a conversation's the shorter one holds.
func TestConversationsKeepLess(t *testing.T) {
	for _, server := range []time.Duration{0, 12 * day} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t, storetest.NewMemory())
			s := retain.New(n.options(server))
			defer s.Close()
			less, more, off, none := pim.Direct("alice", "bob"), pim.Direct("alice", "carol"), pim.Direct("alice", "dan"), pim.Direct("alice", "eve")
			n.retains(less, "bob", 8*day)
			n.retains(more, "alice", 15*day)
			n.retains(off, "alice", 8*day)
			n.retains(off, "dan", 0)
			for hour := range 20 * 24 {
				if hour%6 == 0 {
					for _, c := range []pim.ConversationID{less, more, off, none} {
						n.sends(c, "alice")
					}
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				forEver := 1000 * day
				ages := map[pim.ConversationID]time.Duration{less: 8 * day, more: 15 * day, off: forEver, none: forEver}
				for c, age := range ages {
					if server != 0 {
						age = min(age, server)
					}
					if err := n.check(c, age); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// While a sweeper trims one conversation, somebody says that the entries of the next one stay.
func TestKeptAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, storetest.NewMemory())
		first, second := pim.Direct("alice", "bob"), pim.ConversationID("")
		for i := 0; second < first || inbox.LogsOf(second) != inbox.LogsOf(first); i++ { // the same page, behind first
			second = pim.Direct("alice", pim.UserID(fmt.Sprint("carl", i)))
		}
		for _, c := range []pim.ConversationID{first, second} {
			n.sends(c, "alice")
			n.retains(c, "alice", 10*day)
		}
		o := n.options(0)
		o.Trim = func(ctx context.Context, c pim.ConversationID, to pim.Seq) error {
			if c == first {
				n.retains(second, "alice", 0)
			}
			return n.writers.Trim(ctx, c, to)
		}
		s := retain.New(o)
		defer s.Close()
		time.Sleep(12 * day)
		synctest.Wait()
		if n.front(first) == 1 || n.front(second) != 1 {
			t.Errorf("the logs begin at seq %d and %d", n.front(first), n.front(second))
		}
	})
}

// Sweepers that are broken on purpose remove an entry too early or too late, and the check of these
// tests tells.
func TestBrokenSweepersAreCaught(t *testing.T) {
	const age = 3 * day
	for name, broken := range map[string]func(*retain.Options){
		"one entry too many": func(o *retain.Options) {
			trim := o.Trim
			o.Trim = func(ctx context.Context, c pim.ConversationID, upTo pim.Seq) error { return trim(ctx, c, upTo+1) }
		},
		"a day too early": func(o *retain.Options) { o.Age -= day },
		"a day too late":  func(o *retain.Options) { o.Age += day },
		"nothing": func(o *retain.Options) {
			o.Trim = func(context.Context, pim.ConversationID, pim.Seq) error { return nil }
		},
		"all that there is": func(o *retain.Options) {
			trim := o.Trim
			o.Trim = func(ctx context.Context, c pim.ConversationID, upTo pim.Seq) error { return trim(ctx, c, 1<<60) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, storetest.NewMemory())
				o := n.options(age)
				broken(&o)
				s := retain.New(o)
				defer s.Close()
				c := pim.Direct("alice", "bob")
				for hour := range 8 * 24 {
					if hour%6 == 0 {
						n.sends(c, "alice")
					}
					time.Sleep(time.Hour)
					synctest.Wait()
					if n.check(c, age) != nil {
						return
					}
				}
				t.Error("nothing tells")
			})
		})
	}
}

// A sweeper that is closed in a pass, and the next one over the store: it goes on behind the pages
// that are done.
func TestThePlaceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pages []store.Partition
		reached := make(chan struct{}, 1)
		st := &reader{Store: storetest.NewMemory(), lists: func(p store.Partition) {
			if p >= inbox.Logs(0) && p <= inbox.Logs(inbox.LogPartitions-1) {
				if pages = append(pages, p); len(pages) == 20 {
					reached <- struct{}{}
				}
			}
		}}
		n := newNode(t, st)
		n.sends(pim.Direct("alice", "bob"), "alice")
		s := retain.New(n.options(10 * day))
		time.Sleep(passAtMost) // the first pass over a store looks for the time, too
		synctest.Wait()
		s.Close()
		pages, reached = nil, make(chan struct{}, 1)
		s = retain.New(n.options(10 * day))
		<-reached
		s.Close()
		again := pages[len(pages)-1]
		pages = nil
		s = retain.New(n.options(10 * day))
		time.Sleep(passAtMost)
		synctest.Wait()
		s.Close()
		// It may have been closed behind the page or within it.
		if first, last := pages[0], pages[len(pages)-1]; first != inbox.Logs(19) && first != inbox.Logs(20) || last != inbox.Logs(inbox.LogPartitions-1) {
			t.Errorf("the pass was stopped at %s, and goes on from %s to %s", again, first, last)
		}
	})
}

const passAtMost = 30 * time.Minute // from the start of a sweeper to the end of its first pass

// A conversation that can't be read keeps its entries, and no other conversation does.
func TestOneConversationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := pim.Direct("alice", "bob")
		st := &reader{Store: storetest.NewMemory()}
		n := newNode(t, st)
		n.sends(bad, "alice")
		n.sends(pim.Direct("alice", "carol"), "alice")
		time.Sleep(11 * day)
		for _, err := range []error{pim.Errorf(pim.KindCorrupt, "broken"), pim.Errorf(pim.KindUnavailable, "busy")} {
			good := n.sends(pim.Direct("alice", pim.UserID(pim.KindOf(err).String())), "alice")
			st.fail = func(r store.Read) error {
				if r.Log == inbox.Entries(bad) {
					return err
				}
				return nil
			}
			s := retain.New(n.options(10 * day))
			time.Sleep(11 * day)
			synctest.Wait()
			s.Close()
			st.fail = nil
			if n.front(bad) != 1 || n.front(good) != 2 {
				t.Errorf("%v: the logs begin at %d and %d", err, n.front(bad), n.front(good))
			}
		}
	})
}

// While the gate is closed nothing is removed. A pass that it stops goes on when it is open.
func TestTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, storetest.NewMemory())
		c := n.sends(pim.Direct("alice", "bob"), "alice")
		var closed atomic.Bool
		closed.Store(true)
		o := n.options(10 * day)
		o.Gate = func() error {
			if closed.Load() {
				return errors.New("closed")
			}
			return nil
		}
		s := retain.New(o)
		defer s.Close()
		time.Sleep(20 * day)
		synctest.Wait()
		if n.front(c) != 1 {
			t.Error("the gate is closed, and a message is gone")
		}
		closed.Store(false)
		time.Sleep(late)
		synctest.Wait()
		if n.front(c) != 2 {
			t.Error("the gate is open, and the message is there")
		}
	})
}

// Two sweepers, a writer and a restart, all at once: nothing young is gone, and nothing old is left.
func TestTwoSweepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		n := newNode(t, st)
		other := newNode(t, st)
		const age = 4 * day
		s := [2]*retain.Sweeper{retain.New(n.options(age)), retain.New(other.options(age))}
		for hour := range 12 * 24 {
			for i := range 4 {
				n.sends(pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), "alice")
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			for i := range 4 {
				if err := n.check(pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), age); err != nil {
					t.Fatal(err)
				}
			}
			if hour%20 == 0 {
				s[hour/20%2].Close()
				s[hour/20%2] = retain.New(n.options(age))
			}
		}
		s[0].Close()
		s[1].Close()
	})
}
