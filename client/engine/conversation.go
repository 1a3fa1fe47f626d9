package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	// gapPatience is how long an entry of this device, whose answer came ahead of
	// entries of others, waits until these are pushed: the server hands out the answers
	// of a commit before its pushes. A gap between pushes is pulled at once.
	gapPatience = 200 * time.Millisecond
)

// unknownSeq is the target of a conversation whose newest seq is still to be
// learned.
const unknownSeq = pim.Seq(1<<64 - 1)

// newestOf returns a newest seq that a server names. It is never unknownSeq.
func newestOf(seq uint64) pim.Seq { return min(pim.Seq(seq), unknownSeq-1) }

// conversation is the position of this device in one conversation.
//
// Entries up to known are stored and handed over, except those in holes. There are more
// of them up to newest. Entries that came ahead of a gap wait in ahead, which is a cache:
// an entry that is not in it is pulled.
type conversation struct {
	id      pim.ConversationID
	known   pim.Seq
	newest  pim.Seq
	count   uint64        // counting messages up to counted
	counted pim.Seq       // newest; or less if a pull named newest, which tells no count
	last    *pim.Entry    // at newest, from a Summary; nil once known has reached it
	lastCut bool          // the Summary cut the payload of last
	own     pim.Seq       // the newest entry heard of that makes all before it read, see effects.reads
	ownUpTo uint64        // counting messages up to own
	ownAll  uint64        // messages up to own that mention all
	said    pim.Mentioned // of the user, as far as was heard
	readTo  pim.Seq       // see Engine.readUpTo
	left    bool
	holes   holes                  // what is missing below known
	folded  pim.Seq                // nothing in the stored folds is newer
	stale   pim.Seq                // folds up to here may lack something; 0: none does
	fresh   pim.Seq                // those up to here were pulled again, by this process
	erased  map[pim.UserID]pim.Seq // how far the users' messages are erased; nil: nothing is
	front   pim.Seq                // entries before it were removed by retention, see trimmed
	lost    pim.Seq                // as Conversation.Lost
	recent  pim.Millis             // when the newest entry that was heard of was written
	acked   pim.Seq                // acknowledged on this connection or before, as far as is known

	followed bool          // with Config.Watch: Follow named it
	target   pim.Seq       // where catching up ends: see Engine.aim; 0: nowhere
	ahead    []pim.Entry   // ascending by seq, all above known+1
	gapBy    time.Duration // when the gap is pulled if pushes do not close it; 0: not set
	retryAt  time.Duration // after a failed pull: when it is tried again; 0: not set
	failures int           // pulls in a row that failed
	pulling  bool          // a pull is queued or under way
	again    bool          // that pull was made before the last aim: pull once more after it
	rowDirty bool          // c is in effects.rowsDirty
	ackDirty bool          // c is in acks.dirty

	doubt   *check        // what is known of c may not hold; nil: it does
	checked bool          // c was compared with the server on this connection
	movedAt time.Duration // when the position last moved
	former  bool          // c is in Engine.former: entries of c may be kept aside
	whole   bool          // no gap is jumped, because those entries may be in it
	unseen  []pim.Seq     // where the messages stand that keepUnseen kept aside, at most maxUnseen
	reading bool          // a Read of these entries is under way
	peeked  bool          // formerRead has looked whether the create is kept aside, see outbox.stuck
	back    int           // messages in the outbox that are being sent again (Outgoing.Again)
}

func (c *conversation) row() Conversation {
	// Newest and Count are of one entry: a read command takes over both, for good.
	r := Conversation{ID: c.id, Known: c.known, Newest: max(c.known, c.counted), Count: c.count, Own: c.own, OwnCount: c.ownUpTo, Mentioned: c.said, OwnAll: c.ownAll, Left: c.left, Holes: c.holes, Folded: c.folded, Stale: c.stale, Front: c.front, Lost: c.lost}
	if c.last != nil && c.known < c.newest {
		r.Last, r.LastCut = *c.last, c.lastCut
	}
	return r
}

