package gateway

import (
	"container/heap"
	"context"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
)

const (
	maxLooks    = 100                    // subjects that one connection looks at; more are left out
	userLooks   = 1000                   // that all connections of a user look at, together
	nodeLooks   = 1 << 18                // that all connections look at, together; then who has the most gives way
	maxSubjects = 2 * nodeLooks          // with those that nobody looks at any more and that still rest; more are left out
	lookPause   = 100 * time.Millisecond // between two PIMLooks of a connection, at least
	lookEvery   = time.Second            // between two tellings of a subject, at least
	lookUnsent  = 16 << 10               // bytes that wait for a connection, above which it is told nothing
	groupShare  = 4                      // one part in so many of the time may go to groups
	userShare   = 20                     // and one to what one user looks at,
	maxCharge   = 50 * time.Millisecond  // for one telling: the time of a read that hangs is nobody's doing
	userAhead   = time.Second            // though a user may be ahead of it by so long
	maxReady    = 4096                   // subjects that are to be told before a conversation, above which typing there is dropped
	typingEvery = time.Second            // between two PIMTyping of a connection for a conversation, at least
	maxTyped    = 4                      // conversations for which it sends one within typingEvery, at most
	maxTyping   = 8                      // users who write in a conversation, told at a time
	typingLasts = 3 * time.Second        // what is told later is not told
	maxSilent   = 64                     // users of a group whose typing is not taken, remembered at a time
	silentLasts = time.Minute            // for how long it is not
	maxFailures = 5                      // of telling a subject: the rest after one is twice as long, so many times
	warnEvery   = time.Minute            // between two warnings that subjects cannot be told
)

// looks are the conversations and users that are on devices' screens (PIMLook). If what others have
// read of a conversation changes, its lookers are told (PIMReceipt), and so they are who writes
// there (PIMTyping). The lookers of a user are told whether the user is connected (PIMPresence). A
// user is a subject by the ID of the own log. A subject is told at most once in lookEvery. One
// goroutine works for all of them: it reads once for all lookers of a subject, and one subject after
// the other, direct conversations first and users last. Groups, which may cost milliseconds each,
// get a share of its time, and so does what one user looks at. So looks cost a part of one CPU at
// most, whatever clients do, and who looks at much is told later, not others. The goroutine exists
// only while there is something to be told.
type looks struct {
	some  atomic.Int64 // subjects, to be asked without a lock
	known [64]lookShard

	overload *limit.Overload // set before the first connection

	mu       sync.Mutex // guards the fields below
	looking  map[*conn]*look
	totals   lookTotals
	subjects map[pim.ConversationID]*subject
	homes    Homes         // hear what is looked at, and say what may have changed; nil: this is the only node
	ready    [3][]*subject // that are to be told and do not rest: direct conversations, groups, users
	resting  restingSubjects
	rested   uint64                   // how many subjects have begun a rest
	paid     map[pim.UserID]time.Time // until when what the user looks at has used the user's share
	maxPaid  int                      // of so many those that are past are forgotten
	working  bool

	// Owned by work.
	groupsFrom time.Time // no group is told before
	failures   int       // since warned
	warned     time.Time
	computed   []computed // is to be sent
}

// lookShard has the names of some of the subjects. The drivers ask it about every conversation to
// which something was written, so that they take mu only if somebody looks there.
type lookShard struct {
	mu  sync.RWMutex
	ids map[pim.ConversationID]struct{}
}

var lookSeed = maphash.MakeSeed()

func (l *looks) shard(id pim.ConversationID) *lookShard {
	return &l.known[maphash.String(lookSeed, string(id))%uint64(len(l.known))]
}

func (h *lookShard) has(id pim.ConversationID) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, ok := h.ids[id]
	return ok
}

// note notes whether id is a subject.
func (h *lookShard) note(id pim.ConversationID, is bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !is:
		delete(h.ids, id)
	case h.ids == nil:
		h.ids = map[pim.ConversationID]struct{}{id: {}}
	default:
		h.ids[id] = struct{}{}
	}
}

// look is what a connection looks at. It is there from the first PIMLook to the connection's end.
type look struct {
	user    *userLooking
	ids     []pim.ConversationID // in the order of the PIMLook
	at      time.Time            // of the last PIMLook
	request uint64               // its ID
	cut     bool                 // some of it has given way since
}

