package engine

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// Which URLs are taken for addresses of one server.
func TestSameServer(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"wss://chat.example", "https://CHAT.example:443/path", true},
		{"ws://chat.example", "HTTP://user@chat.example:80?x", true},
		{"wss://chat.example", "tls://chat.example:7401", true},
		{"https://chat.example:7400", "tcp://chat.example:7401", true},
		{"tls://chat.example:7401", "tcp://chat.example:7401", true},
		{"wss://chat.example", "ws://chat.example", false}, // 443 and 80
		{"http://127.0.0.1:7400", "http://127.0.0.1:8400", false},
		{"tcp://127.0.0.1:7401", "tcp://127.0.0.1:8401", false},
		{"wss://[::1]:7400", "tls://[::1]:7401", true},
		{"quic://chat.example:7400", "https://chat.example:7400", true},
		{"quic://chat.example:7400", "tls://chat.example:7401", true},
		{"quic://chat.example:7400", "quic://chat.example:7410", false},
		{"quic://chat.example:7400", "quic://other.example:7400", false},
		{"wss://[::1]:7400", "wss://[::2]:7400", false},
		{"wss://[::1]", "wss://[::1]:443", true},
		{"wss://one.example", "wss://two.example", false},
	} {
		if sameServer(test.a, test.b) != test.same || sameServer(test.b, test.a) != test.same {
			t.Errorf("%s and %s are taken for one server: %v", test.a, test.b, !test.same)
		}
		if !sameServer(test.a, test.a) {
			t.Errorf("%s is not taken for itself", test.a)
		}
	}
}

// A refusal counts until its time for all addresses of the server, and no longer. A bound holds.
func TestBusy(t *testing.T) {
	var b busy
	why := errors.New("full")
	b.note(10, "wss://one:1", 20, why, 2)
	if at, err := b.until("tcp://one:2"); at != 20 || err != why {
		t.Errorf("the other address is left alone until %v because of %v", at, err)
	}
	if at, err := b.until("wss://two:1"); at != 0 || err != nil {
		t.Errorf("another server is left alone until %v because of %v", at, err)
	}
	b.note(11, "wss://one:1", 15, why, 2)
	if at, _ := b.until("wss://one:1"); at != 15 {
		t.Errorf("what a server said last is %v", at)
	}
	b.note(12, "tcp://one:2", 18, why, 2)
	if at, _ := b.until("wss://one:1"); at != 18 {
		t.Errorf("of two addresses the later time is %v", at)
	}
	b.note(13, "wss://three", 30, why, 2)
	if at, _ := b.until("wss://one:1"); len(b) != 2 || at != 18 {
		t.Errorf("%d are kept: %v", len(b), b)
	}
	if b.note(18, "wss://four", 40, why, 9); len(b) != 2 {
		t.Errorf("what is over is kept: %v", b)
	}
}

// However absurd the times are that a server names, it is left alone for no longer than 10 minutes
// and a quarter, and for no shorter than it says up to that.
func TestTimesOfRefusals(t *testing.T) {
	for _, test := range []struct {
		after, window time.Duration
		least, most   time.Duration
	}{
		{0, 0, 0, 0},
		{-time.Hour, 0, 0, 0},
		{math.MinInt64, 0, 0, 0},
		{0, 8 * time.Second, 0, 8 * time.Second},
		{8 * time.Second, 0, 8 * time.Second, 10 * time.Second},
		{8 * time.Second, 5 * time.Second, 8 * time.Second, 10 * time.Second},
		{8 * time.Second, 16 * time.Second, 8 * time.Second, 16 * time.Second},
		{time.Hour, 0, maxWindow, maxWindow * 5 / 4},
		{math.MaxInt64, time.Duration(math.MaxUint32) * time.Millisecond, maxWindow, maxWindow * 5 / 4},
		{0, time.Duration(math.MaxUint32) * time.Millisecond, 0, maxWindow},
		{-1, time.Minute, 0, time.Minute},
	} {
		for _, random := range []float64{0, 0.5, 1} {
			e := New(Config{Servers: []string{"wss://one"}, Random: func() float64 { return random }}, Snapshot{})
			e.now.Mono = time.Hour
			told := e.turnedAway("wss://one", &pim.Error{Kind: pim.KindOverloaded, RetryAfter: test.after}, test.window)
			want := time.Duration(0)
			if test.most > 0 {
				want = e.now.Mono + test.least + time.Duration(random*float64(test.most-test.least))
			}
			if at, _ := e.route.busy.until("wss://one"); told != (test.most > 0) || at != want {
				t.Errorf("%v and a window of %v, %v of the way: left alone until %v, want %v", test.after, test.window, random, at, want)
			}
		}
	}
}

// Whatever many servers say, what is kept of it is bounded.
func TestRefusalsAreBounded(t *testing.T) {
	e := New(Config{Servers: []string{"wss://one", "wss://two"}, Random: func() float64 { return 1 }}, Snapshot{})
	e.link.server = "wss://one"
	for i := range 1000 {
		e.link.server += string(rune('a' + i%26))
		e.saysWhy(&wirepb.PIMError{Kind: wirepb.ErrorKind(pim.KindOverloaded), RetryAfterMs: 60_000})
	}
	if n := len(e.route.busy); n != 2+maxBusy {
		t.Errorf("%d refusals are kept", n)
	}
}
