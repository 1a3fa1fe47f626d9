package conv

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// machine is the writer of one conversation. Requests, what was looked up, the outcomes of
// writes and the time go in; what follows from them goes into an output. A machine waits
// for nothing and does no I/O. Its driver does both. What one machine waits for holds up no
// other machine.
//
// A machine takes requests in the order in which they came. One batch takes all that wait,
// and the next batch begins when the outcome of the first is known. A request that needs a
// look-up waits for it, and so do the requests behind it. An erase whose first message is searched is
// the exception: it goes behind those that wait.
//
// testdata tells in stories what a machine does.
type machine struct {
	id      pim.ConversationID
	live    *live      // nil until it is loaded
	waiting []*Request // in the order in which they came
	batch   *batch     // under way; nil if there is none
	lookup  *lookup    // under way; nil if there is none. It owns live meanwhile

	searching int // searches that are under way beside all that, see searchErased

	announced announced // the intent, see effects.go

	// Owned by the driver.
	touched     bool     // in driver.touched
	weight      int      // cost when it was counted last, see memory.go
	weighed     pim.Seq  // the log's last seq at that time
	bulkWeighed int      // bulk at that time
	newer       *machine // the one that was used next after this
	older       *machine
	used        time.Time // when it got its place in that list
}

// live is a conversation in memory: its state, and which of the cells that follow from the
// log are known to be written.
type live struct {
	*conversation

	// stale is set if entries behind the snapshot were loaded: nobody knows whether the cells
	// that follow from them were written. The next write writes these cells again: every
	// member's line, the memberships in unsettled, and the last line of each user who left.
	stale     bool
	unsettled map[pim.UserID]inbox.Line

	loaded marks               // of a group, until the load is complete
	untold map[pim.UserID]bool // likewise, see knowUntold

	unsettledSettings map[string]sent     // by entity of an own log, with the newest position that was shown: the next write writes the settings, their effects and read cells again
	unsettledSent     map[pim.UserID]sent // newest messages of a group's members whose cells the next write writes again
	unsettledIDs      []store.CellWrite   // cells of strange IDs that the next write writes again
	unsettledMentions []store.CellWrite   // cells of mentions, likewise

	// unlisted is set if the index of logs may not have the log. The next write adds it, and no
	// snapshot is written before.
	unlisted bool

	retained   *retained         // for how long entries are kept; nil until something asks, see knowRetained
	unretained []store.CellWrite // of the retains behind the snapshot, which the next write writes again

	unsettledFolds    []*target       // whose cells the next write writes again
	unsettledErasures []store.Erasure // of recalls, which it does again
	unsettledPins     bool            // it writes the pinned messages again

	fence    uint64 // the log's fence, read before everything else
	affected bool   // an entry behind noted has effects; they are written
	// mixed is set if a member's cell tells of an entry behind the last one. The cells of others
	// may be missing, so the state may be one that never was.
	mixed bool

	warmed bool // it was loaded before anything asked for it, and others may have written since; see warm.go

	front    pim.Seq // of the log, when it was loaded
	snapshot pim.Seq // of the newest snapshot that was loaded or is durable; 0: there is none
	noted    pim.Seq // of the newest snapshot that was loaded, or whose write has begun; 0: there is none
	behind   int     // bytes of the entries behind noted
	durable  pim.Seq // the log's last durable seq: that before the batch under way
}

// view is what the machines of a driver see of the world in one turn.
type view struct {
	now       pim.Millis
	at        time.Time  // now by a clock that nobody sets
	set       pim.Millis // when now was set, see pim.Moment
	closed    error      // why nothing may be appended; nil if entries may be
	announcer *announcer
}

// output is what machines have come to. The driver carries it out.
type output struct {
	batches []*batch       // their next writes are to be carried out
	later   []*store.Write // snapshots, and intents to be forgotten; nobody waits for that
	lookups []*lookup      // to be carried out
	answers []Answer
	pushes  []Published
	spent   []*batch // for the pool once answers and pushes, which refer to them, are delivered
}

// delivered empties what Outlet.Deliver was called with. o keeps its buffers.
func (o *output) delivered() {
	clear(o.answers)
	clear(o.pushes)
	clear(o.spent)
	o.answers, o.pushes, o.spent = o.answers[:0], o.pushes[:0], o.spent[:0]
}

