package gateway

import (
	"context"
	"math"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/wire"
)

// Access knows whose tokens were revoked, and keeps when devices were here; see access.Book.
type Access interface {
	Standing(ctx context.Context, user pim.UserID) (*access.Standing, error)
	Note(user pim.UserID, device pim.DeviceID, at pim.Millis)
}

// freely is the Access of a gateway that has none: nothing is revoked.
type freely struct{}

func (freely) Standing(context.Context, pim.UserID) (*access.Standing, error) { return nil, nil }
func (freely) Note(pim.UserID, pim.DeviceID, pim.Millis)                      {}

// lasts returns the second in which a token ends that ends at t, and math.MaxUint32, in the year
// 2106, for later ones: no connection lasts that long.
func lasts(t time.Time) uint32 {
	return uint32(min(max((t.UnixMilli()+999)/1000, 1), math.MaxUint32))
}

// admitted notes what the connection needs to know of its token, and refuses one that was revoked. It
// returns the count of acts by which unrevoked finds out whether it must look again.
func (c *conn) admitted(ctx context.Context, claims *account.Claims) (acts uint64, err error) {
	if !claims.Issued.IsZero() {
		c.issued = uint32(min(max(claims.Issued.Unix(), 0), math.MaxUint32))
	}
	acts = c.gw.Sessions.acts.Load()
	standing, err := c.gw.Access.Standing(ctx, c.user)
	if err != nil {
		return acts, err
	}
	if err := standing.Refuses(c.token(access.HashOf(claims.ID))); err != nil {
		c.gw.Metrics.revoked.Inc()
		return acts, err
	}
	return acts, nil
}

// token returns what decides whether the connection's token was revoked. id is that of its jti.
func (c *conn) token(id uint64) access.Token {
	return access.Token{Device: c.device, ID: id, Issued: pim.Millis(c.issued) * 1000}
}

// unrevoked ends c, which is among the Sessions, if its token was revoked while it logged in. acts is
// what admitted returned: an act that came to this node before that was seen by admitted, and one that
// comes from now on finds c.
func (c *conn) unrevoked(ctx context.Context, acts uint64) {
	if c.gw.Sessions.acts.Load() == acts {
		return
	}
	standing, err := c.gw.Access.Standing(ctx, c.user)
	if err != nil {
		c.shut(wire.CodeUnavailable, "it is not known whether the token was revoked")
		return
	}
	c.gw.Sessions.Revoked(c.user, standing)
}

// Revoked ends the connections of user whose tokens standing refuses. Logins that are under way look
// again before they are done. It returns how many connections it has ended.
func (s *Sessions) Revoked(user pim.UserID, standing *access.Standing) (ended int) {
	s.acts.Add(1) // before the connections are looked for
	for _, c := range s.of(user) {
		if err := standing.Refuses(c.token(s.tokenOf(c))); err != nil {
			c.expel(err)
			ended++
		}
	}
	return ended
}

// Has reports whether user has a connection here.
func (s *Sessions) Has(user pim.UserID) bool { return len(s.of(user)) > 0 }

// EachDevice calls f with all devices that are connected here. It holds no lock when it calls f.
func (s *Sessions) EachDevice(f func(pim.UserID, pim.DeviceID)) {
	s.each(func(c *conn) { f(c.user, c.device) })
}

// expel ends the connection because its token was revoked, and says so.
func (c *conn) expel(why error) {
	c.gw.Metrics.revoked.Inc()
	c.leaveWith(wire.ErrorFrame(why), wire.CodeUnauthorized, why.(*pim.Error).Text, 0, nil)
}

// identify keeps the ID of c's token, as long as c is among the Sessions. Few tokens have one, so it has
// no place in conn.
func (s *Sessions) identify(c *conn, id uint64) {
	if id == 0 {
		return
	}
	sh := s.shard(c.user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.tokens == nil {
		sh.tokens = make(map[*conn]uint64)
	}
	sh.tokens[c] = id
}

// tokenOf returns what identify was given for c; 0: nothing.
func (s *Sessions) tokenOf(c *conn) uint64 {
	sh := s.shard(c.user)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.tokens[c]
}
