package conv

import (
	"context"
	"errors"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/username"
)

// lookup is something that a machine needs from the store before it goes on. There are six
// kinds: the conversation's state (a load); what a request needs besides the state; an intent
// that must be durable before a request is stepped; whether refusals may be given, which
// takes the raise of the log's fence, and then the log's last seq and fence; the next effects
// of a batch that depend on what is stored; and a search for what an erase erases, beside which the
// machine goes on.
type lookup struct {
	machine   *machine
	driver    *driver      // that wants it; set when it begins
	waited    int          // for a load: how many requests waited when it began
	warmed    *live        // for a load: what Warm has loaded; nil: nothing
	request   *Request     // which needs it; nil for a load and for refusals
	ahead     []*Request   // behind request, see lookUpAhead
	view      view         // of the request
	search    bool         // for request, see searchErased
	write     *store.Write // an intent, or a raise for refusals; nil for a look-up that writes nothing
	begun     bool         // see lookupQueue
	refusals  *batch       // whose refusals are to be verified; nil for the other kinds
	affecting *batch       // whose next effects are looked up; nil for the other kinds

	// Results.
	live    *live          // of a load
	last    pim.Seq        // the log's last seq, for refusals
	fence   uint64         // and its fence
	effects []*store.Write // for affecting
	err     error          // of a load, a write, a search, for refusals or effects
}

// findings are what was looked up for a request.
type findings struct {
	first  pim.Seq    // of the entry that has the client message ID; 0: there is none
	entry  *pim.Entry // the entry at first
	target *target    // to which the request refers; nil: the state has it, or nobody asked
	erased pim.Seq    // of an erase: the first entry that it erases; 0: there is none
	search bool       // of an erase: nobody knows that entry yet, see searchErased
	anchor pim.Seq    // see lookUpAnchor; 0: the state has it
	view   view       // for which it was looked up
	// consents says what becomes of those whom a create or join names; nil: all become members
	consents map[pim.UserID]inbox.Consent
	err      error // why the request cannot be taken
}

// untold returns those who do not hear that they are invited.
func (f *findings) untold() map[pim.UserID]bool {
	var untold map[pim.UserID]bool
	for u, c := range f.consents {
		if c == inbox.Untold {
			if untold == nil {
				untold = make(map[pim.UserID]bool)
			}
			untold[u] = true
		}
	}
	return untold
}

// found returns what was looked up for r: nothing, if r needed no look-up.
func (r *Request) found() findings {
	if r.findings == nil {
		return findings{}
	}
	return *r.findings
}

// outdated reports whether f must be looked up again for the view v. It must if f was looked up
// when nothing could be appended and now entries can be, or if the clock was set since. It need
// not if f is an entry or an error.
func (f *findings) outdated(v *view) bool {
	return f.first == 0 && f.err == nil && (f.view.closed != nil && v.closed == nil || f.view.set != v.set)
}

// keptFinders is how many goroutines wait for a look-up at most, of all drivers.
const keptFinders = 8

// find carries out l, which is not a write, and then others, until enough goroutines wait for look-ups or
// the Writers are closed.
func (w *Writers) find(l *lookup) {
	for ok := true; ok; l, ok = w.finders.Next() {
		w.lookUp(w.ctx, l)
		l.driver.in.found(l)
	}
}

// lookUp carries out l, which is not a write.
func (w *Writers) lookUp(ctx context.Context, l *lookup) {
	switch {
	case l.refusals != nil:
		l.last, l.fence, l.err = store.LogEnd(ctx, w.store, inbox.Entries(l.machine.id))
	case l.affecting != nil:
		l.effects, l.err = w.effectsOf(ctx, l.affecting)
	case l.search:
		l.err = searchErased(ctx, w.store, l.request)
	case l.request != nil:
		w.lookUpTogether(ctx, l)
	default:
		l.live, l.err = w.loadFrom(ctx, l.machine.id, l.warmed)
	}
}

// needs reports whether something has to be looked up before r is stepped.
func (l *live) needs(r *Request, v *view) bool {
	if seq := l.ids.Seq(r.ClientID); seq != 0 {
		return seq <= l.durable
	}
	if l.mayRepeat(r) {
		return true
	}
	if v.closed != nil {
		return false
	}
	if l.asksOwner(r) && l.needsOwner() || r.reads() && l.needsRead(r) || l.needsTarget(r) || l.needsErased(r) || l.needsRetained(r) || l.needsConsents(r) {
		return true
	}
	for _, u := range l.newcomers(r) {
		if username.Check("user ID", string(u)) != nil {
			return true
		}
	}
	_, late := l.late(r, v.now)
	return late
}

