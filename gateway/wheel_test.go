package gateway

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// virtual runs f with a gateway whose time is the bubble's, over pipes.
func virtual(t *testing.T, limits func(*Limits), f func(t *testing.T, x *lab)) {
	synctest.Test(t, func(t *testing.T) {
		x := &lab{t: t, begun: time.Now()}
		x.gw = New(x.options(limits))
		defer x.gw.Close()
		f(t, x)
	})
}

// pipe returns a peer that has shaken hands, in the virtual world.
func (x *lab) pipe(user string, heartbeat uint32) *peer {
	x.t.Helper()
	near, far := net.Pipe()
	if v := x.gw.admit(); v.Refused() {
		x.t.Fatal(v.Reason)
	}
	if !x.gw.start(func() { x.gw.serve(far, "", lengths, nil) }) {
		x.t.Fatal("closed")
	}
	x.t.Cleanup(func() { near.Close() })
	p := &peer{t: x.t, nc: near}
	p.send(&wirepb.Hello{Version: wire.Version, Token: user, Device: "phone", HeartbeatMs: heartbeat})
	expect[*wirepb.Welcome](p)
	return p
}

// inTime fails the test unless since is at least limit ago, and at most a second more.
func inTime(t *testing.T, what string, since time.Time, limit time.Duration) {
	t.Helper()
	if took := time.Since(since); took < limit || took > limit+time.Second+10*time.Millisecond {
		t.Errorf("%s ended after %v, the limit is %v", what, took, limit)
	}
}

// Every limit of time closes a connection within a second after it ends, also a limit that
// begins while the next look is far off.
func TestLimitsAreInTime(t *testing.T) {
	limits := func(l *Limits) {
		l.Idle, l.Heartbeat, l.Write, l.Handshake = 5*time.Minute, 10*time.Minute, 10*time.Second, 10*time.Second
	}
	for _, after := range []time.Duration{0, 7 * time.Second, 61*time.Second + 300*time.Millisecond, 137*time.Second + 1*time.Millisecond} {
		t.Run(fmt.Sprint("after ", after), func(t *testing.T) {
			for name, test := range map[string]func(t *testing.T, x *lab, p *peer){
				"idle": func(t *testing.T, x *lab, p *peer) {
					p.send(&wirepb.PIMPing{})
					begun := time.Now()
					expect[*wirepb.PIMPong](p)
					p.closedWith(wire.CodeIdle)
					inTime(t, "silence", begun, 5*time.Minute)
				},
				"shorter heartbeats": func(t *testing.T, x *lab, p *peer) {
					p.send(&wirepb.PIMPing{HeartbeatMs: 1000})
					begun := time.Now()
					expect[*wirepb.PIMPong](p)
					p.closedWith(wire.CodeIdle)
					inTime(t, "silence", begun, 31*time.Second)
				},
				"half a frame": func(t *testing.T, x *lab, p *peer) {
					frame := p.frame(wire.Append(nil, sendReq(1, "never whole")))
					p.write(frame[:len(frame)-1])
					begun := time.Now()
					p.closedWith(wire.CodeHandshake)
					inTime(t, "half a frame", begun, 10*time.Second)
				},
				"a write": func(t *testing.T, x *lab, p *peer) {
					x.push("alice", 1, 10) // nobody reads it
					begun := time.Now()
					for x.gw.Open() > 0 {
						time.Sleep(time.Millisecond)
					}
					inTime(t, "a write", begun, 10*time.Second)
				},
				"a last word that nobody reads": func(t *testing.T, x *lab, p *peer) {
					x.conn("alice").goAway()
					begun := time.Now()
					for x.gw.Open() > 0 {
						time.Sleep(time.Millisecond)
					}
					inTime(t, "a write", begun, 10*time.Second)
				},
				"a replaced connection that reads nothing": func(t *testing.T, x *lab, p *peer) {
					begun := time.Now()
					x.pipe("alice", 0)
					for x.gw.Open() > 1 {
						time.Sleep(time.Millisecond)
					}
					inTime(t, "a write", begun, 10*time.Second)
				},
			} {
				t.Run(name, func(t *testing.T) {
					virtual(t, limits, func(t *testing.T, x *lab) {
						p := x.pipe("alice", 0)
						time.Sleep(after)
						test(t, x, p)
					})
				})
			}
		})
	}
	t.Run("shorter heartbeats and slow writes", func(t *testing.T) {
		virtual(t, func(l *Limits) { l.Idle, l.Heartbeat, l.Write = 5*time.Minute, 10*time.Minute, 5*time.Minute }, func(t *testing.T, x *lab) {
			p := x.pipe("alice", 0)
			time.Sleep(65 * time.Second)
			p.send(&wirepb.PIMPing{HeartbeatMs: 1000})
			begun := time.Now()
			expect[*wirepb.PIMPong](p)
			p.closedWith(wire.CodeIdle)
			inTime(t, "silence", begun, 31*time.Second)
		})
	})
	t.Run("a token", func(t *testing.T) {
		virtual(t, func(l *Limits) { l.Idle = 24 * time.Hour }, func(t *testing.T, x *lab) {
			begun := time.Now()
			p := x.pipe("alice", 0)
			p.closedWith(wire.CodeUnauthorized)
			inTime(t, "the token", begun, time.Hour+30*time.Second)
		})
	})
}

