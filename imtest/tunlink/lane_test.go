package tunlink

import (
	"encoding/binary"
	"testing"
	"time"
)

// numbered returns a packet of a flow with a number in it.
func numbered(flow byte, n int) []byte {
	p := make([]byte, 40)
	p[12] = flow
	binary.BigEndian.PutUint32(p[36:], uint32(n))
	return p
}

func number(p []byte) int { return int(binary.BigEndian.Uint32(p[36:])) }

// begin is when the packets of a test come.
var begin = time.Unix(1_000_000, 0)

// drain returns the numbers of all packets in the order in which they arrive.
func drain(l *lane) (numbers []int) {
	for {
		data, at := l.next(begin.Add(time.Hour))
		if data == nil {
			if !at.IsZero() {
				panic("a packet that is an hour late")
			}
			return numbers
		}
		numbers = append(numbers, number(data))
	}
}

// within reports whether got is about share of n.
func within(got, n int, share float64) bool {
	want := share * float64(n)
	return float64(got) > 0.8*want && float64(got) < 1.2*want
}

func TestLaneLosesAndDoublesItsShare(t *testing.T) {
	l := newLane(1, 0)
	l.set(Path{Loss: 0.2, Duplicate: 0.1})
	const packets = 4000
	got := 0
	for n := range packets {
		l.take(numbered(1, n), begin)
		got += len(drain(l))
	}
	s := l.counts()
	if !within(s.Lost, packets, 0.2) || !within(s.Duplicated, packets-s.Lost, 0.1) {
		t.Errorf("%+v", s)
	}
	if got != s.Passed || s.Passed != packets-s.Lost+s.Duplicated {
		t.Errorf("%d arrived, %+v", got, s)
	}
}

// Jitter alone keeps the order of a flow; Reorder breaks it for its share.
func TestLaneReorders(t *testing.T) {
	for _, share := range []float64{0, 0.2} {
		l := newLane(1, 0)
		l.set(Path{Delay: 100 * time.Millisecond, Jitter: 50 * time.Millisecond, Reorder: share, Late: 200 * time.Millisecond})
		const packets = 2000
		for n := range packets {
			l.take(numbered(1, n), begin.Add(time.Duration(n)*time.Millisecond))
		}
		late, last := 0, -1
		for _, n := range drain(l) {
			if n < last {
				late++
			}
			last = max(last, n)
		}
		if s := l.counts(); s.Reordered != late || s.Passed != packets {
			t.Errorf("share %v: %d came late, %+v", share, late, s)
		}
		// Not every packet that is late is overtaken: some are late by little.
		if share == 0 && late != 0 || share > 0 && (late < packets/10 || late > packets/4) {
			t.Errorf("share %v: %d came late", share, late)
		}
	}
}

// Flows do not wait for each other.
func TestLaneKeepsFlowsApart(t *testing.T) {
	l := newLane(1, 0)
	l.set(Path{Delay: time.Minute})
	l.take(numbered(1, 1), begin)
	l.set(Path{})
	l.take(numbered(2, 2), begin)
	if got := drain(l); len(got) != 2 || got[0] != 2 {
		t.Errorf("%v", got)
	}
	if s := l.counts(); s.Reordered != 0 {
		t.Errorf("%+v", s)
	}
}

func TestLaneHasARate(t *testing.T) {
	l := newLane(1, 0)
	l.set(Path{Rate: 400})
	for n := range 10 {
		l.take(numbered(1, n), begin) // 40 bytes
	}
	if data, at := l.next(begin.Add(99 * time.Millisecond)); data != nil || !at.Equal(begin.Add(100*time.Millisecond)) {
		t.Errorf("the first comes at %v", at)
	}
	for range 9 {
		l.next(begin.Add(999 * time.Millisecond))
	}
	if data, at := l.next(begin.Add(999 * time.Millisecond)); data != nil || !at.Equal(begin.Add(time.Second)) {
		t.Errorf("the last comes at %v", at)
	}
}

func TestLaneIsBounded(t *testing.T) {
	l := newLane(1, 0)
	for n := range maxPackets + 5 {
		l.take(numbered(1, n), begin)
	}
	if got, s := len(drain(l)), l.counts(); got != maxPackets || s.Overflowed != 5 {
		t.Errorf("%d arrived, %+v", got, s)
	}
}

// A cut loses the packets on their way, and those that come before it is mended.
func TestLaneCut(t *testing.T) {
	l := newLane(1, 0)
	l.take(numbered(1, 1), begin)
	l.setCut(true)
	l.take(numbered(1, 2), begin)
	l.setCut(false)
	l.take(numbered(1, 3), begin)
	if got, s := drain(l), l.counts(); len(got) != 1 || got[0] != 3 || s.Cut != 2 {
		t.Errorf("%v, %+v", got, s)
	}
}