// subject is a conversation or user that is looked at, ready or resting. It is in subjects as long
// as it is any of these.
type subject struct {
	id      pim.ConversationID
	lookers map[*conn]uint64 // hash of the last frame that the connection was sent, which is odd; or untold, or owed
	due     bool             // it is to be told; if it is not resting, it is ready
	changed bool             // what is known of it, so that all lookers are told
	typing  []typist
	silent  []typist // who wrote in a group and may not be named, since when
	told    time.Time
	said    presence     // of a user, by the home
	failed  int          // how often telling it has failed since it was told, up to maxFailures
	screen  inbox.Screen // owned by work

	rests bool
	until time.Time // the end of the rest
	order uint64    // of two rests that end at the same time, the one that began first ends first
	place int       // in looks.resting
}

// What a subject knows of a looker that was sent no frame, or not the last one.
const (
	untold uint64 = 0 // nothing is to be told before something changes
	owed   uint64 = 2 // the present state is to be told in any case
)

// typist is a user who writes in a conversation.
type typist struct {
	user pim.UserID
	at   time.Time
}

// telling is what is to be told of a subject, and to whom.
type telling struct {
	*subject
	lookers []*conn  // all of them
	news    []*conn  // those that are told the present state
	typing  []typist // told to all lookers
	said    presence
}

// restingSubjects is a heap of the subjects that rest (heap.Interface): the one whose rest ends
// first is the first.
type restingSubjects []*subject

func (r restingSubjects) Len() int { return len(r) }

func (r restingSubjects) Less(i, j int) bool {
	if !r[i].until.Equal(r[j].until) {
		return r[i].until.Before(r[j].until)
	}
	return r[i].order < r[j].order
}

func (r restingSubjects) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].place, r[j].place = i, j
}

// Push adds a *subject.
func (r *restingSubjects) Push(s any) {
	s.(*subject).place = len(*r)
	*r = append(*r, s.(*subject))
}

// Pop takes the last one out.
func (r *restingSubjects) Pop() any {
	last := len(*r) - 1
	s := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return s
}

// looked is what a PIMLook has come to.
type looked struct {
	before  time.Time // when the PIMLook before was
	full    bool      // something was left out: the user, or all together, look at too much
	gaveWay []gaveWay // looks of others that have ended for it
	start   bool      // the caller must start work
}

// set replaces what c looks at. request is the ID that the client gave the PIMLook.
func (l *looks) set(c *conn, ids []pim.ConversationID, request uint64) (r looked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.of(c)
	now := time.Now()
	kept := ids[:0]
	k.user.count(-len(k.ids))
	for _, id := range ids {
		if l.subjects[id] == nil && len(l.subjects) >= maxSubjects || !l.makeRoom(k.user, &r) { // nobody gives way for nothing
			r.full = true
			continue
		}
		s := l.subjects[id]
		if s == nil {
			s = &subject{id: id, lookers: make(map[*conn]uint64)}
			l.subjects[id] = s
			l.shard(id).note(id, true)
		}
		if _, looks := s.lookers[c]; !looks {
			if s.lookers[c] = untold; len(s.lookers) == 1 && l.homes != nil {
				l.homes.Look(id, true)
			}
			if rest := s.told.Add(lookEvery << s.failed); s.rests && s.until.After(rest) && !l.ahead(c.user, now) {
				s.until = rest // it rested for longer on account of others
				heap.Fix(&l.resting, s.place)
			}
			if _, user := id.OwnUser(); user {
				if s.lookers[c] = owed; l.homes == nil || s.said.known { // else it is marked when the home has said it
					r.start = l.mark(s) || r.start
				}
			}
		}
		kept = append(kept, id)
		k.user.count(1)
	}
	for _, id := range k.ids {
		if !slices.Contains(kept, id) {
			l.leave(c, id)
		}
	}
	l.some.Store(int64(len(l.subjects)))
	r.before, k.at, k.ids, k.request, k.cut = k.at, now, kept, request, false
	return r
}

// of returns the look of c. The caller holds l.mu.
func (l *looks) of(c *conn) *look {
	k := l.looking[c]
	if k == nil {
		if l.looking == nil {
			l.looking, l.subjects = make(map[*conn]*look), make(map[pim.ConversationID]*subject)
		}
		k = &look{user: l.totals.of(c.user)}
		k.user.conns = append(k.user.conns, c)
		l.looking[c] = k
	}
	return k
}

// end ends the look of c, whose connection is gone.
func (l *looks) end(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.looking[c]; k != nil {
		delete(l.looking, c)
		k.user.count(-len(k.ids))
		l.totals.gone(k.user, c)
		for _, id := range k.ids {
			l.leave(c, id)
		}
	}
}

