package engine_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// nat is a path to a server that answers everything, until the path has been
// silent for longer than it remembers; then it swallows what is sent.
type nat struct {
	*racer
	remembers time.Duration
	roundTrip time.Duration
	limits    *wirepb.Limits
	back      []onTheWay // answers
	lastFrame time.Duration
	forgotten bool
	losses    int             // connections that it cost
	pings     []time.Duration // when; a Hello counts
	announced []time.Duration // in each of them: when the next will come at the latest
}

type onTheWay struct {
	at      time.Duration
	attempt uint64
	message wire.Message
}

func newNAT(t *testing.T, remembers time.Duration) *nat {
	return &nat{
		racer: newRacer(t, "wss://a"), remembers: remembers,
		limits: &wirepb.Limits{IdleMs: 300_000, HeartbeatMs: 600_000},
	}
}

// serves connects whatever is dialled and answers what is sent, until virtual
// time d has passed.
func (n *nat) serves(d time.Duration) {
	n.t.Helper()
	until := n.w.now + d
	for range 1_000_000 {
		for _, dial := range n.dialled {
			if slices.Contains(n.hungUp, dial.Attempt) {
				continue
			}
			n.forgotten, n.lastFrame, n.back = false, n.w.now, nil
			n.connects(dial.Attempt, &wirepb.Welcome{Limits: n.limits})
		}
		n.dialled = nil
		for len(n.up) > 0 {
			m := n.up[0]
			n.up = n.up[1:]
			n.takes(m)
		}
		at, ok := n.engine.Deadline()
		if len(n.back) > 0 && (!ok || n.back[0].at <= at) && n.back[0].at <= until {
			f := n.back[0]
			n.back = n.back[1:]
			n.w.now = max(f.at, n.w.now)
			n.does(engine.Frame{Attempt: f.attempt, Message: f.message})
			continue
		}
		if !ok || at > until {
			n.w.now = until
			return
		}
		n.w.now = max(at, n.w.now)
		n.does(engine.Tick{})
	}
	n.t.Fatal("the engine asks to be called again and again")
}

func (n *nat) takes(m wire.Message) {
	if !n.forgotten && n.w.now-n.lastFrame > n.remembers {
		n.forgotten = true
		n.losses++
	}
	n.lastFrame = n.w.now
	now := int64(n.w.server.Now())
	var answer wire.Message
	switch m := m.(type) {
	case *wirepb.Hello:
		n.promises(m.HeartbeatMs)
	case *wirepb.PIMPing:
		n.promises(m.HeartbeatMs)
		answer = &wirepb.PIMPong{Nonce: m.Nonce}
	case *wirepb.PIMSyncReq:
		answer = &wirepb.PIMSyncResp{RequestId: m.RequestId}
	case *wirepb.PIMTimeReq:
		answer = &wirepb.PIMTimeResp{T1: m.T1, T2: now, T3: now}
	}
	if answer != nil && !n.forgotten {
		n.lastFrame = n.w.now + n.roundTrip
		n.back = append(n.back, onTheWay{n.lastFrame, n.linked, answer})
	}
}

func (n *nat) promises(ms uint32) {
	n.pings = append(n.pings, n.w.now)
	n.announced = append(n.announced, time.Duration(ms)*time.Millisecond)
}

// last returns how far apart the last two heartbeats were.
func (n *nat) last() time.Duration { return n.pings[len(n.pings)-1] - n.pings[len(n.pings)-2] }

// Whatever the path remembers and the server permits, the heartbeats end up closer
// together than that, but, above a minute, by less than the 80 s by which an interval
// falls that failed. They cost no connection any more.
func TestHeartbeatAdapts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := newNAT(t, time.Duration(rapid.IntRange(61_000, 1_000_000).Draw(rt, "ms"))*time.Millisecond)
		n.roundTrip = time.Duration(rapid.IntRange(0, 2500).Draw(rt, "round trip")) * time.Millisecond
		n.limits = &wirepb.Limits{
			IdleMs:      rapid.Uint32Range(130_000, 900_000).Draw(rt, "idle"),
			HeartbeatMs: rapid.SampledFrom([]uint32{0, 90_000, 300_000, 600_000, 3_600_000}).Draw(rt, "longest"),
		}
		permitted := time.Duration(n.limits.HeartbeatMs) * time.Millisecond
		if permitted == 0 {
			permitted = time.Duration(n.limits.IdleMs) * time.Millisecond / 2
		}
		n.does(engine.NetworkChanged{Name: "wifi"})
		n.serves(12 * time.Hour)
		losses := n.losses
		n.serves(12 * time.Hour)
		if n.losses != losses {
			rt.Fatalf("it still costs connections: %d, and before that %d", n.losses-losses, losses)
		}
		every, best := n.last(), min(n.remembers, permitted, 10*time.Minute)
		if every-n.roundTrip > n.remembers || every > permitted || every <= best-80*time.Second && every > time.Minute {
			rt.Fatalf("heartbeats are %v apart, the path remembers %v", every, n.remembers)
		}
		for i, at := range n.pings[1:] {
			if promised := n.announced[i]; n.limits.HeartbeatMs > 0 && at-n.pings[i] > promised {
				rt.Fatalf("a heartbeat came after %v, %v were announced", at-n.pings[i], promised)
			}
		}
	})
}

