package inbox

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// Inbox reads what users have been sent. It is safe for concurrent use.
type Inbox struct {
	store     store.Store
	now       func() time.Time // see GoBy
	foldAbove int              // the constant foldAbove, except in tests
	fewLines  int              // the constant fewLines, except in tests

	audiences    audiences
	crowds       crowds
	audienceRest int // the constant audienceRest, except in tests
}

// New returns an Inbox over s.
func New(s store.Store) *Inbox {
	return &Inbox{store: s, now: time.Now, foldAbove: foldAbove, fewLines: fewLines, audienceRest: audienceRest}
}

// GoBy makes x go by the clock now, in place of time.Now. It is called before x is used.
func (x *Inbox) GoBy(now func() time.Time) { x.now = now }

// PullRequest asks for a page of one conversation, see PIMPullReq.
type PullRequest struct {
	Conversation pim.ConversationID
	From, To     pim.Seq // To 0: the newest
	Limit        int     // entries, 0: defaultPull
	NewestFirst  bool    // the page at the end of the range
	Changes      bool    // no entries, only what has become of them, and whose were erased; not with NewestFirst
}

const defaultPull = 100

// Page is a stretch of a conversation as one user may read it.
type Page struct {
	Entries  []Encoded
	Folds    []Encoded     // of those messages that others refer to, ascending
	Erasures []pim.Erasure // of a pull of Changes: those that concern From and what follows
	Retained pim.Retention // likewise: for how long the conversation says that its entries are kept
	From, To pim.Seq       // what the page settles; From > To: nothing
	Newest   pim.Seq       // the newest seq that the user may read
	Front    pim.Seq       // the log's front: entries before it were trimmed
	// Line is what was sent to the user, read after the entries. It is set if entries that tell how
	// far the user has read, and what mentions the user, may be left out: on a page with NewestFirst,
	// and on one that settles seqs before Front. The zero value says nothing.
	Line Line
}

// Encoded is an entry, or the fold of one, as its bytes (see wire.ParseEntry and wire.ParseFold).
type Encoded struct {
	Seq  pim.Seq
	Data []byte
}

// Pull returns one page. Seqs that the page settles but does not hold are not
// for this user, or were trimmed, or, in an own log, are of superseded commands. The page has the
// folds of its entries: what others have made of them until now. Errors: KindInvalid,
// KindNotMember, and the store's.
func (x *Inbox) Pull(ctx context.Context, user pim.UserID, req PullRequest) (Page, error) {
	newest, front, m, err := x.readable(ctx, user, req.Conversation)
	if err != nil {
		return Page{}, err
	}
	page := Page{Newest: newest, Front: front}
	if req.Changes && req.NewestFirst {
		return Page{}, pim.Errorf(pim.KindInvalid, "changes cannot be pulled with the newest first")
	}
	limit := defaultPull
	if req.Limit > 0 {
		limit = min(req.Limit, pim.MaxPageEntries)
	}
	owner, own := req.Conversation.OwnUser()
	folds := foldsFor{x, req.Conversation, &m, newest}
	if req.Changes {
		page.From, page.To = max(req.From, 1), newest
		if req.To != 0 {
			page.To = min(req.To, newest)
		}
		if own {
			return page, nil
		}
		if page.Erasures, err = x.erasures(ctx, req.Conversation, page.From, newest); err != nil {
			return Page{}, err
		}
		cell, _, err := store.Lookup(ctx, x.store, Retained(LogsOf(req.Conversation)), string(req.Conversation))
		if err != nil {
			return Page{}, err
		}
		if page.Retained, err = ParseRetainCell(cell); err != nil {
			return Page{}, err
		}
		return page, folds.changes(ctx, &page, limit)
	}
	reach := limit
	if own {
		reach = pim.MaxPageEntries // current leaves few of them
	}
	for {
		page.From, page.To = span(req, pim.Seq(reach), &m, newest)
		if page.From > page.To {
			return page, nil
		}
		end := page.To
		if err := x.fill(ctx, &page, req.Conversation, &m); err != nil {
			return Page{}, err
		}
		if !req.NewestFirst || page.To == end {
			break
		}
		// The bytes ran out before the end of the range, and the end is what was asked
		// for. Try as many entries there as have fitted here, but at most half as many as
		// before: entries that grow towards the end would otherwise take a try, and a
		// megabyte read, for each of them.
		reach, page.Entries = min(len(page.Entries), reach/2), nil
	}
	if own {
		page.Entries, err = x.current(ctx, owner, page.Entries, newest)
		page.cut(limit, req.NewestFirst)
		return page, err
	}
	if err := folds.add(ctx, &page, req.NewestFirst); err != nil {
		return Page{}, err
	}
	if req.NewestFirst || page.From < page.Front {
		page.Line, _, err = x.Line(ctx, user, req.Conversation)
	}
	return page, err
}

