package route

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/placement"
	"github.com/pim-im/pim/route/routepb"
)

const (
	lanes    = 1 << laneBits
	laneBits = 4 // the lower bits of a request's number are its lane

	maxWaiting = 1 << 16  // requests in the table
	maxBytes   = 64 << 20 // of them, about
	// userShare is the part of what is free in the table that one user may have: one in so many.
	userShare = 4
)

var (
	errStopping  = pim.Errorf(pim.KindUnavailable, "the node is stopping")
	errNoWriter  = &pim.Error{Kind: pim.KindUnavailable, Text: "no node writes this conversation now", RetryAfter: time.Second}
	errNoAnswer  = &pim.Error{Kind: pim.KindUnavailable, Text: "no node has answered in time", RetryAfter: time.Second}
	errGone      = pim.Errorf(pim.KindUnavailable, "the connection has gone")
	errTableFull = &pim.Error{Kind: pim.KindOverloaded, Text: "too many requests wait for other nodes", RetryAfter: time.Second}
	errShare     = &pim.Error{Kind: pim.KindOverloaded, Text: "too many of the user's requests wait for other nodes", RetryAfter: time.Second}
)

// lane holds the requests of some users that wait for other nodes, in the order in which they came.
type lane struct {
	// Set at construction.
	router *Router
	number uint32

	table  atomic.Pointer[placement.Table] // nil: no view has come. It changes under mu
	queued atomic.Int32                    // requests in here

	mu     sync.Mutex // guards the fields below
	closed bool
	next   uint64 // how many requests have had a place in the table
	of     map[uint64]*waiting
	first  *waiting
	last   *waiting
	users  map[pim.UserID]*share
	nodes  map[string]*link
	rounds uint64 // begun so far, at all nodes: the number of none comes twice, also if a node is forgotten and comes back
	drains []drain
	out    []batch // of the call under way
	freed  []*link // whose windows have room for what waits, see release

	here       []slowRequest // copies that are to be written here, see writeHere
	submitting bool          // writeHere runs

	body  []byte // buffers of send
	frame routepb.Submit
}

// waiting is a request in the table.
type waiting struct {
	*lane
	number      uint64
	request     *conv.Request // the connection's
	size        int64
	prev, next  *waiting
	began       time.Time
	sent        time.Time // when its node was asked first, or was silent and asked again, or said that it is under way
	to          string    // the node that was asked last, or will be
	flight      *link     // the request is under way to it; nil: to none
	held        *link     // it waits for the node's window; nil: for none
	told        bool      // it was given to a node before
	refused     bool      // a node can't write now, and another one was asked
	copies      []sentTo  // where it may be written yet
	withdrawing bool      // it was refused for good, while there were other copies; see withdraw.go
	withdrawals uint32    // how often it was withdrawn
}

// share is what a user has in the table.
type share struct {
	requests []*waiting // in the order in which they came
	bytes    int64
}

// link is what a lane knows of a node that it asks.
type link struct {
	round  uint64    // of what is sent to it
	place  uint64    // of the next message in the round
	due    bool      // what waits at it is to be sent again: it was silent
	lost   bool      // the same, since messages were lost and it is too soon after it was last done
	began  time.Time // the round
	silent int       // how often, since it was heard
	until  time.Time // it is not asked before

	// See window.go.
	flying int64      // bytes of the requests under way to it, about
	queue  []*waiting // those that wait until it takes more, and some that wait no longer
	held   int        // the former
	freed  bool       // it is in lane.freed
}

// drain is a call of Drain: it waits for the requests up to a number.
type drain struct {
	upTo uint64
	done chan struct{}
}

// batch is what one call sends to one node.
type batch struct {
	to       string
	requests []*waiting
}

func newLane(r *Router, number uint32) *lane {
	return &lane{
		router: r, number: number, of: make(map[uint64]*waiting), users: make(map[pim.UserID]*share), nodes: make(map[string]*link),
	}
}

// submit takes requests of one user.
func (l *lane) submit(requests []*conv.Request) {
	if l.allHere(requests) {
		l.router.local.Submit(requests)
		return
	}
	var straight []*conv.Request // to the writers of this node
	var refused []conv.Answer
	now := time.Now()
	l.mu.Lock()
	for _, r := range requests {
		to := l.target(placed(r), now)
		if to == l.router.self && l.queued.Load() == 0 && !l.closed {
			straight = append(straight, r)
			continue
		}
		if err := l.admit(r, to); err != nil {
			refused = append(refused, conv.Answer{Request: r, Err: err})
			continue
		}
		l.send(l.add(r, now), to, now)
	}
	l.flush()
	l.mu.Unlock()
	if len(refused) > 0 {
		l.router.gateway.Deliver(refused, nil)
	}
	if len(straight) > 0 {
		l.router.local.Submit(straight)
	}
}

