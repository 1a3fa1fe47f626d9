package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// A path leads to a server that answers every heartbeat, until the path has been silent
// for longer than it remembers; then the connection is lost. Nothing but heartbeats passes.
type path struct {
	heart
	now       time.Duration
	lineAt    time.Duration // the last frame, either way
	remembers time.Duration
	roundTrip time.Duration
	permitted time.Duration
	losses    int // connections that it cost
	beats     []time.Duration
}

func newPath(remembers time.Duration) *path {
	p := &path{now: time.Hour, remembers: remembers, permitted: 10 * time.Minute}
	p.restore(nil)
	p.connects()
	return p
}

func (p *path) server() pim.Millis { return loginEpoch + millis(p.now) }

func (p *path) connects() {
	p.opened(p.now, p.permitted)
	p.mayProbeAgain(p.server())
	p.used(p.server())
	p.lineAt = p.now
}

// moves leaves the connection, and goes on in the network name.
func (p *path) moves(name string) {
	p.used(p.server())
	p.cutShort()
	p.onNetwork(name)
	p.connects()
}

// lives lets time go by.
func (p *path) lives(d time.Duration) {
	until := p.now + d
	for p.beatAt() <= until {
		p.now = max(p.now, p.beatAt())
		p.beats = append(p.beats, p.now)
		silence := p.now - p.lineAt
		p.beat(p.now, silence)
		if silence > p.remembers {
			p.losses++
			p.now += pongTimeout
			p.failed(p.server())
			p.cutShort()
			p.connects()
			continue
		}
		p.now += p.roundTrip
		p.lineAt = p.now
		p.answered(p.server())
	}
	p.now = max(p.now, until)
}

// last returns how far apart the last two heartbeats were.
func (p *path) last() time.Duration { return p.beats[len(p.beats)-1] - p.beats[len(p.beats)-2] }

// Whatever the path remembers and the server permits, the heartbeats end up closer
// together than that, but, above a minute, by less than the fall from an interval that
// failed. They cost no connection any more.
func TestHeartAdapts(t *testing.T) {
	// What the server permits fails, and the fall goes below half of what the path remembers.
	adapts(t, 120_005*time.Millisecond, 0, 140_001*time.Millisecond)
	adapts(t, 149_999*time.Millisecond, 0, 150_000*time.Millisecond)
	rapid.Check(t, func(t *rapid.T) {
		adapts(t,
			time.Duration(rapid.IntRange(61_000, 1_000_000).Draw(t, "ms"))*time.Millisecond,
			time.Duration(rapid.IntRange(0, 2500).Draw(t, "round trip"))*time.Millisecond,
			time.Duration(rapid.IntRange(65_000, 600_000).Draw(t, "permitted"))*time.Millisecond)
	})
}

// adapts checks that of one path.
func adapts(t interface{ Fatalf(string, ...any) }, remembers, roundTrip, permitted time.Duration) {
	p := newPath(remembers)
	p.roundTrip, p.permitted = roundTrip, permitted
	p.moves("wifi")
	p.lives(12 * time.Hour)
	losses := p.losses
	p.lives(12 * time.Hour)
	if p.losses != losses {
		t.Fatalf("it still costs connections: %d, and before that %d", p.losses-losses, losses)
	}
	every, best := p.last(), min(p.remembers, p.permitted)
	if every-p.roundTrip > p.remembers || every > p.permitted || every <= best-beatStep-beatMargin && every > minHeartbeat {
		t.Fatalf("heartbeats are %v apart, the path remembers %v, the server permits %v", every, p.remembers, p.permitted)
	}
}

// Five answers in a row make the interval longer, two failures shorter.
func TestHeartSteps(t *testing.T) {
	p := newPath(5 * time.Minute)
	p.moves("home")
	p.lives(5*firstHeartbeat + time.Second)
	if p.every != firstHeartbeat || p.interval() != firstHeartbeat+beatStep {
		t.Errorf("after five answers the interval is %v, and %v next", p.every, p.interval())
	}
	p.lives(6 * time.Hour) // 5:30 is too long, twice: 4:10
	if got := p.last(); got != 250*time.Second || p.losses != 2 {
		t.Errorf("then %v apart, after %d lost connections", got, p.losses)
	}
	if want := (Network{Name: "home", Every: 250 * time.Second, Stable: true}); len(p.rows()) != 1 || p.rows()[0].Name != want.Name ||
		p.rows()[0].Every != want.Every || !p.rows()[0].Stable || !p.dirty {
		t.Errorf("to be stored: %+v, want %+v", p.rows(), want)
	}
}