// Connections that are silent, or send only heartbeats, are hardly looked at: not once a
// second.
func TestIdleConnectionsAreHardlyLookedAt(t *testing.T) {
	const n = 50
	virtual(t, func(l *Limits) { l.Idle = 5 * time.Minute }, func(t *testing.T, x *lab) {
		var peers []*peer
		for i := range n {
			peers = append(peers, x.pipe(fmt.Sprint("user-", i), 0))
		}
		time.Sleep(90 * time.Second)
		before := x.gw.wheel.looks.Load()
		time.Sleep(time.Minute)
		if looks := x.gw.wheel.looks.Load() - before; looks > n {
			t.Errorf("%d connections were looked at %d times in a silent minute", n, looks)
		}
		for _, p := range peers {
			p.send(&wirepb.PIMPing{})
			expect[*wirepb.PIMPong](p)
		}
		before = x.gw.wheel.looks.Load()
		time.Sleep(time.Minute)
		if looks := x.gw.wheel.looks.Load() - before; looks > 2*n {
			t.Errorf("%d connections were looked at %d times in the minute of a heartbeat", n, looks)
		}
		if open := x.gw.Open(); open != n {
			t.Errorf("%d of %d are open", open, n)
		}
	})
}

// A busy connection is not looked at for every frame, nor moved in the wheel.
func TestBusyConnectionsAreHardlyLookedAt(t *testing.T) {
	virtual(t, nil, func(t *testing.T, x *lab) {
		p := x.pipe("alice", 0)
		for range 60 {
			time.Sleep(time.Second)
			for range 10 {
				p.send(&wirepb.PIMPing{})
				expect[*wirepb.PIMPong](p)
			}
		}
		if looks := x.gw.wheel.looks.Load(); looks > 10 {
			t.Errorf("looked at %d times in a minute", looks)
		}
	})
}

// size counts the connections in the wheel.
func (w *wheel) size() (n int) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for _, first := range append(s.slots[:], s.ready) {
			for c := first; c != nil; c = c.spot.next {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}

// The wheel lets go of a connection that is gone.
func TestWheelLetsGo(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.Connections = 1000 })
	var peers []*peer
	for i := range 200 {
		peers = append(peers, x.connect(i%2 == 0, fmt.Sprint("user-", i), "phone"))
	}
	for range 10 { // some of them replaced
		peers = append(peers, x.connect(false, "user-7", "phone"))
	}
	x.eventually("all are in the wheel", func() bool { return int64(x.gw.wheel.size()) == x.gw.Open() })
	for _, p := range peers {
		p.nc.Close()
	}
	x.eventually("all are gone", func() bool { return x.gw.Open() == 0 })
	if n := x.gw.wheel.size(); n != 0 {
		t.Errorf("%d connections are in the wheel", n)
	}
}

// Whatever happens to its connections, the wheel hands out each one when it is due, and none
// that is gone.
func TestWheelAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n, ahead = 20, int64(lookAhead / time.Millisecond)
		g := new(Gateway)
		now := rapid.Int64Range(1, 10_000_000).Draw(t, "begin")
		tick := func(look func(*conn)) { g.wheel.tick(now, look) }
		tick(nil) // no connection can be in it
		conns := make([]*conn, n)
		due := map[*conn]int64{} // by when each must have been handed out; without one it is in no list
		for i := range conns {
			conns[i] = &conn{gw: g, id: uint64(i)}
		}
		gone := map[*conn]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				c := rapid.SampledFrom(conns).Draw(t, "conn")
				if _, in := due[c]; in {
					return
				}
				at := now + rapid.Int64Range(1, ahead).Draw(t, "in")
				g.wheel.put(c, at)
				if !gone[c] {
					due[c] = at
				}
			},
			"lookBy": func(t *rapid.T) {
				c := rapid.SampledFrom(conns).Draw(t, "conn")
				at := now + rapid.Int64Range(1, ahead).Draw(t, "in")
				if d, in := due[c]; in {
					due[c] = min(d, at)
				}
				if rapid.Bool().Draw(t, "quickly") {
					c.lookBy(at)
				} else {
					g.wheel.sooner(c, at) // as if due had changed since lookBy read it
				}
			},
			"remove": func(t *rapid.T) {
				c := rapid.SampledFrom(conns).Draw(t, "conn")
				if rapid.IntRange(0, 9).Draw(t, "luck") == 0 {
					g.wheel.remove(c)
					delete(due, c)
					gone[c] = true
				}
			},
			"tick": func(t *rapid.T) {
				now += rapid.OneOf(rapid.Int64Range(0, 2000), rapid.Int64Range(0, 3*ahead)).Draw(t, "passes")
				tick(func(c *conn) {
					if _, in := due[c]; !in || gone[c] {
						t.Fatalf("connection %d is handed out and not in the wheel", c.id)
					}
					delete(due, c)
				})
				for c, at := range due {
					if at <= now-tickMS {
						t.Fatalf("connection %d was due at %d and is in the wheel at %d", c.id, at, now)
					}
				}
			},
			"": func(t *rapid.T) {
				if size := g.wheel.size(); size != len(due) {
					t.Fatalf("%d are in the wheel, want %d", size, len(due))
				}
			},
		})
	})
}

