package load

import "slices"

// stream checks what one user receives of its conversation: each sender's
// counters, once and in order. It does no I/O and times nothing.
//
// A counter that is skipped is a gap: a push that the server dropped, or a send
// that it refused. It is closed by a pull from the last entry of that sender;
// what the pull does not hold either is a hole. While it pulls, pushes are not
// taken in, since the pull brings them as well.
type stream struct {
	peers   []peer // by the sender's place in the conversation
	have    uint64 // highest seq taken in
	pushed  uint64 // highest seq pushed
	settled uint64 // pulls have shown everything up to here
	pulling bool
	first   uint64 // first seq of the pull under way
	reached uint64 // seq up to which its pages have come
	back    uint64 // it found a gap before first: a pull must follow, behind this seq; never for none
	need    uint64 // a pull must reach it: highest seq that was pushed while pulling
	holes   []hole // the latest maxHoles of them

	taken uint64 // messages taken in
	*received
}

// received counts what one user took in, over all its conversations.
type received struct {
	got, pulled, doubled, misordered uint64
}

// newStream returns the stream of a conversation with so many senders, which counts
// into sum.
func newStream(senders int, sum *received) stream {
	return stream{peers: make([]peer, senders), received: sum}
}

// peer is what was received from one sender.
type peer struct {
	next uint32 // counter of its next message
	seq  uint64 // its last entry
}

// maxHoles bounds the holes that are remembered, since a long run must not need more
// and more memory: each send that was refused leaves one. A message whose hole was
// forgotten counts as doubled if it comes after all.
const maxHoles = 1024

// hole is a message that was not where it belonged.
type hole struct {
	slot    int
	counter uint32
}

// push takes in a pushed message. fresh is set if it is new to the user, gap if
// it must pull; then the message was not taken in.
func (s *stream) push(slot int, counter uint32, seq uint64) (fresh, gap bool) {
	p := &s.peers[slot]
	if seq < s.pushed { // whatever becomes of it: pushes ascend
		s.misordered++
	}
	s.pushed = max(s.pushed, seq)
	switch {
	case s.pulling:
		s.need = max(s.need, seq)
		return false, false
	case seq <= s.settled:
		return false, false // a pull has brought it before
	case counter > p.next:
		s.need = seq
		return false, true
	case counter < p.next:
		return s.late(slot, counter), false
	}
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
	for c := p.next; c < counter; c++ {
		if len(s.holes) == maxHoles {
			s.holes = slices.Delete(s.holes, 0, maxHoles/2)
		}
		s.holes = append(s.holes, hole{slot, c})
	}
	s.advance(p, counter, seq)
	s.pulled++
	return true
}

func (s *stream) advance(p *peer, counter uint32, seq uint64) {
	p.next, p.seq = counter+1, seq
	s.have = max(s.have, seq)
	s.got++
	s.taken++
}

// late takes in a message that comes behind a later one of its sender: out of
// order if it had not come before, doubled if it had.
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

// after returns the seq behind which a pull for what slot's sender wrote must
// begin.
func (s *stream) after(slot int) uint64 { return s.peers[slot].seq }

// startPull notes that a pull for what is behind seq begins.
func (s *stream) startPull(seq uint64) {
	s.pulling, s.first, s.reached, s.back = true, seq+1, seq, never
}

// settle notes that a pull has shown everything up to seq.
func (s *stream) settle(seq uint64) {
	s.reached = max(s.reached, seq)
	s.settled = max(s.settled, seq)
	s.have = max(s.have, seq)
}