// A heartbeat that follows no silence, and one of an interval that the server has cut,
// prove nothing.
func TestHeartbeatThatProvesNothing(t *testing.T) {
	p := newPath(time.Hour)
	for range 10 {
		p.beat(p.now, firstHeartbeat-beatSilence-1)
		p.answered(p.server())
	}
	if p.successes != 0 {
		t.Errorf("%d heartbeats that followed traffic proved something", p.successes)
	}
	p.foreground = true
	p.lives(time.Hour)
	if p.last() != foregroundBeat || p.successes != 0 {
		t.Errorf("in the foreground heartbeats are %v apart, %d of them proved something", p.last(), p.successes)
	}
	p.foreground = false
	p.beat(p.now, firstHeartbeat)
	if p.testing != 0 {
		t.Errorf("an interval of %v, which is not the network's, proves something", p.testing)
	}
	p.beat(p.now, firstHeartbeat)
	if p.testing != firstHeartbeat {
		t.Errorf("the first one in the background that follows silence tests %v", p.testing)
	}
	p.cutShort()
	p.failed(p.server())
	if p.failures != 0 {
		t.Error("an answer that is not awaited has failed")
	}
}

// Of 20 networks the 16 that were used last are kept.
func TestNetworksAreBounded(t *testing.T) {
	p := newPath(time.Hour)
	for i := range 20 {
		p.moves(string(rune('a' + i)))
		p.lives(6 * (firstHeartbeat + time.Second))
	}
	rows := p.rows()
	if len(rows) != maxNetworks || rows[0].Name != "e" || rows[15].Name != "t" || rows[0].Every != firstHeartbeat+beatStep {
		t.Errorf("kept: %+v", rows)
	}
	var h heart
	h.restore(append(slices.Clone(rows), Network{Name: "one more", Every: firstHeartbeat}))
	if !slices.Equal(h.rows(), rows) {
		t.Errorf("restored: %+v", h.rows())
	}
	h.restore([]Network{{Name: "short", Every: minHeartbeat - 1}, {Name: "long", Every: maxHeartbeat + 1}})
	if len(h.rows()) != 0 {
		t.Errorf("restored: %+v", h.rows())
	}
}

// An interval that was found by failing grows again only after a week without use.
func TestStableInterval(t *testing.T) {
	p := newPath(5 * time.Minute)
	p.moves("home")
	p.lives(9 * 24 * time.Hour)
	p.remembers = time.Hour
	for _, away := range []struct{ time, want time.Duration }{
		{stableFor - time.Minute, 250 * time.Second},
		{stableFor + time.Minute, maxHeartbeat},
	} {
		p.moves("away")
		p.lives(away.time)
		p.moves("home")
		p.lives(24 * time.Hour)
		if p.last() != away.want {
			t.Errorf("after %v away: %v apart, want %v", away.time, p.last(), away.want)
		}
	}
}

// Over UDP heartbeats are as close as they may be, and say nothing about the network: the next connection over TCP has its
// pace.
func TestHeartbeatsOverUDP(t *testing.T) {
	var h heart
	h.restore([]Network{{Name: "home", Every: 5 * time.Minute}})
	h.onNetwork("home")
	h.udp = true
	h.opened(0, maxHeartbeat)
	for now := minHeartbeat; now < time.Hour; now += minHeartbeat {
		if at := h.beatAt(); at != now {
			t.Fatalf("a heartbeat at %v, want %v", at, now)
		}
		h.beat(now, minHeartbeat)
		h.answered(0)
	}
	h.beat(time.Hour, minHeartbeat)
	h.failed(0)
	h.failed(0)
	if h.udp = false; h.wish() != 5*time.Minute || h.dirty {
		t.Errorf("heartbeats of %v are wished for afterwards", h.wish())
	}
}
