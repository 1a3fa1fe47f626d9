package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire/wirepb"
)

// lookTest counts what looks tell.
type lookTest struct {
	looks looks
	mu    sync.Mutex
	told  map[pim.ConversationID][]time.Time
}

func (x *lookTest) changes(t *testing.T, id pim.ConversationID) {
	if x.looks.change(id) {
		go x.looks.work(t.Context(), func(s telling) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.told[s.id] = append(x.told[s.id], time.Now())
		}, func() {})
	}
}

// However often conversations change and devices look away and back, each conversation is told at
// most once a second, and its last change is told. With the look that ends, and so does the work.
func TestLooksAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &lookTest{told: make(map[pim.ConversationID][]time.Time)}
		id := func(i int) pim.ConversationID { return pim.ConversationID(fmt.Sprint("g:", i)) }
		var all []pim.ConversationID
		for i := range 5 {
			all = append(all, id(i))
		}
		phone, laptop := new(conn), new(conn)
		x.looks.set(phone, slices.Clone(all), 0)
		x.changes(t, "g:elsewhere")
		for i := range 1000 { // ten seconds
			x.changes(t, id(i%5))
			if i%7 == 0 {
				x.looks.set(laptop, slices.Clone(all[:i%5]), 0)
				x.looks.set(phone, nil, 0)
				x.looks.set(phone, slices.Clone(all), 0)
			}
			time.Sleep(10 * time.Millisecond)
		}
		last := time.Now()
		x.changes(t, id(0))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, c := range all {
			times := x.told[c]
			if len(times) < 9 || len(times) > 12 {
				t.Errorf("%s was told %d times in ten seconds", c, len(times))
			}
			for i := range times[1:] {
				if d := times[i+1].Sub(times[i]); d < lookEvery {
					t.Errorf("%s was told again after %v", c, d)
				}
			}
		}
		if times := x.told[id(0)]; times[len(times)-1].Before(last) {
			t.Error("the last change was not told")
		}
		if len(x.told) != 5 || x.looks.working {
			t.Errorf("%d conversations were told; working: %v", len(x.told), x.looks.working)
		}
		told := len(x.told[id(0)])
		x.changes(t, id(0))
		x.looks.end(phone)
		x.looks.end(laptop)
		time.Sleep(3 * time.Second)
		x.changes(t, id(0))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(x.told[id(0)]) - told; n > 1 {
			t.Errorf("told %d times after the look", n)
		}
		if len(x.looks.subjects) != 0 || x.looks.some.Load() != 0 {
			t.Errorf("%d conversations are left", len(x.looks.subjects))
		}
	})
}

// Whatever connections look at, what changes, who is slow and how the worker gets on: a connection
// looks at what it said last, each change is told to those who look then, whoever was slow is told
// again, and nothing is left in the end.
func TestLooksSchedules(t *testing.T) {
	for seed := range uint64(seeds.Many(2000)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var l looks
		var conns [4]conn
		said := make(map[*conn][]pim.ConversationID)
		due := make(map[pim.ConversationID]bool)   // changed, and not told since, while somebody has looked
		maybe := make(map[pim.ConversationID]bool) // likewise, but nobody has looked meanwhile
		type debt struct {
			c  *conn
			id pim.ConversationID
		}
		owes := make(map[debt]bool) // whether the connection has taken what waited
		id := func() pim.ConversationID {
			if rng.IntN(2) == 0 {
				return pim.ConversationID(fmt.Sprint("g:", rng.IntN(3)))
			}
			return pim.Direct("a", pim.UserID(fmt.Sprint("u", rng.IntN(3))))
		}
		lookers := func(c pim.ConversationID) (n int) {
			for _, ids := range said {
				if slices.Contains(ids, c) {
					n++
				}
			}
			return n
		}
		now := time.Now()
		told := make(map[pim.ConversationID]time.Time)
		tell := func() bool {
			s, _, done := l.next(now)
			to := s.lookers
			if s.subject != nil {
				again := len(s.news) == 0 // whoever was to be told again looks away
				for d, taken := range owes {
					if d.id == s.id {
						again = again || taken
						if !slices.Contains(s.news, d.c) {
							t.Fatalf("seed %d: %s is not told to who was slow", seed, s.id)
						}
						delete(owes, d)
					}
				}
				if due[s.id] && len(s.news) < len(to) || !due[s.id] && !maybe[s.id] && !again || len(to) != lookers(s.id) || now.Sub(told[s.id]) < lookEvery {
					t.Fatalf("seed %d: %s is told to %d, %d look; due: %v", seed, s.id, len(to), lookers(s.id), due[s.id])
				}
				for _, c := range s.news {
					s.subject.lookers[c] = 1 // it is sent a frame
				}
				told[s.id] = now
				delete(due, s.id)
				delete(maybe, s.id)
				if len(s.news) > 0 && rng.IntN(2) == 0 {
					c := s.news[rng.IntN(len(s.news))]
					l.owe(s.subject, c)
					owes[debt{c, s.id}] = false
				}
			}
			return !done
		}
		for range 60 {
			c := &conns[rng.IntN(len(conns))]
			switch rng.IntN(7) {
			case 6:
				l.again(c)
				for d := range owes {
					if d.c == c {
						owes[d] = true
					}
				}
			case 0, 1:
				var ids []pim.ConversationID
				for range rng.IntN(4) {
					if x := id(); !slices.Contains(ids, x) {
						ids = append(ids, x)
					}
				}
				l.set(c, slices.Clone(ids), 0)
				said[c] = ids
			case 2:
				l.end(c)
				delete(said, c)
			case 3, 4:
				c := id()
				if due[c] = lookers(c) > 0; !due[c] {
					maybe[c] = true
				}
				l.change(c)
			default:
				now = now.Add(time.Duration(rng.IntN(1500)) * time.Millisecond)
				tell()
			}
			for d := range owes {
				if !slices.Contains(said[d.c], d.id) {
					delete(owes, d)
				}
			}
			for c := range due {
				if lookers(c) == 0 {
					delete(due, c)
					maybe[c] = true
				}
			}
			for c, ids := range said {
				for _, id := range ids {
					if s := l.subjects[id]; s == nil {
						t.Fatalf("seed %d: %s is looked at, and forgotten", seed, id)
					} else if _, ok := s.lookers[c]; !ok {
						t.Fatalf("seed %d: a looker of %s is forgotten", seed, id)
					}
				}
			}
		}
		for tell() {
			now = now.Add(lookEvery)
		}
		for c := range due {
			if lookers(c) > 0 {
				t.Fatalf("seed %d: %s has changed, and was not told", seed, c)
			}
		}
		for d, taken := range owes {
			if taken {
				t.Fatalf("seed %d: %s was not told again", seed, d.id)
			}
		}
		for i := range conns {
			l.end(&conns[i])
		}
		if len(l.subjects)+len(l.looking)+len(l.totals.users)+l.totals.all > 0 || l.some.Load() != 0 {
			t.Fatalf("seed %d: %d conversations are left", seed, len(l.subjects))
		}
	}
}

