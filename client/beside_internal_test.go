package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/client/transport"
)

// stub is a connection that is only told apart and closed.
type stub struct {
	transport.Conn
	closed bool
}

func (s *stub) Close() error {
	s.closed = true
	return nil
}

// Of two dials the faster has it. The second begins when the first has failed, or has had its time alone; whoever
// loses is given up or closed.
func TestRace(t *testing.T) {
	for what, x := range map[string]struct {
		first, second         time.Duration // how long each takes
		firstFails, bothFails bool
		deaf                  bool // the loser does not heed its context
		took                  time.Duration
		byFirst               bool
	}{
		"QUIC is fast":          {first: 100 * time.Millisecond, second: 50 * time.Millisecond, took: 100 * time.Millisecond, byFirst: true},
		"QUIC is slow":          {first: 500 * time.Millisecond, second: 400 * time.Millisecond, took: 500 * time.Millisecond, byFirst: true, deaf: true},
		"QUIC is very slow":     {first: time.Hour, second: 400 * time.Millisecond, took: 700 * time.Millisecond},
		"both come in the end":  {first: 800 * time.Millisecond, second: 400 * time.Millisecond, took: 700 * time.Millisecond, deaf: true},
		"QUIC is refused":       {first: 20 * time.Millisecond, firstFails: true, second: 100 * time.Millisecond, took: 120 * time.Millisecond},
		"QUIC is refused late":  {first: 400 * time.Millisecond, firstFails: true, second: 300 * time.Millisecond, took: 600 * time.Millisecond},
		"neither is reached":    {first: 20 * time.Millisecond, second: 50 * time.Millisecond, firstFails: true, bothFails: true, took: 70 * time.Millisecond},
		"QUIC is the last gone": {first: 900 * time.Millisecond, second: 50 * time.Millisecond, firstFails: true, bothFails: true, took: 900 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			first, second := new(stub), new(stub)
			errSecond := errors.New("second")
			dial := func(after time.Duration, conn *stub, err error) func(context.Context) (transport.Conn, error) {
				return func(ctx context.Context) (transport.Conn, error) {
					wait := time.After(after)
					if x.deaf {
						<-wait
					} else {
						select {
						case <-wait:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}
					if err != nil {
						return nil, err
					}
					return conn, nil
				}
			}
			var err1, err2 error
			if x.firstFails {
				err1 = errors.New("first")
			}
			if x.bothFails {
				err2 = errSecond
			}
			begun := time.Now()
			var wg sync.WaitGroup
			conn, byFirst, err := race(t.Context(), quicAhead, dial(x.first, first, err1), dial(x.second, second, err2), wg.Go)
			if took := time.Since(begun); took != x.took || byFirst != x.byFirst {
				t.Errorf("%s: by first %t after %v", what, byFirst, took)
			}
			switch {
			case x.bothFails:
				if err != errSecond || conn != nil {
					t.Errorf("%s: %v, %v", what, conn, err)
				}
			case err != nil || x.byFirst != (conn == transport.Conn(first)):
				t.Errorf("%s: %v, %v", what, conn, err)
			}
			wg.Wait()
			if first.closed || second.closed {
				if !x.deaf || first.closed == x.byFirst || second.closed != x.byFirst {
					t.Errorf("%s: closed %t, %t", what, first.closed, second.closed)
				}
			} else if x.deaf {
				t.Errorf("%s: the late one is not closed", what)
			}
		})
	}
}

// QUIC rests on the network on which it has lost, and on no other.
func TestQUICRestsByNetwork(t *testing.T) {
	var b beside
	at := time.Unix(1000, 0)
	o := Options{}
	tries := func(server string) bool {
		d, _ := b.dialer(server, at, o.dialer)
		return d != nil
	}
	b.note("https://a", "quic://a:1")
	if !tries("https://a") || tries("https://b") {
		t.Fatal("QUIC is for the gateway that has it")
	}
	b.onNetwork("office")
	_, network := b.dialer("https://a", at, o.dialer)
	b.told(network, false, at)
	if tries("https://a") {
		t.Error("it does not rest")
	}
	b.onNetwork("home")
	if !tries("https://a") {
		t.Error("it rests at home")
	}
	b.onNetwork("office")
	if tries("https://a") {
		t.Error("the office is forgotten")
	}
	if at = at.Add(quicRest); !tries("https://a") {
		t.Error("it rests for ever")
	}
	b.onNetwork("")
	b.told("", false, at)
	if tries("https://a") {
		t.Error("it does not rest on a network without a name")
	}
	if b.onNetwork(""); !tries("https://a") {
		t.Error("another network without a name is taken for the one before")
	}
	b.note("https://a", "quic://no-port")
	if tries("https://a") {
		t.Error("an address without a port")
	}
	for i := range 3 * mostBeside {
		name := string(rune('a'+i/26)) + string(rune('a'+i%26))
		b.note("https://"+name, "quic://"+name+":1")
		b.told(name, false, at)
	}
	if len(b.quic) > mostBeside || len(b.rests) > mostBeside {
		t.Errorf("%d gateways, %d networks", len(b.quic), len(b.rests))
	}
}
