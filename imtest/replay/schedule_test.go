package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
)

// Whatever the delays, a step is sent only when the steps that it depends on are done,
// and no more than the bound are under way.
func TestScheduleKeepsWhatDepends(t *testing.T) {
	first := seeds.First(t)
	for i := range uint64(50) {
		synctest.Test(t, func(t *testing.T) { scheduleRandomly(t, rand.New(rand.NewPCG(first, i))) })
	}
}

func scheduleRandomly(t *testing.T, rng *rand.Rand) {
	const users = 5
	var steps []step
	present := make(map[pim.UserID]bool)
	for i := range 200 {
		s := step{kind: pim.EntryMessage, user: pim.UserID(fmt.Sprint(rng.IntN(users))), text: fmt.Sprint(i)}
		switch {
		case !present[s.user]:
			s.kind, present[s.user] = pim.EntryJoin, true
		case rng.IntN(4) == 0:
			s.kind, present[s.user] = pim.EntryLeave, false
		}
		steps = append(steps, s)
	}
	bound := 1 + rng.IntN(20)
	w := &world{t: t, bound: bound, users: make(map[pim.UserID]*worldUser)}
	for range steps {
		w.delays = append(w.delays, time.Duration(rng.IntN(1000))*time.Millisecond)
	}
	if err := schedule(t.Context(), steps, bound, func(context.Context, int) error { return nil }, w.send); err != nil {
		t.Fatal(err)
	}
	if w.sent != len(steps) || w.underWay != 0 {
		t.Errorf("%d of %d steps sent, %d still under way", w.sent, len(steps), w.underWay)
	}
	if bound > users && w.most <= 1 {
		t.Error("nothing was under way at the same time")
	}
}

// world is a group that checks that nothing comes too early.
type world struct {
	t      *testing.T
	bound  int
	delays []time.Duration // of each step's acknowledgement

	mu             sync.Mutex
	users          map[pim.UserID]*worldUser
	sent, underWay int
	most           int
}

type worldUser struct {
	joined  bool // acknowledged
	waiting int  // messages without an acknowledgement
	last    int  // the newest step
}

func (w *world) send(_ context.Context, s step) (func(context.Context) error, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[s.user]
	if u == nil {
		u = &worldUser{last: -1}
		w.users[s.user] = u
	}
	n, _ := strconv.Atoi(s.text)
	switch {
	case s.kind == pim.EntryJoin && (u.joined || u.waiting > 0):
		w.t.Errorf("step %d: join of %s, who is there", n, s.user)
	case s.kind == pim.EntryMessage && !u.joined:
		w.t.Errorf("step %d: message of %s, who is not there yet", n, s.user)
	case s.kind == pim.EntryLeave && (!u.joined || u.waiting > 0):
		w.t.Errorf("step %d: leave of %s with %d messages under way", n, s.user, u.waiting)
	case n < u.last:
		w.t.Errorf("step %d of %s after step %d", n, s.user, u.last)
	}
	u.last = n
	if s.kind == pim.EntryMessage {
		u.waiting++
	}
	w.sent++
	w.underWay++
	w.most = max(w.most, w.underWay)
	if w.underWay > w.bound {
		w.t.Errorf("%d under way, at most %d are allowed", w.underWay, w.bound)
	}
	return func(context.Context) error {
		time.Sleep(w.delays[n])
		w.mu.Lock()
		defer w.mu.Unlock()
		w.underWay--
		switch s.kind {
		case pim.EntryMessage:
			u.waiting--
		default:
			u.joined = s.kind == pim.EntryJoin
		}
		return nil
	}, nil
}

// The first error ends schedule and every step under way.
func TestScheduleEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	steps := []step{{kind: pim.EntryMessage, user: "ann"}, {kind: pim.EntryMessage, user: "bob"}, {kind: pim.EntryLeave, user: "bob"}}
	pace := func(context.Context, int) error { return nil }
	err := schedule(t.Context(), steps, 8, pace, func(_ context.Context, s step) (func(context.Context) error, error) {
		return func(ctx context.Context) error {
			if s.user == "ann" {
				return broken
			}
			<-ctx.Done()
			return ctx.Err()
		}, nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	err = schedule(t.Context(), steps, 8, func(_ context.Context, i int) error {
		if i == 1 {
			return broken
		}
		return nil
	}, func(context.Context, step) (func(context.Context) error, error) {
		return func(context.Context) error { return nil }, nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("error of the pace: %v", err)
	}
}
