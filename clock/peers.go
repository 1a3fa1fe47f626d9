package clock

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// PeerBound is how far the clocks of two nodes may be apart before somebody is told.
	PeerBound = 100 * time.Millisecond

	peerCalm = PeerBound * 3 / 4 // a clock that was off is within this again before it counts as right
	peerAge  = time.Minute       // for which a sample counts
	peerVote = PeerBound / 2     // a sample whose error is above it has no vote on which clocks are right: it would agree with all
)

// Sample is what one question to a peer tells of the peer's clock.
type Sample struct {
	Offset time.Duration // of the peer's clock from the one that asked; above 0: the peer's is ahead
	Error  time.Duration // the true offset is at most this far from Offset, however the question and the answer travelled
}

// SampleOf computes a Sample as NTP does. asked is when the node sent the question, by the clock from which the offset
// is to be taken; took is how long it waited for the answer, by a clock that nobody sets; came and
// left are by the peer's clock, since 1970, when it got the question and sent the answer.
func SampleOf(asked, took, came, left time.Duration) Sample {
	back := asked + took
	trip := max(took-max(left-came, 0), 0)
	return Sample{Offset: (came - asked + left - back) / 2, Error: trip / 2}
}

// Off is a clock that is off.
type Off struct {
	Node string // "" is this node itself
	By   time.Duration
	// Sure says that more than half of the clocks, this node's among them, agree, and By is from theirs.
	// Otherwise By is from this node's clock, and it is not known which of the two is wrong.
	Sure bool
}

// Peers judges the clocks of a node's peers, and the node's own by theirs. The offsets of all samples are from one clock that
// nobody sets, so that they still hold when the node's own clock is set. It does no I/O and reads no
// clock. It keeps one sample for each peer, and each for a minute, so it holds no more than are taken in
// that time. It is not safe for concurrent use.
//
// A clock is never called off because of a slow network: each sample is an interval in which the true
// offset lies, and only intervals that are apart by more than the bound say something. Two clocks agree if
// their offsets may be within PeerBound of each other. Which clocks are right, those say whose samples
// are good, from round trips of 100 ms at most, and this node's own.
type Peers struct {
	samples map[string]taken
	off     map[string]bool // of the last Judge
}

type taken struct {
	Sample
	at time.Duration
}

// Take notes a sample of a peer's clock, taken at the time now of a monotonic clock, or after it.
func (p *Peers) Take(peer string, s Sample, now time.Duration) {
	if p.samples == nil {
		p.samples = make(map[string]taken)
	}
	p.samples[peer] = taken{s, now}
}

// Forget forgets the peers that there does not name, and samples that are older than a minute.
func (p *Peers) Forget(there func(peer string) bool, now time.Duration) {
	maps.DeleteFunc(p.samples, func(peer string, s taken) bool { return now-s.at > peerAge || !there(peer) })
}

// Samples returns the samples that count. The map is the caller's.
func (p *Peers) Samples() map[string]Sample {
	all := make(map[string]Sample, len(p.samples))
	for peer, s := range p.samples {
		all[peer] = s.Sample
	}
	return all
}

// Judge returns the clocks that are off, by name, this node's own first, whose offset is own. A clock that the last Judge
// called off is called so until it is within three quarters of the bound.
func (p *Peers) Judge(own time.Duration) []Off {
	agreed, sure := p.agreed(own, minDuration)
	if !sure {
		agreed = span{own - PeerBound/2, own + PeerBound/2} // compared with this node's own clock
	}
	var offs []Off
	judge := func(name string, s Sample) {
		bound := PeerBound
		if p.off[name] {
			bound = peerCalm
		}
		if by, apart := agreed.from(s); apart > bound-PeerBound/2 { // the other half is in agreed
			offs = append(offs, Off{Node: name, By: by, Sure: sure})
		}
	}
	if sure {
		judge("", Sample{Offset: own})
	}
	for name, s := range p.samples {
		judge(name, s.Sample)
	}
	slices.SortFunc(offs, func(a, b Off) int { return cmp.Compare(a.Node, b.Node) })
	p.off = make(map[string]bool)
	for _, o := range offs {
		p.off[o.Node] = true
	}
	return offs
}

// minDuration is before every time of a monotonic clock.
const minDuration time.Duration = -1 << 62

// span is the offsets from least to most.
type span struct{ least, most time.Duration }

// from returns by how much a clock is off from the middle of the span, and by how much it is apart from all
// of the span at least.
func (s span) from(x Sample) (by, apart time.Duration) {
	return x.Offset - (s.least+s.most)/2, max(x.Offset-x.Error-s.most, s.least-x.Offset-x.Error, 0)
}

// agreed returns the offsets on which the most clocks agree, this node's own among them, whose offset is own: Marzullo's
// algorithm, in which each clock's interval is half the bound wider on both sides. Samples that were taken before since have
// no vote. ok is false if those that agree are not more than half of all clocks that have a vote, or if as many agree on others.
func (p *Peers) agreed(own, since time.Duration) (best span, ok bool) {
	type edge struct {
		at    time.Duration
		opens bool
	}
	var edges []edge
	add := func(s Sample) {
		edges = append(edges, edge{s.Offset - s.Error - PeerBound/2, true}, edge{s.Offset + s.Error + PeerBound/2, false})
	}
	add(Sample{Offset: own})
	for _, s := range p.samples {
		if s.Error <= peerVote && s.at >= since {
			add(s.Sample)
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		switch {
		case a.at != b.at:
			return cmp.Compare(a.at, b.at)
		case a.opens == b.opens:
			return 0
		case a.opens:
			return -1
		}
		return 1
	})
	open, most, ties := 0, 0, 0
	for i, e := range edges {
		if !e.opens {
			open--
			continue
		}
		switch open++; {
		case open > most:
			most, ties, best = open, 0, span{e.at, edges[i+1].at}
		case open == most:
			ties++
		}
	}
	return best, ties == 0 && 2*most > len(edges)/2
}

// heard reports whether a peer has a vote with a sample that was taken at since or later.
func (p *Peers) heard(since time.Duration) bool {
	for _, s := range p.samples {
		if s.Error <= peerVote && s.at >= since {
			return true
		}
	}
	return false
}
