// Package weak measures a chat over a weak network: a server in one network
// namespace, users with the Go SDK in another, and a tunlink.Link that treats the
// kernel's own TCP as badly as it is told. Every message must come through within
// a time, once, in order.
//
//	go run ./imtest/weaknet --help
//
// It needs Linux, root and /dev/net/tun.
package weak

import (
	"io"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/tunlink"
)

// Config says what to run.
type Config struct {
	Users    int           // even: in pairs, and all of them in one group
	Rate     float64       // messages a second, over all users; half of them to the group
	Duration time.Duration // of the sending
	// Path is the network in each direction: a round trip is twice its delay.
	Path tunlink.Path
	// CutEvery, if not 0, is the time from one cut to the next, and CutFor how long
	// each lasts. Nobody is told of a cut: packets vanish.
	CutEvery, CutFor time.Duration
	// Handover gives the users' side another address in each cut, so that every
	// connection is dead after it and nobody is told.
	Handover bool
	// Tell lets the system tell the apps, when a cut is over, that the network has
	// changed, as phones do.
	Tell bool
	// Background leaves the apps in the background, where heartbeats are minutes
	// apart. A person who chats has them in the foreground.
	Background bool

	// Transport is what everybody uses: tls (over TCP), https (WebSocket) or quic. Empty: half of them
	// WebSocket, half TCP, without TLS.
	Transport string

	Within   time.Duration // the time for a message to reach everyone
	Seed     uint64
	Progress io.Writer // nil: none
}

// Defaults returns the article's mobile network: a round trip of 350 ± 150 ms,
// 7 % loss, 20 % reordered, a cut every 30 s.
func Defaults() Config {
	return Config{
		Users: 20, Rate: 10, Duration: 3 * time.Minute,
		Path: tunlink.Path{
			Delay: 175 * time.Millisecond, Jitter: 75 * time.Millisecond,
			Loss: 0.07, Reorder: 0.2, Late: 100 * time.Millisecond,
		},
		CutEvery: 30 * time.Second, CutFor: 5 * time.Second,
		Within: 180 * time.Second, Seed: 1,
	}
}

func (c *Config) check() error {
	switch {
	case c.Users < 2 || c.Users > 1000 || c.Users%2 != 0:
		return pim.Errorf(pim.KindInvalid, "%d users: an even number from 2 to 1000", c.Users)
	case c.Rate <= 0 || c.Rate > 1000:
		return pim.Errorf(pim.KindInvalid, "rate %g: more than 0, up to 1000 a second", c.Rate)
	case c.Duration <= 0 || c.Within <= 0:
		return pim.Errorf(pim.KindInvalid, "a duration that is not positive")
	case c.CutEvery < 0 || c.CutFor < 0 || c.CutEvery > 0 && c.CutFor >= c.CutEvery:
		return pim.Errorf(pim.KindInvalid, "a cut of %v every %v", c.CutFor, c.CutEvery)
	}
	p := &c.Path
	for _, share := range []float64{p.Loss, p.Duplicate, p.Reorder} {
		if share < 0 || share >= 1 {
			return pim.Errorf(pim.KindInvalid, "share %g: at least 0, less than 1", share)
		}
	}
	if p.Delay < 0 || p.Jitter < 0 || p.Jitter > p.Delay || p.Late < 0 || p.Rate < 0 {
		return pim.Errorf(pim.KindInvalid, "delay %v ± %v, late %v, rate %d", p.Delay, p.Jitter, p.Late, p.Rate)
	}
	return nil
}
