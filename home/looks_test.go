package home

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/home/homepb"
	"github.com/pim-im/pim/imtest/seeds"
)

// screens are what is looked at through a node, and what the node was told of it.
type screens struct {
	mu      sync.Mutex
	on      map[pim.ConversationID]*screen
	typing  []typist
	dropped atomic.Int64
}

// screen is what is known of a subject.
type screen struct {
	version int // of a conversation
	known   bool
	online  bool // of a user
	seen    pim.Millis
	hints   int
	states  []bool // online, each time that it was said
}

// looksAt has a device look at a subject, which it reads first.
func (s *site) looksAt(id pim.ConversationID) *screen {
	k := &s.screens
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.on == nil {
		k.on = make(map[pim.ConversationID]*screen)
	}
	if x := k.on[id]; x != nil {
		return x
	}
	x := &screen{version: s.w.version(id)}
	k.on[id] = x
	s.home.Look(id, true)
	return x
}

// looksAway ends that.
func (s *site) looksAway(id pim.ConversationID) {
	k := &s.screens
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.on[id] != nil {
		delete(k.on, id)
		s.home.Look(id, false)
	}
}

// sees returns what is known of a subject.
func (s *site) sees(id pim.ConversationID) screen {
	k := &s.screens
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.on[id] == nil {
		return screen{}
	}
	return *k.on[id]
}

// hint takes what the home says, as a gateway does.
func (k *screens) hint(s *site, h gateway.Hint) {
	k.mu.Lock()
	defer k.mu.Unlock()
	x := k.on[h.Subject]
	switch {
	case x == nil:
	case h.Typing != "":
		k.typing = append(k.typing, typist{h.Typing, h.Subject})
	default:
		x.hints++
		if x.version = s.w.version(h.Subject); h.State {
			x.known, x.online, x.seen = true, h.Online, h.Seen
			x.states = append(x.states, h.Online)
		}
	}
}

// version returns how often a subject has changed.
func (w *world) version(id pim.ConversationID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions[id]
}

// changes changes a subject at a node, as a read command does.
func (s *site) changes(id pim.ConversationID) {
	w := s.w
	if !s.meets() {
		s.mu.Lock()
		s.apart = true
		s.mu.Unlock()
	}
	w.mu.Lock()
	if w.versions == nil {
		w.versions = make(map[pim.ConversationID]int)
	}
	w.versions[id]++
	w.mu.Unlock()
	s.home.Publish([]conv.Published{{Conversation: "u:reader", Members: []pim.UserID{"reader"}, Read: []pim.ConversationID{id}}})
}

// checkScreens checks, when all is quiet, that every node knows of all that is looked at there what is true.
func (w *world) checkScreens() error {
	online := make(map[pim.ConversationID]bool)
	for _, s := range w.running() {
		for _, p := range s.all() {
			online[pim.Own(p.User)] = true
		}
	}
	for _, s := range w.running() {
		s.screens.mu.Lock()
		defer s.screens.mu.Unlock()
		for id, x := range s.screens.on {
			if v := w.version(id); x.version != v {
				return fmt.Errorf("%s was told of %s at version %d, it is %d", s.name, id, x.version, v)
			}
			if _, own := id.OwnUser(); own && (!x.known || x.online != online[id]) {
				return fmt.Errorf("%s knows of %s: %v, online %v; online is %v", s.name, id, x.known, x.online, online[id])
			}
		}
	}
	return nil
}

// quiet lets some time pass, and then waits until all is quiet.
func quiet(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// inWorld runs a test with nodes, in virtual time.
func inWorld(t *testing.T, f func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		f(t, w)
	})
}

// at returns a user, and a conversation, whose home is the node.
func at(s *site) (pim.UserID, pim.ConversationID) {
	c := s.home.cluster.Load()
	var u pim.UserID
	var id pim.ConversationID
	for i := 0; u == "" || id == ""; i++ {
		if user := pim.UserID(fmt.Sprint("looked-at-", i)); u == "" && c.homeOf(user).self {
			u = user
		}
		if g := pim.ConversationID(fmt.Sprint("g:looked-at-", i)); id == "" && c.subject(g).self {
			id = g
		}
	}
	return u, id
}