// A device that looks at a conversation hears of reads there, others do not. One connection looks
// at maxLooks conversations at most, and none that by their IDs are not the user's.
func TestLook(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.connect(websocket, "alice", "phone")
		look := &wirepb.PIMLook{Conversations: []string{"d:alice:bob", "d:bob:carl", "u:alice", "", "d:alice:bob"}}
		for i := range 2 * maxLooks {
			look.Conversations = append(look.Conversations, fmt.Sprint("g:", i))
		}
		p.send(look)
		looking := func() int {
			l := &x.gw.Sessions.looks
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.subjects)
		}
		x.eventually("alice looks", func() bool { return looking() == maxLooks })
		x.read.Store(7)
		x.gw.Sessions.Deliver(nil, []conv.Published{{
			Conversation: pim.Own("bob"), Members: []pim.UserID{"bob"}, Read: []pim.ConversationID{"d:alice:bob"},
		}})
		if r := expect[*wirepb.PIMReceipt](p); r.Conversation != "d:alice:bob" || r.Read != 7 {
			t.Errorf("alice is told %v", r)
		}
		x.read.Store(8)
		x.gw.Sessions.Acknowledged("d:alice:bob")
		if r := expect[*wirepb.PIMReceipt](p); r.Read != 8 {
			t.Errorf("alice is told %v", r)
		}
		x.gw.Sessions.Acknowledged("d:alice:bob") // nothing is new, so nothing is sent
		x.broken.Store(true)
		x.read.Store(9)
		x.gw.Sessions.Acknowledged("d:alice:bob")
		x.eventually("the store has failed", func() bool { return x.failed.Load() > 0 })
		x.broken.Store(false)
		if r := expect[*wirepb.PIMReceipt](p); r.Read != 9 {
			t.Errorf("after a failure of the store alice is told %v", r)
		}
		failed := x.failed.Load()
		x.undurable.Store(true)
		x.read.Store(10)
		x.gw.Sessions.Acknowledged("d:alice:bob")
		x.eventually("the disk has failed", func() bool { return x.failed.Load() > failed })
		x.read.Store(11)
		x.undurable.Store(false)
		if r := expect[*wirepb.PIMReceipt](p); r.Read != 11 {
			t.Errorf("after a failure of the disk alice is told %v, of which she was to be told nothing before", r)
		}
		p.send(&wirepb.PIMLook{})
		x.eventually("nothing is looked at", func() bool { return looking() == 0 })
		p.send(&wirepb.PIMLook{Conversations: []string{"g:1"}})
		x.eventually("alice looks", func() bool { return looking() == 1 })
		p.nc.Close()
		x.eventually("the look ends with the connection", func() bool { return looking() == 0 })
	})
}