// leave ends c's look at a conversation. The caller holds l.mu.
func (l *looks) leave(c *conn, id pim.ConversationID) {
	if s := l.subjects[id]; s != nil {
		if delete(s.lookers, c); len(s.lookers) == 0 && l.homes != nil {
			s.said = presence{}
			l.homes.Look(id, false)
		}
		l.drop(s)
	}
}

// drop forgets s, if nobody looks at it and it is neither ready nor resting. So who looks away and
// back again is not told sooner, and is told what was due. The caller holds l.mu.
func (l *looks) drop(s *subject) {
	if len(s.lookers) == 0 && !s.rests && !s.due {
		delete(l.subjects, s.id)
		l.shard(s.id).note(s.id, false)
		l.some.Store(int64(len(l.subjects)))
	}
}

// change notes that what is known of a subject may have changed. It reports whether the caller must
// start work.
func (l *looks) change(id pim.ConversationID) (start bool) {
	if l.some.Load() == 0 || !l.shard(id).has(id) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.subjects[id]
	if s == nil || s.changed {
		return false
	}
	s.changed = true
	return l.mark(s)
}

// types notes that user writes in a conversation. dropped says that too many write there, that the user
// may not be named, or that too much is to be told. The user is not told that: it would say that somebody looks there. If start is
// set, the caller must start work.
func (l *looks) types(user pim.UserID, id pim.ConversationID, now time.Time) (start, dropped bool) {
	if l.some.Load() == 0 || !l.shard(id).has(id) {
		return false, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.subjects[id]
	switch {
	case s == nil || len(s.lookers) == 0:
		return false, false
	case slices.ContainsFunc(s.typing, func(t typist) bool { return t.user == user }):
		return false, false // on another device
	case slices.ContainsFunc(s.silent, func(t typist) bool { return t.user == user && now.Sub(t.at) < silentLasts }):
		return false, true
	case len(s.typing) == maxTyping || l.before(s) >= maxReady:
		return false, true
	}
	s.typing = append(s.typing, typist{user, now})
	return l.mark(s), false
}

// silence notes users who wrote in a group and may not be named: most of them are no members. Their
// typing is not taken for a while, so that they take the places of members once and not every second.
func (l *looks) silence(s *subject, users []pim.UserID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.silent = slices.DeleteFunc(s.silent, func(t typist) bool { return now.Sub(t.at) >= silentLasts })
	for _, u := range users {
		s.silent = append(s.silent, typist{u, now})
	}
	s.silent = s.silent[max(0, len(s.silent)-maxSilent):]
}

// mark notes that s is to be told. It reports whether the caller must start work. The caller holds
// l.mu.
func (l *looks) mark(s *subject) (start bool) {
	if s.due {
		return false
	}
	s.due = true
	if s.rests {
		return false // work is under way
	}
	l.makeReady(s)
	start = !l.working
	l.working = true
	return start
}

// queueOf returns the index in looks.ready of subjects like s.
func queueOf(s *subject) int {
	if _, user := s.id.OwnUser(); user {
		return 2
	}
	if s.id.IsGroup() {
		return 1
	}
	return 0
}

// before returns how many subjects are told before s, which is to be told now. The caller holds l.mu.
func (l *looks) before(s *subject) (n int) {
	for i := range queueOf(s) + 1 {
		n += len(l.ready[i])
	}
	return n
}

// makeReady puts s among those that are to be told. The caller holds l.mu.
func (l *looks) makeReady(s *subject) {
	queue := &l.ready[queueOf(s)]
	*queue = append(*queue, s)
}

// rest has s, which does not rest, do so until a time. The caller holds l.mu.
func (l *looks) rest(s *subject, until time.Time) {
	s.rests, s.until, s.order = true, until, l.rested
	l.rested++
	heap.Push(&l.resting, s)
}

// ahead reports whether what user looks at has used more than the user's share. The caller holds
// l.mu.
func (l *looks) ahead(user pim.UserID, now time.Time) bool {
	return l.paid[user].Sub(now) > userAhead
}

// soonest returns when one of the lookers of s is not ahead of the user's share. The caller holds
// l.mu.
func (l *looks) soonest(s *subject, now time.Time) (soonest time.Time) {
	for c := range s.lookers {
		if !l.ahead(c.user, now) {
			return now
		}
		if paid := l.paid[c.user]; soonest.IsZero() || paid.Before(soonest) {
			soonest = paid
		}
	}
	return soonest
}

// charge charges the users who look at a subject with what it cost to tell them, in equal parts.
func (l *looks) charge(users []pim.UserID, cost time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paid == nil {
		l.paid = make(map[pim.UserID]time.Time)
	}
	for _, u := range users {
		from := l.paid[u]
		if from.Before(now) {
			from = now
		}
		l.paid[u] = from.Add(userShare * cost / time.Duration(len(users)))
	}
	if len(l.paid) > l.maxPaid {
		maps.DeleteFunc(l.paid, func(_ pim.UserID, until time.Time) bool { return until.Before(now) })
		l.maxPaid = 2*len(l.paid) + 1024
	}
}

// next returns what is to be told next, or how long to wait until something may be. done says that
// nothing is left to be told. A subject all of whose lookers are ahead of their users' shares rests
// until one is not.
func (l *looks) next(now time.Time) (t telling, wait time.Duration, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.resting) > 0 && !now.Before(l.resting[0].until) {
		s := heap.Pop(&l.resting).(*subject)
		if s.rests = false; s.due {
			l.makeReady(s)
		} else {
			l.drop(s)
		}
	}
	wait = lookEvery
	waits := false // groups wait, or what is not told now
	for i := range l.ready {
		if l.holds(i) {
			waits = waits || len(l.ready[i]) > 0
			continue
		}
		if i == 1 && len(l.ready[1]) > 0 && now.Before(l.groupsFrom) {
			waits, wait = true, l.groupsFrom.Sub(now)
			continue
		}
		for len(l.ready[i]) > 0 {
			s := l.ready[i][0]
			l.ready[i][0] = nil
			l.ready[i] = l.ready[i][1:]
			if len(s.lookers) == 0 {
				s.due, s.changed, s.typing = false, false, nil
				l.drop(s)
				continue
			}
			if soonest := l.soonest(s, now); soonest.After(now) {
				l.rest(s, soonest)
				continue
			}
			return l.take(s, now), 0, false
		}
	}
	if len(l.resting) == 0 && !waits && len(l.computed) == 0 {
		l.working = false
		return telling{}, 0, true
	}
	if len(l.resting) > 0 {
		wait = min(wait, l.resting[0].until.Sub(now))
	}
	return telling{}, wait, false
}

