package gateway

import (
	"testing"
	"time"
	"unsafe"

	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// A client may be silent for as long as it announced, within limits, and 30 s more.
func TestAnnouncedHeartbeats(t *testing.T) {
	g := &Gateway{}
	g.Limits = Limits{Idle: 5 * time.Minute, Heartbeat: 10 * time.Minute}
	c := &conn{gw: g}
	for _, test := range []struct {
		announced uint32
		want      time.Duration
	}{
		{0, 5 * time.Minute},
		{210_000, 4 * time.Minute},
		{0, 4 * time.Minute}, // as before
		{1, 30*time.Second + time.Millisecond},
		{1 << 31, 10*time.Minute + 30*time.Second},
	} {
		c.announce(test.announced)
		if got := c.idleLimit(); got != test.want {
			t.Errorf("announced %d ms: closed after %v, want %v", test.announced, got, test.want)
		}
	}
	g.Limits.Heartbeat = 0
	deaf := &conn{gw: g}
	if deaf.announce(210_000); deaf.idleLimit() != 5*time.Minute {
		t.Error("an announcement is heard that is to be ignored")
	}
}

// Connections are closed by what their Hello or last PIMPing announced, and the
// announcement is cut to the limit that Welcome names.
func TestAnnouncementsKeepConnections(t *testing.T) {
	x := newLab(t, func(l *Limits) {
		l.Idle, l.Heartbeat, l.Reconnect = 5*time.Minute, 10*time.Minute, 7*time.Second
	})
	says := func(user string, ms ...uint32) *peer {
		p := x.dial(false)
		p.send(&wirepb.Hello{Version: wire.Version, Token: user, Device: "phone", HeartbeatMs: ms[0]})
		if w := expect[*wirepb.Welcome](p); w.Limits.HeartbeatMs != 600_000 || w.ReconnectWindowMs != 7000 {
			t.Errorf("welcome %v", w)
		}
		for _, ms := range ms[1:] {
			p.send(&wirepb.PIMPing{HeartbeatMs: ms})
			expect[*wirepb.PIMPong](p)
		}
		return p
	}
	nothing := says("ann", 0, 0)
	shorter := says("bob", 600_000, 60_000)
	long := says("carol", 600_000, 0)
	longer := says("dave", 60_000, 3_600_000)
	x.passes(5*time.Minute + time.Second)
	nothing.closedWith(wire.CodeIdle)
	shorter.closedWith(wire.CodeIdle)
	x.push("carol", 1, 1)
	x.push("dave", 1, 1)
	expect[*wirepb.PIMPush](long)
	expect[*wirepb.PIMPush](longer)
	x.passes(5*time.Minute + 30*time.Second)
	long.closedWith(wire.CodeIdle)
	longer.closedWith(wire.CodeIdle)
}

// A jump of the wall clock neither closes a connection that is not idle nor keeps an idle one.
func TestWallClockJumps(t *testing.T) {
	x := newLab(t, nil)
	p := x.connect(false, "alice", "phone")
	for _, by := range []time.Duration{30 * time.Minute, -30 * time.Minute} { // tokens end after an hour
		x.wrong.Store(int64(by))
		x.gw.Sessions.each(func(c *conn) { c.inspect(x.gw.moment()) })
		p.send(&wirepb.PIMPing{Nonce: 1})
		expect[*wirepb.PIMPong](p)
	}
	x.passes(time.Minute + time.Second)
	p.closedWith(wire.CodeIdle)
}

// A token that runs out ends the connection. While the clock is in doubt it is not called
// refused, so that the client comes back.
func TestTokenRunsOut(t *testing.T) {
	for doubt, want := range map[bool]wire.Code{false: wire.CodeUnauthorized, true: wire.CodeUnavailable} {
		x := newLab(t, func(l *Limits) { l.Idle = 24 * time.Hour })
		x.doubt.Store(doubt)
		p := x.connect(false, "alice", "phone") // tokens end after an hour
		x.passes(time.Hour + 29*time.Second)
		x.gw.Sessions.each(func(c *conn) { c.inspect(x.gw.moment()) })
		p.send(&wirepb.PIMPing{Nonce: 1})
		expect[*wirepb.PIMPong](p)
		x.passes(2 * time.Second)
		p.closedWith(want)
	}
}

// The size of a conn is part of what an idle connection costs. Go allocates by size classes,
// and the one after 320 is 352.
func TestSizeOfConn(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 320 {
		t.Errorf("a conn takes %d bytes", size)
	}
}