func (o *output) fail(r *Request, err error) {
	o.answers = append(o.answers, Answer{Request: r, Err: retryable(err)})
}

// succeed answers r, whose entry e in the log of c is durable.
func (o *output) succeed(c *conversation, r *Request, e *pim.Entry, duplicate bool) {
	if c.hidesErase(e) { // how far the log goes is not the sender's to know
		o.answers = append(o.answers, Answer{Request: r, Duplicate: duplicate})
		return
	}
	o.answers = append(o.answers, answer(r, e, duplicate))
}

// busy reports whether m waits for something.
func (m *machine) busy() bool {
	return m.batch != nil || m.lookup != nil || len(m.waiting)+m.searching > 0
}

// ready reports whether m can take what waits into a batch.
func (m *machine) ready() bool {
	return m.batch == nil && m.lookup == nil && m.live != nil && !m.live.warmed && len(m.waiting) > 0
}

// advance does what can be done now. It takes empty batches from free.
func (m *machine) advance(v *view, o *output, free *batchPool) {
	for m.batch == nil && m.lookup == nil && len(m.waiting) > 0 {
		if m.live == nil || m.live.warmed {
			m.look(&lookup{waited: len(m.waiting), warmed: m.live}, o)
			return
		}
		b := free.get()
		if l := m.fill(b, v, o); l != nil && b.empty() {
			if l.write == nil {
				l.ahead = m.ahead()
			}
			m.look(l, o)
			o.spent = append(o.spent, b)
			return
		}
		o.answers = append(o.answers, b.failed...)
		switch {
		case b.mustWrite():
			m.batch = b
			b.finish()
			o.batches = append(o.batches, b)
		case len(b.refused) > 0:
			m.repeats(b, o)
			m.verify(b, o)
		default:
			m.repeats(b, o)
			o.spent = append(o.spent, b)
		}
	}
}

// look makes l the look-up of m.
func (m *machine) look(l *lookup, o *output) {
	l.machine, m.lookup = m, l
	o.lookups = append(o.lookups, l)
}

// fill puts into b what is due, and what the waiting requests come to. If a request needs a
// look-up, fill stops there and returns it. A request for which something is to be searched waits no more:
// it does again when the search has ended.
func (m *machine) fill(b *batch, v *view, o *output) *lookup {
	b.machine, b.conv = m, m.live
	m.live.durable = m.live.last
	for len(m.waiting) > 0 && !b.full() {
		r := m.waiting[0]
		r.set = v.set
		if r.findings != nil && r.findings.outdated(v) {
			r.findings = nil
		}
		if r.findings == nil { // else it is stepped as of the moment for which it was looked up
			r.waited(v.at)
			if m.live.needs(r, v) {
				return &lookup{request: r, view: *v}
			}
		}
		if r.found().search {
			m.shift()
			m.search(r, o)
			continue
		}
		if r.affects() && m.mustAnnounce(r, v) {
			return &lookup{request: r, write: v.announcer.intent(m.id)}
		}
		if b.stepped == 0 {
			m.due(b, v)
		}
		m.shift()
		m.step(b, r, v)
	}
	return nil
}

// shift takes the first of the requests that wait out of them.
func (m *machine) shift() {
	m.waiting[0] = nil
	if m.waiting = m.waiting[1:]; len(m.waiting) == 0 {
		m.waiting = nil
	}
}

// search begins the search for r.
func (m *machine) search(r *Request, o *output) {
	r.findings = nil
	m.searching++
	o.lookups = append(o.lookups, &lookup{machine: m, request: r, search: true})
}

// rewriteAfter is how many entries a load may find behind the snapshot. If it finds more, the
// next batch writes the cells that follow from them, even without entries of its own.
// Otherwise a conversation that is loaded again and again, and never gets to write a snapshot,
// would find ever more.
const rewriteAfter = 128

// due puts into b what is due before any request: a snapshot, or the cells that follow from a
// long tail of the log.
func (m *machine) due(b *batch, v *view) {
	l := m.live
	switch {
	case v.closed != nil:
	case l.stale && l.last-l.snapshot > rewriteAfter:
		b.rewrites = true
	case l.snapshotDue(snapshotEvery), l.snapshotsLost():
		b.snapshot = l.last
		b.write.Cells = append(b.write.Cells, l.snapshotCell())
	}
}