// take returns what is to be told of s, which is ready no more and rests. The caller holds l.mu.
func (l *looks) take(s *subject, now time.Time) telling {
	t := telling{subject: s, typing: s.typing, said: s.said}
	for c, last := range s.lookers {
		t.lookers = append(t.lookers, c)
		if s.changed || last == owed {
			t.news = append(t.news, c)
		}
	}
	s.due, s.changed, s.typing, s.told = false, false, nil, now
	l.rest(s, now.Add(lookEvery))
	return t
}

// What tell has computed is sent when no other subject is ready, when it is for so many subjects, or
// when so much time has passed.
const (
	computedAtOnce = 64
	computedFor    = lookEvery / 50
)

// work calls tell for each subject that is to be told, and send for what was computed, until nothing
// is left or ctx ends.
func (l *looks) work(ctx context.Context, tell func(telling), send func()) {
	var since time.Time // when the first of computed was
	for {
		begun := time.Now()
		t, wait, done := l.next(begun)
		switch {
		case done:
			return
		case t.subject == nil && len(l.computed) > 0:
			send()
		case t.subject == nil:
			select {
			case <-time.After(min(wait, lookEvery/20)): // another subject may be ready sooner
			case <-ctx.Done():
				return
			}
		default:
			before := len(l.computed)
			tell(t)
			now := time.Now()
			l.charge(usersOf(t.told()), min(now.Sub(begun), maxCharge), now)
			if t.id.IsGroup() {
				l.groupsFrom = now.Add((groupShare - 1) * min(now.Sub(begun), maxCharge))
			}
			if before == 0 && len(l.computed) > 0 {
				since = now
			}
			if n := len(l.computed); n >= computedAtOnce || n > 0 && now.Sub(since) > computedFor {
				send()
			}
		}
	}
}

// told returns the connections for whom the telling is.
func (t *telling) told() []*conn {
	if len(t.typing) > 0 {
		return t.lookers
	}
	return t.news
}

// usersOf returns the users of conns, each once, in order.
func usersOf(conns []*conn) []pim.UserID {
	users := make([]pim.UserID, 0, len(conns))
	for _, c := range conns {
		users = append(users, c.user)
	}
	slices.Sort(users)
	return slices.Compact(users)
}