// allHere reports whether this node writes all of requests, and may be handed them straight.
func (l *lane) allHere(requests []*conv.Request) bool {
	table := l.table.Load()
	if l.router.local == nil || l.queued.Load() > 0 {
		return false
	}
	if table == nil {
		return true
	}
	for i, r := range requests {
		if i > 0 && r.Conversation == requests[i-1].Conversation && r.Conversation != "" {
			continue
		}
		if to, ok := table.Of(placed(r)); ok && to != l.router.self {
			return false
		}
	}
	return true
}

// target returns the node that is to write a conversation, "" if there is none.
func (l *lane) target(key string, now time.Time) string {
	return l.by(l.table.Load(), key, now)
}

func (l *lane) by(table *placement.Table, key string, now time.Time) string {
	to, ok := "", false
	if table != nil {
		to, ok = table.Of(key)
	}
	if l.router.local == nil {
		if to == l.router.self {
			return ""
		}
		return to
	}
	if !ok || to == l.router.self {
		return l.router.self
	}
	if n := l.nodes[to]; n != nil && now.Before(n.until) {
		return l.router.self
	}
	return to
}

// admit returns why r gets no place in the table, nil if it gets one.
func (l *lane) admit(r *conv.Request, to string) error {
	if l.closed {
		return errStopping
	}
	if to == "" {
		return errNoWriter
	}
	size := sizeOf(r)
	freeRequests, freeBytes := maxWaiting-l.router.waiting.Load(), maxBytes-l.router.bytes.Load()
	if freeRequests <= 0 || freeBytes < size {
		l.router.metrics.refused("table")
		return errTableFull
	}
	if s := l.users[r.Sender]; s != nil && (int64(len(s.requests)) >= freeRequests/userShare || s.bytes+size > freeBytes/userShare) {
		l.router.metrics.refused("user_share")
		return errShare
	}
	return nil
}

// sizeOf returns how much memory r takes up, in bytes, about.
func sizeOf(r *conv.Request) int64 {
	const each, member = 640, 48
	return int64(each + len(r.Payload) + member*(len(r.Members)+len(r.Mentions)))
}

// add gives r a place in the table.
func (l *lane) add(r *conv.Request, now time.Time) *waiting {
	l.next++
	w := &waiting{lane: l, number: l.next<<laneBits | uint64(l.number), request: r, size: sizeOf(r), began: now, prev: l.last}
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.of[w.number] = w
	s := l.users[r.Sender]
	if s == nil {
		s = new(share)
		l.users[r.Sender] = s
	}
	s.requests = append(s.requests, w)
	s.bytes += w.size
	l.router.waiting.Add(1)
	l.router.bytes.Add(w.size)
	l.router.metrics.waiting.Inc()
	return w
}

// remove takes w out of the table. It reports whether w was in it. The caller must flush.
func (l *lane) remove(w *waiting) bool {
	if l.of[w.number] != w {
		return false
	}
	delete(l.of, w.number)
	l.land(w)
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	s := l.users[w.request.Sender]
	at := slices.Index(s.requests, w)
	s.requests = slices.Delete(s.requests, at, at+1)
	if s.bytes -= w.size; len(s.requests) == 0 {
		delete(l.users, w.request.Sender)
	}
	l.router.waiting.Add(-1)
	l.router.bytes.Add(-w.size)
	l.router.metrics.waiting.Dec()
	l.endDrains()
	return true
}

// again counts that w is sent once more, unless it has only waited so far.
func (w *waiting) again(reason string) {
	if w.held == nil {
		w.router.metrics.again(reason)
	}
}

// settle takes the answer of this node's writers to their copy of w's request. It returns the answer to
// the connection's own, and whether it is one to hand out.
func (w *waiting) settle(a conv.Answer) (answer conv.Answer, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[w.number] != w {
		w.router.metrics.late.Inc()
		return a, false
	}
	w.gone(w.router.self) // it had one: what is here stays here until it is answered
	if a.Err != nil && !w.settled(a.Err, time.Now()) {
		w.flush()
		return a, false
	}
	w.remove(w)
	w.flush()
	w.request.Conversation = a.Request.Conversation // a create has one now
	a.Request = w.request
	return a, true
}

// giveBack takes w out of the table, and returns the answer that it has failed.
func (l *lane) giveBack(w *waiting, err error) conv.Answer {
	l.remove(w)
	return conv.Answer{Request: w.request, Err: err}
}

// isGone reports whether the connection of r has gone. Its client sends r again over another one, and
// nobody waits for the answer here.
func isGone(r *conv.Request) bool {
	c, ok := r.Origin.(interface{ Gone() bool })
	return ok && c.Gone()
}