// What looks cost a message: of a conversation that nobody looks at while others are looked at, and
// of one that is looked at and is due.
func BenchmarkChange(b *testing.B) {
	var l looks
	var c conn
	l.set(&c, []pim.ConversationID{"d:alice:bob"}, 0)
	l.change("d:alice:bob")
	for _, id := range []pim.ConversationID{"d:alice:carl", "d:alice:bob"} {
		b.Run(string(id), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					l.change(id)
				}
			})
		})
	}
}

// Direct conversations are told before groups, and a group that has cost much keeps the next one
// waiting, but no direct one.
func TestLooksAreFair(t *testing.T) {
	var l looks
	var c conn
	l.set(&c, []pim.ConversationID{"g:1", "g:2", "d:a:b"}, 0)
	now := time.Now()
	tells := func(want pim.ConversationID) {
		t.Helper()
		if s, _, _ := l.next(now); s.subject == nil || s.id != want {
			t.Errorf("%+v is told, want %s", s.subject, want)
		}
	}
	l.change("g:1")
	l.change("g:2")
	l.change("d:a:b")
	tells("d:a:b")
	tells("g:1")
	l.groupsFrom = now.Add(5 * time.Second)
	if s, wait, done := l.next(now); s.subject != nil || done || wait <= 0 {
		t.Errorf("%+v is told", s.subject)
	}
	now = now.Add(2 * time.Second)
	l.change("d:a:b")
	l.next(now)
	now = now.Add(4 * time.Second)
	tells("g:2")
}

// What one user looks at takes a share of the time: above it the user's subjects wait, but not
// those at which somebody else looks, too. They are told in the order in which they became ready.
func TestLooksAreShared(t *testing.T) {
	var l looks
	eve, ann := conn{user: "eve"}, conn{user: "ann"}
	ids := []pim.ConversationID{"d:a:eve", "d:b:eve", "d:c:eve", "d:d:eve"}
	l.set(&eve, slices.Clone(ids), 0)
	now := time.Now()
	tells := func(want ...pim.ConversationID) {
		t.Helper()
		for _, id := range want {
			if s, _, _ := l.next(now); s.subject == nil || s.id != id {
				t.Errorf("%+v is told, want %s", s.subject, id)
			}
		}
		if s, _, done := l.next(now); s.subject != nil || done {
			t.Errorf("%+v is told; done: %v", s.subject, done)
		}
	}
	for _, id := range ids {
		l.change(id)
	}
	l.charge([]pim.UserID{"eve", "ann"}, 2*time.Second, now) // 20 s each
	l.paid["ann"] = now
	tells()
	l.set(&ann, []pim.ConversationID{ids[2]}, 0)
	tells(ids[2])
	now = now.Add(20 * time.Second)
	l.charge([]pim.UserID{"eve"}, time.Millisecond, now)
	tells(ids[0], ids[1], ids[3])
	for i := range 2000 {
		l.charge([]pim.UserID{pim.UserID(fmt.Sprint("u", i))}, 0, now.Add(time.Duration(i)*time.Second))
	}
	if len(l.paid) > 1100 {
		t.Errorf("what %d users have used is remembered", len(l.paid))
	}
}

// Users who may read the same messages share one frame.
func TestFramesAreShared(t *testing.T) {
	all := []inbox.Receipt{{Seq: 1, Members: 2}, {Seq: 2, Members: 2}}
	frames := encodeLive("g:1", []*inbox.Receipts{{Messages: all}, nil, {Messages: all}, {Messages: all[1:]}, {Messages: all[:1]}})
	if &frames[0][0] != &frames[2][0] || frames[1] != nil || &frames[0][0] == &frames[3][0] || &frames[0][0] == &frames[4][0] {
		t.Errorf("frames %v", frames)
	}
}

// All connections of a user together look at so much, and at no more, so that nobody takes the
// place of others.
func TestAUsersLooksAreBounded(t *testing.T) {
	var l looks
	names := func(from int) (ids []pim.ConversationID) {
		for i := range maxLooks {
			ids = append(ids, pim.ConversationID(fmt.Sprint("g:", from+i)))
		}
		return ids
	}
	var conns []*conn
	for i := range userLooks/maxLooks + 1 {
		c := &conn{user: "eve"}
		conns = append(conns, c)
		if l.set(c, names(i*maxLooks), 0).full != (i == userLooks/maxLooks) {
			t.Errorf("connection %d: of %d: full or not", i, userLooks/maxLooks)
		}
	}
	if l.set(&conn{user: "ann"}, names(0), 0).full {
		t.Error("another user looks at nothing")
	}
	l.set(conns[0], nil, 0)
	if l.set(conns[len(conns)-1], names(5000), 0).full {
		t.Error("who looks away has no more place")
	}
	l.end(conns[1])
	if got := l.totals.users["eve"].looks; got != userLooks-maxLooks {
		t.Errorf("eve looks at %d", got)
	}
}
