package sim

import (
	"container/heap"
	"time"
)

// event is something that happens at a time.
type event struct {
	at    time.Duration
	order uint64 // among events of one time: as they were set
	do    func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// At makes do happen when the world's clock shows at, or at the present time if at is
// past.
func (w *World) At(at time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, event{max(at, w.now), w.order, do})
}

// After makes do happen after d.
func (w *World) After(d time.Duration, do func()) { w.At(w.now+d, do) }

// Run lets time pass until the clock shows until.
func (w *World) Run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until && w.failure == "" {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		if w.happened++; w.happened > maxEvents {
			w.Failf("%d events, and no end", w.happened)
			return
		}
		e.do()
	}
	w.now = max(w.now, until)
}
