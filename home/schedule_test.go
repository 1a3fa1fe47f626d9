package home

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
)

var nodeNames = []string{"a", "b", "c", "d"}

// play plays a random schedule of everything that happens to nodes and devices, and returns what is wrong
// when it is over and all is quiet.
func (w *world) play(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	for g := range 3 {
		id := pim.ConversationID(fmt.Sprint("g:", g))
		for u := range 12 {
			if rng.IntN(2) == 0 {
				w.groups[id] = append(w.groups[id], pim.UserID(fmt.Sprint("user", u)))
			}
		}
	}
	w.start(nodeNames[:2+rng.IntN(3)]...)
	some := func() *site {
		sites := w.running()
		return sites[rng.IntN(len(sites))]
	}
	write := func() {
		if s, id := some(), pim.ConversationID(fmt.Sprint("g:", rng.IntN(3))); s.home.mono() > Settle {
			s.writes(id)
		}
	}
	for range 60 {
		switch rng.IntN(16) {
		case 0, 1, 2, 3:
			s, u, d := some(), pim.UserID(fmt.Sprint("user", rng.IntN(12))), pim.DeviceID(fmt.Sprint("device", rng.IntN(2)))
			if rng.IntN(4) == 0 { // others go on meanwhile
				go func() { _, _ = s.connects(u, d) }()
			} else {
				_, _ = s.connects(u, d)
			}
		case 4:
			s := some()
			if all := s.all(); len(all) > 0 {
				slices.SortFunc(all, func(a, b *phone) int { return int(a.ID) - int(b.ID) })
				s.leaves(all[rng.IntN(len(all))])
			}
		case 5, 6, 7, 8, 9:
			for range 1 + rng.IntN(5) {
				write()
			}
		case 10:
			w.network.Lose(some().name, some().name, 1+rng.IntN(3))
		case 11:
			a, b := some().name, some().name
			if rng.IntN(2) == 0 {
				w.network.Cut(a, b)
			} else {
				w.network.Partition([]string{a}, slices.DeleteFunc(slices.Clone(nodeNames), func(n string) bool { return n == a }))
			}
		case 12:
			w.network.Heal()
		case 13:
			w.network.Delay(time.Duration(rng.IntN(3)) * 20 * time.Millisecond)
		case 14:
			if sites := w.running(); len(sites) > 1 {
				s, crash := some(), rng.IntN(2) == 0
				if !crash {
					s.drains()
					time.Sleep(time.Second)
					write()
				}
				if s.apart { // if it does not meet the others again, nobody can know what it has written
					w.network.Heal()
					for !s.meets() {
						time.Sleep(time.Second)
					}
					time.Sleep(time.Second)
				}
				s.end(crash)
			}
		case 15:
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
	if err := w.check(); err != nil { // the pushes that follow would hide what a device lacks
		return err
	}
	for range 5 {
		write()
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Second)
	return w.check()
}

func (w *world) site(name string) *site {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sites[name]
}

// schedules is how many schedules a test plays; PIM_HOMES sets another number.
const schedules = 300

func TestSchedules(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(schedules), "PIM_HOMES")
	for seed := first; seed < first+n; seed++ {
		if err := played(t, seed, func(*site) {}); err != nil {
			t.Errorf("PIM_SEED=%d: %v", seed, err)
		}
	}
}

// Schedules that failed once, and what was wrong.
func TestSchedulesThatFailed(t *testing.T) {
	for _, seed := range []uint64{
		21005195, // a gateway did not see the home, which knew another device of the user, and then the user had another home
		21009834, // a home left well to which a writer's last pushes had not come
		22000291, // a home passed on what it got for a user to the home before, which knew no device of the user either
	} {
		if err := played(t, seed, func(*site) {}); err != nil {
			t.Errorf("PIM_SEED=%d: %v", seed, err)
		}
	}
}

func played(t *testing.T, seed uint64, broken func(*site)) (err error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broken = broken
		defer w.close()
		err = w.play(seed)
	})
	return err
}

// Homes that are broken on purpose are found.
func TestBrokenHomesAreFound(t *testing.T) {
	for name, broken := range map[string]func(*site){
		"a gap is not heeded": func(s *site) { s.bus = changedHandler{s.bus, func(h *bus.Handler) { h.Gap = nil }} },
		"nobody is told that devices may be behind": func(s *site) {
			s.bus = changedHandler{s.bus, func(h *bus.Handler) { h.Receive[bus.KindBehind] = func(string, []byte) {} }}
		},
		"a home forgets devices": func(s *site) {
			s.bus = changedHandler{s.bus, func(h *bus.Handler) {
				publish, n := h.Receive[bus.KindPublish], new(atomic.Int64)
				h.Receive[bus.KindPublish] = func(from string, body []byte) {
					if n.Add(1) == 10 {
						s.home.directory.retain(func(u pim.UserID, _ *place) bool { return u < "user5" })
					}
					publish(from, body)
				}
			}}
		},
		"devices that go are not told": func(s *site) {
			s.bus = changedHandler{s.bus, func(h *bus.Handler) { h.Receive[bus.KindLeave] = func(string, []byte) {} }}
		},
		"nothing is announced": func(s *site) {
			s.bus = changedHandler{s.bus, func(h *bus.Handler) { h.Receive[bus.KindAnnounce] = func(string, []byte) {} }}
		},
		"nobody syncs": func(s *site) { s.home.sessions = deaf{s} },
	} {
		t.Run(name, func(t *testing.T) {
			first := seeds.First(t)
			for seed := first; seed < first+3000; seed++ {
				if err := played(t, seed, broken); err != nil {
					t.Logf("found by schedule %d: %v", seed-first+1, err)
					return
				}
			}
			t.Error("not found by 3000 schedules")
		})
	}
}

// changedHandler is a bus that starts with another Handler.
type changedHandler struct {
	bus.Bus
	change func(*bus.Handler)
}

func (c changedHandler) Start(ctx context.Context, h *bus.Handler) error {
	c.change(h)
	return c.Bus.Start(ctx, h)
}

// deaf are Sessions whose devices are not told to sync.
type deaf struct{ *site }

func (deaf) Behind([]pim.UserID) int { return 0 }

var _ conv.Outlet = (*site)(nil)