// The app goes offline while a heartbeat waits for its answer: nothing has failed,
// and what fails before the next Welcome says nothing of that heartbeat.
func TestHeartbeatCutShort(t *testing.T) {
	s := newScript(t)
	ping := func() time.Duration {
		for range 600 {
			s.w.passes(time.Second)
			for _, m := range s.up {
				if m, ok := m.(*wirepb.PIMPing); ok {
					s.up = nil
					return time.Duration(m.HeartbeatMs) * time.Millisecond
				}
			}
		}
		t.Fatal("no heartbeat")
		return 0
	}
	for range 3 {
		s.loses()
		s.up = nil
		s.opens(&wirepb.Limits{IdleMs: 300_000, HeartbeatMs: 600_000})
		s.gets(&wirepb.PIMTimeResp{T1: int64(s.w.now), T2: int64(s.w.server.Now()), T3: int64(s.w.server.Now())})
		if every := ping(); every != 210*time.Second {
			t.Fatalf("heartbeats are %v apart", every)
		}
		s.must(engine.Online{On: false})
		s.must(engine.Online{On: true})
		s.session = s.w.server.Connect(nil)
		s.step(engine.Dialled{Token: "alice"})
	}
}

// A path at the edge, which lets the first heartbeat of every connection pass and
// not the second, counts as failing too.
func TestHeartbeatAtTheEdge(t *testing.T) {
	n := newNAT(t, 208*time.Second)
	n.roundTrip = time.Second // samples use the path for seconds after Welcome, for one after a heartbeat
	n.serves(time.Hour)
	losses := n.losses
	n.serves(24 * time.Hour)
	if losses != 2 || n.losses != 2 || n.last() != 130*time.Second {
		t.Errorf("%d connections lost in the first hour, %d after it; %v apart", losses, n.losses-losses, n.last())
	}
}

// Five answers in a row make the interval longer, two failures shorter, and the
// result is the network's.
func TestHeartbeatSteps(t *testing.T) {
	n := newNAT(t, 5*time.Minute)
	n.does(engine.NetworkChanged{Name: "home"})
	n.serves(5*210*time.Second + time.Minute) // the fifth announces 4 min 30 s
	if got := n.announced[len(n.announced)-1]; len(n.pings) != 6 || n.last() != 210*time.Second || got != 210*time.Second {
		t.Errorf("%d heartbeats, %v apart, the last announces %v", len(n.pings)-1, n.last(), got)
	}
	n.serves(6 * time.Hour) // 5:30 is too long, twice: 4:10
	if got := n.last(); got != 250*time.Second || n.losses != 2 {
		t.Errorf("then %v apart, after %d lost connections", got, n.losses)
	}
	n.does(engine.NetworkChanged{Name: "train"})
	n.serves(20 * time.Minute)
	if got := n.last(); got != 210*time.Second {
		t.Errorf("on another network %v apart", got)
	}
	n.does(engine.NetworkChanged{Name: "home"})
	n.serves(20 * time.Minute)
	if got := n.last(); got != 250*time.Second {
		t.Errorf("back home %v apart", got)
	}
}

// Traffic keeps the path open as well, so a heartbeat among it proves nothing.
func TestBusyLineProvesNothing(t *testing.T) {
	n := newNAT(t, time.Hour)
	for range 100 {
		n.serves(100 * time.Second)
		n.does(engine.Frame{Attempt: n.linked, Message: &wirepb.PIMPush{Behind: false, Conversation: string(chat)}})
	}
	if got := n.last(); got != 210*time.Second {
		t.Errorf("%v apart", got)
	}
}

// A person who looks at the app does not look at a dead screen for long. The
// server is told in time that heartbeats come seldom again.
func TestForeground(t *testing.T) {
	n := newNAT(t, time.Hour)
	n.serves(250 * time.Second)
	n.does(engine.Foreground{On: true})
	n.serves(5 * time.Minute)
	if got := n.last(); got != time.Minute {
		t.Errorf("in the foreground %v apart", got)
	}
	n.does(engine.Foreground{On: false})
	n.serves(10 * time.Minute)
	if got := n.last(); got != 210*time.Second {
		t.Errorf("in the background %v apart", got)
	}
}

// A server that does not listen to announcements is pinged at half of its time.
func TestHeartbeatOfAnOlderServer(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.w.passes(29 * time.Second)
	s.transmits()
	s.w.passes(time.Second)
	s.transmits("PIMPing", "sync full=false after=")
}

