package load

import "slices"

// stream checks what one user receives of a conversation: each sender's
// counters, once and in order. It does no I/O and times nothing.
//
// A skipped counter is a gap: the server dropped a push or refused a send. A pull from
// the last entry of that sender on closes the gap. A message that the pull does not hold
// either leaves a hole. While a pull is under way, pushes are not taken in, since the
// pull brings their entries as well.
type stream struct {
	peers   []peer // by the sender's place in the conversation
	have    uint64 // highest seq taken in
	pushed  uint64 // highest seq pushed
	settled uint64 // pulls have shown everything up to here
	pulling bool
	first   uint64 // first seq of the pull under way
	reached uint64 // seq up to which its pages have come
	back    uint64 // the pull found a gap before first: another must follow, behind this seq; never: none
	need    uint64 // highest seq that was pushed while pulling: the pull must reach it
	sparse  bool   // many sends are refused: a skipped counter is no gap if the seq before is there
	holes   []hole // the latest maxHoles of them

	taken uint64 // messages taken in
	*received
}

// received counts what one user took in, over all its conversations.
type received struct {
	got, pulled, doubled, misordered uint64
}

// newStream returns the stream of a conversation with that many senders. The stream
// counts into sum.
func newStream(senders int, sum *received) stream {
	return stream{peers: make([]peer, senders), received: sum}
}

// peer is what was received from one sender.
type peer struct {
	next uint32 // counter of its next message
	seq  uint64 // its last entry
}

// maxHoles bounds the holes that a stream remembers: each refused send leaves one, and a
// long run must not need more and more memory. A message whose hole was forgotten counts
// as doubled if it comes after all.
const maxHoles = 1024

// hole is a message that was not where it belonged.
type hole struct {
	slot    int
	counter uint32
}

// push takes in a pushed message. fresh is set if the message is new to the user. If gap
// is set, the message was not taken in and the user must pull.
func (s *stream) push(slot int, counter uint32, seq uint64) (fresh, gap bool) {
	p := &s.peers[slot]
	if seq < s.pushed { // pushes must ascend, whatever becomes of this one
		s.misordered++
	}
	s.pushed = max(s.pushed, seq)
	switch {
	case s.pulling:
		s.need = max(s.need, seq)
		return false, false
	case seq <= s.settled:
		return false, false // a pull has brought it before
	case counter > p.next && !(s.sparse && seq == s.have+1):
		s.need = seq
		return false, true
	case counter < p.next:
		return s.late(slot, counter), false
	}
	s.skip(slot, counter)
	s.advance(p, counter, seq)
	return true, false
}

// pull takes in a pulled message. fresh is set if it is new to the user.
func (s *stream) pull(slot int, counter uint32, seq uint64) (fresh bool) {
	p := &s.peers[slot]
	if seq <= p.seq {
		return false
	}
	if counter < p.next {
		return s.late(slot, counter)
	}
	if counter > p.next && p.seq+1 < s.first {
		s.back = min(s.back, p.seq)
		return false
	}
	s.skip(slot, counter)
	s.advance(p, counter, seq)
	s.pulled++
	return true
}

// skip notes that slot's messages before counter were not where they belonged.
func (s *stream) skip(slot int, counter uint32) {
	for c := s.peers[slot].next; c < counter; c++ {
		if len(s.holes) == maxHoles {
			s.holes = slices.Delete(s.holes, 0, maxHoles/2)
		}
		s.holes = append(s.holes, hole{slot, c})
	}
}

func (s *stream) advance(p *peer, counter uint32, seq uint64) {
	p.next, p.seq = counter+1, seq
	s.have = max(s.have, seq)
	s.got++
	s.taken++
}

// late takes in a message that comes behind a later one of its sender. It counts as
// misordered if it has not come before, and as doubled if it has.
func (s *stream) late(slot int, counter uint32) (fresh bool) {
	i := slices.Index(s.holes, hole{slot, counter})
	if i < 0 {
		s.doubled++
		return false
	}
	s.holes = slices.Delete(s.holes, i, i+1)
	s.misordered++
	s.got++
	s.taken++
	return true
}

// after returns the seq of the last entry of slot's sender. A pull for what is missing of
// that sender begins behind it.
func (s *stream) after(slot int) uint64 { return s.peers[slot].seq }

// startPull notes that a pull of the entries behind seq begins.
func (s *stream) startPull(seq uint64) {
	s.pulling, s.first, s.reached, s.back = true, seq+1, seq, never
}

// settle notes that a pull has shown everything up to seq.
func (s *stream) settle(seq uint64) {
	s.reached = max(s.reached, seq)
	s.settled = max(s.settled, seq)
	s.have = max(s.have, seq)
}
