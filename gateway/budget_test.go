package gateway

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"github.com/prometheus/client_golang/prometheus"
)

// counted returns the sum of a counter, over all its labels.
func counted(t *testing.T, c prometheus.Collector) (sum float64) {
	t.Helper()
	all := prometheus.NewRegistry()
	all.MustRegister(c)
	families, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			sum += m.Counter.GetValue()
		}
	}
	return sum
}

// flooding has a peer ping as fast as it can, up to most pings, and count the pongs. The time in the
// bubble does not pass by itself while both sides have something to do: only pauses make it pass.
type flooding struct {
	pongs int // when it has ended
	bye   *wirepb.PIMGoAway
	ended chan struct{}
}

func (p *peer) flood(most int) *flooding {
	f := &flooding{ended: make(chan struct{})}
	const at = 100
	pings := bytes.Repeat(p.frame(wire.Append(nil, &wirepb.PIMPing{})), at)
	go func() {
		for range most / at {
			if _, err := p.nc.Write(pings); err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(f.ended)
		for {
			switch m := p.next().(type) {
			case nil:
				return
			case *wirepb.PIMPong:
				if f.pongs++; f.pongs == most {
					return
				}
			case *wirepb.PIMGoAway:
				f.bye = m
			}
		}
	}()
	return f
}

// Of a client that floods no more is read than the burst and the rate give, and a bystander's pings are
// answered at once meanwhile. Without the budget the flood is over in no time.
func TestAFloodIsReadSlowly(t *testing.T) {
	virtual(t, func(l *Limits) { l.Rates = limit.Rates{Frames: 1000} }, func(t *testing.T, x *lab) {
		alice, eve := x.pipe("alice", 0), x.pipe("eve", 0)
		begun := time.Now()
		const most = 40_000 // a burst, and 30 s' worth
		f := eve.flood(most)
		var slowest time.Duration
		for i := range uint64(35) {
			time.Sleep(time.Second)
			asked := time.Now()
			alice.send(&wirepb.PIMPing{Nonce: i})
			if m := expect[*wirepb.PIMPong](alice); m.Nonce != i {
				t.Fatalf("pong %d, want %d", m.Nonce, i)
			}
			slowest = max(slowest, time.Since(asked))
			select {
			case <-f.ended:
				i = 100
			default:
			}
		}
		<-f.ended
		if f.bye != nil || f.pongs != most {
			t.Errorf("%d pings were answered, %v", f.pongs, f.bye)
		}
		if took := time.Since(begun); took < 29*time.Second {
			t.Errorf("a burst of 10,000 and 30,000 at 1,000/s took %v", took)
		}
		if slowest != 0 {
			t.Errorf("a bystander's pings took up to %v", slowest)
		}
		if n := counted(t, x.gw.Metrics.slowFrames); n < 29 || n > 31 {
			t.Errorf("%.1f s of pauses are counted", n)
		}
	})
}

// A client that goes on flooding for more than a minute is told to come back later, at a time when it
// may send again. If it comes back at once, it goes on where it was.
func TestInsistentClient(t *testing.T) {
	virtual(t, func(l *Limits) { l.Rates = limit.Rates{Frames: 1000} }, func(t *testing.T, x *lab) {
		eve := x.pipe("eve", 0)
		begun := time.Now()
		f := eve.flood(200_000)
		<-f.ended
		switch took := time.Since(begun); {
		case f.bye == nil:
			t.Fatalf("it was not sent away, after %v and %d pings", took, f.pongs)
		case took < limit.Insists || took > limit.Insists+10*time.Second:
			t.Errorf("sent away after %v", took)
		case wire.Code(f.bye.Code) != wire.CodeOverloaded || !f.bye.Reconnect || f.bye.WindowMs < 20_000 || f.bye.WindowMs > 60_000:
			t.Errorf("told %v", f.bye)
		}
		if n := counted(t, x.gw.Metrics.insists); n != 1 {
			t.Errorf("%v were counted", n)
		}
		eve.nc.Close()
		begun = time.Now()
		again := x.pipe("eve", 0).flood(10_000)
		<-again.ended
		if took := time.Since(begun); took < 8*time.Second {
			t.Errorf("after it has come back, 10,000 pings took %v", took)
		}
	})
}

// While a connection is not read, it is neither idle nor does a frame that has begun stay unfinished by the
// client's fault.
func TestPausesAreNotTheClients(t *testing.T) {
	limits := func(l *Limits) {
		l.Rates, l.Idle, l.Handshake = limit.Rates{Bytes: 1000}, 2*time.Second, 2*time.Second
	}
	virtual(t, limits, func(t *testing.T, x *lab) {
		p := x.pipe("alice", 0)
		begun := time.Now()
		go p.nc.Write(p.frame(wire.Append(nil, sendReq(1, string(make([]byte, 50<<10))))))
		expect[*wirepb.PIMSendAck](p)
		time.Sleep(time.Second)
		p.send(&wirepb.PIMPing{}) // the frame's last part may have been too much: this waits
		expect[*wirepb.PIMPong](p)
		if took := time.Since(begun); took < 20*time.Second {
			t.Errorf("it took %v: nothing was tested", took)
		}
	})
}

// The end of the gateway does not wait for a connection that is not read, nor does its last frame.
func TestPausesEndWithTheGateway(t *testing.T) {
	for name, end := range map[string]func(x *lab){
		"close":   func(x *lab) { x.gw.Close() },
		"go away": func(x *lab) { x.gw.GoAway(context.Background(), Farewell{Window: time.Second}) },
		"replaced": func(x *lab) {
			x.pipe("eve", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(l *Limits) { l.Rates = limit.Rates{Bytes: 10} }, func(t *testing.T, x *lab) {
				eve := x.pipe("eve", 0)
				f := eve.flood(100_000)
				synctest.Wait() // it pauses now, for half a minute and more
				begun := time.Now()
				end(x)
				<-f.ended
				if took := time.Since(begun); took > time.Second {
					t.Errorf("it took %v", took)
				}
				if name != "close" && f.bye == nil {
					t.Error("closed without a word")
				}
			})
		})
	}
}

