package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/wire/wirepb"
)

// manyLooks returns n subjects of which every call with another name returns others.
func manyLooks(name string, n int) (ids []pim.ConversationID) {
	for i := range n {
		ids = append(ids, pim.ConversationID(fmt.Sprint("g:", name, "-", i)))
	}
	return ids
}

// Accounts that take all looks of a node keep nobody from a look: whoever has less than they gets as
// much as they, from the one who has the most. Whoever has as much already is refused.
func TestManyAccountsTakeNotAllLooks(t *testing.T) {
	const all = 16 * userLooks
	l := looks{totals: lookTotals{bound: all}}
	for i := range all / userLooks {
		for j := range userLooks / maxLooks {
			c := &conn{user: pim.UserID(fmt.Sprint("eve", i))}
			l.set(c, manyLooks(fmt.Sprint(i, ".", j), maxLooks), 7)
		}
	}
	if l.totals.all != all || len(l.subjects) != all {
		t.Fatalf("the accounts look %d times at %d subjects", l.totals.all, len(l.subjects))
	}
	ann := &conn{user: "ann"}
	r := l.set(ann, manyLooks("ann", maxLooks), 1)
	if r.full || len(l.looking[ann].ids) != maxLooks || l.totals.all != all || len(l.subjects) != all {
		t.Errorf("of a full node ann gets %d looks; all look %d times at %d subjects", len(l.looking[ann].ids), l.totals.all, len(l.subjects))
	}
	if len(r.gaveWay) == 0 || len(r.gaveWay) > maxLooks || r.gaveWay[0].request != 7 {
		t.Errorf("%d connections are told", len(r.gaveWay))
	}
	if l.totals.most < userLooks-maxLooks/15 {
		t.Errorf("the account with the most has %d looks: not all of them have given way alike", l.totals.most)
	}
	if r := l.set(&conn{user: "eve1"}, manyLooks("more", maxLooks), 1); !r.full || len(r.gaveWay) > 0 {
		t.Errorf("who has the most takes more of others: %+v", r)
	}
}

// Whatever users look at, and whenever they leave, the totals are right, no more than the bound is
// looked at, and a refusal says that nobody has two looks more than the one who is refused. Whoever has
// given way is told once, until the next PIMLook.
func TestLookTotalsSchedules(t *testing.T) {
	for seed := range uint64(seeds.Many(1000)) {
		rng := rand.New(rand.NewPCG(seed, 2))
		l := looks{totals: lookTotals{bound: 20}}
		var conns []*conn
		for i := range 8 {
			conns = append(conns, &conn{user: pim.UserID(fmt.Sprint("u", i/2))})
		}
		told := make(map[*conn]bool)
		for range 60 {
			c := conns[rng.IntN(len(conns))]
			if rng.IntN(5) == 0 {
				l.end(c)
				delete(told, c)
				continue
			}
			ids := manyLooks("", 15)
			rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			ids = ids[:rng.IntN(len(ids))]
			r := l.set(c, slices.Clone(ids), uint64(len(ids)))
			delete(told, c)
			for _, w := range r.gaveWay {
				if told[w.conn] || w.conn.user == c.user {
					t.Fatalf("seed %d: a connection of %s is told again", seed, w.conn.user)
				}
				told[w.conn] = true
			}
			own := l.totals.users[c.user]
			if r.full && (l.totals.all != l.totals.bound || l.totals.most > own.looks+1) {
				t.Fatalf("seed %d: %s is refused with %d looks, while another user has %d", seed, c.user, own.looks, l.totals.most)
			}
			if kept := l.looking[c].ids; !r.full && !slices.Equal(kept, ids) {
				t.Fatalf("seed %d: %v is looked at, not %v", seed, kept, ids)
			}
			all, most := 0, 0
			of := make(map[pim.UserID]int)
			for o, k := range l.looking {
				of[o.user] += len(k.ids)
				for _, id := range k.ids {
					if s := l.subjects[id]; s == nil || !has(s.lookers, o) {
						t.Fatalf("seed %d: %s is looked at, and forgotten", seed, id)
					}
				}
			}
			for u, n := range of {
				all, most = all+n, max(most, n)
				if l.totals.users[u].looks != n {
					t.Fatalf("seed %d: %s looks at %d, not %d", seed, u, n, l.totals.users[u].looks)
				}
			}
			lookers := 0
			for _, s := range l.subjects {
				lookers += len(s.lookers)
			}
			if all > l.totals.bound || all != l.totals.all || most != l.totals.most || lookers != all {
				t.Fatalf("seed %d: %d looks of %d, the most %d of %d; %d lookers", seed, all, l.totals.all, most, l.totals.most, lookers)
			}
		}
		for _, c := range conns {
			l.end(c)
		}
		if l.totals.all+l.totals.most+len(l.totals.users)+len(l.subjects) > 0 {
			t.Fatalf("seed %d: %+v is left", seed, l.totals)
		}
	}
}

