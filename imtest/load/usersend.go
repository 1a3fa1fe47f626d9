package load

import (
	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// What a user says. u.mu is held throughout.

// fill transmits what there is room for: in the closed loop up to the window, at
// a fixed rate what is due.
func (u *user) fill() {
	if !u.sends || u.now < u.paused {
		return
	}
	if u.run.cfg.Rate > 0 {
		n := 0
		for n < len(u.due) && u.room() {
			if u.due[n] >= u.run.from.Load() {
				u.run.lag.record(u.now - u.due[n])
			}
			u.transmit()
			n++
		}
		u.due = u.due[:copy(u.due, u.due[n:])]
		return
	}
	for u.room() && !u.run.stopped.Load() {
		u.transmit()
	}
}

// maxDue bounds what waits for room at a fixed rate; what is due above that is
// skipped and counted.
const maxDue = 4096

// schedule transmits one message that was due at at, now or when there is room.
// Nothing is scheduled any more once the drain may count what is under way.
func (u *user) schedule(at int64) {
	if u.run.stopped.Load() {
		return
	}
	if len(u.due) >= maxDue {
		u.skipped++
		return
	}
	u.due = append(u.due, at)
	u.fill()
}

// room reports whether one more message may be in flight. A message that is
// overtaken by the answers to many later ones holds its place in flying, so
// that place may be taken although few are in flight.
func (u *user) room() bool {
	return u.inFlight < u.limit && !u.flying[int(u.next)&(len(u.flying)-1)].open
}

// transmit appends one message to out.
func (u *user) transmit() {
	t := &u.message
	var start int
	u.out, start = u.begin(u.out, len(t.frame), ws.OpBinary)
	u.out = append(u.out, t.frame...)
	frame := u.out[start:]
	ms := u.run.wall(u.now)
	putID(frame[t.id:], ms, u.run.cfg.Seed, u.index, u.next)
	putLocal(frame[t.local:], ms)
	// Whether it is of the measured time is settled here: where it arrives from may
	// have been set meanwhile, to an earlier time than now.
	at := int64(0)
	if u.now >= u.run.from.Load() {
		at = u.now
		u.sentMeasured++
	}
	s := stamp{run: u.run.cfg.Seed, at: at, sender: u.index, counter: u.next}
	s.put(frame[t.stamp:])
	u.end(u.out, start)

	u.flying[int(u.next)&(len(u.flying)-1)] = flight{counter: u.next, open: true, at: at}
	u.next++
	u.inFlight++
	u.sent++
}

// unacknowledged reports whether something has come that was not acknowledged.
func (u *user) unacknowledged() bool { return u.have > u.acked && !u.run.relay() }

// acknowledge appends a PIMPushAck for what is new, if it must, or if something is
// written anyway and the last one was long enough ago: as the SDK does.
func (u *user) acknowledge(must bool) {
	if !u.unacknowledged() || !must && (len(u.out) == 0 || u.now-u.ackedAt < int64(tickEvery)) {
		return
	}
	u.acked, u.ackedAt = u.have, u.now
	u.serial++
	ack := protowire.SizeTag(1) + protowire.SizeBytes(len(u.conv)) + protowire.SizeTag(2) + protowire.SizeVarint(u.acked)
	size := 1 + protowire.SizeTag(1) + protowire.SizeVarint(u.serial) + protowire.SizeTag(2) + protowire.SizeBytes(ack)
	b, start := u.begin(u.out, size, ws.OpBinary)
	b = append(b, byte(wire.TypePushAck))
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, u.serial)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(ack))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendString(b, string(u.conv))
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	b = protowire.AppendVarint(b, u.acked)
	u.end(b, start)
	u.out = b
}

// tick does what is due without anything having come: acknowledgements, sends
// after a pause, and a ping on a silent connection.
func (u *user) tick() {
	u.fill()
	if u.sends {
		u.acknowledge(true)
	}
	if len(u.out) == 0 && u.now-u.wrote > u.run.pingAfter && !u.run.relay() {
		u.out = u.appendFrame(u.out, &wirepb.PIMPing{Nonce: u.serial})
	}
}

// pull asks for the entries after seq, unless a pull is under way.
func (u *user) pull(seq uint64) {
	if !u.pulling {
		u.startPull(seq)
		u.askPage()
	}
}

// askPage asks for the next page of a pull.
func (u *user) askPage() {
	u.page++
	u.asked = u.reached
	u.repeatPage()
}

// repeatPage asks once more for the page that was asked for last.
func (u *user) repeatPage() {
	u.out = u.appendFrame(u.out, &wirepb.PIMPullReq{
		RequestId: u.page, Conversation: string(u.conv), From: u.asked + 1, Limit: pim.MaxPageEntries,
	})
}

// takePull takes in one frame of a pull's answer; after the last one of a page
// it asks for the next if there is one. The second answer to a page that was
// asked for twice is left out: the pull that is under way by then begins
// elsewhere, and what the answer leaves out is no hole in it.
func (u *user) takePull(f []byte) error {
	var from, to, newest uint64
	var done bool
	resp := fields{rest: f[1:]}
	for resp.next() {
		switch resp.num {
		case 1: // before everything else
			if !u.pulling || resp.val != u.page {
				return nil
			}
		case 3:
			if err := u.takeEntry(resp.data, true); err != nil {
				return err
			}
		case 4:
			from = resp.val
		case 5:
			to = resp.val
		case 6:
			newest = resp.val
		case 7:
			done = resp.val != 0
		}
	}
	if resp.bad {
		return unreadable(f)
	}
	if from <= to {
		u.settle(to)
	}
	if done {
		u.pageDone(newest)
	}
	return nil
}

// pageDone ends a pull that has come to the end, or goes on with it. A page that
// brought nothing new ends it as well: the drain will ask again.
func (u *user) pageDone(newest uint64) {
	switch {
	case u.reached < max(u.need, newest) && u.reached > u.asked:
		u.askPage()
	case u.back != never:
		u.startPull(u.back)
		u.askPage()
	default:
		u.pulling = false
	}
}