// The frames of both transports count, those of the WebSocket layer included.
func TestFramesOfBothTransportsCount(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := still(t, func(l *Limits) { l.Rates = limit.Rates{Frames: 1000} }, nil)
		p := x.connect(websocket, "eve", "phone")
		ping := p.frame(wire.Append(nil, &wirepb.PIMPing{}))
		go p.nc.Write(bytes.Repeat(ping, 9_900))
		for range 9_900 {
			expect[*wirepb.PIMPong](p)
		}
		x.eventually("they are charged", func() bool {
			sent := x.gw.gate.Returns("eve", "phone")
			return !sent.Whole(8 * time.Second)
		})
		if n := counted(t, x.gw.Metrics.slowFrames); n != 0 {
			t.Fatalf("below the burst it was not read for %v s", n)
		}
		if websocket {
			ping = clientFrame(0x9, true, nil)
		}
		go p.nc.Write(bytes.Repeat(ping, 200))
		x.eventually("it pauses", func() bool { return counted(t, x.gw.Metrics.slowFrames) > 0 })
	})
}

// A connection that falls silent keeps nothing of what it has sent.
func TestSilentConnectionsHaveNoBudget(t *testing.T) {
	x := still(t, func(l *Limits) { l.Rates = limit.Rates{Frames: 1000} }, nil)
	c := &conn{gw: x.gw, user: "alice", device: "phone"}
	c.in.frames = 1
	c.spend(100)
	if c.forgetSent(); c.in.sent == nil {
		t.Fatal("it is forgotten too early")
	}
	x.ahead.Add(int64(time.Second))
	if c.forgetSent(); c.in.sent != nil {
		t.Error("it is kept")
	}
}
