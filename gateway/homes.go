package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// Homes hear of the connections of this gateway, where pim has several nodes: they have pushes of
// other nodes sent here, and see to it that a device has one connection on all nodes together. All
// methods may be called concurrently.
type Homes interface {
	// Join is called in the handshake, before anything is read of the device. When it returns nil, an
	// older connection of the device on another node has been replaced, and its acknowledgements
	// are stored, unless that takes too long. The error is ErrReplaced if a newer connection of the
	// device is there already, and otherwise a *pim.Error that refuses the connection. From a
	// Join that did not fail until Leave, the Homes hold the connection.
	Join(ctx context.Context, c Connection) error

	// Stays is called once the connection is among the Sessions. It returns false if the connection
	// was replaced since Join, when Sessions.Replace could not find it yet.
	Stays(c Connection) bool

	// Leave is called when the connection has gone, also if Join failed or was not called.
	Leave(c Connection)

	// Look says that connections of this gateway look at a subject, or that none does any more. What is
	// told of the subject comes through Sessions.Hint. Look must not wait, nor call the Sessions.
	Look(id pim.ConversationID, looks bool)

	// Changed says that what is known of a subject may have changed, on any node. It does not wait.
	Changed(id pim.ConversationID)

	// Types says that user writes in a conversation. It does not wait. What is dropped is told to
	// Sessions.DropTyping.
	Types(user pim.UserID, id pim.ConversationID)
}

// Connection is a connection as Homes know it.
type Connection struct {
	User   pim.UserID
	Device pim.DeviceID
	ID     uint64        // tells it from others of this gateway, in the order in which they were opened
	Age    time.Duration // since it was opened; set for Join only
	Seen   pim.Millis    // set for Leave only, if it was the user's last one here: when the user was seen, as is told; 0: nobody is told
}

// ErrReplaced ends the handshake of a connection whose device has a newer one on another node.
var ErrReplaced = errors.New("the same device connected again")

// connection returns c as Homes know it.
func (c *conn) connection(age time.Duration) Connection {
	return Connection{User: c.user, Device: c.device, ID: c.id, Age: age}
}

// Replace ends the connection of a device that has that ID, because the device has connected to another
// node. When Replace returns, no send of the connection can reach a writer any more, and what the device has
// acknowledged here is stored, or ctx has ended. found is false if there is no such connection among
// the Sessions: it is gone, or its handshake has not ended.
func (s *Sessions) Replace(ctx context.Context, user pim.UserID, device pim.DeviceID, id uint64) (found bool) {
	c := s.release(user, id)
	if c != nil {
		c.shut(wire.CodeReplaced, "the same device connected to another node")
		c.awaitSubmit()
	}
	if g := s.gateway.Load(); g != nil {
		g.Acks.Settle(ctx, user, device)
	}
	return c != nil
}

// release takes the connection with that ID out of those that get pushes, as add does with one that
// is replaced; nil if there is none.
func (s *Sessions) release(user pim.UserID, id uint64) *conn {
	sh := s.shard(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	conns := sh.users[user]
	i := slices.IndexFunc(conns, func(c *conn) bool { return c.id == id })
	if i < 0 {
		return nil
	}
	c := conns[i]
	sh.leaving[c] = struct{}{}
	if len(conns) == 1 {
		delete(sh.users, user)
	} else {
		sh.users[user] = slices.Delete(slices.Clone(conns), i, i+1)
	}
	return c
}

// Behind has every connected device of users sync, because pushes may have been lost on their way to this
// node. What they look at is told anew. Behind returns how many connections were told to sync. A connection that is behind already is told
// soon.
func (s *Sessions) Behind(users []pim.UserID) (told int) {
	var touched []*conn
	for _, u := range users {
		for _, c := range s.of(u) {
			if s.looks.reconsider(c) {
				s.startTelling()
			}
			e, ok := c.begin(entries)
			if !ok {
				continue
			}
			if c.behind() {
				e.drop()
				continue
			}
			e.fallBehind()
			told++
			if e.end() {
				touched = append(touched, c)
			}
		}
	}
	if len(touched) > 0 {
		var d direct
		d.start(touched)
	}
	s.metrics.toldToSync.Add(float64(told))
	return told
}
