package gateway

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// send decides which of lookers are sent their frames: those whose last one was another. A looker
// whose frame is nil is told nothing, and looks no more.
func (l *looks) send(s *subject, lookers []*conn, frame func(*conn) ([]byte, uint64)) (sent []*conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range lookers {
		last, looks := s.lookers[c]
		if !looks {
			continue
		}
		b, hash := frame(c)
		switch {
		case b == nil:
			k := l.looking[c]
			k.ids = slices.DeleteFunc(k.ids, func(id pim.ConversationID) bool { return id == s.id })
			l.leave(c, s.id)
		case hash != last:
			s.lookers[c] = hash
			sent = append(sent, c)
		}
	}
	return sent
}

// forget notes that c was not sent the frame that send had decided on.
func (l *looks) forget(s *subject, c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, looks := s.lookers[c]; looks {
		s.lookers[c] = 0
	}
}

// changed notes that what others have read of a conversation may have changed.
func (s *Sessions) changed(id pim.ConversationID) {
	if s.looks.change(id) {
		g := s.gateway.Load()
		g.start(func() { s.looks.work(g.ctx, g.tellReceipts) })
	}
}

// Acknowledged notes that an acknowledgement of a conversation was stored.
func (s *Sessions) Acknowledged(id pim.ConversationID) {
	if _, _, direct := id.DirectUsers(); direct {
		s.changed(id)
	}
}

// published notes whose receipts p may have changed: those of the conversation, and those of the
// ones that a user has read.
func (s *Sessions) published(p *conv.Published) {
	if s.looks.some.Load() == 0 {
		return
	}
	if _, own := p.Conversation.OwnUser(); !own {
		s.changed(p.Conversation)
	}
	for _, id := range p.Read {
		s.changed(id)
	}
}

// tellReceipts sends the receipts of a conversation to those of its lookers for whom something is
// new. One whose connection is slow is left out: the next change tells it.
func (g *Gateway) tellReceipts(s *subject, lookers []*conn) {
	looks := &g.Sessions.looks
	users := usersOf(lookers)
	told, err := g.Reader.Live(g.ctx, s.id, users, &s.screen)
	if err != nil {
		if g.ctx.Err() == nil {
			g.Metrics.dropLook.Inc()
			g.Logger.Warn("the receipts of a conversation cannot be read now", "conversation", s.id, "err", err)
			g.Sessions.changed(s.id) // and so they are told later
		}
		return
	}
	frames := encodeLive(s.id, told)
	seed := g.Sessions.seed
	var touched []*conn
	for _, c := range looks.send(s, lookers, func(c *conn) ([]byte, uint64) {
		i, _ := slices.BinarySearch(users, c.user)
		return frames[i], maphash.Bytes(seed, frames[i]) | 1
	}) {
		e, ok := c.begin(commands)
		if !ok {
			continue
		}
		if c.waiting(commands)+c.waiting(entries) > lookUnsent {
			e.drop()
			g.Metrics.dropLook.Inc()
			looks.forget(s, c)
			continue
		}
		i, _ := slices.BinarySearch(users, c.user)
		e.copy(frames[i])
		if e.end() {
			touched = append(touched, c)
		}
	}
	if len(touched) > 0 {
		var d direct
		d.start(touched)
	}
}

// encodeLive returns the frame of each of told, nil for nil. Users who are told the same share one.
func encodeLive(id pim.ConversationID, told []*inbox.Receipts) [][]byte {
	frames := make([][]byte, len(told))
	shared := -1 // the last one that was encoded
	for i, r := range told {
		switch {
		case r == nil:
		case shared >= 0 && len(r.Messages) > 0 && len(r.Messages) == len(told[shared].Messages) && &r.Messages[0] == &told[shared].Messages[0]:
			frames[i] = frames[shared]
		default:
			frames[i] = wire.Append(nil, &wirepb.PIMReceipt{
				Conversation: string(id), Delivered: uint64(r.Delivered), Read: uint64(r.Read), ReadMs: int64(r.ReadAt),
				Receipts: receiptsOf(r.Messages),
			})
			shared = i
		}
	}
	return frames
}

// handleLook notes what is on the device's screen. It leaves out conversations that by their IDs
// cannot be the user's. Whether the user is a member is judged when there is something to be told.
// If a PIMLook comes less than lookPause after another, nothing is read from the connection for so
// long, so that a client which sends many of them keeps nobody else from the looks.
func (c *conn) handleLook(m *wirepb.PIMLook) {
	var ids []pim.ConversationID
	for _, name := range m.Conversations {
		id := pim.ConversationID(name)
		_, own := id.OwnUser()
		if len(name) > maxNamed || own || id.Validate() != nil || id.Excludes(c.user) || slices.Contains(ids, id) {
			continue
		}
		if ids = append(ids, id); len(ids) == maxLooks {
			break
		}
	}
	if before := c.gw.Sessions.looks.set(c, ids); time.Since(before) < lookPause {
		select {
		case <-time.After(lookPause):
		case <-c.gw.ctx.Done():
		}
	}
}
