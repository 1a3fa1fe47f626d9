package limit

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Class is a kind of work that a node sheds while it has more to do than it can. A class is shed
// together with all before it, so typing goes first and new sends go last. Acknowledgements of
// devices, pushes, and answers to what is in the log already are in no class: they are never shed.
type Class uint8

// The classes, in the order in which they are shed.
const (
	Typing    Class = iota + 1 // who writes a message, and who is connected
	Receipts                   // who has read what, and what is on screens
	History                    // pulls of entries, and lists of members
	NewLogins                  // new connections of devices, and with them their syncs
	NewSends                   // what is to be written, and is in no log yet
	classes
)

// Classes returns all classes, in the order in which they are shed.
func Classes() []Class { return []Class{Typing, Receipts, History, NewLogins, NewSends} }

var classNames = [classes]string{Typing: "typing", Receipts: "receipts", History: "history", NewLogins: "logins", NewSends: "sends"}

// String returns the class as metrics name it.
func (c Class) String() string {
	if c == 0 || c >= classes {
		return fmt.Sprintf("class %d", uint8(c))
	}
	return classNames[c]
}

// Queue is a place where work waits.
type Queue uint8

// The queues of a node.
const (
	Arrivals  Queue = iota // requests that no driver of the writers has taken
	Commits                // writes that the store has not carried out. What they take at least is left out
	Tasks                  // pulls, syncs and the like that nobody has begun to serve
	Processor              // goroutines that could run, and wait for a CPU: among others, those that are to read what has come
	queues
)

// Queues returns all queues.
func Queues() []Queue { return []Queue{Arrivals, Commits, Tasks, Processor} }

var queueNames = [queues]string{Arrivals: "arrivals", Commits: "commits", Tasks: "tasks", Processor: "processor"}

// String returns the queue as metrics name it.
func (q Queue) String() string {
	if q >= queues {
		return fmt.Sprintf("queue %d", uint8(q))
	}
	return queueNames[q]
}

const (
	// OverloadInterval is how often Overload.Tick is to be called.
	OverloadInterval = 50 * time.Millisecond

	// A queue that is steep times as long as the target, and was above it in the interval before, has
	// everything shed at once: at ten times the load that a node can take, each tenth of a second of
	// looking on is a second of waiting.
	steep = 4
	// While sends are shed, so many are let in that they wait patience times the target. It is
	// more than the target, or the level would fall while the load is still there.
	patience = 5

	// What a commit takes at least is the least of the last usualFor, looked at in usualParts
	// parts. Above maxUsual it is waiting in any case.
	usualParts = 10
	usualPart  = time.Minute
	maxUsual   = 250 * time.Millisecond

	// Those who are refused come back within a window that is as many seconds long as the offered sends are
	// times those that are served.
	minShedWindow = time.Second
	maxShedWindow = 10 * time.Second
)

// Overload says what a node sheds, by how long work waits in its queues. The least wait in an
// interval counts: after a burst it is soon short again, and only if more comes than the node can
// take does nobody get through without waiting (as in CoDel, RFC 8289). While it is above
// the target, another class is shed with each interval; while it is not, one less.
//
// Waited, Sheds, Shed and After may be called at the same time, also with Tick, and take no
// lock. A nil Overload sheds nothing. Time comes from the caller.
type Overload struct {
	target time.Duration
	random func() float64

	least  [queues]atomic.Int64 // ns that work of a queue has waited in this interval, at least; none: nothing has come
	begun  [queues]atomic.Int64 // see Began
	level  atomic.Uint32        // the last class that is shed; 0: none
	shed   [classes]atomic.Uint64
	served atomic.Uint64 // sends

	// Set by Tick, read by all.
	waits  [queues]atomic.Int64 // ns, of the last interval
	window atomic.Int64         // ns, see After
	wait   atomic.Int64         // ns, see Patience

	// Owned by Tick.
	usual         [usualParts]time.Duration // the least that a commit took in each part of time; 0: not known
	part          int                       // of usual, now
	partEnds      time.Duration
	lastShed      uint64 // sends
	lastServed    uint64
	offered, done float64 // sends in an interval: shed and served, and served
}

const none = math.MaxInt64

// NewOverload returns an Overload for a target, which must be above 0. random returns numbers
// from 0 to below 1, and may be called at the same time.
func NewOverload(target time.Duration, random func() float64) *Overload {
	o := &Overload{target: target, random: random}
	for q := range o.least {
		o.least[q].Store(none)
	}
	o.window.Store(int64(minShedWindow))
	o.wait.Store(int64(patience * target))
	return o
}

