package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// newBlackHole returns the address of a gateway that takes connections and says
// nothing.
func newBlackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				io.Copy(io.Discard, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// waitFor receives from c, and fails the test if nothing comes for long.
func waitFor[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Minute): // ends a hanging test; decides nothing
		t.Fatalf("waited in vain: %s", what)
		panic("unreachable")
	}
}

// A gateway that swallows everything delays the connection by one step of the race. The
// attempt at it is given up when another attempt has won.
func TestBlackHoleGateway(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		var tried, ended atomic.Int32
		o.Server, o.Servers, o.Insecure = "", []string{"http://hole:1", "tcp://pipe:1"}, true
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "hole:1" {
				return p.Dial(ctx, network, address)
			}
			tried.Add(1)
			near, far := net.Pipe()
			p.wg.Go(func() {
				io.Copy(io.Discard, far)
				ended.Add(1)
			})
			return near, nil
		}
		begun := time.Now()
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		alice := &device{Client: c, t: t, user: "alice"}
		alice.sent(alice.sends(chat, "hi"), nil)
		if took := time.Since(begun); took > 2500*time.Millisecond {
			t.Errorf("sent after %v", took)
		}
		synctest.Wait()
		if tried.Load() != 1 || ended.Load() != 1 {
			t.Errorf("the black hole was tried %d times, and given up %d times", tried.Load(), ended.Load())
		}
		p.breaks.Store(true)
		alice.sent(alice.sends(chat, "the good one is first now"), nil)
		if n := p.dials.Load(); n != 2 || tried.Load() != 1 {
			t.Errorf("%d connections to the good one, the black hole was tried %d times", n, tried.Load())
		}
	})
}

// The attempts that lose a race are given up at once, even while they still dial.
func TestLosersAreCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ended := make(chan error, 10)
	o := w.options("alice", "phone")
	o.Server, o.Servers, o.Insecure = "tcp://nowhere:1", []string{w.on.TCP}, true
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "nowhere:1" {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	w.opens(o).synced()
	if err := waitFor(t, ended, "the loser is given up"); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}

// Close gives up attempts that are under way.
func TestCloseWhileDialling(t *testing.T) {
	w, hole := newWorld(t), newBlackHole(t)
	dials := make(chan string, 10)
	o := w.options("alice", "phone")
	o.Server, o.Servers = "http://"+hole, nil
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials <- address
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	alice := w.opens(o)
	waitFor(t, dials, "a dial")
	alice.Close()
	for _, err := range []error{alice.SetOnline(true), alice.NetworkChanged(""), alice.SetForeground(true)} {
		if pim.KindOf(err) != pim.KindUnavailable {
			t.Errorf("after Close: %v", err)
		}
	}
}

// air is a network that the device can leave without anybody noticing: the connections
// over it then carry nothing any more, in either direction, and do not end.
type air struct {
	mu    sync.Mutex
	conns []*wave
	ended chan struct{} // one for each connection that was closed
}

type wave struct {
	net.Conn
	lost  chan struct{} // closed when nothing comes through any more
	gone  chan struct{} // closed by Close
	close func()
}

func (a *air) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	v := &wave{Conn: c, lost: make(chan struct{}), gone: make(chan struct{})}
	v.close = sync.OnceFunc(func() {
		close(v.gone)
		a.ended <- struct{}{}
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns = append(a.conns, v)
	return v, nil
}

// leaves makes every connection half-open.
func (a *air) leaves() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.conns {
		close(v.lost)
	}
	a.conns = nil
}

