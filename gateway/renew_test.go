package gateway

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// everyTransport runs f over TCP and WebSocket, plain and with TLS.
func everyTransport(t *testing.T, f func(t *testing.T, websocket bool, config *tls.Config)) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	for name, config := range map[string]*tls.Config{"plain": nil, "TLS": secure.TLS} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, websocket bool) { f(t, websocket, config) })
		})
	}
}

// greeted returns a peer on a connection that skips the upgrade, behind its Welcome.
func (x *lab) greeted(websocket bool, config *tls.Config, user string) *peer {
	x.t.Helper()
	p := x.serveDirectly(websocket, config)
	p.send(&wirepb.Hello{Version: wire.Version, Token: user, Device: "phone"})
	expect[*wirepb.Welcome](p)
	return p
}

// When the goroutine of a silent connection is replaced, the connection goes on as if nothing
// had happened, even in the middle of a frame.
func TestSilentConnectionIsRenewed(t *testing.T) {
	everyTransport(t, func(t *testing.T, websocket bool, config *tls.Config) {
		x := newLab(t, func(l *Limits) { l.Idle, l.Handshake = time.Hour, time.Hour })
		p := x.greeted(websocket, config, "alice")
		c := x.conn("alice")
		for i := range 3 {
			frame := p.frame(wire.Append(nil, sendReq(byte(i+1), string(make([]byte, 100+9000*i)))))
			now := x.gw.elapsed()
			p.write(frame[:len(frame)-1])
			x.eventually("half a frame is read", func() bool { return c.halfSince.Load() >= now })
			x.passes(lookAhead)
			x.eventually("it is renewed", func() bool { return c.in.used.Load() == readerFresh })
			p.write(frame[len(frame)-1:])
			expect[*wirepb.PIMSendAck](p)
		}
		if open := x.gw.Open(); open != 1 {
			t.Errorf("%d are open", open)
		}
	})
}

// renewing renews c again and again until stop is called.
func (x *lab) renewing(c *conn) (stop func()) {
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				m := x.gw.moment()
				m.elapsed += time.Hour.Milliseconds()
				c.renew(m)
				runtime.Gosched()
			}
		}
	})
	return func() {
		close(done)
		work.Wait()
	}
}

// Renewals at any moment lose no byte.
func TestRenewalsLoseNothing(t *testing.T) {
	everyTransport(t, func(t *testing.T, websocket bool, config *tls.Config) {
		x := newLab(t, func(l *Limits) { l.InFlight = 1000 })
		p := x.greeted(websocket, config, "alice")
		c := x.conn("alice")
		const n = 500
		defer x.renewing(c)()
		var sending sync.WaitGroup
		sending.Go(func() {
			var all []byte
			for i := range n {
				m := sendReq(1, string(make([]byte, rand.IntN(20_000))))
				m.ClientMessageId = fmt.Appendf(nil, "%016d", i)
				all = append(all, p.frame(wire.Append(nil, m))...)
			}
			for len(all) > 0 {
				part := min(len(all), 1+rand.IntN(10_000))
				if _, err := p.nc.Write(all[:part]); err != nil {
					t.Error(err)
					return
				}
				all = all[part:]
			}
		})
		for i := range n {
			if m := expect[*wirepb.PIMSendAck](p); string(m.ClientMessageId) != fmt.Sprintf("%016d", i) {
				t.Fatalf("answer %d is to %s", i, m.ClientMessageId)
			}
		}
		sending.Wait()
	})
}

// A renewal does not end the reading after the last frame.
func TestRenewalsLeaveTheLastWord(t *testing.T) {
	everyTransport(t, func(t *testing.T, websocket bool, config *tls.Config) {
		x := newLingeringLab(t)
		p := x.greeted(websocket, config, "alice")
		c := x.conn("alice")
		defer x.renewing(c)()
		p.write(append(p.frame([]byte{byte(wire.TypeWelcome), 1, 2}), bytes.Repeat([]byte("x"), 8<<20)...))
		p.closedWith(wire.CodeProtocol)
	})
}

// inStacks returns how many bytes the stacks of all goroutines take up.
func inStacks() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// When connections fall silent, their grown stacks are given back.
func TestStacksShrink(t *testing.T) {
	const n = 400
	x := newLab(t, func(l *Limits) { l.Connections, l.Idle = n, time.Hour })
	before := inStacks()
	var peers []*peer
	for i := range n {
		peers = append(peers, x.connect(i%2 == 0, fmt.Sprint("user-", i), "phone"))
	}
	deep := func() {
		for _, p := range peers {
			m := sendReq(1, "x")
			m.ClientMessageId = nil // refused, which takes the most
			p.send(m)
			expect[*wirepb.PIMError](p)
		}
	}
	deep()
	grown := inStacks() - before
	x.passes(lookAhead)
	x.eventually("all are renewed", func() bool {
		fresh := 0
		for i := range n {
			if x.conn(pim.UserID(fmt.Sprint("user-", i))).in.used.Load() == readerFresh {
				fresh++
			}
		}
		return fresh == n
	})
	x.eventually("the grown stacks are given back", func() bool { // their goroutines take a moment to end
		used := inStacks() - before
		t.Logf("stacks of %d bytes, and %d after work", used/n, grown/n)
		return used <= grown*2/3
	})
	deep()
}
