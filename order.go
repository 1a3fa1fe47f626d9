package pim

import (
	"cmp"
	"encoding/binary"
)

// The display order. The source article sorts one sender's messages by local
// time and different senders' by server time. As a pairwise rule that has
// cycles; what follows is its total order, computed once by the writer and
// stored with the entry:
//
//   - L' = Clamp(local, server)
//   - anchor(m) = the smallest seq among earlier entries of the same sender
//     whose L' is greater than m's; m's own seq if there is none
//   - every client displays by (anchor, L', seq)
//
// It is final at write time. A late resend stands just before its sender's
// next message and moves nothing that was already shown; without resends it is
// the server's order, whatever the clocks do: see Times. Worked cases:
// testdata/display-order.json.
const (
	// OrderWindow is how far behind the server's clock a local time may lie, in
	// milliseconds. It equals the time in which the SDK resends by itself.
	OrderWindow Millis = 180_000
	// OrderSlack is how far ahead of the server's clock it may lie.
	OrderSlack Millis = 1_000
)

// Clamp bounds a local time by the server time of the same entry, so that a
// wrong or forged clock reaches OrderWindow + OrderSlack at the most.
func Clamp(local, server Millis) Millis {
	return min(max(local, server-OrderWindow), server+OrderSlack)
}

// moved returns L' of a local time on the writer's clock, in an entry whose
// server time is ahead of that clock. The clamp comes first, so that no local
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

// Anchors computes anchors for one sender in one conversation. The zero value
// is ready; it is not safe for concurrent use.
//
// Only an entry whose L' is greater than all before it can be an anchor: a peak. A
// message in order is one, so there may be a peak for each; all but the first take
// two differences, three bytes or so. A peak whose L' is below the window of the
// newest entry can be no anchor any more, so dropping it is exact.
//
// Who holds very many of them calls Trim, which forgets the older ones while they
// still matter. Seek then tells when the answer lies among those; they are in the log.
type Anchors struct {
	lost   peak   // what was forgotten lies up to its seq and its L'; zero: nothing was
	first  peak   // of those that are remembered; seq 0: there is none
	last   peak   // of those, or of the forgotten
	deltas []byte // of the peaks after first: differences of seq and L', as uvarints
	server Millis // of the newest entry
}

// peak is an entry whose L' is greater than those of all before it.
type peak struct {
	seq   Seq
	local Millis // L'
}

// Next returns the anchor of the sender's next entry and takes the entry in.
// local is the entry's L', or the local time that it is the clamp of. Seqs must
// grow and server times must not decrease from call to call. If the anchor lies
// among the forgotten, see Seek, it is the first that is remembered.
func (a *Anchors) Next(seq Seq, local, server Millis) Seq {
	l := Clamp(local, server)
	a.server = server
	if anchor := a.find(l); anchor != 0 {
		return anchor
	}
	a.add(peak{seq, l})
	return seq
}

// Seek reports whether the anchor of an entry with L' = l may lie among the entries
// that were forgotten. If so it is the sender's first entry, up to the seq upTo, whose
// L' is greater than l; if there is none, Next knows.
func (a *Anchors) Seek(l Millis) (upTo Seq, lost bool) {
	return a.lost.seq, a.lost.seq != 0 && l < a.lost.local
}

// Latest returns a time that none of the sender's entries is above: the greatest L',
// or, where that was forgotten, a bound of it. It is 0 if there are no entries.
func (a *Anchors) Latest() Millis { return max(a.last.local, a.lost.local) }

// Peak returns seq and L' of the sender's newest peak; seq 0 if there is none.
func (a *Anchors) Peak() (seq Seq, local Millis) { return a.last.seq, a.last.local }

// Forgotten returns Anchors that remember nothing of a sender whose entries up to seq
// upTo have an L' of local at the most.
func Forgotten(upTo Seq, local Millis) Anchors {
	return Anchors{lost: peak{upTo, local}}
}

// Resumed returns Anchors that remember of a sender that seq is the newest peak, with
// an L' of local.
func Resumed(seq Seq, local Millis) Anchors {
	p := peak{seq, local}
	return Anchors{lost: p, last: p}
}

// find returns the first peak that is remembered with an L' above l, 0 if there is
// none. In the usual case, nothing was resent, the last peak answers.
func (a *Anchors) find(l Millis) Seq {
	switch {
	case a.last.local <= l:
		return 0
	case a.first.seq == 0: // it was forgotten, but for itself
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
		return // the earlier one is the anchor of whatever this one could be
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

// makeRoom drops the peaks that can be no anchor any more. Then a third of what is left,
// or more, is free, so that it is seldom called; and not much more than what is left, so
// that a sender who was busy once takes no memory for it.
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

// expire drops the peaks that can be no anchor any more.
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

// Trim forgets the older half of the peaks if they take more than bound bytes.
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

// Memory returns how many bytes its peaks take in memory.
func (a *Anchors) Memory() int { return cap(a.deltas) }

// Size returns how many bytes its peaks are.
func (a *Anchors) Size() int { return len(a.deltas) }
