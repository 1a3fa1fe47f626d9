package server

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/bus"
)

// Revoke says what of a user's access is to be revoked, or that the user is to be blocked or unblocked.
// The names in JSON are stable.
type Revoke struct {
	User   pim.UserID   `json:"user"`
	Device pim.DeviceID `json:"device,omitempty"` // only what comes with this device
	Token  string       `json:"token,omitempty"`  // only the token with this jti
	// Before says which tokens: those that were issued before, in ms since 1970; 0: before now. It
	// means nothing with Token.
	Before pim.Millis `json:"before_ms,omitempty"`

	Block   bool `json:"block,omitempty"`
	Unblock bool `json:"unblock,omitempty"`
}

// act names r in the audit log.
func (r *Revoke) act() string {
	switch {
	case r.Block:
		return "block"
	case r.Unblock:
		return "unblock"
	}
	return "revoke"
}

// check returns why r can't be done whatever time it is.
func (r *Revoke) check() error {
	a := r.asAct(1 << 62)
	return a.Check()
}

// asAct returns r as it is done at the time at.
func (r *Revoke) asAct(at pim.Millis) access.Act {
	before := r.Before
	if before == 0 {
		before = at
	}
	return access.Act{User: r.User, At: at, Device: r.Device, Token: r.Token, Before: before, Block: r.Block, Unblock: r.Unblock}
}

// Revoked is what has become of a Revoke. It is in force for all logins, on all nodes. The names in JSON are
// stable.
type Revoked struct {
	At    pim.Millis `json:"at_ms"`
	Ended int        `json:"ended"` // connections that were ended
	// Missed are nodes that have not answered. They end connections when they read what was done
	// in the store, within recheckEvery if they reach that.
	Missed []string `json:"missed"`
}

// Standing is what was done about a user's access, all together. The names in JSON are stable.
type Standing struct {
	User    pim.UserID                  `json:"user"`
	Blocked bool                        `json:"blocked"`
	Before  pim.Millis                  `json:"before_ms,omitempty"`
	Devices map[pim.DeviceID]pim.Millis `json:"devices,omitempty"`
	Tokens  []string                    `json:"tokens,omitempty"`
}

// standingOrder is the body of POST /standing.
type standingOrder struct {
	User pim.UserID `json:"user"`
}

const (
	// toldWithin is how long other nodes are waited for.
	toldWithin = 2 * time.Second
	// toldAtOnce is how many nodes are asked at the same time.
	toldAtOnce = 32
	// recheckEvery is how often a node reads what was revoked lately, in case that the bus has lost it.
	recheckEvery = 10 * time.Second
	// recheckWithin bounds one reading.
	recheckWithin = time.Minute
	// flushEvery is how often it is stored when devices came.
	flushEvery = 10 * time.Second
)