// link returns what the lane knows of a node.
func (l *lane) link(node string) *link {
	n := l.nodes[node]
	if n == nil {
		n = new(link)
		l.nodes[node] = n
		l.begin(n)
	}
	return n
}

// begin begins a round.
func (l *lane) begin(n *link) {
	l.rounds++
	n.round, n.place = l.rounds, 0
}

// see takes a new view.
func (l *lane) see(v *bus.View, table *placement.Table) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := l.first; w != nil; w = w.next {
		w.copies = slices.DeleteFunc(w.copies, func(c sentTo) bool { return c.ended(v) })
		switch {
		case w.withdrawing:
			w.withdraw(now)
		case l.table.Load() == table || w.to == l.router.self: // of the latter, its writers answer
		case isGone(w.request): // see tick
		default:
			if to := l.by(table, placed(w.request), now); to != w.to && to != "" {
				w.again("moved")
				l.send(w, to, now)
			}
		}
	}
	l.flush()
	l.table.Store(table) // only now: what is submitted next goes behind what was sent again
	for name := range l.nodes {
		if v.Node(name) == nil {
			delete(l.nodes, name)
		}
	}
}

// again sends again what waits at a node, in a new round. There was a gap.
func (l *lane) again(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[node]; n != nil {
		l.gap(node, n, time.Now())
	}
}

// gap is again with mu held. Rounds that follow each other too soon wait for tick: what is sent again must not
// itself be the reason of the next loss, and a node that takes nothing must not be asked as fast as it says so.
func (l *lane) gap(node string, n *link, now time.Time) {
	if now.Sub(n.began) < tickEvery {
		n.lost = true
		l.router.watch()
		return
	}
	l.repeat(node, "gap", now)
	l.flush()
}

// repeat is again with mu held and without flush.
func (l *lane) repeat(node, why string, now time.Time) {
	n := l.link(node)
	l.begin(n)
	n.began, n.lost = now, false
	l.landAll(node, n, why)
	for w := l.first; w != nil; w = w.next {
		if w.to != node || isGone(w.request) {
			continue
		}
		to := node
		if !w.withdrawing {
			to = cmp.Or(l.target(placed(w.request), now), node)
		}
		sent := w.sent
		if l.send(w, to, now); to == node && why == "gap" {
			w.sent = sent // for all that the node says of gaps, it has said nothing of w
		}
	}
}

// missed takes a node's word that it has not taken a message of a round.
func (l *lane) missed(node string, round uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[node]; n != nil && n.round == round { // else what waits has been sent again since
		l.gap(node, n, time.Now())
	}
}

// tick sends again what has no answer, and gives up what has none for too long. It reports whether
// something waits for another node.
func (l *lane) tick(now time.Time) (some bool) {
	var failed []conv.Answer
	l.router.handing.RLock()
	defer l.router.handing.RUnlock()
	l.mu.Lock()
	for w := l.first; w != nil; {
		next := w.next
		switch {
		case w.to == l.router.self:
		case now.Sub(w.began) >= giveUp:
			l.router.metrics.gaveUp.Inc()
			failed = append(failed, l.giveBack(w, errNoAnswer))
		case isGone(w.request):
			failed = append(failed, l.giveBack(w, errGone))
		case w.held != nil:
			some = true // the node is silent, or not, about what it was sent before
		case now.Sub(w.sent) >= answerWithin:
			l.link(w.to).due = true
			some = true
		default:
			some = true
		}
		w = next
	}
	for name, n := range l.nodes {
		switch {
		case n.due:
			n.due = false
			if n.silent++; n.silent >= 2 {
				n.silent, n.until = 1, now.Add(distrust)
			}
			l.repeat(name, "silence", now)
		case n.lost && now.Sub(n.began) >= tickEvery:
			l.repeat(name, "gap", now)
		}
		some = some || n.lost
	}
	l.flush()
	l.mu.Unlock()
	if len(failed) > 0 {
		l.router.gateway.Deliver(failed, nil)
	}
	return some
}

// drained returns a channel that is closed when all requests that are in the table now are answered.
func (l *lane) drained() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := drain{l.next<<laneBits | uint64(l.number), make(chan struct{})}
	l.drains = append(l.drains, d)
	l.endDrains()
	return d.done
}

func (l *lane) endDrains() {
	for len(l.drains) > 0 && (l.first == nil || l.first.number > l.drains[0].upTo) {
		close(l.drains[0].done)
		l.drains = l.drains[1:]
	}
}

// close refuses all that waits, and whatever comes.
func (l *lane) close() {
	var failed []conv.Answer
	l.mu.Lock()
	l.closed = true
	for l.first != nil {
		failed = append(failed, l.giveBack(l.first, errStopping))
	}
	l.mu.Unlock()
	if len(failed) > 0 {
		l.router.gateway.Deliver(failed, nil)
	}
}
