package tunlink

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"
)

// Path is how packets fare in one direction. The zero value passes all of them
// at once.
type Path struct {
	Delay  time.Duration
	Jitter time.Duration // Delay is up to this much shorter or longer, evenly
	// Loss, Duplicate and Reorder are shares of the packets, 0 to 1. The packets of one
	// flow stay in order, whatever delays are drawn, except for the share Reorder:
	// these packets come up to Late later still, so that others overtake them.
	Loss, Duplicate, Reorder float64
	Late                     time.Duration
	Rate                     int // bytes a second; 0: no limit
}

// Stats counts packets.
type Stats struct {
	Passed     int
	Lost       int // by chance
	Cut        int // while the link was cut
	Overflowed int // too many were on their way
	Duplicated int
	Reordered  int // passed after a later one of the same flow
}

const (
	maxPackets = 4096 // on their way in one direction
	flows      = 256  // slots; flows that share one keep in order with each other
)

// lane is one direction: a queue of packets by the time they arrive.
type lane struct {
	wake chan struct{} // gets a value when a new packet is the first of queue; capacity 1

	// Guarded by mu.
	mu     sync.Mutex
	rng    *rand.Rand
	path   Path
	cut    bool
	queue  queue
	number uint64 // of the last packet that was queued
	busy   time.Time
	flows  [flows]flow
	stats  Stats
}

type flow struct {
	last   time.Time // arrival of the last packet that keeps the order
	passed uint64    // greatest number that was passed
}

// packet is a packet on its way.
type packet struct {
	data   []byte
	due    time.Time
	number uint64
	flow   *flow
}

func newLane(seed, stream uint64) *lane {
	return &lane{wake: make(chan struct{}, 1), rng: rand.New(rand.NewPCG(seed, stream))}
}

// take takes a packet that was read at now. It keeps data.
func (l *lane) take(data []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.cut:
		l.stats.Cut++
		return
	case l.rng.Float64() < l.path.Loss:
		l.stats.Lost++
		return
	}
	l.add(data, now)
	if l.rng.Float64() < l.path.Duplicate {
		l.stats.Duplicated++
		l.add(data, now)
	}
}

func (l *lane) add(data []byte, now time.Time) {
	if len(l.queue) >= maxPackets {
		l.stats.Overflowed++
		return
	}
	l.number++
	f := &l.flows[flowOf(data)]
	heap.Push(&l.queue, packet{data, l.due(len(data), now, f), l.number, f})
	if l.queue[0].number == l.number {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

func (l *lane) due(n int, now time.Time, f *flow) time.Time {
	p := &l.path
	left := now
	if l.busy.After(left) {
		left = l.busy
	}
	if p.Rate > 0 {
		left = left.Add(time.Duration(n) * time.Second / time.Duration(p.Rate))
	}
	l.busy = left
	at := left.Add(p.Delay + time.Duration((2*l.rng.Float64()-1)*float64(p.Jitter)))
	if at.Before(f.last) {
		at = f.last
	}
	if l.rng.Float64() < p.Reorder {
		return at.Add(time.Duration(l.rng.Float64() * float64(p.Late)))
	}
	f.last = at
	return at
}

// next returns a packet that is due at now. If there is none, it returns nil and the
// time when the next packet is due, zero if the queue is empty.
func (l *lane) next(now time.Time) ([]byte, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, time.Time{}
	}
	if due := l.queue[0].due; due.After(now) {
		return nil, due
	}
	p := heap.Pop(&l.queue).(packet)
	l.stats.Passed++
	if p.number < p.flow.passed {
		l.stats.Reordered++
	}
	p.flow.passed = max(p.flow.passed, p.number)
	return p.data, time.Time{}
}

func (l *lane) set(p Path) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.path = p
}

// setCut cuts the lane or mends it. Packets on their way are lost in a cut.
func (l *lane) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut = cut; cut {
		l.stats.Cut += len(l.queue)
		l.queue = nil
	}
}

func (l *lane) counts() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// flowOf returns a number for the addresses and ports of an IPv4 packet.
func flowOf(p []byte) int {
	const addresses, ports = 12, 20 // offsets, without options
	if len(p) < ports+4 {
		return 0
	}
	h := uint32(2166136261) // FNV-1a
	for _, b := range p[addresses : ports+4] {
		h = (h ^ uint32(b)) * 16777619
	}
	return int(h % flows)
}

// queue is a heap by due, and among equals by number.
type queue []packet

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].number < q[j].number
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(packet)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = packet{}
	*q = (*q)[:last]
	return p
}
