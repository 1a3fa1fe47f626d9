package pim

import (
	"cmp"
	"sort"
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
// Only an entry whose L' is greater than all before it can be an anchor, so
// that is all it keeps: seqs and L's that both grow. An entry older than
// OrderWindow + OrderSlack can be no anchor any more, and neither can one that
// it kept out of the list, so dropping it from the front is exact.
type Anchors struct {
	peaks []peak
	head  int // peaks before it have expired
}

type peak struct {
	seq    Seq
	local  Millis // clamped
	server Millis
}

// maxPeaks bounds the memory of one sender in one conversation. It is reached
// at more than 180 messages a second for three minutes; then the oldest are
// forgotten, and a resend older than those is displayed in server order.
const maxPeaks = 1 << 15

// Next returns the anchor of the sender's next entry and takes the entry in.
// local is the entry's L', or the local time that it is the clamp of. Seqs must
// grow and server times must not decrease from call to call.
func (a *Anchors) Next(seq Seq, local, server Millis) Seq {
	l := Clamp(local, server)
	a.expire(server)
	anchor := a.find(l, seq)
	if anchor == seq {
		a.peaks = append(a.peaks, peak{seq, l, server})
	}
	return anchor
}

// Latest returns the greatest L' among the sender's entries that can still be
// anchors at the given server time, 0 if there are none.
func (a *Anchors) Latest(server Millis) Millis {
	if a.expire(server); a.head == len(a.peaks) {
		return 0
	}
	return a.peaks[len(a.peaks)-1].local
}

// find returns the first peak above l, or own. In the usual case, nothing was
// resent, the last peak answers.
func (a *Anchors) find(l Millis, own Seq) Seq {
	live := a.peaks[a.head:]
	n := len(live)
	if n == 0 || live[n-1].local <= l {
		return own
	}
	i := sort.Search(n-1, func(i int) bool { return live[i].local > l })
	return live[i].seq
}

func (a *Anchors) expire(server Millis) {
	for a.head < len(a.peaks) && a.peaks[a.head].server <= server-OrderWindow-OrderSlack {
		a.head++
	}
	a.head = max(a.head, len(a.peaks)-maxPeaks+1)
	if a.head > 0 && a.head >= len(a.peaks)/2 { // amortised: moves at most as many as it drops
		a.peaks = a.peaks[:copy(a.peaks, a.peaks[a.head:])]
		a.head = 0
	}
}

// Len returns how many entries it remembers.
func (a *Anchors) Len() int { return len(a.peaks) - a.head }