// A device is told of a user who is connected elsewhere, by the home, which is a third node: while one of two
// connections lives the user is there, and then is not, and was seen when the last one went.
func TestAUserIsLookedAtAcrossNodes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sites := w.start("a", "b", "c")
		a, b, home := sites[0], sites[1], sites[2]
		u, _ := at(home)
		own := pim.Own(u)
		sees := func(what string, online bool) {
			t.Helper()
			quiet(100 * time.Millisecond)
			if x := a.sees(own); !x.known || x.online != online {
				t.Errorf("%s: known %v, online %v", what, x.known, x.online)
			}
		}
		quiet(2 * hold) // the home is sure
		a.looksAt(own)
		sees("nobody is connected", false)
		phone := b.must(u, "phone")
		sees("one is connected", true)
		tablet := home.must(u, "tablet")
		b.leaves(phone)
		sees("one of two", true)
		tablet.Seen = 12_000_000
		home.leaves(tablet)
		sees("both are gone", false)
		if x := a.sees(own); x.seen != 12_000_000 || !slices.Equal(x.states, []bool{false, true, false}) {
			t.Errorf("told %v, seen at %d", x.states, x.seen)
		}
		a.looksAway(own)
		quiet(time.Second)
		home.must(u, "phone")
		quiet(time.Second)
		if n := home.home.looks.known.Load() + int64(len(home.home.looks.looking)+len(home.home.looks.out)+len(a.home.looks.mine)); n != 0 {
			t.Errorf("%d things are remembered of a look that has ended", n)
		}
	})
}

// What others have read is told to all nodes with devices that look.
func TestAConversationIsLookedAtAcrossNodes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sites := w.start("a", "b", "c", "d")
		a, b, home, writer := sites[0], sites[1], sites[2], sites[3]
		_, id := at(home)
		a.looksAt(id)
		b.looksAt(id)
		quiet(time.Second)
		before := a.sees(id).hints
		for range 10 {
			writer.changes(id)
		}
		quiet(100 * time.Millisecond)
		if err := w.checkScreens(); err != nil {
			t.Error(err)
		}
		if n := a.sees(id).hints - before; n < 1 || n > 2 {
			t.Errorf("%d hints for 10 changes at the same time", n)
		}
	})
}

// Who writes is told to each node once, however many devices look there, and what is too much is dropped and counted.
func TestTypingAcrossNodes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var sent atomic.Int64
		w.broken = func(s *site) {
			s.bus = changedHandler{s.bus, func(h *bus.Handler) {
				take := h.Receive[bus.KindHint]
				h.Receive[bus.KindHint] = func(from string, body []byte) {
					var m homepb.Hints
					if m.UnmarshalVT(body) == nil && len(m.ToldTyping) > 0 {
						sent.Add(1)
					}
					take(from, body)
				}
			}}
		}
		sites := w.start("a", "b", "c", "d")
		a, b, home, from := sites[0], sites[1], sites[2], sites[3]
		_, id := at(home)
		a.looksAt(id)
		b.looksAt(id)
		quiet(time.Second)
		from.home.Types("ann", id)
		from.home.Types("ann", id)
		quiet(100 * time.Millisecond)
		for _, s := range []*site{a, b} {
			if !slices.Equal(s.screens.typing, []typist{{"ann", id}}) {
				t.Errorf("%s is told %v", s.name, s.screens.typing)
			}
		}
		if n := sent.Load(); n != 2 {
			t.Errorf("%d messages to 2 gateways", n)
		}
		for i := range 100 {
			from.home.Types("ann", pim.ConversationID(fmt.Sprint("g:", i)))
		}
		// A round that is under way takes what has come so far, up to three times.
		if n := from.screens.dropped.Load(); n > 100-userTyping || n < 100-4*userTyping {
			t.Errorf("%d of 100 are dropped", n)
		}
	})
}

