package engine

import (
	"time"

	"github.com/pim-im/pim/wire/wirepb"
)

const (
	ackEvery = 200 * time.Millisecond // between acknowledgements, at least
	ackFrame = 1000                   // conversations in one frame, at most
)

// acks are the positions that the server does not know of yet. They are
// cumulative and promise nothing, so they are coalesced. A lost acknowledgement only
// makes the next sync list a conversation more than it must.
type acks struct {
	dirty  []*conversation
	sentAt time.Duration // the last PIMPushAck
	due    time.Duration // the next one, if dirty is not empty
}

// ackLater puts c's position into the next PIMPushAck, if that is news to the server.
func (e *Engine) ackLater(c *conversation) {
	if c.ackDirty || e.cfg.Watch || c.doubt != nil || c.ackable() <= c.acked {
		return
	}
	if len(e.acks.dirty) == 0 {
		e.acks.due = e.now.Mono + ackEvery
	}
	c.ackDirty = true
	e.acks.dirty = append(e.acks.dirty, c)
}

// acknowledge transmits what is due: when ackEvery is over, or at once if other frames
// are transmitted anyway and the last PIMPushAck was ackEvery ago, or if now is true. The
// serial is stored with the same output, so before it is transmitted.
func (e *Engine) acknowledge(now bool) {
	if len(e.acks.dirty) == 0 {
		return
	}
	now = now || e.now.Mono >= e.acks.due
	now = now || len(e.out.Frames) > 0 && e.now.Mono >= e.acks.sentAt+ackEvery
	if !now {
		return
	}
	for len(e.acks.dirty) > 0 {
		n := min(len(e.acks.dirty), ackFrame)
		e.meta.AckSerial++
		m := &wirepb.PIMPushAck{Serial: e.meta.AckSerial, Acks: make([]*wirepb.Ack, n)}
		for i, c := range e.acks.dirty[:n] {
			m.Acks[i] = &wirepb.Ack{Conversation: string(c.id), Seq: uint64(c.ackable())}
			c.ackDirty, c.acked = false, c.ackable()
		}
		e.acks.dirty = e.acks.dirty[n:]
		e.write(m)
	}
	e.acks.dirty, e.metaDirty, e.acks.sentAt = nil, true, e.now.Mono
}

func (e *Engine) acksDeadline(at *time.Duration) {
	if len(e.acks.dirty) > 0 {
		*at = min(*at, e.acks.due)
	}
}
