package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
)

// steps are by how much a clock is set wrong, and how long the tokens live that are judged by it.
var steps = []struct {
	by, ttl time.Duration
	ends    bool // whether open connections end once the node relies on the wrong clock
}{
	{25 * time.Hour, 24 * time.Hour, true},
	{6 * time.Minute, 5 * time.Minute, true},
	{-45 * time.Second, time.Hour, false}, // tokens seem to come from the future
}

// stepped is a node whose clock a test sets, and apps whose own clocks are right.
type stepped struct {
	*node
	clock handSet
	begun time.Time
	ttl   time.Duration
	chat  pim.ConversationID
}

func newStepped(t *testing.T, ttl time.Duration) *stepped {
	s := &stepped{begun: time.Now(), ttl: ttl, chat: pim.Direct("alice", "bob")}
	s.clock.wall, s.clock.mono = s.begun, time.Hour
	c := config(t)
	c.DrainWindow = 100 * time.Millisecond
	s.node = start(t, c, server.Options{Clock: s.clock.source()})
	return s
}

// now returns the right time.
func (s *stepped) now() time.Time {
	return s.begun.Add(s.clock.source().Mono() - time.Hour)
}

func (s *stepped) app(user, device string) *app {
	s.t.Helper()
	c, err := client.Open(s.t.Context(), client.Options{
		Server: s.url("http"), User: pim.UserID(user), Device: pim.DeviceID(device),
		Token:      func(context.Context) (string, error) { return s.keys.Issue(pim.UserID(user), s.ttl, s.now()) },
		BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return &app{Client: c, t: s.t, user: pim.UserID(user)}
}

// jump sets the clock, and waits until the node has noticed.
func (s *stepped) jump(by time.Duration) {
	s.t.Helper()
	s.clock.jumps(by)
	for why := ""; !strings.Contains(why, "jumped by "+by.String()); {
		if why = s.reason(); why == "" {
			s.t.Fatal("ready before the clock was steady")
		}
		time.Sleep(time.Millisecond)
	}
}

// reason returns why the node is not ready, "" if it is.
func (s *stepped) reason() string {
	if err := s.Ready(); err != nil {
		return err.Error()
	}
	return ""
}

// steady runs the clock for long enough, and waits until the node relies on it.
func (s *stepped) steady() {
	s.clock.runs(11 * time.Second)
	for s.reason() != "" {
		time.Sleep(time.Millisecond)
	}
}

// synced waits until a is connected and has all there is.
func (a *app) synced() {
	a.t.Helper()
	if err := a.Synced(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
}

// losses takes the events that have come, and returns why connections were lost.
func (a *app) losses() (lost []error) {
	for {
		select {
		case ev := <-a.Events():
			if ev, ok := ev.(client.StateEvent); ok && ev.Err != nil {
				lost = append(lost, ev.Err)
			}
		default:
			return lost
		}
	}
}

// refused waits until the app was told that a token was refused.
func (a *app) refused() {
	a.t.Helper()
	for ev := range a.Events() {
		ev, ok := ev.(client.StateEvent)
		switch {
		case !ok || ev.Err == nil:
		case ev.State == client.Stopped:
			a.t.Fatalf("stopped: %v", ev.Err)
		case pim.KindOf(ev.Err) == pim.KindUnauthorized:
			return
		}
	}
}

// While a node doubts its clock no connection is closed for the times of its token, and new ones
// are let in. If the clock is set right again meanwhile, nobody notices anything.
func TestTokensOutliveAMomentsWrongClock(t *testing.T) {
	for _, step := range steps {
		t.Run(step.by.String(), func(t *testing.T) {
			t.Parallel()
			s := newStepped(t, step.ttl)
			alice, bob := s.app("alice", "phone"), s.app("bob", "phone")
			alice.says(s.chat, "before")
			bob.synced()
			alice.losses()
			s.jump(step.by)
			for range 3 { // the connections are looked at once a second
				alice.reads(s.chat)
				s.app("alice", "laptop").synced()
				time.Sleep(time.Second)
			}
			s.jump(-step.by)
			s.app("carol", "phone").synced()
			s.steady()
			alice.says(s.chat, "after")
			for _, a := range []*app{alice, bob} {
				if lost := a.losses(); len(lost) > 0 {
					t.Errorf("%s lost the connection: %v", a.user, lost)
				}
			}
		})
	}
}

// reads pulls from the server.
func (a *app) reads(c pim.ConversationID) {
	a.t.Helper()
	if page, err := a.Pull(a.t.Context(), c, 0, 0, 0, false); err != nil || len(page.Entries) == 0 {
		a.t.Fatalf("pulled %+v, %v", page, err)
	}
}

// The node relies on a clock that stays wrong in the end, and refuses tokens. The apps are told,
// and what they send waits. When the clock is right they come back by themselves.
func TestAppsComeBackFromAWrongClock(t *testing.T) {
	for _, step := range steps {
		t.Run(step.by.String(), func(t *testing.T) {
			t.Parallel()
			s := newStepped(t, step.ttl)
			alice := s.app("alice", "phone")
			alice.says(s.chat, "before")
			alice.synced()
			s.jump(step.by)
			s.steady()
			late := s.app("alice", "laptop")
			waiting, err := late.Send(t.Context(), s.chat, []byte("from the laptop"))
			if err != nil {
				t.Fatal(err)
			}
			all := []*app{late}
			if step.ends {
				all = append(all, alice)
			}
			for range 3 {
				for _, a := range all {
					a.refused()
				}
			}
			s.jump(-step.by)
			select {
			case <-waiting.Done():
				t.Fatal("sent while the clock was in doubt")
			default:
			}
			s.steady()
			late.done(waiting)
			alice.says(s.chat, "after")
			if lost := alice.losses(); !step.ends && len(lost) > 0 {
				t.Errorf("a good connection was lost: %v", lost)
			}
		})
	}
}

// While the clock is in doubt an expired token does not let anybody in, and a forged one is
// refused as unauthorized.
func TestDoubtLetsNobodyIn(t *testing.T) {
	s := newStepped(t, time.Hour)
	s.clock.jumps(-3 * time.Hour)
	for name, test := range map[string]struct {
		token func() (string, error)
		kind  pim.Kind
	}{
		"expired": {func() (string, error) { return s.keys.Issue("alice", time.Hour, s.now().Add(-2*time.Hour)) }, pim.KindClockUnhealthy},
		"forged":  {func() (string, error) { return "a.b.c", nil }, pim.KindUnauthorized},
	} {
		c, err := client.Open(t.Context(), client.Options{
			Server: s.url("tcp"), Device: "phone", BackoffMin: 10 * time.Millisecond,
			Token: func(context.Context) (string, error) { return test.token() },
		})
		if err != nil {
			t.Fatal(err)
		}
		for ev := range c.Events() {
			if ev, ok := ev.(client.StateEvent); ok && ev.Err != nil {
				if pim.KindOf(ev.Err) != test.kind || ev.State != client.Waiting {
					t.Errorf("%s: %+v", name, ev)
				}
				break
			}
		}
		c.Close()
	}
}