// Who looks at a user is not told that the user is gone and there again, if the user's home dies, or if the
// device comes to another node before its own is known to be dead.
func TestNoFlicker(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sites := w.start("a", "b", "c", "d")
		a, b, c, home := sites[0], sites[1], sites[2], sites[3]
		u, _ := at(home)
		moves, _ := at(a)
		b.must(u, "phone")
		c.must(moves, "phone")
		a.looksAt(pim.Own(u))
		a.looksAt(pim.Own(moves))
		time.Sleep(time.Second)
		home.end(true)
		c.end(true)
		time.Sleep(time.Second)
		b.must(moves, "phone")
		time.Sleep(20 * time.Second)
		for _, v := range []pim.UserID{u, moves} {
			if x := a.sees(pim.Own(v)); slices.Contains(x.states, false) {
				t.Errorf("of %s is told %v", v, x.states)
			}
		}
	})
}

// A node that dies takes its users offline when it leaves the view, and those whose home it was when the new home is
// sure.
func TestADeadNodesUsersAreGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sites := w.start("a", "b", "c")
		a, b, c := sites[0], sites[1], sites[2]
		time.Sleep(grace) // a node that has come lately is not sure of anybody
		far, _ := at(c)
		near, _ := at(b)
		b.must(far, "phone")
		b.must(near, "phone")
		a.looksAt(pim.Own(far))
		a.looksAt(pim.Own(near))
		time.Sleep(time.Second)
		b.end(true)
		for a.bus.View().Node("b") != nil || c.bus.View().Node("b") != nil {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(300 * time.Millisecond)
		if x := a.sees(pim.Own(far)); x.online {
			t.Error("a user of a node that has left the view is there")
		}
		time.Sleep(hold + again)
		if x := a.sees(pim.Own(near)); x.online {
			t.Error("a user whose home was a dead node, too, is there")
		}
	})
}

// A node whose view is late, so that it takes another node for the home than those who look do, has them told when
// it learns better.
func TestALateViewIsMadeUpFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sites := w.start("a", "b")
		a, b := sites[0], sites[1]
		late := b.home.cluster.Load()
		home := w.starts("c")
		time.Sleep(time.Minute)
		_, id := at(home)
		a.looksAt(id)
		time.Sleep(time.Second)
		now := b.home.cluster.Swap(late)
		b.changes(id)
		time.Sleep(time.Second)
		if a.sees(id).version == 1 {
			t.Fatal("the home has heard of it: this test tests nothing")
		}
		b.home.cluster.Store(now)
		b.home.looks.poke()
		time.Sleep(time.Second)
		if err := w.checkScreens(); err != nil {
			t.Error(err)
		}
	})
}

// playLooks plays a random schedule of what happens to nodes, devices and screens.
func (w *world) playLooks(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	w.start(nodeNames[:2+rng.IntN(3)]...)
	some := func() *site {
		sites := w.running()
		return sites[rng.IntN(len(sites))]
	}
	subject := func() pim.ConversationID {
		if rng.IntN(2) == 0 {
			return pim.Own(pim.UserID(fmt.Sprint("user", rng.IntN(8))))
		}
		return pim.ConversationID(fmt.Sprint("g:", rng.IntN(8)))
	}
	for range 80 {
		switch rng.IntN(20) {
		case 0, 1, 2:
			_, _ = some().connects(pim.UserID(fmt.Sprint("user", rng.IntN(8))), pim.DeviceID(fmt.Sprint("device", rng.IntN(2))))
		case 3, 4:
			s := some()
			if all := s.all(); len(all) > 0 {
				slices.SortFunc(all, func(a, b *phone) int { return int(a.ID) - int(b.ID) })
				s.leaves(all[rng.IntN(len(all))])
			}
		case 5, 6, 7:
			some().looksAt(subject())
		case 8, 9:
			some().looksAway(subject())
		case 10, 11, 12, 13:
			if s := some(); s.home.mono() > Settle {
				s.changes(pim.ConversationID(fmt.Sprint("g:", rng.IntN(8))))
			}
		case 14, 15:
			w.network.Lose(some().name, some().name, 1+rng.IntN(3))
		case 16:
			a, b := some().name, some().name
			if rng.IntN(2) == 0 {
				w.network.Cut(a, b)
			} else {
				w.network.Partition([]string{a}, slices.DeleteFunc(slices.Clone(nodeNames), func(n string) bool { return n == a }))
			}
		case 17:
			w.network.Heal()
		case 18:
			w.network.Delay(time.Duration(rng.IntN(3)) * 20 * time.Millisecond)
		case 19:
			if w.ends(some(), rng.IntN(2) == 0) {
				continue
			}
			for _, name := range nodeNames {
				if w.site(name) == nil {
					w.starts(name)
					break
				}
			}
		}
		if rng.IntN(2) == 0 {
			time.Sleep(time.Duration(rng.ExpFloat64() * float64(time.Second)))
		}
	}
	w.network.Heal()
	time.Sleep(20 * time.Second)
	return w.checkScreens()
}

