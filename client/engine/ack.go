package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim/wire/wirepb"
)

const (
	ackEvery = 200 * time.Millisecond // between acknowledgements, at least
	ackFrame = 1000                   // conversations and fronts in one frame, at most
)

// acks are the positions that the server does not know of yet. They are
// cumulative and promise nothing, so they are coalesced. A lost acknowledgement only
// makes the next sync list a conversation more than it must.
type acks struct {
	fx  *effects
	off bool // with Config.Watch and Config.Peek nothing is acknowledged

	dirty  []*conversation
	fronts []*wirepb.Front // that are dropped, see Engine.toldFronts
	sentAt time.Duration   // the last PIMPushAck
	due    time.Duration   // the next one, if dirty is not empty
}

// later puts c's position into the next PIMPushAck, if that is news to the server.
func (a *acks) later(c *conversation) {
	if c.ackDirty || a.off || c.doubt != nil || c.ackable() <= c.acked {
		return
	}
	a.begin()
	c.ackDirty = true
	a.dirty = append(a.dirty, c)
}

// begin sets when the next PIMPushAck is due, if nothing waits for it yet.
func (a *acks) begin() {
	if !a.wait() {
		a.due = a.fx.now.Mono + ackEvery
	}
}

// wait reports whether something waits for the next PIMPushAck.
func (a *acks) wait() bool { return len(a.dirty)+len(a.fronts) > 0 }

// front puts f into the next PIMPushAck: what is before it is stored no more when the Output of
// this step is stored.
func (a *acks) front(f *wirepb.Front) {
	if !a.off {
		a.begin()
		a.fronts = append(a.fronts, f)
	}
}

// remove takes c's position out of the next PIMPushAck.
func (a *acks) remove(c *conversation) {
	if c.ackDirty {
		c.ackDirty = false
		a.dirty = slices.DeleteFunc(a.dirty, func(other *conversation) bool { return other == c })
	}
}

// send transmits what is due: when ackEvery is over, or at once if other frames are
// transmitted anyway and the last PIMPushAck was ackEvery ago, or if now is true. The
// serial is stored with the same output, so before it is transmitted.
func (a *acks) send(now bool) {
	if !a.wait() {
		return
	}
	fx := a.fx
	now = now || fx.now.Mono >= a.due
	now = now || len(fx.out.Frames) > 0 && fx.now.Mono >= a.sentAt+ackEvery
	if !now {
		return
	}
	for a.wait() {
		n := min(len(a.dirty), ackFrame)
		fronts := min(len(a.fronts), ackFrame-n)
		fx.meta.AckSerial++
		m := &wirepb.PIMPushAck{Serial: fx.meta.AckSerial, Acks: make([]*wirepb.Ack, n)}
		if fronts > 0 {
			m.Fronts = a.fronts[:fronts:fronts]
		}
		a.fronts = a.fronts[fronts:]
		for i, c := range a.dirty[:n] {
			m.Acks[i] = &wirepb.Ack{Conversation: string(c.id), Seq: uint64(c.ackable())}
			c.ackDirty, c.acked = false, c.ackable()
		}
		a.dirty = a.dirty[n:]
		fx.write(m)
	}
	a.dirty, a.fronts, a.sentAt, fx.metaDirty = nil, nil, fx.now.Mono, true
}

// deadline returns when the next PIMPushAck is due.
func (a *acks) deadline() time.Duration {
	if !a.wait() {
		return never
	}
	return a.due
}
