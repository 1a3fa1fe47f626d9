package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// onlyUser refuses every token but those of alice and bob.
func onlyUser(m *wirepb.Hello) *pim.Error {
	if m.Token == "alice" || m.Token == "bob" {
		return nil
	}
	return pim.Errorf(pim.KindUnauthorized, "the token is malformed")
}

// waits returns the next event that says why there is no connection.
func (d *device) waits() client.StateEvent {
	d.t.Helper()
	limit := time.After(time.Hour) // of virtual time, mostly
	for {
		select {
		case ev := <-d.Events():
			if ev, ok := ev.(client.StateEvent); ok && (ev.State == client.Waiting || ev.State == client.Stopped) {
				return ev
			}
		case <-limit:
			d.t.Fatal("there is a connection, or nothing is said")
		}
	}
}

// If the token is bogus, the app is told, and its messages wait in the outbox. When the
// app has a good token, they go out: by themselves, or at once with Reconnect.
func TestBogusToken(t *testing.T) {
	for _, reconnects := range []bool{false, true} {
		inBubble(t, func(t *testing.T, p *piped, o client.Options) {
			p.server.Admit = onlyUser
			var good atomic.Bool
			var asked atomic.Int32
			o.Token = func(context.Context) (string, error) {
				asked.Add(1)
				if good.Load() {
					return "alice", nil
				}
				return "bogus", nil
			}
			c, err := client.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			alice := &device{Client: c, t: t, user: "alice"}
			for range 8 {
				if ev := alice.waits(); ev.State != client.Waiting || pim.KindOf(ev.Err) != pim.KindUnauthorized || !strings.Contains(ev.Err.Error(), "malformed") {
					t.Fatalf("told %+v", ev)
				}
			}
			if n := asked.Load(); n != 8 {
				t.Errorf("the app was asked %d times for 8 attempts", n)
			}
			sending := alice.sends(chat, "hi")
			if list, err := alice.Outbox(t.Context()); err != nil || len(list) != 1 {
				t.Errorf("outbox %v, %v", list, err)
			}
			good.Store(true)
			begun := time.Now()
			if reconnects {
				time.Sleep(2 * time.Second)
				if err := alice.Reconnect(); err != nil {
					t.Fatal(err)
				}
			}
			alice.sent(sending, nil)
			if took := time.Since(begun); took > 5*time.Minute || reconnects && took > 3*time.Second {
				t.Errorf("sent after %v", took)
			}
			for alice.State() != client.Connected {
				synctest.Wait()
			}
		})
	}
}

// However Options.Token fails, the app is told in time why there is no connection, and is
// asked again.
func TestTokenIsNotToBeHad(t *testing.T) {
	for name, test := range map[string]struct {
		token func(context.Context) (string, error)
		kind  pim.Kind
		text  string
		asks  int // within 10 minutes
	}{
		"fails":   {func(context.Context) (string, error) { return "", errors.New("no session") }, pim.KindUnavailable, "no token: no session", 60},
		"refuses": {func(context.Context) (string, error) { return "", pim.Errorf(pim.KindUnauthorized, "signed out") }, pim.KindUnauthorized, "no token: signed out", 25},
		"hangs":   {func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }, pim.KindTimeout, "did not return one within 10s", 90},
		"is deaf": {func(ctx context.Context) (string, error) { time.Sleep(7 * time.Minute); return "", nil }, pim.KindTimeout, "did not return one within 10s", 3},
		"empty":   {func(context.Context) (string, error) { return "", nil }, pim.KindUnauthorized, "an empty token", 25},
		"long":    {func(context.Context) (string, error) { return strings.Repeat("x", 8193), nil }, pim.KindUnauthorized, "8193 bytes", 25},
		"bytes":   {func(context.Context) (string, error) { return "a\xff", nil }, pim.KindUnauthorized, "not UTF-8", 25},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *piped, o client.Options) {
				var asked atomic.Int32
				o.Token = func(ctx context.Context) (string, error) {
					asked.Add(1)
					return test.token(ctx)
				}
				c, err := client.Open(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				alice := &device{Client: c, t: t, user: "alice"}
				begun := time.Now()
				for n := 0; time.Since(begun) < 10*time.Minute; n++ {
					ev := alice.waits()
					if ev.State != client.Waiting || pim.KindOf(ev.Err) != test.kind || !strings.Contains(ev.Err.Error(), test.text) {
						t.Fatalf("told %+v", ev)
					}
					if n == 0 && time.Since(begun) > 15*time.Second {
						t.Errorf("told after %v", time.Since(begun))
					}
				}
				if n := int(asked.Load()); n == 0 || n > test.asks {
					t.Errorf("asked %d times in %v", n, time.Since(begun))
				}
				if p.dials.Load() != 0 {
					t.Error("a connection without a token")
				}
			})
		})
	}
}

// A client that has stopped tells every caller why, still queues messages, and goes on
// after Reconnect.
func TestReconnectAfterStop(t *testing.T) {
	w := newWorld(t)
	alice := w.device("alice")
	alice.synced()
	for ended := false; !ended; { // the first time, a late Hello of the device itself may be the reason
		alice.synced()
		w.on.Tell(&wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced), Text: "another connection"})
		ended = alice.waits().State == client.Stopped
	}
	sending := alice.sends(chat, "hi")
	for name, err := range map[string]error{
		"wait":            func() error { _, err := sending.Wait(t.Context()); return err }(),
		"synced":          alice.Synced(t.Context()),
		"pull":            func() error { _, err := alice.Pull(t.Context(), chat, 0, 0, 0, false); return err }(),
		"online":          alice.SetOnline(true),
		"offline":         alice.SetOnline(false),
		"network changed": alice.NetworkChanged("wifi"),
	} {
		if pim.KindOf(err) != pim.KindReplaced {
			t.Errorf("%s after the stop: %v", name, err)
		}
	}
	if list, err := alice.Outbox(t.Context()); err != nil || len(list) == 0 {
		t.Errorf("outbox %v, %v", list, err)
	}
	if err := alice.Reconnect(); err != nil {
		t.Fatal(err)
	}
	if got := alice.sent(sending, nil); got.Seq != 1 {
		t.Errorf("sent as %+v", got)
	}
	alice.synced()
	if err := alice.SetOnline(false); err != nil || alice.Reconnect() != nil || alice.State() != client.Offline {
		t.Errorf("offline: %v, %s", err, alice.State())
	}
}

// If a server names gateways that are not encrypted, the client does not take the token
// there.
func TestAlternativeInTheClear(t *testing.T) {
	w := newWorld(t)
	var elsewhere, asked atomic.Int32
	o := w.options("alice", "phone")
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasPrefix(address, "127.0.0.1:") {
			elsewhere.Add(1)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	token := o.Token
	o.Token = func(ctx context.Context) (string, error) {
		asked.Add(1)
		return token(ctx)
	}
	alice := w.opens(o)
	alice.synced()
	w.on.Tell(&wirepb.PIMGoAway{Code: uint32(wire.CodeShutdown), Reconnect: true, WindowMs: 1, Alternatives: []string{"ws://192.0.2.1:1", "tcp://192.0.2.1:2"}})
	alice.waits()
	for alice.State() != client.Connected {
		next[client.StateEvent](alice)
	}
	if elsewhere.Load() != 0 || asked.Load() != 2 {
		t.Errorf("dialled elsewhere %d times, asked for %d tokens", elsewhere.Load(), asked.Load())
	}
}