// step takes one request, for which everything needed is known.
func (m *machine) step(b *batch, r *Request, v *view) {
	l, f, now := m.live, r.found(), v.now
	if r.findings != nil {
		now = f.view.now // its anchor was looked up for this time
	}
	r.findings = nil
	f.view.at = v.at // for what is counted by the hour
	b.stepped++
	r.place = int32(b.stepped)
	if f.err != nil {
		b.failed = append(b.failed, Answer{Request: r, Err: retryable(f.err)})
		return
	}
	if v.closed != nil && f.first == 0 && l.ids.Seq(r.ClientID) == 0 {
		b.failed = append(b.failed, Answer{Request: r, Err: retryable(v.closed)})
		return
	}
	switch o := l.step(r, f, now); {
	case o.err != nil && !l.mustFence(r) && r.loaded && !l.mixed && len(b.entries) == 0: // the state was read after r had come
		b.failed = append(b.failed, Answer{Request: r, Err: retryable(o.err)})
	case o.err != nil:
		b.refused = append(b.refused, Answer{Request: r, Err: retryable(o.err)}) // r.read.err may be that of a look-up
	case o.first != 0:
		b.repeats = append(b.repeats, repeat{r, o.first, f.entry})
	default:
		b.add(r, &o)
	}
}

// written takes the outcomes of the writes of m's batch that were under way. It goes on
// with the next ones, if there are more. It returns why the batch has failed, or nil.
func (m *machine) written(o *output) error {
	b := m.batch
	more, err := b.next()
	switch {
	case err == nil && more:
		o.batches = append(o.batches, b)
		return nil
	case err == nil && b.looks():
		m.look(&lookup{affecting: b}, o)
		return nil
	}
	return m.ended(b, err, o)
}

// ended takes note that b has no more writes, or has failed with err, which it returns.
func (m *machine) ended(b *batch, err error, o *output) error {
	m.batch = nil
	b.endDeeds(b.write.Err)
	if err != nil {
		m.undo(b, err, o)
		o.spent = append(o.spent, b)
		return err
	}
	if m.announced.intent != nil {
		m.forgetIntent(o)
	}
	b.conv.settled(b)
	for i, r := range b.requests {
		o.succeed(b.conv.conversation, r, &b.entries[i], false)
	}
	m.repeats(b, o)
	if len(b.entries) == 0 && len(b.refused) > 0 { // nothing compared the log's last seq and fence
		m.verify(b, o)
		return nil
	}
	o.answers = append(o.answers, b.refused...)
	if len(b.entries) > 0 {
		o.pushes = append(o.pushes, b.published())
	}
	o.spent = append(o.spent, b)
	return nil
}

// repeats answers the requests of b that have an entry already.
func (m *machine) repeats(b *batch, o *output) {
	for _, rep := range b.repeats {
		e := rep.entry
		if e == nil { // the entry is in this batch
			e = &b.entries[rep.first-b.write.After-1]
		}
		if e.Sender != rep.request.Sender {
			o.fail(rep.request, notTheSender(rep.request))
			continue
		}
		o.succeed(b.conv.conversation, rep.request, e, true)
	}
}

// undo forgets the state, because a write of b failed with err. If b lost against another
// writer, or if something of b may have taken effect, its requests wait again. The state is
// loaded anew, and they are stepped on that. Otherwise they fail.
func (m *machine) undo(b *batch, err error, o *output) {
	m.live = nil
	var again []*Request
	again = append(again, b.requests...)
	for _, rep := range b.repeats {
		again = append(again, rep.request)
	}
	for i := range b.refused {
		again = append(again, b.refused[i].Request)
	}
	slices.SortFunc(again, func(a, b *Request) int { return cmp.Compare(a.place, b.place) })
	if len(again) == 0 && len(m.waiting) > 0 {
		// b had only cells, so no request of b counts this try. The first request that waits
		// counts it. Otherwise m would try for ever.
		again, m.waiting = append(again, m.waiting[0]), m.waiting[1:]
	}
	var conflict *store.ConflictError
	if b.write.Err == nil && len(b.entries) > 0 { // its effects failed
		o.pushes = append(o.pushes, b.published())
	}
	if b.write.Err == nil || errors.As(err, &conflict) || errors.Is(err, store.ErrUnknown) {
		for _, r := range b.requests {
			r.fenced = r.fenced && !errors.Is(b.write.Err, store.ErrUnknown)
		}
		m.again(again, b.conv, err, o)
		return
	}
	for _, r := range again {
		o.fail(r, err)
	}
}

