package load

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	// A server takes only so many connections and logins a second, and a load comes all at
	// once. So what is refused comes again, as any client does, up to patience after the first
	// attempt, at random times of up to firstWait and then twice that each time, up to lastWait.
	patience  = 2 * time.Minute
	firstWait = 500 * time.Millisecond
	lastWait  = 4 * time.Second
)

// connect connects device d of user to server and opens its session; see hello. A server that ends each session
// at its beginning looks like one that refuses it, so connect counts how often it was refused, and says so
// when its patience is over.
func connect(ctx context.Context, cfg *Config, server string, user pim.UserID, d pim.DeviceID, serial uint64) (*link, *wirepb.Welcome, error) {
	begun := time.Now()
	wait := firstWait
	for attempt := 1; ; attempt++ {
		l, err := dial(ctx, server, wire.WebSocketPath)
		if err == nil {
			var welcome *wirepb.Welcome
			if welcome, err = l.hello(cfg, user, d, serial); err == nil {
				return l, welcome, nil
			}
			l.nc.Close()
		}
		if !comesTooFast(err) {
			return nil, nil, err
		}
		cfg.refused.Add(1)
		if took := time.Since(begun); took > cfg.patience {
			return nil, nil, pim.Errorf(pim.KindOf(err), "%s was refused %d times in %.0f s, the last time: %w", user, attempt, took.Seconds(), err)
		}
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(wait)))):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
		wait = min(2*wait, lastWait)
	}
}

// comesTooFast reports whether err is how a server refuses somebody who is to come back: by an end
// without a word, by 503, or by an error that says so.
func comesTooFast(err error) bool {
	var status ws.StatusError
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
		pim.KindOf(err) == pim.KindOverloaded ||
		errors.As(err, &status) && status == http.StatusServiceUnavailable
}