// lookUpFor looks up whatever r may need.
func (w *Writers) lookUpFor(ctx context.Context, l *live, ids *dedup.Search, r *Request, v *view) (f findings) {
	f.view = *v
	if f.first = l.ids.Seq(r.ClientID); f.first == 0 {
		if f.first, f.err = l.lookUpID(ctx, ids, r); f.err != nil {
			return f
		}
	}
	if f.first != 0 {
		f.entry, f.err = w.repeated(ctx, l.id, r, f.first)
		return f
	}
	if v.closed != nil {
		return f
	}
	if f.err = w.heedNames(ctx, l.newcomers(r)); f.err != nil {
		return f
	}
	if l.asksOwner(r) {
		if f.err = l.knowOwner(ctx, w.store); f.err != nil {
			return f
		}
	}
	if l.needsTarget(r) {
		if f.target, f.err = l.lookUpTarget(ctx, w.store, r); f.err != nil {
			return f
		}
	}
	if l.needsErased(r) {
		if f.erased, f.search, f.err = l.lookUpErased(ctx, w.store, r); f.err != nil || f.search {
			return f
		}
	}
	if l.needsRetained(r) {
		if f.err = l.knowRetained(ctx, w.store); f.err != nil {
			return f
		}
	}
	if l.needsConsents(r) {
		if f.consents, f.err = consentsFor(ctx, w.store, r); f.err != nil {
			return f
		}
	}
	w.readAgain(l, r)
	f.anchor, f.err = l.lookUpAnchor(ctx, w.store, r, v.now)
	return f
}

// tooManyStretches is the error of a request whose look-up fails with dedup.ErrTooMany.
var tooManyStretches = &pim.Error{Kind: pim.KindOverloaded, Text: dedup.ErrTooMany.Error(), Err: idsTooWide}

// mayRepeat reports whether an entry may have the client message ID of r although l.ids does
// not remember the ID. It is false for a sender who never was a member: nothing is read for
// such a sender.
func (l *live) mayRepeat(r *Request) bool {
	if r.absentUpTo != 0 && l.ids.Remembers(r.absentUpTo) {
		return false
	}
	return l.ids.Elsewhere(r.ClientID) && (!l.id.IsGroup() || l.members[r.Sender] != nil)
}

// searchIDs returns what looks up client message IDs in s.
func (l *live) searchIDs(s store.Store) *dedup.Search {
	log := dedup.Log{
		Conversation: l.id,
		Store:        s,
		Entries: func(ctx context.Context, from, to pim.Seq) ([]pim.Entry, error) {
			entries, _, err := readLeft(ctx, s, l.id, from, to)
			return entries, err
		},
	}
	return l.ids.Search(log, l.times.State().Server)
}

// lookUpID looks in the store for the entry with the client message ID of r, if mayRepeat. It
// returns the entry's seq, or 0 if there is none.
func (l *live) lookUpID(ctx context.Context, ids *dedup.Search, r *Request) (pim.Seq, error) {
	if !l.mayRepeat(r) {
		return 0, nil
	}
	seq, err := ids.LookUp(ctx, r.ClientID)
	if errors.Is(err, dedup.ErrTooMany) {
		err = tooManyStretches
	}
	return seq, err
}

// repeated returns the entry at first, which has the client message ID of r. If the entry was
// trimmed, only its seq is known: r was appended there, and must not be appended again. Nobody
// knows any more whether it was the sender of r who sent it.
func (w *Writers) repeated(ctx context.Context, c pim.ConversationID, r *Request, first pim.Seq) (*pim.Entry, error) {
	entries, _, err := readEntries(ctx, w.store, c, first, first)
	if err == errTrimmed {
		return &pim.Entry{Conversation: c, Seq: first, Anchor: first, Kind: r.Kind, Sender: r.Sender}, nil
	}
	if err != nil {
		return nil, err
	}
	if entries[0].Sender != r.Sender {
		return nil, notTheSender(r)
	}
	return &entries[0], nil
}

func notTheSender(r *Request) error {
	return pim.Errorf(pim.KindConflict, "client message ID %s belongs to another sender", r.ClientID)
}

// newcomers returns the users whom r names and who may be new to the node: the two of a direct
// conversation that has no entry yet, the members of a create or a join, and the subject of a
// contact or block command that sets a new entity.
func (c *conversation) newcomers(r *Request) []pim.UserID {
	switch r.Kind {
	case pim.EntryMessage, pim.EntryEdit, pim.EntryRecall, pim.EntryReaction, pim.EntryPin:
		if c.last != 0 {
			return nil
		}
		if a, b, direct := c.id.DirectUsers(); direct {
			return []pim.UserID{a, b}
		}
	case pim.EntryCreate, pim.EntryJoin:
		return r.Members
	case pim.EntryCommand:
		if cmd := r.command; (cmd.Kind == pim.CommandContact || cmd.Kind == pim.CommandBlock) && !cmd.Removed {
			if _, known := c.settings[cmd.Entity()]; !known {
				return []pim.UserID{pim.UserID(cmd.Subject)}
			}
		}
	}
	return nil
}

// heedNames returns an error if a newcomer has a name that username.Check refuses, unless the
// node knows that user already. It asks the store only about such names.
func (s *Writers) heedNames(ctx context.Context, newcomers []pim.UserID) error {
	for _, u := range newcomers {
		unfit := username.Check("user ID", string(u))
		if unfit == nil {
			continue
		}
		if known, err := inbox.Known(ctx, s.store, u); err != nil || !known {
			if err == nil {
				err = unfit
			}
			return err
		}
	}
	return nil
}