// Waited notes that work of q has waited for d until somebody took it; for Commits, until it was
// done.
func (o *Overload) Waited(q Queue, d time.Duration) {
	if o == nil {
		return
	}
	least := &o.least[q]
	for {
		old := least.Load()
		if int64(d) >= old || least.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Began notes that n more of q are waiting, fewer if n is negative. While some are and an interval
// tells of none, the wait of the interval before counts. A queue of which nobody says so is taken to be empty then.
func (o *Overload) Began(q Queue, n int) {
	if o != nil {
		o.begun[q].Add(int64(n))
	}
}

// Sheds reports whether c is shed now.
func (o *Overload) Sheds(c Class) bool { return o != nil && o.level.Load() >= uint32(c) }

// Shed counts n of c that were shed.
func (o *Overload) Shed(c Class, n int) {
	if o != nil {
		o.shed[c].Add(uint64(n))
	}
}

// Served counts n sends that were answered with their entry.
func (o *Overload) Served(n int) {
	if o != nil {
		o.served.Add(uint64(n))
	}
}

// Level returns the last class that is shed, 0 if none is.
func (o *Overload) Level() Class {
	if o == nil {
		return 0
	}
	return Class(o.level.Load())
}

// Count returns how many of c were shed.
func (o *Overload) Count(c Class) uint64 {
	if o == nil {
		return 0
	}
	return o.shed[c].Load()
}

// Wait returns how long work of q has waited in the last interval, at least; 0 if there was none.
func (o *Overload) Wait(q Queue) time.Duration {
	if o == nil {
		return 0
	}
	return time.Duration(o.waits[q].Load())
}

// Patience is how long the sends that are let in may take while others are shed.
func (o *Overload) Patience() time.Duration {
	if o == nil {
		return 0
	}
	return time.Duration(o.wait.Load())
}

// After returns when somebody who is refused may come back: a random time within a window in which all
// who are refused fit, if they do not change their minds. It is between 250 ms and 10 s.
func (o *Overload) After() time.Duration {
	if o == nil {
		return 0
	}
	window := float64(o.window.Load())
	return time.Duration(window/4 + o.random()*window*3/4)
}

// Tick ends an interval. It is called every OverloadInterval, by one goroutine. now is a monotonic
// time.
func (o *Overload) Tick(now time.Duration) {
	longest := time.Duration(0)
	for q := range o.least {
		wait := time.Duration(o.least[q].Swap(none))
		switch {
		case wait == none && o.begun[q].Load() > 0:
			wait = time.Duration(o.waits[q].Load())
		case wait == none:
			wait = 0
		case Queue(q) == Commits:
			wait -= o.usually(wait, now)
		}
		o.waits[q].Store(int64(wait))
		longest = max(longest, wait)
	}
	level := o.level.Load()
	switch {
	case longest <= o.target:
		level -= min(level, 1)
	case level > 0 && longest >= steep*o.target:
		level = uint32(NewSends)
	default:
		level = min(level+1, uint32(NewSends))
	}
	o.level.Store(level)
	o.spread()
}

// usually returns how much of wait, the shortest commit of an interval, a commit takes if nothing waits before it.
func (o *Overload) usually(wait, now time.Duration) time.Duration {
	if now >= o.partEnds {
		o.part = (o.part + 1) % usualParts
		o.usual[o.part], o.partEnds = 0, now+usualPart
	}
	if u := &o.usual[o.part]; *u == 0 || wait < *u {
		*u = max(wait, 1)
	}
	least := wait
	for _, u := range o.usual {
		if u != 0 {
			least = min(least, u)
		}
	}
	least = min(least, maxUsual)
	// A request may wait for the commit before its own, so it takes two.
	o.wait.Store(int64(patience*o.target + 2*least))
	return least
}

// spread sets the window of After by what has come and gone lately.
func (o *Overload) spread() {
	shed, served := o.shed[NewSends].Load(), o.served.Load()
	done := float64(served - o.lastServed)
	offered := done + float64(shed-o.lastShed)
	o.lastShed, o.lastServed = shed, served
	const fresh = 1.0 / 8
	o.offered += (offered - o.offered) * fresh
	o.done += (done - o.done) * fresh
	window := minShedWindow
	if o.offered > o.done {
		window = time.Duration(min(o.offered/max(o.done, 1e-3), float64(maxShedWindow/minShedWindow)) * float64(minShedWindow))
	}
	o.window.Store(int64(max(window, minShedWindow)))
}

// Backlog bounds how many sends of one queue have no answer while sends are shed, by how many get
// theirs: if n a second do, n of them wait for a second (Little's law). So a node that is
// overloaded goes on at its full pace, and what it has let in does not wait for long, wherever it
// waits. The zero Backlog is ready. Its methods may not be called at the same time.
type Backlog struct {
	n    int // since when
	when time.Duration
	rate float64 // a second
}

// leastBacklog is how many sends may have no answer in any case: a disk that hangs for a
// moment must not bring the rate down to nothing.
const leastBacklog = 64

// Served counts n sends that have got their answers at the time now.
func (b *Backlog) Served(n int, now time.Duration) {
	if b.n += n; now-b.when < 2*OverloadInterval {
		return
	}
	rate := float64(b.n) / (now - b.when).Seconds()
	// Answers come in bursts, and a rate that is too low costs sends that could be served: so it
	// rises at once, and falls by a fifth at a time.
	b.rate = max(rate, b.rate*4/5)
	b.n, b.when = 0, now
}

// Most returns how many sends may have no answer, if none is to wait for longer than wait.
func (b *Backlog) Most(wait time.Duration) int {
	return max(leastBacklog, int(b.rate*wait.Seconds()))
}