// What was found out outlives the process, for 16 networks.
func TestNetworksAreStored(t *testing.T) {
	n := newNAT(t, time.Hour)
	var stored []engine.Network
	for i := range 20 {
		n.does(engine.NetworkChanged{Name: string(rune('a' + i))})
		n.serves(6 * 211 * time.Second)
		stored = n.networks
	}
	if len(stored) != 16 || stored[0].Name != "e" || stored[0].Every != 270*time.Second {
		t.Errorf("stored: %+v", stored)
	}
	r := newRacer(t, "wss://a")
	r.engine = engine.New(engine.Config{User: "alice", Device: "phone", Servers: []string{"wss://a"}, Random: r.w.random, RequestTimeout: time.Second}, engine.Snapshot{Networks: stored})
	r.does(engine.NetworkChanged{Name: "t"})
	r.w.now += 30 * 24 * time.Hour
	r.connects(1, &wirepb.Welcome{})
	if hello := r.up[0].(*wirepb.Hello); hello.HeartbeatMs != 270_000 {
		t.Errorf("announces %d ms", hello.HeartbeatMs)
	}
	for _, network := range r.networks {
		if used := network.Used == r.w.server.Now(); used != (network.Name == "t") {
			t.Errorf("used last: %+v", network)
		}
	}
	if len(r.networks) != 16 {
		t.Errorf("stored: %+v", r.networks)
	}
}

// A stable interval only falls, however long its network is in use; after a week
// on others it may grow again.
func TestStableForAWeek(t *testing.T) {
	n := newNAT(t, 5*time.Minute)
	n.does(engine.NetworkChanged{Name: "home"})
	n.serves(9 * 24 * time.Hour)
	if n.losses != 2 || n.last() != 250*time.Second {
		t.Fatalf("%d connections lost, then %v apart", n.losses, n.last())
	}
	n.remembers = time.Hour
	for _, away := range []struct {
		time time.Duration
		want time.Duration // back home, after a day
	}{
		{7*24*time.Hour - time.Minute, 250 * time.Second},
		{7*24*time.Hour + time.Minute, 10 * time.Minute},
	} {
		n.does(engine.NetworkChanged{Name: "home"})
		n.serves(0)
		n.does(engine.NetworkChanged{Name: "away"})
		n.serves(away.time)
		n.does(engine.NetworkChanged{Name: "home"})
		n.serves(24 * time.Hour)
		if n.last() != away.want {
			t.Errorf("after %v away: %v apart, want %v", away.time, n.last(), away.want)
		}
	}
}

// While the app does not read, frames may have come that nobody saw: a heartbeat
// proves nothing then.
func TestUnreadLineProvesNothing(t *testing.T) {
	n := newNAT(t, time.Hour)
	n.serves(time.Second)
	for range 20 { // read only just behind each heartbeat
		n.does(engine.Pause{On: true})
		n.waits(209_500 * time.Millisecond)
		n.does(engine.Pause{On: false})
		n.serves(500 * time.Millisecond)
	}
	if got := n.announced[len(n.announced)-1]; got != 210*time.Second || n.losses != 0 {
		t.Errorf("announces %v, %d connections lost", got, n.losses)
	}
}

// An interval that a server does not permit is not tested, so nothing is learned of it.
func TestHeartbeatUnderALimit(t *testing.T) {
	for name, test := range map[string]struct {
		remembers time.Duration
		limits    *wirepb.Limits
		every     time.Duration // with that server; 0: connections do not live
		then      time.Duration // with one that permits all, on a path that does
	}{
		"one permits less":            {time.Hour, &wirepb.Limits{HeartbeatMs: 300_000}, 300 * time.Second, 330 * time.Second},
		"one wants them all the time": {20 * time.Second, &wirepb.Limits{IdleMs: 60_000}, 0, 210 * time.Second},
		"one is out of its mind":      {time.Hour, &wirepb.Limits{HeartbeatMs: 1}, time.Second, 210 * time.Second},
	} {
		n := newNAT(t, test.remembers)
		n.limits = test.limits
		n.serves(3 * time.Hour)
		if got := n.announced[len(n.announced)-1]; test.every != 0 && got != test.every {
			t.Errorf("%s: announces %v, want %v", name, got, test.every)
		}
		n.remembers, n.limits = time.Hour, &wirepb.Limits{HeartbeatMs: 600_000}
		n.does(engine.Lost{Attempt: n.linked})
		n.serves(10 * time.Minute)
		if got := n.last(); got != test.then {
			t.Errorf("%s: and then %v apart, want %v", name, got, test.then)
		}
	}
}

// A heartbeat asks for the server's time, since oscillators drift apart.
func TestHeartbeatAsksForTheTime(t *testing.T) {
	n := newNAT(t, time.Hour)
	n.serves(time.Minute)
	n.waits(210 * time.Second)
	if !slices.ContainsFunc(n.up, func(m wire.Message) bool { _, ok := m.(*wirepb.PIMTimeReq); return ok }) {
		t.Errorf("transmitted: %v", n.up)
	}
}

func TestLongNetworkName(t *testing.T) {
	r := newRacer(t, "wss://a")
	r.dials("wss://a")
	err := r.engine.Step(r.time(), engine.NetworkChanged{Name: strings.Repeat("n", 129)})
	if pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a name of 129 bytes: %v", err)
	}
	r.does(engine.Tick{})
	r.dials()
	r.does(engine.NetworkChanged{Name: strings.Repeat("n", 128)})
	r.dials("wss://a")
}