// Position is what a read command is to say about the seq that it names.
type Position struct {
	Newest        pim.Seq // the newest seq that the user may read
	Count         uint64  // that of the entry
	pim.Mentioned         // of the user, up to the entry
}

// Position returns what user has read with the entry at seq of c. If that entry was trimmed, it is
// that of the last one that was, of those that the user may read. Errors: KindNotMember; KindInvalid if seq is 0
// or beyond Newest, which is returned nevertheless; and the store's.
func (x *Inbox) Position(ctx context.Context, user pim.UserID, c pim.ConversationID, seq pim.Seq) (p Position, err error) {
	for range positionTries {
		if p, err = x.position(ctx, user, c, seq); err != errTrimmed {
			break
		}
	}
	return p, err
}

// positionTries is how often a Position begins again because entries were trimmed meanwhile.
const positionTries = 8

// position is one try of Position. It returns errTrimmed if entries were trimmed meanwhile.
func (x *Inbox) position(ctx context.Context, user pim.UserID, c pim.ConversationID, seq pim.Seq) (p Position, err error) {
	newest, _, m, err := x.readable(ctx, user, c)
	if p.Newest = newest; err != nil {
		return Position{}, err
	}
	if seq == 0 || seq > p.Newest {
		return p, pim.Errorf(pim.KindInvalid, "%s has no seq %d, the newest is %d", c, seq, p.Newest)
	}
	reads := []store.Read{{Log: Entries(c), From: seq, To: p.Newest, Limit: store.Limit{Records: 1, Bytes: pim.MaxFrame}}}
	if err := x.store.Read(ctx, reads); err != nil {
		return p, err
	}
	r := &reads[0]
	if len(r.Records) == 0 {
		if r.First == seq {
			return p, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d", c, seq)
		}
		line, err := x.lineAtEnd(ctx, user, c, p.Newest, m.Present())
		p.Count, p.Mentioned = line.Count, pim.Mentioned{Named: line.Named, All: line.All}
		return p, err
	}
	e, err := wire.ParseEntry(c, r.Records[0])
	if err != nil {
		return p, err
	}
	p.Count, p.All = e.Count, e.AllCount
	if r.First > seq && e.Kind.Counts() { // of the entry before it, the last that was trimmed
		p.Count--
		if e.MentionAll {
			p.All--
		}
	}
	if _, own := c.OwnUser(); own {
		return p, nil
	}
	p.Named, err = x.named(ctx, user, c, max(seq, r.First-1))
	return p, err
}

// lineAtEnd returns the user's line, which tells of the entry at newest, which was trimmed. If the user has left
// the group and the line is gone, or an older one is left that a late fold has brought back, it returns KindNotMember. If
// the line of a member tells of another seq, it returns KindUnavailable: a newer entry has come since newest was
// read, or the line of newest is still to be written.
func (x *Inbox) lineAtEnd(ctx context.Context, user pim.UserID, c pim.ConversationID, newest pim.Seq, present bool) (Line, error) {
	line, ok, err := x.Line(ctx, user, c)
	switch {
	case err == nil && c.IsGroup() && (!ok || !present && line.Newest < newest): // a trim writes the lines that are missing, so this one has left the list
		err = notMember(user, c)
	case err == nil && line.Newest != newest:
		err = pim.Errorf(pim.KindUnavailable, "the count of %s at seq %d is not known now", c, newest)
	}
	return line, err
}