func has(lookers map[*conn]uint64, c *conn) bool {
	_, ok := lookers[c]
	return ok
}

// The device whose look has given way is told with the ID of its PIMLook.
func TestWhoGivesWayIsTold(t *testing.T) {
	x := newLab(t, nil)
	l := &x.gw.Sessions.looks
	l.mu.Lock()
	l.totals.bound = 4
	l.mu.Unlock()
	eve, ann := x.connect(false, "eve", "phone"), x.connect(false, "ann", "phone")
	eve.send(&wirepb.PIMLook{Conversations: []string{"g:1", "g:2", "g:3", "g:4", "g:5"}, RequestId: 5})
	if m := expect[*wirepb.PIMError](eve); m.RequestId != 5 || m.Kind != wirepb.ErrorKind_ERROR_KIND_OVERLOADED {
		t.Errorf("eve, who looks at more than all may, is told %v", m)
	}
	eve.send(&wirepb.PIMLook{Conversations: []string{"g:1", "g:2", "g:3", "g:4"}, RequestId: 6})
	x.eventually("eve looks again", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.ContainsFunc(l.totals.users["eve"].conns, func(c *conn) bool { return l.looking[c].request == 6 })
	})
	ann.send(&wirepb.PIMLook{Conversations: []string{"g:a", "g:b"}, RequestId: 1})
	if m := expect[*wirepb.PIMError](eve); m.RequestId != 6 || m.Kind != wirepb.ErrorKind_ERROR_KIND_OVERLOADED || !m.Retryable {
		t.Errorf("eve, whose look gives way, is told %v", m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, looked := range map[pim.ConversationID]bool{"g:1": true, "g:2": true, "g:3": false, "g:4": false, "g:a": true, "g:b": true} {
		if _, is := l.subjects[id]; is != looked {
			t.Errorf("%s is looked at: %t", id, is)
		}
	}
}

// Typing in a conversation is dropped if too many subjects are told before it. The users whose presence
// is to be told come later, and so do groups if the conversation is direct.
func TestTypingIsNotDroppedForWhatComesLater(t *testing.T) {
	l := looks{working: true}
	var c conn
	l.set(&c, []pim.ConversationID{"d:a:b", "g:1"}, 0)
	types := func(id pim.ConversationID, user pim.UserID, want bool) {
		t.Helper()
		if _, dropped := l.types(user, id, time.Now()); dropped == want {
			t.Errorf("%s writes in %s; dropped: %t", user, id, dropped)
		}
	}
	some := make([]*subject, maxReady)
	l.ready[2] = some
	types("g:1", "a", true)
	l.ready[1] = some
	types("g:1", "b", false)
	types("d:a:b", "a", true)
	l.ready[0] = some
	types("d:a:b", "b", false)
}

// Receipts that were computed are sent after a while, also if other subjects are ready all the time.
func TestComputedReceiptsAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l looks
		c := conn{user: "ann"}
		var ids []pim.ConversationID // direct ones, for which others never wait
		for i := range maxLooks {
			ids = append(ids, pim.Direct("ann", pim.UserID(fmt.Sprint("u", i))))
		}
		l.set(&c, ids, 0)
		for _, id := range l.looking[&c].ids {
			l.change(id)
		}
		const takes = computedFor / 4 // so that few are computed in that time
		var first time.Time           // when the first that was not sent was computed
		sends := 0
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l.work(ctx, func(s telling) {
			l.paid = nil // ann's share is never used up
			if len(l.computed) == 0 {
				first = time.Now().Add(takes)
			}
			time.Sleep(takes)
			l.computed = append(l.computed, computed{telling: s})
		}, func() {
			if sends++; time.Since(first) > computedFor+takes {
				t.Errorf("a receipt was held back for %v", time.Since(first))
			}
			l.computed = nil
		})
		if sends == 0 {
			t.Error("nothing was sent")
		}
	})
}

// A telling that hangs, as the store does at times, is nobody's doing: the groups behind it wait for a
// bounded time.
func TestAGroupThatHangsHoldsUpOthersForABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l looks
		var c conn
		l.set(&c, []pim.ConversationID{"g:1", "g:2"}, 0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const hangs = 10 * time.Second
		told := make(map[pim.ConversationID]time.Time)
		l.change("g:1")
		l.change("g:2")
		begun := time.Now()
		go l.work(ctx, func(s telling) {
			told[s.id] = time.Now()
			if s.id == "g:1" {
				time.Sleep(hangs)
			}
		}, func() {})
		time.Sleep(time.Minute)
		synctest.Wait()
		if waits := told["g:2"].Sub(begun) - hangs; told["g:2"].IsZero() || waits > groupShare*maxCharge {
			t.Errorf("the group behind one that hung waits for %v more", waits)
		}
	})
}
