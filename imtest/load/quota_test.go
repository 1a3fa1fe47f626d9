package load

import (
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// The users send into all their conversations, each of which is checked by itself.
func TestManyConversations(t *testing.T) {
	for name, c := range map[string]struct {
		faults
		Config
	}{
		"both ways":    {Config: Config{}},
		"window":       {Config: Config{Window: 8}},
		"one-way":      {Config: Config{OneWay: true, Window: 3}},
		"rate":         {Config: Config{Rate: 5000}},
		"pulled":       {faults{pushes: pushedTimes(every(3), 0)}, Config{Window: 4}},
		"told to pull": {faults{pushes: pushedTimes(every(3), 0), sayBehind: true}, Config{OneWay: true, Window: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, c.faults)
			c.Workload, c.Users, c.Conversations = Direct, 8, 12
			rep := s.run(t, "tcp", c.Config)
			whole(t, rep, 1)
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.logs) != 12 || rep.Conversations != 12 {
				t.Errorf("%d conversations, %d reported", len(s.logs), rep.Conversations)
			}
			if c.pushes != nil && rep.Pulled == 0 { // without faults a slow machine may pull, too
				t.Error("nothing was pulled")
			}
		})
	}
}

// A message lost in one of many conversations is found, whatever the others hold.
func TestLossInOneOfManyConversations(t *testing.T) {
	rep := newFake(t, faults{forget: func(seq uint64) bool { return seq == 7 }}).run(t, "tcp", Config{
		Workload: Direct, Users: 4, Conversations: 4, Window: 4, drainLimit: 5 * askForTests,
	})
	if err := rep.Err(); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Error(err)
	}
}

// Every pair of users finds the same conversation, from either side.
func TestPlaces(t *testing.T) {
	cfg := Config{Workload: Direct, Users: 10, Conversations: 20}
	r := &chat{cfg: &cfg, size: 2, users: make([]*user, 10)}
	for i := range r.users {
		r.users[i] = &user{run: r, index: uint32(i), sends: true}
	}
	if err := r.converse(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, u := range r.users {
		if len(u.talks) != 4 {
			t.Fatalf("user %d has %d conversations", u.index, len(u.talks))
		}
		for n := range u.talks {
			r.partners(u, n, func(other *user, slot int) {
				at, place, ok := r.place(u.index, other.index)
				if !ok || at != n || place != slot || other.talks[n].conv != u.talks[n].conv {
					t.Errorf("user %d, conversation %d, with %d: found at %d, %t", u.index, n, other.index, at, ok)
				}
			})
		}
	}
	for _, x := range [][2]uint32{{0, 0}, {0, 2}, {3, 5}, {0, 9}, {0, 10}} { // 0 and 9 would have the fifth, which nobody has
		if _, _, ok := r.place(x[0], x[1]); ok {
			t.Errorf("%v have a conversation", x)
		}
	}
}

func TestFillAndCold(t *testing.T) {
	s := newFake(t, faults{})
	const never = time.Hour // what is late is not asked for, since the pulls are counted
	fill := s.run(t, "tcp", Config{Workload: Fill, Users: 6, Conversations: 9, Messages: 180, Seed: 7, askAfter: never})
	if fill.Sent != 180 || fill.Unacked != 0 || fill.Err() != nil || fill.Incomplete() != nil || fill.DeliveredPerS <= 0 {
		t.Errorf("%+v", fill)
	}
	s.holds(t, 9, 20)
	for _, rate := range []float64{0, 5000} {
		cold := s.run(t, "tcp", Config{Workload: Cold, Users: 6, Conversations: 9, Seed: 7, Rate: rate, askAfter: never})
		whole(t, cold, 1)
		if cold.Sent != 18 || cold.FirstMessages == nil || cold.FirstCPU <= 0 || cold.SecondAckP99 <= 0 || cold.AckP50 <= 0 {
			t.Errorf("rate %g: %+v, %+v", rate, cold, cold.FirstMessages)
		}
	}
	s.holds(t, 9, 24)
	if s.seen[wire.TypePullReq] > 0 {
		t.Error("what was there before was pulled")
	}
}

// A run with the wrong seed says so, and measures nothing: a Cold without a Fill before
// it, or a Sync of users who have talked before.
func TestSeedsThatDoNotFit(t *testing.T) {
	s := newFake(t, faults{})
	s.run(t, "tcp", Config{Workload: Fill, Users: 4, Conversations: 4, Messages: 8, Seed: 7})
	for want, cfg := range map[string]Config{
		"4 of 4 conversations were empty": {Workload: Cold, Users: 4, Conversations: 4, Seed: 8},
		"5 of 8 conversations were empty": {Workload: Cold, Users: 8, Conversations: 8, Seed: 7},
		"have talked before":              {Workload: Sync, Conversations: 1, Messages: 2, Seed: 7},
	} {
		cfg.Server, cfg.Token, cfg.MetricsURL = "tcp://"+s.tcp.Addr().String(), tokenOf, "-"
		if _, err := Run(t.Context(), cfg); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// holds fails unless the fake holds so many conversations with so many messages each.
func (s *fake) holds(t *testing.T, conversations, messages int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.logs) != conversations {
		t.Errorf("%d conversations, want %d", len(s.logs), conversations)
	}
	for name, l := range s.logs {
		if len(l.entries) != messages {
			t.Errorf("%s holds %d messages, want %d", name, len(l.entries), messages)
		}
	}
}

// A long run must not remember each send that was refused.
func TestHolesAreBounded(t *testing.T) {
	s := newStream(1, &received{})
	s.startPull(0)
	for n := range uint32(10 * maxHoles) {
		s.pull(0, 2*n+1, uint64(n)+1)
		if len(s.holes) > maxHoles {
			t.Fatalf("%d holes", len(s.holes))
		}
	}
	if !s.pull(0, 20*maxHoles-2, 1<<20) || s.misordered != 1 || s.doubled != 0 {
		t.Errorf("the latest hole is forgotten: misordered %d, doubled %d", s.misordered, s.doubled)
	}
}

// A fill that the server refuses in part says so.
func TestRefusedFill(t *testing.T) {
	refused := false
	refuse := func(seq uint64) bool { hit := seq == 5 && !refused; refused = refused || hit; return hit }
	rep := newFake(t, faults{refuse: refuse}).run(t, "tcp", Config{Workload: Fill, Users: 2, Messages: 20, Seed: 7})
	if err := rep.Incomplete(); rep.Refused != 1 || pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("refused %d: %v", rep.Refused, err)
	}
}
