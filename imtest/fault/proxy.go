// Package fault is a TCP proxy on loopback that fails on command: latency,
// jitter, loss as a stall, bandwidth, cuts in the middle of a frame, half-open
// connections, black holes, refused and silent connections, a server that moves.
// A client that dials the proxy meets the target through it.
//
// The proxy's memory is bounded: in each direction a connection holds up to 256 KiB
// and then stops reading, so that the sender's own window closes.
package fault

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/loopback"
)

const (
	maxConns    = 1024 // further ones are reset
	dialing     = 5 * time.Second
	listenAgain = time.Minute // for the port to be free again after Refuse
	pause       = 10 * time.Millisecond
)

// Proxy is one listener in front of a target. All methods may be called
// concurrently.
type Proxy struct {
	seed   uint64
	addr   string
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // of every goroutine

	setting sync.Mutex // held by Set and Close; taken before mu

	// Guarded by mu.
	mu         sync.Mutex
	target     string
	conditions Conditions
	changed    chan struct{} // closed and replaced when conditions change
	listener   net.Listener  // nil while nobody listens
	conns      map[*conn]bool
	accepted   int
}

// New returns a proxy in front of target (host:port). The proxy listens on a free port
// of a loopback address of its own, so that no other server gets the port while the
// proxy refuses connections. What is random follows from seed, as long as the kernel
// hands over the same chunks. The caller must Close the proxy.
func New(target string, seed uint64) (*Proxy, error) {
	return Listen(net.JoinHostPort(loopback.Own(), "0"), target, seed)
}

// Listen is New for a proxy that listens at addr (host:port), for targets that tell others where they
// are. Port 0 is any free one.
func Listen(addr, target string, seed uint64) (*Proxy, error) {
	p := &Proxy{seed: seed, target: target, addr: addr, changed: make(chan struct{}), conns: make(map[*conn]bool)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.listen(); err != nil {
		p.cancel()
		return nil, err
	}
	return p, nil
}

// Addr returns the address to dial. It stays the same.
func (p *Proxy) Addr() string { return p.addr }

// SetTarget says where new connections go, as when a server comes back on
// another port.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Set changes the conditions. It fails if the proxy has to listen again and the port
// has been taken meanwhile, or if the proxy is closed.
func (p *Proxy) Set(c Conditions) error {
	p.setting.Lock()
	defer p.setting.Unlock()
	p.mu.Lock()
	p.conditions = c
	close(p.changed)
	p.changed = make(chan struct{})
	l := p.listener
	if c.Accept == Refuse {
		p.listener = nil
	}
	p.mu.Unlock()
	switch {
	case c.Accept == Refuse && l != nil:
		l.Close()
	case c.Accept != Refuse && l == nil:
		return p.listen()
	}
	return nil
}

// Conditions returns what was Set.
func (p *Proxy) Conditions() Conditions {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conditions
}

// Accepted returns how many connections were accepted so far.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Cut resets every connection at side, and returns how many there are. If side is one
// side, the other side's connection stays, half-open.
func (p *Proxy) Cut(side Side) int {
	return p.each(func(c *conn) { c.cut(side) })
}

// CutAfter lets n more bytes of every connection pass up, or down, and then
// resets both sides. It returns how many connections there are.
func (p *Proxy) CutAfter(n int, up bool) int {
	return p.each(func(c *conn) { c.pipe(up).cutAfter(n) })
}

// Forget makes every connection a black hole both ways, as when the client's address
// changes, or a translator on the way forgets the connection. New connections are as
// ever. Forget returns how many connections there are.
func (p *Proxy) Forget() int {
	return p.each(func(c *conn) { c.doom() })
}

func (p *Proxy) each(f func(*conn)) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		f(c)
	}
	return len(p.conns)
}

// Close resets every connection and ends every goroutine.
func (p *Proxy) Close() {
	p.setting.Lock()
	defer p.setting.Unlock()
	p.cancel()
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	if l != nil {
		l.Close()
	}
	p.wg.Wait()
}

// listen listens at p.addr, and tries for up to listenAgain. If p.addr is not an
// address of the proxy's own, the kernel may have given the port to an outgoing
// connection; most of these are short.
func (p *Proxy) listen() error {
	ctx, cancel := context.WithTimeout(p.ctx, listenAgain)
	defer cancel()
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.addr)
		if err == nil {
			return p.serve(l)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return pim.Errorf(pim.KindUnavailable, "fault proxy: %w", err)
		}
	}
}

func (p *Proxy) serve(l net.Listener) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		l.Close()
		return pim.Errorf(pim.KindUnavailable, "the fault proxy is closed")
	}
	p.listener, p.addr = l, l.Addr().String()
	p.wg.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.take(client.(*net.TCPConn))
			continue
		}
		select { // the process has no file descriptor left, or the client is gone
		case <-time.After(pause):
		case <-p.ctx.Done():
			return
		}
	}
}

// take begins to serve client. It dials the target in the accepting goroutine, so that
// a server sees connections in the order in which clients made them, as it would
// without a proxy. By this order a server tells which of a device's two connections is
// the newer one.
func (p *Proxy) take(client *net.TCPConn) {
	p.mu.Lock()
	if len(p.conns) >= maxConns || p.ctx.Err() != nil || p.conditions.Accept == Refuse {
		p.mu.Unlock()
		reset(client)
		return
	}
	p.accepted++
	c := newConn(p, client, uint64(p.accepted))
	p.conns[c] = true
	silent := p.conditions.Accept == Silent
	p.mu.Unlock()
	var server *net.TCPConn
	if !silent {
		server = p.dial() // nil: nobody is there, and the client is reset
	}
	p.wg.Go(func() {
		c.run(server, silent)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	})
}

// dial connects to the target; nil if that fails.
func (p *Proxy) dial() *net.TCPConn {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, dialing)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return nil
	}
	return conn.(*net.TCPConn)
}

// now returns the conditions, and a channel that is closed when they change.
func (p *Proxy) now() (Conditions, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conditions, p.changed
}

// reset closes c with a reset instead of an orderly end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails if c is closed already, which is as good
	c.Close()
}
