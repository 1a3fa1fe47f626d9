package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// A traveller is a device whose clocks are not the server's, on a line with
// delays. Time is the server's unless it says otherwise.
type traveller struct {
	t     testing.TB
	now   time.Duration
	wrong pim.Millis        // the device's wall clock is ahead by so much
	slept time.Duration     // its monotonic clock stood still for so long
	set   pim.Millis        // the server's clock was set ahead by so much
	delay [2]func() float64 // to the server and back, ms

	engine   *engine.Engine
	server   *clienttest.Server
	session  *clienttest.Session
	attempt  uint64
	paused   bool // it does not read
	up, down []flight
	errors   map[string]time.Duration
	locals   []pim.Millis
	ids      int
}

// flight is a frame on its way.
type flight struct {
	at      time.Duration
	message wire.Message
}

func setsOut(t testing.TB, delay func() float64) *traveller {
	v := &traveller{
		t: t, now: time.Hour, delay: [2]func() float64{delay, delay}, errors: make(map[string]time.Duration),
	}
	return v
}

// dials runs the engine and transmits its Hello.
func (v *traveller) dials(s engine.Snapshot) {
	v.server = clienttest.NewServer(v.clock)
	v.server.Limits = wirepb.Limits{InFlight: 32, IdleMs: 300_000, HeartbeatMs: 600_000}
	v.session = v.server.Connect(nil)
	v.engine = engine.New(engine.Config{
		User: "alice", Device: "phone", Servers: []string{"ws://sim"}, Random: func() float64 { return 0.5 },
		BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
	}, s)
	v.step(engine.Start{})
	v.step(engine.Dialled{Attempt: v.attempt, Token: "alice"})
}

// starts runs the engine until it has its Welcome.
func (v *traveller) starts(s engine.Snapshot) {
	v.dials(s)
	for v.engine.State() != engine.Connected {
		v.passes(time.Millisecond)
	}
}

// moves loses the connection and comes to another node, whose clock is ahead of the one before by so much.
func (v *traveller) moves(by pim.Millis) {
	v.t.Helper()
	v.set += by
	v.up, v.down = nil, nil
	before := v.attempt
	v.step(engine.Lost{Attempt: before})
	for v.attempt == before {
		v.passes(time.Millisecond)
	}
	v.session = v.server.Connect(nil)
	v.step(engine.Dialled{Attempt: v.attempt, Token: "alice"})
	for v.engine.State() != engine.Connected {
		v.passes(time.Millisecond)
	}
}

// sleeps is what a laptop does with its lid closed.
func (v *traveller) sleeps(d time.Duration) {
	v.now += d
	v.slept += d
}

// clock is the server's.
func (v *traveller) clock() pim.Millis { return epoch + v.set + pim.Millis(v.now/time.Millisecond) }

// mono is the device's monotonic clock.
func (v *traveller) mono() time.Duration { return v.now - v.slept }

func (v *traveller) step(in engine.Input) {
	v.t.Helper()
	if p, ok := in.(engine.Pause); ok {
		v.paused = p.On
	}
	wall := epoch + v.wrong + pim.Millis(v.now/time.Millisecond)
	if err := v.engine.Step(engine.Time{Mono: v.mono(), Wall: wall}, in); err != nil {
		v.t.Fatal(err)
	}
	out := v.engine.Take()
	for _, d := range out.Dials {
		v.attempt = d.Attempt
	}
	for _, m := range out.Frames {
		if m, ok := m.(*wirepb.PIMSendReq); ok {
			v.errors[string(m.Payload)] = time.Duration(m.LocalMs-int64(v.clock())) * time.Millisecond
			v.locals = append(v.locals, pim.Millis(m.LocalMs))
		}
		v.up = v.enters(v.up, 0, m)
	}
}

// enters puts m on the line; frames keep their order.
func (v *traveller) enters(line []flight, way int, m wire.Message) []flight {
	at := v.now + time.Duration(v.delay[way]()*float64(time.Millisecond))
	if n := len(line); n > 0 {
		at = max(at, line[n-1].at)
	}
	return append(line, flight{at, recode(v.t, m)})
}

// passes lets time go by.
func (v *traveller) passes(d time.Duration) {
	v.t.Helper()
	until := v.now + d
	for range 10_000 {
		next := until
		if at, ok := v.engine.Deadline(); ok {
			next = min(next, max(at+v.slept, v.now))
		}
		if len(v.up) > 0 {
			next = min(next, max(v.up[0].at, v.now))
		}
		if len(v.down) > 0 && !v.paused {
			next = min(next, max(v.down[0].at, v.now))
		}
		v.now = next
		switch {
		case len(v.up) > 0 && v.up[0].at <= next:
			v.arrives()
		case len(v.down) > 0 && v.down[0].at <= next && !v.paused:
			m := v.down[0].message
			v.down = v.down[1:]
			v.step(engine.Frame{Attempt: v.attempt, Message: m})
		case next == until:
			return
		default:
			v.step(engine.Tick{})
		}
	}
	v.t.Fatal("an engine asks to be called again and again")
}

// arrives moves the next frame to the server.
func (v *traveller) arrives() {
	m := v.up[0].message
	v.up = v.up[1:]
	for _, answer := range v.session.Handle(m) {
		v.down = v.enters(v.down, 1, answer)
	}
}

func (v *traveller) says(text string) {
	v.t.Helper()
	v.ids++
	m := engine.Outgoing{Conversation: chat, Kind: pim.EntryMessage, Payload: []byte(text)}
	copy(m.ID[:], fmt.Sprintf("%016d", v.ids))
	v.step(engine.Send{Message: m})
}

// said returns by how much the local time of text was off when it left.
func (v *traveller) said(text string) time.Duration {
	v.t.Helper()
	off, ok := v.errors[text]
	if !ok {
		v.t.Fatalf("%s has not been transmitted", text)
	}
	return off.Abs()
}

// localsGrow says that the local times of all messages that were transmitted grow.
func (v *traveller) localsGrow() {
	v.t.Helper()
	locals := slices.Compact(slices.Clone(v.locals)) // a message that is sent again has the one that it had
	for i, l := range locals[1:] {
		if l <= locals[i] {
			v.t.Errorf("the local time %d follows %d", l, locals[i])
		}
	}
}