// ends ends one of at least two nodes, if all run, well or like a crash. It reports whether it has.
func (w *world) ends(s *site, crash bool) bool {
	if len(w.running()) < 2 || w.site(nodeNames[2]) == nil {
		return false
	}
	if s.apart { // if it does not meet the others again, nobody can know what it has written
		w.network.Heal()
		for !s.meets() {
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
	}
	if !crash {
		s.drains()
		time.Sleep(time.Second)
	}
	s.end(crash)
	return true
}

func playedLooks(t *testing.T, seed uint64, broken func(*site)) (err error) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broken = broken
		err = w.playLooks(seed)
	})
	return err
}

// Whatever happens, in the end all that is told of what is looked at is true. PIM_LOOKS says how many schedules are
// played.
func TestLookSchedules(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(100), "PIM_LOOKS")
	for seed := first; seed < first+n; seed++ {
		if err := playedLooks(t, seed, func(*site) {}); err != nil {
			t.Errorf("PIM_SEED=%d: %v", seed, err)
		}
	}
}

// Looks that are broken on purpose are found.
func TestBrokenLooksAreFound(t *testing.T) {
	hints := func(change func(s *site, m *homepb.Hints)) func(*site) {
		return func(s *site) {
			s.bus = changedHandler{s.bus, func(h *bus.Handler) {
				h.Receive[bus.KindHint] = func(from string, body []byte) {
					m := new(homepb.Hints)
					if err := m.UnmarshalVT(body); err != nil {
						panic(err)
					}
					change(s, m)
					s.home.takeHints(from, m)
				}
			}}
		}
	}
	for name, broken := range map[string]func(*site){
		"a gap is not heeded": func(s *site) { s.bus = changedHandler{s.bus, func(h *bus.Handler) { h.Gap = nil }} },
		"looks are not answered": hints(func(s *site, m *homepb.Hints) {
			for _, id := range m.Looks {
				s.home.looks.mu.Lock()
				s.home.looks.enter(s.home.gate("b"), pim.ConversationID(id))
				s.home.looks.mu.Unlock()
			}
			m.Looks = nil
		}),
		"a change is not told":                 hints(func(_ *site, m *homepb.Hints) { m.Changed = nil }),
		"what all may have missed is not told": hints(func(_ *site, m *homepb.Hints) { m.ToldAny = false }),
		"users come and go unnoticed":          func(s *site) { s.home.directory.comesOrGoes = func(pim.UserID) {} },
	} {
		t.Run(name, func(t *testing.T) {
			first := seeds.First(t)
			for seed := first; seed < first+3000; seed++ {
				if err := playedLooks(t, seed, broken); err != nil {
					t.Logf("found by schedule %d: %v", seed-first+1, err)
					return
				}
			}
			t.Error("not found by 3000 schedules")
		})
	}
}

// A message has room in the bus even if a round is full and all names have their full length.
func TestAFullRoundFits(t *testing.T) {
	long := func(i int) pim.UserID { return pim.UserID(fmt.Sprintf("%064d", i)) }
	m := new(homepb.Hints)
	for i := range max(hintMany, maxTyping) {
		id := string(pim.Direct(long(2*i), long(2*i+1)))
		typing := &homepb.Typing{Conversation: id, User: string(long(i))}
		m.Typing, m.ToldTyping = append(m.Typing, typing), append(m.ToldTyping, typing)
		m.Changed, m.Looks = append(m.Changed, id), append(m.Looks, id)
		m.Told = append(m.Told, &homepb.Told{Subject: id, SeenMs: 1 << 60})
	}
	if n := m.SizeVT(); n > bus.MaxBody {
		t.Errorf("%d bytes, %d have room", n, bus.MaxBody)
	}
}
