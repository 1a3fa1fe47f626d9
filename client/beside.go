package client

import (
	"context"
	"sync"
	"time"

	"github.com/pim-im/pim/client/transport"
)

const (
	// quicAhead is how long a dial over QUIC is alone before the other transport of the same gateway is dialled
	// beside it: longer than most round trips.
	quicAhead = 300 * time.Millisecond
	// quicRest is for how long QUIC is not tried on a network on which it has lost: most networks that
	// swallow UDP go on doing so.
	quicRest       = 10 * time.Minute
	maxNetworkName = 128 // bytes, as in package engine
	// mostBeside bounds how many gateways and networks are remembered.
	mostBeside = 32
)

// beside is which gateways are reached over QUIC as well, and on which networks that works. It keeps nothing
// on disk. Its methods may be called concurrently.
type beside struct {
	mu      sync.Mutex
	quic    map[string]string            // QUIC addresses of gateways, by the address that is dialled
	dialers map[string]*transport.Dialer // by QUIC address
	network string
	rests   map[string]time.Time // until when QUIC is not tried, by network
}

// note notes that the gateway at server has the QUIC address quic.
func (b *beside) note(server, quic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.quic == nil || len(b.quic) >= mostBeside {
		b.quic, b.dialers = make(map[string]string), make(map[string]*transport.Dialer)
	}
	b.quic[server] = quic
}

// onNetwork notes that the device is on another network.
func (b *beside) onNetwork(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.network = name; name == "" { // it may be any
		delete(b.rests, name)
	}
}

// dialer returns the dialer for QUIC of the gateway at server, and the name of the network; nil if QUIC is not known of it or
// rests. dialers makes one that is not there yet.
func (b *beside) dialer(server string, now time.Time, make func(string) (*transport.Dialer, error)) (*transport.Dialer, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address := b.quic[server]
	if address == "" || now.Before(b.rests[b.network]) {
		return nil, ""
	}
	d := b.dialers[address]
	if d == nil {
		var err error
		if d, err = make(address); err != nil {
			return nil, ""
		}
		b.dialers[address] = d
	}
	return d, b.network
}

// told notes whether QUIC has won on a network.
func (b *beside) told(network string, won bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if won {
		delete(b.rests, network)
		return
	}
	if b.rests == nil || len(b.rests) >= mostBeside {
		b.rests = make(map[string]time.Time)
	}
	b.rests[network] = now.Add(quicRest)
}

// dialServer connects to the gateway at server. If that is known to take QUIC, the faster of the two has it.
func (c *Client) dialServer(ctx context.Context, server string, dialer *transport.Dialer) (transport.Conn, error) {
	if !dialer.Direct() { // what goes another way does so for a reason
		return dialer.Dial(ctx)
	}
	quic, network := c.beside.dialer(server, time.Now(), c.options.dialer)
	if quic == nil {
		return dialer.Dial(ctx)
	}
	conn, won, err := race(ctx, quicAhead, quic.Dial, dialer.Dial, c.wg.Go)
	if err == nil {
		c.beside.told(network, won, time.Now())
	}
	return conn, err
}

// race calls first, and second as well if first has failed or ahead has passed. It returns the connection that stands first, and
// whether it is that of first; the other is given up, in a goroutine that spawn starts. If both fail the error is that of
// second.
func race(ctx context.Context, ahead time.Duration, first, second func(context.Context) (transport.Conn, error), spawn func(func())) (conn transport.Conn, byFirst bool, err error) {
	type outcome struct {
		conn  transport.Conn
		first bool
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the dial that has lost
	outcomes := make(chan outcome, 2)
	var running int
	run := func(dial func(context.Context) (transport.Conn, error), isFirst bool) {
		running++
		spawn(func() {
			conn, err := dial(ctx)
			outcomes <- outcome{conn, isFirst, err}
		})
	}
	run(first, true)
	alone := time.NewTimer(ahead)
	defer alone.Stop()
	both := false
	for {
		var o outcome
		select {
		case <-alone.C:
		case o = <-outcomes:
			running--
		}
		if o.conn != nil {
			if running > 0 {
				spawn(func() {
					if late := <-outcomes; late.conn != nil {
						late.conn.Close()
					}
				})
			}
			return o.conn, o.first, nil
		}
		if o.err != nil && !o.first {
			err = o.err
		}
		switch {
		case !both:
			both = true
			run(second, false)
		case running == 0:
			return nil, false, err
		}
	}
}