// heard takes note that there is an entry at seq; count is the counting messages up to
// it.
func (c *conversation) heard(seq pim.Seq, count uint64) {
	c.newest = max(c.newest, seq)
	if seq > c.counted {
		c.counted, c.count = seq, count
	}
}

// reads takes note of an entry of c if it makes everything before it read, on every
// device alike. A message that the user sent does, since whoever writes has read what
// came before; so does the entry that made the user a member, since what came before is
// not for the user. So do an entry that invites the user, and one that ends the invitation.
func (fx *effects) reads(c *conversation, entry *pim.Entry) {
	if entry.Seq > c.own && fx.makesRead(entry) {
		c.own, c.ownUpTo, c.ownAll = entry.Seq, entry.Count, entry.AllCount
		fx.touch(c)
	}
}

// mentions takes note of what an entry of c tells of mentions.
func (fx *effects) mentions(c *conversation, entry *pim.Entry) {
	if entry.AllCount != 0 || len(entry.Mentions) > 0 {
		fx.says(c, pim.Mentioned{Named: entry.NamedIn(fx.user()), All: entry.AllCount})
	}
}

// says takes note of what some entry of c, or the sync list, tells of mentions.
func (fx *effects) says(c *conversation, m pim.Mentioned) {
	if m.Named > c.said.Named || m.All > c.said.All {
		c.said = pim.Mentioned{Named: max(m.Named, c.said.Named), All: max(m.All, c.said.All)}
		fx.touch(c)
	}
}

// makesRead reports whether everything before entry is read.
func (fx *effects) makesRead(entry *pim.Entry) bool {
	wrote := entry.Kind == pim.EntryMessage && entry.Sender == fx.user()
	joined := (entry.Kind == pim.EntryCreate || entry.Kind == pim.EntryJoin) && slices.Contains(entry.Members, fx.user())
	return wrote || joined || slices.Contains(entry.Invited, fx.user())
}

// follow starts to hand over the entries of id after the seq after.
func (e *Engine) follow(id pim.ConversationID, after pim.Seq) error {
	if !e.cfg.Watch {
		return pim.Errorf(pim.KindInvalid, "without Options.Watch every conversation is followed already")
	}
	if err := id.Validate(); err != nil {
		return err
	}
	c := e.conversations.add(id)
	e.pulls.abandon(c)
	e.doubts.trust(c)
	e.conversations.clearAhead(c)
	c.followed, c.known, c.newest, c.counted = true, after, after, after
	e.touch(c)
	e.aim(c, unknownSeq)
	return nil
}

// resumeConversations starts catching up on a new connection. A watched conversation
// may have grown while there was no connection.
func (e *Engine) resumeConversations() {
	for _, c := range e.conversations.byID {
		c.retryAt, c.failures = 0, 0
		if c.doubt != nil {
			continue
		}
		if e.cfg.Watch && c.followed {
			e.aim(c, unknownSeq)
		} else if c.followed && c.known < c.newest {
			e.aim(c, c.newest)
		} else if e.unlisted(c) {
			e.aim(c, unknownSeq)
		} else if e.jobOf(c) != noJob {
			e.wantPull(c)
		}
	}
	e.pulls.sort()
}

// aim makes c catch up at least to target. Until c has, the engine is not synced. With
// unknownSeq the next pull has to tell the target.
func (e *Engine) aim(c *conversation, target pim.Seq) {
	if e.skips(c) {
		return
	}
	e.conversations.setTarget(c, max(c.target, target))
	c.again = c.again || c.pulling && target == unknownSeq
	e.wantPull(c)
}

// skips reports whether the device leaves c as the list has it.
func (e *Engine) skips(c *conversation) bool { return e.cfg.Peek && !c.isOwn() }

func (c *conversation) behind() bool {
	return c.known < c.newest || c.target == unknownSeq
}

// ackable returns the seq up to which the device has what it is to have.
func (c *conversation) ackable() pim.Seq { return c.holes.ackable(c.known) }

