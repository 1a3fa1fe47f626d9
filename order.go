package pim

import (
	"cmp"
	"encoding/binary"
)

// The display order. The source article sorts one sender's messages by local
// time and different senders' by server time. As a pairwise rule that has
// cycles. pim's rule is a total order; the writer computes an entry's place once and
// stores it with the entry:
//
//   - L' = Clamp(local, server)
//   - anchor(m) = the smallest seq among earlier entries of the same sender
//     whose L' is greater than m's; m's own seq if there is none
//   - every client displays by (anchor, L', seq)
//
// An entry's place is final when the entry is written. A late resend stands just
// before its sender's next message and moves nothing that was already shown. Without
// resends the order is that of seq, whatever the clocks do: see Times. Worked cases:
// testdata/display-order.json.
//
// Two exceptions reach no further than a fraction of a second. Devices of one sender go by
// times that differ: by the errors of their estimates, and in a cluster by as much as
// the times of their nodes, at most NodesApart. A message of one device that is sent by that
// little after one of another device may stand before it. And a process that loads a conversation
// does not know who wrote the last entry. If it is the one that did, and its clock was set back meanwhile by NodesApart or
// less, it goes on as if another node had written that entry: then it may be so for a message that the same
// sender sent within that time.
const (
	// OrderWindow is how far behind the server's clock a local time may lie, in
	// milliseconds. It equals the time in which the SDK resends by itself.
	OrderWindow Millis = 180_000
	// OrderSlack is how far ahead of the server's clock a local time may lie, in
	// milliseconds.
	OrderSlack Millis = 1_000
)

// Clamp bounds a local time by the server time of the same entry, so that a wrong or
// forged clock puts it at most OrderWindow too early or OrderSlack too late.
func Clamp(local, server Millis) Millis {
	return min(max(local, server-OrderWindow), server+OrderSlack)
}

// moved returns L' of a local time that is calibrated to the writer's clock, in an
// entry whose server time is ahead of that clock. It clamps first, so that no local
// time overflows.
func moved(local, server, ahead Millis) Millis { return Clamp(local, server-ahead) + ahead }

// Place is a position in the display order of one conversation.
type Place struct {
	Anchor Seq
	Local  Millis // L'
	Seq    Seq
}

// Compare returns a negative number if p is displayed before q, a positive one
// if after it, and 0 only if they are the same entry's.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Anchor, q.Anchor), cmp.Compare(p.Local, q.Local), cmp.Compare(p.Seq, q.Seq))
}

// Anchors computes anchors for one sender in one conversation. The zero value is
// ready. An Anchors is not safe for concurrent use.
//
// Only a peak can be an anchor: an entry whose L' is greater than that of every
// earlier entry of the sender. A message in order is a peak, so there may be one for
// every message; each but the first is kept as two differences, about three bytes. A
// peak whose L' is below the window of the newest entry cannot be an anchor any more,
// so dropping it is exact.
//
// A caller that must bound the memory calls Trim, which forgets older peaks although
// they still matter. Seek then reports whether an anchor may be among the forgotten
// ones; the caller finds it in the log.
type Anchors struct {
	lost   peak   // no peak that was forgotten has a greater seq or L'; zero: none was forgotten
	first  peak   // the first peak that is remembered; seq 0: there is none
	last   peak   // the last peak, also if it was forgotten
	deltas []byte // of the peaks after first: differences of seq and L', as uvarints
	server Millis // server time of the newest entry
}

// peak is an entry whose L' is greater than those of all before it.
type peak struct {
	seq   Seq
	local Millis // L'
}

// Next returns the anchor of the sender's next entry and takes the entry in.
// local is the entry's L', or a local time that Clamp makes L' of. Seqs must grow
// and server times must not decrease from call to call. If the anchor was forgotten
// (see Seek), Next returns the first peak that is remembered.
func (a *Anchors) Next(seq Seq, local, server Millis) Seq {
	l := Clamp(local, server)
	a.server = server
	if anchor := a.find(l); anchor != 0 {
		return anchor
	}
	a.add(peak{seq, l})
	return seq
}

// Seek reports whether the anchor of an entry with L' = l may be an entry that was
// forgotten. If lost is true, the anchor is the sender's first entry in the log, up to
// the seq upTo, whose L' is greater than l; if there is none, Next returns the anchor.
func (a *Anchors) Seek(l Millis) (upTo Seq, lost bool) {
	return a.lost.seq, a.lost.seq != 0 && l < a.lost.local
}

