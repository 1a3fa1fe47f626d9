package load

import (
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// In one-way traffic one of a pair sends and the other acknowledges by itself.
func TestOneWay(t *testing.T) {
	for _, cfg := range []Config{{Window: 4}, {Rate: 2000}} {
		s := newFake(t, faults{})
		cfg.Workload, cfg.Users, cfg.OneWay, cfg.enough = Direct, 6, true, s.hasSeen(wire.TypePushAck)
		rep := s.run(t, "tcp", cfg)
		whole(t, rep, 1)
		if rep.Senders != 3 || !rep.OneWay {
			t.Errorf("%d senders, one way: %t", rep.Senders, rep.OneWay)
		}
		s.mu.Lock()
		for who := range s.acks {
			user, conversation, _ := strings.Cut(who, " ")
			if a, _, _ := pim.ConversationID(conversation).DirectUsers(); string(a) == user {
				t.Errorf("%s sends and acknowledged", user)
			}
		}
		s.mu.Unlock()
	}
}

// A user who only receives acknowledges once in tickEvery at the most.
func TestReceiversTakeTheirTime(t *testing.T) {
	s := newFake(t, faults{})
	rep := s.run(t, "tcp", Config{Workload: Direct, Users: 2, OneWay: true, Window: 8, Duration: 3 * tickEvery / 2})
	whole(t, rep, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	// However slow the machine is: acknowledgements are at least tickEvery apart.
	if most := int(time.Duration(rep.Seconds*float64(time.Second))/tickEvery) + 2; s.seen[wire.TypePushAck] > most {
		t.Errorf("%d acknowledgements in %.1f s", s.seen[wire.TypePushAck], rep.Seconds)
	}
}

func TestSlices(t *testing.T) {
	s := newFake(t, faults{})
	rep := s.run(t, "tcp", Config{Workload: Direct, Users: 4, Duration: 200 * time.Millisecond, Slice: 45 * time.Millisecond})
	whole(t, rep, 1)
	if len(rep.Slices) != 4 {
		t.Fatalf("%d slices of 200 ms", len(rep.Slices))
	}
	slowest, dearest, sum, timed := rep.Slices[0].DeliveredPerS, 0.0, uint64(0), false
	for i, x := range rep.Slices {
		slowest, dearest = min(slowest, x.DeliveredPerS), max(dearest, x.ServerCPU)
		sum += x.Delivered
		timed = timed || x.DeliveryP50 > 0 // a slice that a busy machine has cut short may have none
		if x.Seconds <= 0 || x.DeliveryP99 < x.DeliveryP50 || x.ServerRSS == 0 {
			t.Errorf("slice %d: %+v", i, x)
		}
	}
	if !timed {
		t.Error("no slice has times of deliveries")
	}
	// The first slice also has what was sent before the measured time and not yet received: a sender waits for its answer only.
	s.mu.Lock()
	sends := uint64(s.seen[wire.TypeSendReq])
	s.mu.Unlock()
	if sum == 0 || sum > sends {
		t.Errorf("slices have %d deliveries of %d, and %d messages were sent", sum, rep.Delivered, sends)
	}
	if rep.SlowestPerS != slowest || rep.DearestCPU != dearest {
		t.Errorf("slowest %g, not %g; dearest %g, not %g", rep.SlowestPerS, slowest, rep.DearestCPU, dearest)
	}
}

func TestSliceLengths(t *testing.T) {
	for _, c := range []struct {
		duration, slice time.Duration
		want            int
	}{
		{0, 0, 10}, // 20 s
		{5 * time.Second, 0, 5},
		{100 * time.Millisecond, 0, 1},
		{30 * time.Minute, time.Minute, 30},
		{10 * time.Second, 3 * time.Second, 3},
		{time.Second, time.Hour, 1},
	} {
		cfg := Config{Workload: Direct, Server: "tcp://x:1", Token: tokenOf, Duration: c.duration, Slice: c.slice}
		if err := cfg.complete(); err != nil || cfg.slices() != c.want {
			t.Errorf("%v in slices of %v: %d, %v", c.duration, c.slice, cfg.slices(), err)
		}
	}
}