func (v *wave) Read(p []byte) (int, error) {
	n, err := v.Conn.Read(p)
	select {
	case <-v.lost:
		<-v.gone
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (v *wave) Write(p []byte) (int, error) {
	select {
	case <-v.lost:
		return len(p), nil
	default:
		return v.Conn.Write(p)
	}
}

func (v *wave) Close() error {
	v.close()
	return v.Conn.Close()
}

func eachTransport(t *testing.T, test func(t *testing.T, w *world)) {
	for _, tcp := range []bool{false, true} {
		w := newWorld(t)
		w.tcp = tcp
		t.Run(map[bool]string{false: "WebSocket", true: "TCP"}[tcp], func(t *testing.T) {
			w.t = t
			test(t, w)
		})
	}
}

// An app that hears of another network need not wait for a timeout.
func TestNetworkChanged(t *testing.T) {
	eachTransport(t, func(t *testing.T, w *world) {
		a := &air{ended: make(chan struct{}, 10)}
		o := w.options("alice", "phone")
		o.Dial = a.Dial
		alice := w.opens(o)
		alice.synced()
		a.leaves()
		message := alice.sends(chat, "into the void")
		if err := alice.NetworkChanged(strings.Repeat("x", 129)); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("a long name: %v", err)
		}
		began := time.Now()
		if err := alice.NetworkChanged("mobile/262-01"); err != nil {
			t.Fatal(err)
		}
		alice.sent(message, nil)
		waitFor(t, a.ended, "the old connection is closed")
		t.Logf("sent %v after the change", time.Since(began))
		if log := w.server.Log(chat); len(log) != 1 {
			t.Errorf("the log has %d entries", len(log))
		}
	})
}

// While the app wants no connection, the client has none, and does not dial.
func TestSetOnline(t *testing.T) {
	eachTransport(t, func(t *testing.T, w *world) {
		a := &air{ended: make(chan struct{}, 10)}
		var dials atomic.Int32
		o := w.options("alice", "phone")
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return a.Dial(ctx, network, address)
		}
		alice := w.opens(o)
		alice.synced()
		set := func(on bool) {
			t.Helper()
			if err := alice.SetOnline(on); err != nil {
				t.Fatal(err)
			}
		}
		set(false)
		if alice.State() != client.Offline {
			t.Errorf("state %s", alice.State())
		}
		waitFor(t, a.ended, "the connection is closed")
		before := dials.Load() // more than one if the first took its time
		message := alice.sends(chat, "later")
		if err := alice.NetworkChanged("wifi"); err != nil {
			t.Fatal(err)
		}
		set(false)
		if n, log := dials.Load()-before, w.server.Log(chat); n != 0 || len(log) != 0 {
			t.Errorf("%d dials, %d entries", n, len(log))
		}
		set(true)
		alice.sent(message, nil)
	})
}

// Either of Server and Servers suffices. A server that is not a valid URL is refused.
func TestServers(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		server  string
		servers []string
		ok      bool
	}{
		"none":          {"", nil, false},
		"an empty one":  {w.on.URL, []string{""}, false},
		"a bad one":     {w.on.URL, []string{"ftp://a"}, false},
		"only Servers":  {"", []string{w.on.TCP}, true},
		"the same once": {w.on.URL, []string{w.on.URL}, true},
	} {
		o := w.options("alice", "phone")
		o.Server, o.Servers = test.server, test.servers
		c, err := client.Open(t.Context(), o)
		if !test.ok {
			if pim.KindOf(err) != pim.KindInvalid {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Synced(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
}

// piped is a server at the other end of pipes, for clients in a bubble of time.
type piped struct {
	server *clienttest.Server
	wg     sync.WaitGroup
	mu     sync.Mutex
	pings  []*wirepb.PIMPing
	breaks atomic.Bool // the connection that brings the next message ends before its answer
	slow   bool        // what the server sends comes at 10 kB/s
	pushes bool        // entries are pushed, with the next answer
	slowUp bool        // what the client sends comes at 5 kB/s
	dials  atomic.Int32
	pulls  atomic.Int32 // PIMPullReqs that came
	sends  atomic.Int32 // PIMSendReqs that came
}

// trickle is a connection that carries 1 kB at a time, 10 kB a second. Write does not
// wait for that.
type trickle struct {
	net.Conn
	written chan []byte
}

func (c trickle) Write(p []byte) (int, error) {
	c.written <- slices.Clone(p)
	return len(p), nil
}

func (c trickle) carry() {
	for p := range c.written {
		for piece := range slices.Chunk(p, 1000) {
			time.Sleep(time.Duration(len(piece)) * time.Second / 10_000)
			if _, err := c.Conn.Write(piece); err != nil {
				break
			}
		}
	}
}

// SetWriteDeadline sets none: the network is slow, the server is not.
func (c trickle) SetWriteDeadline(time.Time) error { return nil }

func (c trickle) Close() error {
	close(c.written)
	return c.Conn.Close()
}

// sip is a connection that reads 500 bytes at a time, 5 kB a second. The other end's
// Write waits for that.
type sip struct{ net.Conn }

func (c sip) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 500)])
	time.Sleep(time.Duration(n) * time.Second / 5_000)
	return n, err
}

