package gateway

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// accessLab is a Book that calls looked, if that is not nil, when a login has looked.
type accessLab struct {
	*access.Book
	mu     sync.Mutex
	looked func()
}

func (a *accessLab) Standing(ctx context.Context, user pim.UserID) (*access.Standing, error) {
	s, err := a.Book.Standing(ctx, user)
	a.mu.Lock()
	f := a.looked
	a.looked = nil
	a.mu.Unlock()
	if f != nil {
		f()
	}
	return s, err
}

func newAccessLab(t *testing.T) (*lab, *accessLab) {
	a := &accessLab{Book: access.New(storetest.NewMemory())}
	return newLabWith(t, nil, func(_ *lab, o *Options) { o.Access = a }), a
}

// does carries out an act and tells the gateway, as the server would.
func (a *accessLab) does(t *testing.T, x *lab, act access.Act) (ended int) {
	t.Helper()
	act.At = max(act.At, pim.MillisOf(x.now()))
	if !act.Block && !act.Unblock && act.Token == "" && act.Before == 0 {
		act.Before = act.At
	}
	if err := a.Do(t.Context(), act); err != nil {
		t.Error(err)
	}
	s, err := a.Book.Standing(t.Context(), act.User)
	if err != nil {
		t.Error(err)
	}
	return x.gw.Sessions.Revoked(act.User, s)
}

// revoked expects that the connection is told why it ends.
func (p *peer) revoked() {
	p.t.Helper()
	if m := expect[*wirepb.PIMError](p); m.Kind != wirepb.ErrorKind_ERROR_KIND_REVOKED || m.Retryable {
		p.t.Errorf("the connection is told %v", m)
	}
	p.closedWith(wire.CodeUnauthorized)
}

// An act ends the connections that it is about, with the reason, and no others; and refuses their tokens
// at the next login.
func TestRevoked(t *testing.T) {
	for _, test := range []struct {
		name  string
		act   access.Act
		ended []string // of phone, which has the token "one", and laptop, which has "two"
	}{
		{"a user", access.Act{User: "alice"}, []string{"phone", "laptop"}},
		{"a device", access.Act{User: "alice", Device: "phone"}, []string{"phone"}},
		{"a token", access.Act{User: "alice", Token: "one"}, []string{"phone"}},
		{"blocked", access.Act{User: "alice", Block: true}, []string{"phone", "laptop"}},
		{"another user", access.Act{User: "bob"}, nil},
		{"another token", access.Act{User: "alice", Token: "three"}, nil},
		{"older tokens", access.Act{User: "alice", Before: 1_000}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			x, a := newAccessLab(t)
			x.ids = map[string]string{"phone": "one", "laptop": "two"}
			peers := map[string]*peer{}
			for device := range x.ids {
				peers[device] = x.connect(false, "alice/"+device, device)
			}
			if ended := a.does(t, x, test.act); ended != len(test.ended) {
				t.Errorf("%d connections are ended, not %v", ended, test.ended)
			}
			for _, device := range test.ended {
				peers[device].revoked()
				delete(peers, device)
				p := x.dial(false)
				p.send(&wirepb.Hello{Version: wire.Version, Token: "alice/" + device, Device: device})
				p.revoked()
			}
			for _, p := range peers {
				p.send(&wirepb.PIMPing{Nonce: 1})
				expect[*wirepb.PIMPong](p)
			}
		})
	}
}

// A token is revoked while a login with it is under way, after the login has looked.
func TestRevokedDuringALogin(t *testing.T) {
	for _, act := range []access.Act{{User: "alice"}, {User: "alice", Token: "one"}} {
		x, a := newAccessLab(t)
		x.ids = map[string]string{"phone": "one"}
		a.looked = func() { a.does(t, x, act) }
		p := x.dial(false)
		p.send(&wirepb.Hello{Version: wire.Version, Token: "alice/phone", Device: "phone"})
		expect[*wirepb.Welcome](p)
		p.revoked()
	}
}

// What is kept of a token's ID goes with the connection.
func TestTokensOfConnectionsAreForgotten(t *testing.T) {
	x, _ := newAccessLab(t)
	x.ids = map[string]string{"phone": "one"}
	tokens := func() int {
		sh := x.gw.Sessions.shard("alice")
		sh.mu.RLock()
		defer sh.mu.RUnlock()
		return len(sh.tokens)
	}
	p := x.connect(false, "alice/phone", "phone")
	if n := tokens(); n != 1 {
		t.Errorf("%d tokens", n)
	}
	p.nc.Close()
	x.eventually("the connection is gone", func() bool { return x.gw.Open() == 0 })
	if n := tokens(); n != 0 {
		t.Errorf("%d tokens", n)
	}
}

// counting is a Verifier that counts what it judges.
type counting struct {
	Verifier
	judged atomic.Int64
}

func (v *counting) Verify(token string, now time.Time) (account.Claims, error) {
	v.judged.Add(1)
	return v.Verifier.Verify(token, now)
}

// A connection has one try: whoever guesses tokens needs a new connection for each, and these have rates.
func TestAConnectionShowsOneToken(t *testing.T) {
	v := &counting{}
	x := newLabWith(t, nil, func(x *lab, o *Options) { v.Verifier, o.Verifier = x, v })
	p := x.dial(false)
	guesses := make([]wire.Message, 100)
	for i := range guesses {
		guesses[i] = &wirepb.Hello{Version: wire.Version, Token: "bad" + strconv.Itoa(i), Device: "phone"}
	}
	p.send(guesses...)
	p.closedWith(wire.CodeUnauthorized)
	if n := v.judged.Load(); n != 1 {
		t.Errorf("%d tokens were judged", n)
	}
}