// Latest returns the greatest L' of the sender's entries, or an upper bound of it if
// that entry was forgotten; 0 if there are no entries.
func (a *Anchors) Latest() Millis { return max(a.last.local, a.lost.local) }

// Peak returns seq and L' of the sender's newest peak; seq 0 if none is known.
func (a *Anchors) Peak() (seq Seq, local Millis) { return a.last.seq, a.last.local }

// Forgotten returns Anchors that remember nothing of a sender whose entries up to seq
// upTo have an L' of local at the most.
func Forgotten(upTo Seq, local Millis) Anchors {
	return Anchors{lost: peak{upTo, local}}
}

// Resumed returns Anchors that remember only a sender's newest peak: its seq, and its
// L', local. All earlier peaks count as forgotten.
func Resumed(seq Seq, local Millis) Anchors {
	p := peak{seq, local}
	return Anchors{lost: p, last: p}
}

// find returns the seq of the first remembered peak whose L' is above l, 0 if there is
// none. In the usual case, when nothing was resent, a look at the last peak is enough.
func (a *Anchors) find(l Millis) Seq {
	switch {
	case a.last.local <= l:
		return 0
	case a.first.seq == 0: // the last peak is the only one that is known
		return a.last.seq
	}
	p, rest := a.first, a.deltas
	for p.local <= l && len(rest) > 0 {
		p, rest = p.next(rest)
	}
	return p.seq
}

func (a *Anchors) add(p peak) {
	switch {
	case a.first.seq == 0:
		a.first = p
	case p.local == a.last.local:
		return // the earlier peak is the anchor wherever this one could be
	default:
		var room [2 * binary.MaxVarintLen64]byte
		delta := binary.AppendUvarint(room[:0], uint64(p.seq-a.last.seq))
		delta = binary.AppendUvarint(delta, uint64(p.local-a.last.local))
		if len(a.deltas)+len(delta) > cap(a.deltas) {
			a.makeRoom()
		}
		a.deltas = append(a.deltas, delta...)
	}
	a.last = p
}

// makeRoom drops the peaks that cannot be an anchor any more, and makes deltas fit
// those that are left. Then at least a third of their size is free, so that makeRoom
// is called seldom. At most three times their size is free, or deltas has 32 bytes in
// all, so that a sender who was busy once does not keep the memory.
func (a *Anchors) makeRoom() {
	const least = 16
	a.expire()
	n, size := len(a.deltas), cap(a.deltas)
	if n > size*3/4 || n < size/4 && size > 2*least {
		a.deltas = append(make([]byte, 0, max(2*n, least)), a.deltas...)
	}
}

// next returns the peak after p and what is left of the differences.
func (p peak) next(deltas []byte) (peak, []byte) {
	seq, n := binary.Uvarint(deltas)
	local, m := binary.Uvarint(deltas[n:])
	return peak{p.seq + Seq(seq), p.local + Millis(local)}, deltas[n+m:]
}

// expire drops the peaks that cannot be an anchor any more.
func (a *Anchors) expire() {
	p, rest := a.first, a.deltas
	for p.local <= a.server-OrderWindow && len(rest) > 0 {
		p, rest = p.next(rest)
	}
	a.keep(p, rest)
}

func (a *Anchors) keep(first peak, deltas []byte) {
	a.first = first
	a.deltas = a.deltas[:copy(a.deltas, deltas)]
}

// Trim bounds the bytes of the peaks. If those that can still be an anchor take more
// than bound, it forgets the oldest of them, down to bound/2.
func (a *Anchors) Trim(bound int) {
	if len(a.deltas) <= bound {
		return
	}
	if a.expire(); len(a.deltas) <= bound {
		return
	}
	p, rest := a.first, a.deltas
	for len(rest) > bound/2 {
		a.lost = p
		p, rest = p.next(rest)
	}
	a.keep(p, rest)
}

// Memory returns how many bytes are allocated for the peaks.
func (a *Anchors) Memory() int { return cap(a.deltas) }

// Size returns how many of the allocated bytes are in use.
func (a *Anchors) Size() int { return len(a.deltas) }