// revoke does what r says: first in the store, and then on all nodes.
func (s *Server) revoke(ctx context.Context, r Revoke) (Revoked, error) {
	act := r.asAct(pim.MillisOf(s.clock.Relied()))
	if err := s.book.Do(ctx, act); err != nil {
		return Revoked{}, err
	}
	done := Revoked{At: act.At, Missed: []string{}}
	var mu sync.Mutex
	note := func(node string, ended int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if done.Ended += ended; err != nil {
			done.Missed = append(done.Missed, node)
			s.log.Warn("a node was not told what is revoked, and will read it", "node", node, "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, toldWithin)
	defer cancel()
	ended, err := s.heed(ctx, r.User)
	note(s.config.NodeName(), ended, err)
	if s.cluster == nil {
		return done, nil
	}
	b := s.cluster.bus
	free := make(chan struct{}, toldAtOnce)
	var told sync.WaitGroup
	for _, n := range b.View().Nodes {
		if n.Name == b.Self() || !n.Roles.Has(bus.RoleGateway) {
			continue
		}
		told.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			var a revokedAnswer
			_, err := askStatusOf(ctx, b, s.clock.Now, n.Name, statusRequest{Want: wantHeed, User: r.User}, &a)
			note(n.Name, a.Ended, err)
		})
	}
	told.Wait()
	slices.Sort(done.Missed)
	return done, nil
}

// heed ends the connections of user on this node whose tokens were revoked.
func (s *Server) heed(ctx context.Context, user pim.UserID) (ended int, err error) {
	sessions := s.gateway.Sessions
	if !sessions.Has(user) {
		return sessions.Revoked(user, nil), nil // logins under way look again
	}
	standing, err := s.book.Standing(ctx, user)
	if err != nil {
		return 0, err
	}
	return sessions.Revoked(user, standing), nil
}

// rechecker has a node heed what the bus has not told it.
type rechecker struct {
	server *Server
	newest pim.Millis    // of the acts that are heeded
	read   time.Duration // when the journal was read last, by the clock's Mono
}

// keepAccess heeds what was revoked without this node hearing of it, and stores when devices came, until stop
// is closed.
func (s *Server) keepAccess(stop <-chan struct{}) {
	recheck, flush, walk := time.NewTicker(recheckEvery), time.NewTicker(flushEvery), time.NewTicker(time.Duration(access.UsedEvery)*time.Millisecond)
	defer recheck.Stop()
	defer flush.Stop()
	defer walk.Stop()
	ctx := context.Background() // each step is bounded
	r := rechecker{server: s, newest: pim.MillisOf(s.clock.Relied()), read: s.clock.Mono()}
	for {
		select {
		case <-recheck.C:
			if s.cluster != nil {
				r.look(ctx, stop)
			}
		case <-flush.C:
			s.flushDevices(ctx)
		case <-walk.C:
			s.noteDevices(ctx)
		case <-stop:
			return // the last Flush comes when all connections are gone
		}
	}
}

// endAccess waits for keepAccess, and stores when the last devices have gone.
func (s *Server) endAccess() {
	s.keeping.Wait()
	s.flushDevices(context.Background())
}

func (s *Server) flushDevices(ctx context.Context) {
	if err := s.book.Flush(ctx); err != nil {
		s.log.Warn("when devices came is not stored", "error", err)
	}
}

// noteDevices notes that those are here that are connected, and stores that bit by bit.
func (s *Server) noteDevices(ctx context.Context) {
	at, n := pim.MillisOf(s.clock.Relied()), 0
	s.gateway.Sessions.EachDevice(func(user pim.UserID, device pim.DeviceID) {
		s.book.Note(user, device, at)
		if n++; n%1024 == 0 {
			s.flushDevices(ctx)
		}
	})
	s.flushDevices(ctx)
}

// look heeds what was done since it was called last. If that is too long ago for the journal, it
// looks at all users who are connected. It breaks off when stop is closed.
func (r *rechecker) look(ctx context.Context, stop <-chan struct{}) {
	s := r.server
	bounded := func(f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, recheckWithin)
		defer cancel()
		return f(ctx)
	}
	began := s.clock.Mono()
	users := make(map[pim.UserID]struct{})
	newest := r.newest
	err := bounded(func(ctx context.Context) (err error) {
		newest, err = s.book.Lately(ctx, r.newest, func(u pim.UserID) {
			if s.gateway.Sessions.Has(u) {
				users[u] = struct{}{}
			}
		})
		return err
	})
	if err == nil && began-r.read > access.Kept/2 {
		s.gateway.Sessions.EachDevice(func(u pim.UserID, _ pim.DeviceID) { users[u] = struct{}{} })
	}
	ended := 0
	for u := range users {
		select {
		case <-stop:
			return
		default:
		}
		err = cmp.Or(err, bounded(func(ctx context.Context) error {
			n, err := s.heed(ctx, u)
			ended += n
			return err
		}))
	}
	if ended > 0 {
		s.log.Warn("connections are ended whose tokens were revoked without this node hearing of it", "connections", ended)
	}
	if err != nil {
		s.log.Warn("what was revoked lately cannot be read", "error", err)
		return
	}
	r.newest, r.read = newest, began
	err = bounded(func(ctx context.Context) error { return s.book.Forget(ctx, pim.MillisOf(s.clock.Relied())) })
	if err != nil {
		s.log.Debug("the journal of what was revoked is not cut", "error", err)
	}
}

// standing returns what was done about user's access.
func (s *Server) standing(ctx context.Context, user pim.UserID) (Standing, error) {
	out := Standing{User: user}
	if err := user.Validate(); err != nil {
		return out, err
	}
	st, err := s.book.Standing(ctx, user)
	if err != nil || st == nil {
		return out, err
	}
	out.Blocked, out.Before, out.Devices, out.Tokens = st.Blocked, st.Before, st.Devices, st.Tokens
	return out, nil
}

// RevokeAccess has the server on c.Data do what r says. Errors: KindInvalid if r can't be done,
// KindTooLarge if too many devices and tokens of the user are revoked one by one, KindUnavailable if no
// server runs there or the store fails, KindUnsupported if the server is of an earlier version, and ctx's.
func RevokeAccess(ctx context.Context, c Config, r Revoke) (Revoked, error) {
	var done Revoked
	err := c.order(ctx, "revoke", r, &done)
	return done, running(err, c)
}

// AccessOf asks the server on c.Data what was done about user's access. Errors: those of RevokeAccess.
func AccessOf(ctx context.Context, c Config, user pim.UserID) (Standing, error) {
	var st Standing
	err := c.order(ctx, "standing", standingOrder{user}, &st)
	return st, running(err, c)
}