func (p *piped) Dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.dials.Add(1)
	if p.slow {
		slow := trickle{far, make(chan []byte, 1000)}
		p.wg.Go(slow.carry)
		far = slow
	}
	if p.slowUp {
		far = sip{far}
	}
	p.wg.Go(func() {
		conn, session := transport.NewTCP(far), p.server.Connect(nil)
		defer conn.Close()
		defer session.Close()
		for {
			frame, err := conn.Read()
			if err != nil {
				return
			}
			_, m, err := wire.Decode(frame)
			if err != nil {
				return
			}
			if _, ok := m.(*wirepb.PIMPullReq); ok {
				p.pulls.Add(1)
			}
			if _, ok := m.(*wirepb.PIMSendReq); ok {
				p.sends.Add(1)
			}
			if ping, ok := m.(*wirepb.PIMPing); ok {
				p.mu.Lock()
				p.pings = append(p.pings, ping)
				p.mu.Unlock()
			}
			var answers [][]byte
			for _, a := range session.Handle(m) {
				answers = append(answers, wire.Append(nil, a))
			}
			if p.pushes {
				for _, m := range session.Pushes() {
					answers = append(answers, wire.Append(nil, m))
				}
			}
			if _, ok := m.(*wirepb.PIMSendReq); ok && p.breaks.CompareAndSwap(true, false) {
				return
			}
			if len(answers) > 0 && conn.Write(answers) != nil {
				return
			}
		}
	})
	return near, nil
}

// pinged returns the heartbeats that were announced since the last call.
func (p *piped) pinged() (announced []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.pings {
		announced = append(announced, time.Duration(m.HeartbeatMs)*time.Millisecond)
	}
	p.pings = nil
	return announced
}

func inBubble(t *testing.T, test func(t *testing.T, p *piped, o client.Options)) {
	synctest.Test(t, func(t *testing.T) {
		p := &piped{server: clienttest.NewServer(func() pim.Millis { return pim.MillisOf(time.Now()) })}
		p.server.Limits = wirepb.Limits{IdleMs: 300_000, HeartbeatMs: 600_000}
		test(t, p, client.Options{
			Server: "tcp://pipe:1", Insecure: true, User: "alice", Device: "phone", Dial: p.Dial,
			Token: func(context.Context) (string, error) { return "alice", nil },
		})
		p.wg.Wait()
	})
}

// Nobody tells the client that the device has slept. It finds out within 10 s of
// waking up, though its timers stood still.
func TestSleepIsNoticed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		var slept atomic.Int64 // ms
		begun := time.Now()
		client.SetClock(&o, func() engine.Time {
			return engine.Time{Mono: time.Since(begun), Wall: pim.MillisOf(time.Now()) + pim.Millis(slept.Load())}
		})
		alice, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer alice.Close()
		time.Sleep(30 * time.Second)
		if got := p.pinged(); len(got) > 0 {
			t.Errorf("pings before the sleep: %v", got)
		}
		slept.Store(3_600_000)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := p.pinged(); len(got) != 1 {
			t.Errorf("pings after the sleep: %v", got)
		}
	})
}

// A page that takes longer than any timeout comes through, over one connection and with
// one request, because its bytes keep coming.
func TestSlowLine(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		p.slow = true
		for i := range 9 { // a frame of three entries takes 18 s
			if err := p.server.Append(chat, "bob", pim.ClientMessageID{1, byte(i)}, make([]byte, 60_000)); err != nil {
				t.Fatal(err)
			}
		}
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // the bytes take 54 s
		defer cancel()
		if err := c.Synced(ctx); err != nil {
			t.Error(err)
		}
		if dials, pulls := p.dials.Load(), p.pulls.Load(); dials != 1 || pulls != 1 {
			t.Errorf("%d connections, %d pulls", dials, pulls)
		}
	})
}

// Messages that take longer to be written than any timeout are written once, over one
// connection, and the next message is sent without further delay.
func TestSlowUplink(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		p.slowUp = true
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			for range c.Events() {
			}
		}()
		send := func(payload []byte) *client.Sending {
			t.Helper()
			h, err := c.Send(t.Context(), chat, payload)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		var sent []*client.Sending
		for range 12 { // 148 s
			sent = append(sent, send(make([]byte, 60<<10)))
		}
		for _, wait := range []time.Duration{155 * time.Second, 2 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			for i, h := range sent {
				if _, err := h.Wait(ctx); err != nil {
					t.Errorf("message %d of %d, for %v: %v", i, len(sent), wait, err)
					break
				}
			}
			cancel()
			sent = []*client.Sending{send([]byte("hi"))}
		}
		if dials, sends := p.dials.Load(), p.sends.Load(); dials != 1 || sends != 13 {
			t.Errorf("%d connections, %d transmissions", dials, sends)
		}
	})
}

// In the foreground heartbeats come every minute, and the server hears of it.
func TestSetForeground(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		alice, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer alice.Close()
		time.Sleep(2 * time.Minute)
		if err := alice.SetForeground(true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Minute + time.Second)
		if err := alice.SetForeground(false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		const minute = time.Minute
		if got, want := p.pinged(), []time.Duration{minute, minute, minute, 210 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("announced %v, want %v", got, want)
		}
	})
}
