package load

import (
	"sync"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// user is one connected user. Its reading goroutine runs serve. That goroutine and those
// of pace, ticker and acknowledgeAlone take turns under mu. What they send gathers in out
// and is written before mu is released. mu guards the fields below it; the fields above
// it, except link.left, do not change once serve runs.
type user struct {
	*link
	run    *chat
	index  uint32 // in the run
	sends  bool
	answer template // Relay: what a message is answered with
	limit  int      // most messages in flight

	mu   sync.Mutex
	out  []byte // to be written before mu is released; lent by outBuffers
	lent *[]byte
	now  int64 // when mu was taken; nanoseconds since the run began

	talks []talk  // its conversations
	turn  int     // index of the talk that the next message goes to
	news  []int32 // indexes of the talks with something to acknowledge, each at most once

	next     uint32   // counter of the next message, over all conversations
	flying   []flight // by counter modulo its length, a power of two
	inFlight int
	due      []int64 // fixed rate: due times of the messages that wait for room
	paused   int64   // no sends before this time: the server asked for a pause

	pages   uint64 // of all pulls that were asked for
	serial  uint64 // of the last PIMPushAck
	ackedAt int64  // when it was appended
	armed   bool   // its timer is set, see arm
	wrote   int64  // when something was last written

	received
	tally
}

// flight is a place for a message in flight; open is set while it has no answer.
type flight struct {
	counter uint32
	talk    int32
	open    bool
	at      int64 // transmission, as in stamp
}

// tally is what a user counts besides received.
type tally struct {
	sent, sentMeasured uint64
	answered           uint64 // acknowledged by the server
	refused, skipped   uint64
	refusedMeasured    uint64
	skippedMeasured    uint64
	gotMeasured        uint64
	reads, frames      uint64
	pushes, entries    uint64
}

// lock takes mu, sets now and borrows a buffer for out. release undoes that.
func (u *user) lock() {
	u.mu.Lock()
	u.now = u.run.clock()
	u.lent = outBuffers.Get().(*[]byte)
	u.out = (*u.lent)[:0]
}

// release writes what has gathered and releases mu.
func (u *user) release() error {
	var err error
	if len(u.out) > 0 {
		u.wrote = u.now
		_, err = u.nc.Write(u.out)
	}
	*u.lent = u.out
	outBuffers.Put(u.lent)
	u.lent, u.out = nil, nil
	u.mu.Unlock()
	return broken(err)
}

// outBuffers holds the buffers for out. A user borrows one only while its mu is held, so
// a few buffers, warm in the cache, serve all connections.
var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

// start transmits the first window and reads until the end of the run.
func (u *user) start() error {
	u.lock()
	u.fill()
	if err := u.release(); err != nil {
		return err
	}
	return u.serve(u)
}

// wake takes mu for the frames of one read, see handler. flush releases it.
func (u *user) wake() {
	u.lock()
	u.reads++
}

// flush answers the frames of one read.
func (u *user) flush() error {
	u.fill()
	if u.sends {
		u.acknowledge(false)
	} else {
		u.arm()
	}
	return u.release()
}

// frame takes in one frame.
func (u *user) frame(f []byte) error {
	u.frames++
	switch wire.Type(f[0]) {
	case wire.TypePush:
		return u.takePush(f[1:])
	case wire.TypeSendAck:
		id, ok := ackFields(f[1:])
		if !ok {
			return unreadable(f)
		}
		u.land(id, true)
	case wire.TypeSendReq: // through the relay
		return u.takeRelayed(f[1:])
	case wire.TypePullResp:
		return u.takePull(f)
	case wire.TypeError:
		return u.takeError(f)
	case wire.TypeGoAway:
		_, err := u.decode(ws.OpBinary, f)
		return err
	}
	return nil
}

func unreadable(f []byte) error {
	return pim.Errorf(pim.KindInvalid, "%s cannot be read", wire.Type(f[0]))
}

func (u *user) takePush(body []byte) error {
	u.pushes++
	behind := false
	f := fields{rest: body}
	for f.next() {
		switch f.num {
		case 2:
			if err := u.takeEntry(f.data, false); err != nil {
				return err
			}
		case 3:
			behind = f.val != 0
		}
	}
	if f.bad {
		return pim.Errorf(pim.KindInvalid, "PIMPush cannot be read")
	}
	// With several conversations, behind does not say in which of them a push was dropped.
	// The next push in that conversation shows it, or else the drain.
	if behind && len(u.talks) == 1 {
		u.pull(0, u.talks[0].have)
	}
	return nil
}

// takeEntry takes in one entry, pushed or pulled.
func (u *user) takeEntry(entry []byte, pulled bool) error {
	u.entries++
	seq, kind, payload, ok := entryFields(entry)
	if !ok || seq == 0 {
		return pim.Errorf(pim.KindInvalid, "an entry cannot be read")
	}
	var s stamp
	if pim.EntryKind(kind) != pim.EntryMessage || !s.get(payload, u.run.tag) || s.sender == u.index {
		return nil
	}
	n, slot, ok := u.run.place(u.index, s.sender)
	if !ok {
		return pim.Errorf(pim.KindInternal, "user %d received a message of user %d, who is in no conversation with it", u.index, s.sender)
	}
	t := &u.talks[n]
	var fresh, gap bool
	if pulled {
		fresh = t.pull(slot, s.counter, seq)
	} else {
		fresh, gap = t.push(slot, s.counter, seq)
	}
	if fresh {
		u.delivered(s.at)
		u.noteNews(n)
	}
	if gap {
		u.pull(n, t.after(slot))
	}
	return nil
}

// noteNews notes that the n-th conversation has something to acknowledge.
func (u *user) noteNews(n int) {
	if t := &u.talks[n]; t.have > t.acked && !t.news && !u.run.relay() {
		t.news = true
		u.news = append(u.news, int32(n))
	}
}

// delivered notes the delivery of a message that was transmitted at time at.
func (u *user) delivered(at int64) {
	if at >= u.run.from.Load() {
		u.gotMeasured++
		u.run.delivery.record(u.now - at)
	}
}

// takeRelayed takes in a message that the relay handed on, and answers it.
func (u *user) takeRelayed(body []byte) error {
	id, payload, ok := sendPayload(body)
	var s stamp
	if !ok || len(id) != 16 || !s.get(payload, u.run.tag) || s.sender^1 != u.index {
		return pim.Errorf(pim.KindInvalid, "the relay handed on what is not a message of this run")
	}
	fresh, gap := u.talks[0].push(0, s.counter, uint64(s.counter)+1)
	if gap {
		return pim.Errorf(pim.KindInternal, "the relay lost a message")
	}
	if fresh {
		u.delivered(s.at)
	}
	var start int
	u.out, start = u.begin(u.out, len(u.answer.frame), ws.OpBinary)
	u.out = append(u.out, u.answer.frame...)
	copy(u.out[start+u.answer.id:], id)
	u.end(u.out, start)
	return nil
}

// land notes the answer to a message: acknowledged or refused.
func (u *user) land(id []byte, acknowledged bool) {
	counter, ok := counterOf(id)
	if !ok {
		return
	}
	f := &u.flying[int(counter)&(len(u.flying)-1)]
	if !f.open || f.counter != counter {
		return // answered before
	}
	f.open = false
	u.inFlight--
	if !acknowledged {
		u.refused++
		if f.at > 0 {
			u.refusedMeasured++
		}
		return
	}
	u.answered++
	u.talks[f.talk].answered++
	if f.at >= u.run.from.Load() {
		u.run.ack.record(u.now - f.at)
	}
}

// takeError notes that a send was refused, or that a pull must be repeated; an
// error that answers nothing ends the connection.
func (u *user) takeError(f []byte) error {
	m, err := u.decode(ws.OpBinary, f)
	if err != nil {
		return err
	}
	e := m.(*wirepb.PIMError)
	switch {
	case len(e.ClientMessageId) > 0:
		if u.refused == 0 {
			u.run.cfg.Log.Warn("a send was refused", "err", wire.ErrorOf(e))
		}
		u.land(e.ClientMessageId, false)
		u.paused = u.now + max(int64(e.RetryAfterMs), 10)*1e6
	case e.RequestId > 0:
		if t := u.asking(e.RequestId); t != nil {
			t.pulling = false // the next gap, or the drain, asks again
		}
	default:
		return wire.ErrorOf(e)
	}
	return nil
}