// pushed takes the entries of a push. A push is a hint: an entry that it does not bring
// is pulled.
func (e *Engine) pushed(m *wirepb.PIMPush) {
	if m.Behind {
		e.startSync()
	}
	c := e.conversations.get(pim.ConversationID(m.Conversation))
	if c == nil {
		return
	}
	if c.doubt != nil {
		for _, w := range m.Entries {
			c.doubt.hear(newestOf(w.Seq))
		}
		return
	}
	for _, w := range m.Entries {
		entry, err := wire.EntryOf(c.id, w)
		if err != nil { // unreadable; a pull finds out whether it is so on disk
			c.heard(pim.Seq(w.Seq), w.Count)
			continue
		}
		e.arrive(c, entry)
	}
	if c.behind() {
		e.wantPull(c)
	}
}

// own takes an entry of this device, made up from its message and the answer to
// that. The server pushes the entry to the other devices only.
func (e *Engine) own(c *conversation, entry pim.Entry) {
	e.arrive(c, entry)
	if c.behind() && !c.pulling && c.gapBy == 0 {
		e.pulls.awaitPushes(c)
	}
}

// arrive takes one entry: it delivers the entry if that is the next, and keeps it if
// there is a gap before it.
func (e *Engine) arrive(c *conversation, entry pim.Entry) {
	switch {
	case entry.Seq <= c.known:
	case entry.Seq == c.known+1:
		e.deliver(c, entry)
		e.closeGap(c)
	default:
		e.readBy(c, &entry)
		c.heard(entry.Seq, entry.Count)
		e.touch(c)
		e.conversations.keepAhead(c, entry)
	}
}

// deliver stores entry, moves the position over it, and hands it over. The seqs between
// the position and entry must be settled.
func (e *Engine) deliver(c *conversation, entry pim.Entry) {
	c.strip(&entry)
	if entry.Sender == e.meta.User {
		e.outbox.found(&entry)
		e.cameBack(c, &entry)
	}
	e.readBy(c, &entry)
	c.heard(entry.Seq, entry.Count)
	e.settle(c, entry.Seq)
	if entry.Seq == c.newest {
		c.recent = entry.Time()
	}
	switch entry.Kind {
	case pim.EntryCreate, pim.EntryJoin:
		if slices.Contains(entry.Members, e.meta.User) {
			if c.left { // what was recalled meanwhile was not told
				e.conversations.setStale(c, entry.Seq-1)
				e.wantPull(c)
			}
			c.left = false
			if c.back != 0 {
				e.outbox.revive(c.id)
			}
		}
	case pim.EntryLeave:
		if slices.Contains(entry.Members, e.meta.User) {
			c.left = true
		}
	}
	if slices.Contains(entry.Invited, e.meta.User) {
		c.left = true // who is invited is no member
	}
	if c.id == pim.Own(e.meta.User) {
		e.obey(&entry)
		e.caughtUp()
	}
	if entry.Seq < c.front {
		return // the entry was still under way when the device was told that it is gone
	}
	e.hand(entry, false)
	e.folded(c, &entry)
	if x, ok := pim.ErasureOf(&entry); ok {
		e.erase(c, x)
	}
}

// settle moves the position to seq.
func (e *Engine) settle(c *conversation, seq pim.Seq) {
	if seq <= c.known {
		return
	}
	c.known, c.movedAt = seq, e.now.Mono
	c.newest = max(c.newest, seq)
	if c.known == c.newest {
		c.last, c.lastCut = nil, false
	}
	e.touch(c)
	e.acks.later(c)
	e.conversations.arrived(c)
}

// closeGap delivers the entries that were ahead and are next now.
func (e *Engine) closeGap(c *conversation) {
	for next, ok := e.conversations.takeAhead(c); ok; next, ok = e.conversations.takeAhead(c) {
		e.deliver(c, next)
	}
	if !c.behind() {
		c.gapBy = 0
	}
}