// again puts requests back in front of those that wait, because their batch, made on the state
// l, failed, or because l, by which they were refused, was not the newest. A request that has
// been tried often enough fails with err.
func (m *machine) again(requests []*Request, l *live, err error, o *output) {
	at := logEnd{l.durable, l.fence}
	kept := requests[:0]
	for _, r := range requests {
		r.findings, r.loaded = nil, false
		if r.tries.another(at) {
			kept = append(kept, r)
		} else {
			o.fail(r, err)
		}
	}
	m.waiting = append(kept, m.waiting...)
}

// found takes what l, a look-up or search of m, has found.
func (m *machine) found(l *lookup, o *output) {
	if l.search {
		m.searched(l)
		return
	}
	m.lookup = nil
	switch {
	case l.refusals != nil && l.write != nil:
		m.raised(l, o)
	case l.refusals != nil:
		m.verified(l, o)
	case l.affecting != nil:
		b := l.affecting
		b.effects = l.effects
		switch {
		case l.err != nil:
			m.ended(b, l.err, o)
		case len(b.effects) > 0:
			o.batches = append(o.batches, b)
		case b.looks():
			m.look(&lookup{affecting: b}, o)
		default:
			m.ended(b, nil, o)
		}
	case l.write != nil:
		if l.err != nil {
			l.request.findings = &findings{err: l.err}
		}
		m.announced.written(l.write, l.err, m.live.last)
	case l.request != nil: // the result is in request.findings
		if r := l.request; r.found().first > m.live.last {
			// Another writer has appended the entry. Nobody knows whether the cells that
			// follow from it are written, so the state must take it in.
			r.findings = nil
			m.live = nil
		}
	case l.err != nil:
		m.failAll(l.err, o)
	default:
		m.live = l.live
		m.announced.holds = false // somebody may have settled it before the load
		for _, r := range m.waiting[:l.waited] {
			r.loaded = true
		}
	}
}

// searched takes the outcome of l, a search.
func (m *machine) searched(l *lookup) {
	m.searching--
	if l.err != nil {
		l.request.findings = &findings{err: l.err}
	}
	m.waiting = append(m.waiting, l.request)
}

// failAll answers all waiting requests with err.
func (m *machine) failAll(err error, o *output) {
	for _, r := range m.waiting {
		o.fail(r, err)
	}
	m.waiting = nil
}

// verify begins to find out whether the refusals of b may be given. Another writer may have
// written, so the state may not be the newest. And an earlier append of a refused request may be
// under way: here with an unknown outcome, at another writer, or in a process that has died. It
// could take effect after the refusal, but not once the log's fence is another. Only the client
// could know whether there is such an append, and it may be wrong. So the fence is raised first,
// once for all refusals of b. The append of a batch does the same for the refusals in that batch.
// A refusal after which the client sends again is none of those: what takes effect later is answered then.
func (m *machine) verify(b *batch, o *output) {
	l := &lookup{refusals: b}
	if slices.ContainsFunc(b.refused, func(a Answer) bool { return final(a.Err) && !a.Request.fenced }) {
		l.write = &store.Write{Log: inbox.Entries(m.id), Raise: true}
	}
	m.look(l, o)
}

// mustFence reports whether the log's fence must be raised before r is refused. In an empty log
// only the first message of a direct conversation, and a command, can be under way by
// themselves: everything else follows an entry of the same batch. So nothing else raises the
// fence there, or anybody could fill the store with the fences of logs that do not exist.
func (l *live) mustFence(r *Request) bool {
	first := r.Kind == pim.EntryCommand || r.Kind == pim.EntryMessage && !l.id.IsGroup()
	return !r.fenced && (l.last > 0 || first)
}