// readable returns the newest seq of c that user may read, 0 if c is empty, the log's front, and
// the user's membership, without the periods that were trimmed. The newest seq may be trimmed.
func (x *Inbox) readable(ctx context.Context, user pim.UserID, c pim.ConversationID) (newest, front pim.Seq, m Membership, err error) {
	if err := c.Validate(); err != nil {
		return 0, 0, Membership{}, err
	}
	if c.Excludes(user) {
		return 0, 0, Membership{}, notMember(user, c)
	}
	// The log's last seq is read before the membership. In the other order the user
	// could leave in between, and a page would hold entries that came after that.
	end := []store.Read{{Log: Entries(c), WithLast: true}}
	if err := x.store.Read(ctx, end); err != nil {
		return 0, 0, Membership{}, err
	}
	newest, front = end[0].Last, end[0].Front
	if m, err = x.membership(ctx, user, c); err != nil {
		return 0, 0, Membership{}, err
	}
	if n := len(m.Periods); m.Periods[n-1].To != 0 {
		newest = min(newest, m.Periods[n-1].To)
	}
	m.trim(front)
	return newest, front, m, nil
}

// cut leaves at most limit entries in the page, and lets it settle no seqs beyond them.
func (p *Page) cut(limit int, newestFirst bool) {
	over := len(p.Entries) - limit
	switch {
	case over <= 0:
	case newestFirst:
		p.From = p.Entries[over-1].Seq + 1
		p.Entries = p.Entries[over:]
	default:
		p.To = p.Entries[limit].Seq - 1
		p.Entries = p.Entries[:limit]
	}
}

// span returns the range of seqs that the page for req may settle, at most: limit seqs
// from the first one on that the user may read, and those before it. Newest first it
// is limit seqs up to the last one that the user may read, and those behind it.
func span(req PullRequest, limit pim.Seq, m *Membership, newest pim.Seq) (from, to pim.Seq) {
	from, to = max(req.From, 1), newest
	if req.To != 0 {
		to = min(req.To, newest)
	}
	if from > to {
		return from, to
	}
	if req.NewestFirst {
		if last := m.LastUpTo(to); last >= from && last-from >= limit {
			from = last - limit + 1
		}
		return from, to
	}
	if first := m.firstFrom(from); to-min(first, to) >= limit {
		to = first + limit - 1
	}
	return from, to
}

// fill reads the page's entries period by period. If pim.MaxPageBytes are used up, it
// lowers page.To to what the page settles.
func (x *Inbox) fill(ctx context.Context, page *Page, c pim.ConversationID, m *Membership) error {
	room := pim.MaxPageBytes
	for _, p := range m.Periods {
		from, to := max(p.From, page.From), page.To
		if p.To != 0 {
			to = min(to, p.To)
		}
		for from <= to {
			reads := []store.Read{{
				Log: Entries(c), From: from, To: to, Limit: store.Limit{Records: int(to - from + 1), Bytes: max(room, 1)},
			}}
			if err := x.store.Read(ctx, reads); err != nil {
				return err
			}
			records := reads[0].Records
			if reads[0].First > from { // trimmed since readable
				from = reads[0].First
				page.Front = max(page.Front, from)
			}
			if from > to {
				break
			}
			// page.To is at most the last seq that readable read, and the store promises that a
			// later Read sees that record. So the log is shorter than the membership says.
			if len(records) == 0 {
				return pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d", c, from)
			}
			for _, data := range records {
				if room -= len(data); room < 0 && len(page.Entries) > 0 {
					page.To = from - 1
					return nil
				}
				page.Entries = append(page.Entries, Encoded{from, data})
				from++
			}
		}
	}
	return nil
}

// membership returns what user may read of c: at least one period. The caller has
// checked that c does not exclude user.
func (x *Inbox) membership(ctx context.Context, user pim.UserID, c pim.ConversationID) (Membership, error) {
	if !c.IsGroup() {
		return Membership{Periods: []Period{{From: 1}}}, nil
	}
	cell, ok, err := store.Lookup(ctx, x.store, Members(c), string(user))
	if err != nil {
		return Membership{}, err
	}
	if !ok {
		return Membership{}, notMember(user, c)
	}
	m, err := ParseMembership(cell.Value)
	if err == nil && len(m.Periods) == 0 {
		err = notMember(user, c)
	}
	return m, err
}

func notMember(user pim.UserID, c pim.ConversationID) error {
	return pim.Errorf(pim.KindNotMember, "user %s is not a member of %s", user, c)
}