// A limit that begins while its connection is looked at, or before the first put, is not lost.
func TestLimitBeginsDuringALook(t *testing.T) {
	g := new(Gateway)
	g.wheel.tick(1000, nil)
	c := &conn{gw: g}
	c.lookBy(3000)
	g.wheel.put(c, 60_000)
	looked := 0
	g.wheel.tick(3000, func(c *conn) {
		looked++
		c.lookBy(9000)
		g.wheel.put(c, 50_000)
	})
	g.wheel.tick(9000, func(c *conn) { looked++ })
	if looked != 2 {
		t.Errorf("looked at %d times, want 2", looked)
	}
}

// When a key is withdrawn, the connections that it let in are closed within a second, also
// one that comes in with it later, and no others.
func TestWithdrawnKeysEndConnections(t *testing.T) {
	virtual(t, nil, func(t *testing.T, x *lab) {
		var one, other atomic.Bool
		x.withdrawn = map[string]*atomic.Bool{"alice": &one, "bob": &other, "carol": &one}
		alice, bob := x.pipe("alice", 0), x.pipe("bob", 0)
		time.Sleep(20 * time.Second)
		one.Store(true)
		begun := time.Now()
		alice.closedWith(wire.CodeUnauthorized)
		inTime(t, "the key", begun, 0)
		carol := x.pipe("carol", 0) // its token was judged before that
		begun = time.Now()
		carol.closedWith(wire.CodeUnauthorized)
		inTime(t, "a key that was withdrawn before", begun, 0)
		before := x.gw.wheel.looks.Load()
		time.Sleep(20 * time.Second)
		bob.send(&wirepb.PIMPing{})
		expect[*wirepb.PIMPong](bob)
		if looks := x.gw.wheel.looks.Load() - before; looks > 2 {
			t.Errorf("one connection was looked at %d times", looks)
		}
		other.Store(true)
		bob.closedWith(wire.CodeUnauthorized)
	})
}

// When the wall clock is set forward, or gains bit by bit, connections whose tokens have
// expired by it are closed within a second. A clock that is set back closes nothing.
func TestWallClockSetForward(t *testing.T) {
	virtual(t, func(l *Limits) { l.Idle = 24 * time.Hour }, func(t *testing.T, x *lab) {
		p := x.pipe("alice", 0)
		x.wrong.Store(int64(-time.Hour))
		time.Sleep(20 * time.Second)
		x.wrong.Store(int64(30 * time.Minute))
		time.Sleep(20 * time.Second)
		p.send(&wirepb.PIMPing{})
		expect[*wirepb.PIMPong](p)
		x.wrong.Store(int64(time.Hour + 30*time.Second))
		begun := time.Now()
		p.closedWith(wire.CodeUnauthorized)
		inTime(t, "the token", begun, 0)
	})
	virtual(t, func(l *Limits) { l.Idle = 24 * time.Hour }, func(t *testing.T, x *lab) {
		p, begun := x.pipe("alice", 0), time.Now()
		stop := make(chan struct{})
		defer close(stop)
		go func() { // it gains 3 minutes an hour
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
					x.wrong.Store(int64(time.Since(begun) / 20))
				}
			}
		}()
		p.closedWith(wire.CodeUnauthorized)
		inTime(t, "the token", begun, (time.Hour+30*time.Second)*20/21)
	})
}

// When the doubt ends, the gateway goes by the wall clock again. It notices that as a clock
// that was set.
func TestDoubtEnds(t *testing.T) {
	virtual(t, func(l *Limits) { l.Idle = 24 * time.Hour }, func(t *testing.T, x *lab) {
		p := x.pipe("alice", 0)
		x.doubt.Store(true)
		x.wrong.Store(int64(time.Hour - 40*time.Second))
		time.Sleep(time.Minute)
		p.send(&wirepb.PIMPing{})
		expect[*wirepb.PIMPong](p)
		x.doubt.Store(false)
		x.wrong.Store(int64(2 * time.Hour))
		begun := time.Now()
		p.closedWith(wire.CodeUnauthorized)
		inTime(t, "the token", begun, 0)
	})
}
