package load

import (
	"github.com/gobwas/ws"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// What a user says. u.mu is held throughout.

// fill transmits what there is room for: in the closed loop up to the window, at
// a fixed rate what is due.
func (u *user) fill() {
	if !u.sends || u.now < u.paused && !u.run.cfg.Insist {
		return
	}
	if u.run.cfg.Rate > 0 {
		n := 0
		for n < len(u.due) && u.room() {
			if u.due[n] >= u.run.from.Load() {
				u.run.lag.record(u.now - u.due[n])
			}
			n++
			if u.pick() {
				u.transmit()
			}
		}
		u.due = u.due[:copy(u.due, u.due[n:])]
		return
	}
	for u.room() && !u.run.stopped.Load() && u.pick() {
		u.transmit()
	}
}

// maxDue bounds the messages that wait for room at a fixed rate. Messages above that are
// skipped and counted.
const maxDue = 4096

// schedule transmits one message that was due at time at: now, or when there is room.
// Once the run is stopped it does nothing, since the drain may count what is under way.
func (u *user) schedule(at int64) {
	if u.run.stopped.Load() {
		return
	}
	if len(u.due) >= maxDue || u.run.cfg.Insist && !u.room() {
		u.skipped++
		if at >= u.run.from.Load() {
			u.skippedMeasured++
		}
		return
	}
	u.due = append(u.due, at)
	u.fill()
}

// room reports whether one more message may be in flight. A message keeps its place in
// flying until it is answered, even if many later ones are answered before. So the next
// place may be taken although few messages are in flight.
func (u *user) room() bool {
	return u.inFlight < u.limit && !u.flying[int(u.next)&(len(u.flying)-1)].open
}

// pick sets turn to the conversation that the next message goes to. Without a quota, the
// conversations take turns; with a quota, it is the first that has not got that many
// messages. pick reports whether there is such a conversation.
func (u *user) pick() bool {
	quota := u.run.quota.Load()
	if quota == 0 {
		u.turn = (u.turn + 1) % len(u.talks)
		return true
	}
	for u.turn < len(u.talks) && u.talks[u.turn].next >= uint32(quota) {
		u.turn++
	}
	return u.turn < len(u.talks)
}

// transmit appends to out one message of the conversation whose turn it is.
func (u *user) transmit() {
	talk := &u.talks[u.turn]
	t := talk.message
	var start int
	u.out, start = u.begin(u.out, len(t.frame), ws.OpBinary)
	u.out = append(u.out, t.frame...)
	frame := u.out[start:]
	ms := u.run.wall(u.now)
	putID(frame[t.id:], ms, u.run.tag, u.index, u.next)
	putLocal(frame[t.local:], ms)
	// Whether the message belongs to the measured time is decided here. The receiver would
	// decide too late: from may be set meanwhile, to an earlier time than now.
	at := int64(0)
	if u.now >= u.run.from.Load() {
		at = u.now
		u.sentMeasured++
	}
	s := stamp{run: u.run.tag, at: at, sender: u.index, counter: talk.next}
	s.put(frame[t.stamp:])
	u.end(u.out, start)

	u.flying[int(u.next)&(len(u.flying)-1)] = flight{counter: u.next, talk: int32(u.turn), open: true, at: at}
	u.next++
	talk.next++
	u.inFlight++
	u.sent++
}

// unacknowledged reports whether something has come that was not acknowledged.
func (u *user) unacknowledged() bool { return len(u.news) > 0 }

// maxAcks bounds the conversations in one PIMPushAck.
const maxAcks = 1000

// acknowledge appends PIMPushAcks for all news if must is set, or if something else is
// written anyway and the last PIMPushAck is at least tickEvery ago. The SDK does the same.
func (u *user) acknowledge(must bool) {
	if !must && (len(u.out) == 0 || u.now-u.ackedAt < int64(tickEvery)) {
		return
	}
	for len(u.news) > 0 {
		u.ackedAt = u.now
		n := min(len(u.news), maxAcks)
		u.acknowledgeTalks(u.news[:n])
		u.news = u.news[:copy(u.news, u.news[n:])]
	}
}

// acknowledgeTalks appends one PIMPushAck for the given conversations.
func (u *user) acknowledgeTalks(talks []int32) {
	u.serial++
	size := 1 + protowire.SizeTag(1) + protowire.SizeVarint(u.serial)
	for _, n := range talks {
		size += protowire.SizeTag(2) + protowire.SizeBytes(u.talks[n].ackSize())
	}
	b, start := u.begin(u.out, size, ws.OpBinary)
	b = append(b, byte(wire.TypePushAck))
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, u.serial)
	for _, n := range talks {
		t := &u.talks[n]
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(t.ackSize()))
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendString(b, string(t.conv))
		b = protowire.AppendTag(b, 2, protowire.VarintType)
		b = protowire.AppendVarint(b, t.have)
		t.acked, t.news = t.have, false
	}
	u.end(b, start)
	u.out = b
}

// ackSize returns the length in bytes of the Ack for t.have.
func (t *talk) ackSize() int {
	return protowire.SizeTag(1) + protowire.SizeBytes(len(t.conv)) + protowire.SizeTag(2) + protowire.SizeVarint(t.have)
}

// tick does what is due although nothing was received: acknowledgements, sends after a
// pause, and a ping on a silent connection.
func (u *user) tick() {
	u.fill()
	if u.sends {
		u.acknowledge(true)
	}
	if len(u.out) == 0 && u.now-u.wrote > u.run.pingAfter && !u.run.relay() {
		u.out = u.appendFrame(u.out, &wirepb.PIMPing{Nonce: u.serial})
	}
}