// raised takes the outcome of the raise that verify has asked for. If nobody else has raised the
// fence since the state was read, the fence has grown by 1, and verified finds that it has.
func (m *machine) raised(l *lookup, o *output) {
	if l.err != nil {
		m.unverified(l, o)
		return
	}
	for i := range l.refusals.refused {
		l.refusals.refused[i].Request.fenced = true
	}
	m.live.fence++
	m.look(&lookup{refusals: l.refusals}, o)
}

// unverified answers refusals that could not be verified with the error of l.
func (m *machine) unverified(l *lookup, o *output) {
	for i := range l.refusals.refused {
		o.fail(l.refusals.refused[i].Request, l.err)
	}
	o.spent = append(o.spent, l.refusals)
}

// verified answers refusals if the state was the newest. Otherwise their requests wait again.
func (m *machine) verified(l *lookup, o *output) {
	if l.err != nil {
		m.unverified(l, o)
		return
	}
	b := l.refusals
	o.spent = append(o.spent, b)
	switch {
	case l.last == m.live.last && l.fence == m.live.fence:
		o.answers = append(o.answers, b.refused...)
	default: // another writer has written, or raised the fence
		var again []*Request
		for i := range b.refused {
			again = append(again, b.refused[i].Request)
		}
		m.again(again, m.live, errOvertaken, o)
		m.live = nil
	}
}

// errOvertaken ends a request that another writer of the conversation overtakes all the time.
var errOvertaken = pim.Errorf(pim.KindUnavailable, "another writer writes to the conversation")

// retryable returns err with a kind that makes clients send again, if it is a failure of the
// node and not of the request: no client gives a message up because data is corrupt or the
// node is stopping.
func retryable(err error) error {
	switch pim.KindOf(err) {
	case pim.KindUnknown, pim.KindCorrupt: // unknown: of a context, when the writers are closed
		return pim.Errorf(pim.KindUnavailable, "the writer cannot read or write now: %w", err)
	}
	return err
}

// settled takes note that the batch b is durable, and with it all cells that follow from the
// log.
func (l *live) settled(b *batch) {
	l.stale, l.unsettled, l.unsettledSettings, l.unsettledSent, l.unsettledIDs = false, nil, nil, nil, nil
	l.unsettledMentions = nil
	l.unsettledFolds, l.unsettledErasures, l.unsettledPins, l.unerased = nil, nil, false, nil
	l.unlisted, l.unretained = false, nil
	if b.affects {
		l.targets, l.targetBytes = nil, 0 // an erasure has changed folds; an own log has none
	}
	l.dropTargets()
	if b.indexed {
		l.ids.Stored(b.level)
	}
	if b.snapshot != 0 {
		l.snapshot, l.noted, l.behind, l.affected = b.snapshot, b.snapshot, 0, false
	}
	l.affected = l.affected || b.affects
	for _, r := range b.write.Records {
		l.behind += len(r)
	}
	for _, a := range l.many { // not before: the entries that Trim forgets must be in the log
		a.Trim(anchorBytes)
	}
	l.many = l.many[:0]
}

// snapshotDue reports whether a snapshot should be written: if n entries or more, or
// snapshotBytes bytes or more, stand behind the last one, or an entry with effects, which the
// next load would write again. n is snapshotEvery or restedEvery.
func (l *live) snapshotDue(n pim.Seq) bool {
	return l.maySnap() && (l.last-l.noted >= n || l.behind >= snapshotBytes || l.affected)
}

// tailLong reports whether so much stands behind the last snapshot that the next one should not wait
// for the next batch.
func (l *live) tailLong() bool {
	return l.maySnap() && (l.last-l.noted >= tailEntries || l.behind >= tailBytes)
}

// snapshotsLost reports whether the next batch must carry a snapshot, since those that were written alone may all be lost: of
// these nobody learns the outcome, and a tail beyond tailBound cannot be loaded.
func (l *live) snapshotsLost() bool { return l.maySnap() && l.last-l.snapshot >= tailBound/4 }

// maySnap reports whether a snapshot may be written. A stale or unlisted state has none, because a snapshot
// says that all cells and effects are written.
func (l *live) maySnap() bool { return !l.stale && !l.unlisted && l.last > 0 }
