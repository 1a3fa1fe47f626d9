package conv

import (
	"bytes"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// loadTries is how often a load begins again because entries were trimmed while it read them.
const loadTries = 8

// errTrimming is the error of a load that found entries trimmed each time.
var errTrimming = pim.Errorf(pim.KindUnavailable, "the conversation is being trimmed")

// load reads a conversation's state: the log's last seq and fence, then the snapshot, the
// entries behind it up to that last seq, and the cells that the snapshot lacks. The fence comes
// first. If an effect comes later, the next append conflicts, whether the load has seen the
// effect or not. If entries are trimmed meanwhile, the load begins again.
func (s *Writers) load(ctx context.Context, id pim.ConversationID) (*live, error) {
	for range loadTries {
		if l, err := s.loadOnce(ctx, id); err != errTrimmed {
			return l, err
		}
	}
	return nil, errTrimming
}

// loadOnce is one try of load. It returns errTrimmed if entries that it needs were trimmed since
// it has read the log's front, or if all are trimmed and another writer has gone on.
func (s *Writers) loadOnce(ctx context.Context, id pim.ConversationID) (*live, error) {
	l := &live{conversation: newConversation(id, s.members)}
	l.windows, l.deeds, l.consent = s.windows, s.deeds, s.consent
	if id.IsGroup() {
		l.loaded = make(marks)
	}
	end := []store.Read{{Log: inbox.Entries(id), WithLast: true}}
	if err := s.store.Read(ctx, end); err != nil {
		return nil, err
	}
	last, front := end[0].Last, end[0].Front
	l.fence = end[0].Fence
	_, own := id.OwnUser()
	l.unlisted = !own // until restore finds that it is listed
	if err := l.loadState(ctx, s.store); err != nil {
		return nil, err
	}
	if last == 0 && l.last == 0 {
		l.loaded = nil
		return l, nil
	}
	long := l.snapshot == 0 && last > dedup.Unsnapped
	if long {
		if err := l.startUnsnapped(ctx, s.store, last); err != nil {
			return nil, err
		}
	}
	skipped := front > l.snapshot+1
	if skipped {
		s.skipped(id, l.snapshot, front)
		if err := l.skip(ctx, s.store, front-1); err != nil {
			return nil, err
		}
	}
	tail, err := l.loadTail(ctx, s.store, last)
	if err != nil {
		return nil, err
	}
	if (long || skipped) && len(tail) > 0 && l.last > 0 {
		l.floor = floor{l.last, tail[0].Server + pim.OrderSlack} // server times do not decrease
	}
	if err := l.loadCells(ctx, s.store, tail); err != nil {
		return nil, err
	}
	for i := range tail {
		switch tail[i].Kind {
		case pim.EntryErase:
			l.unerased = append(l.unerased, erasingOf(&tail[i], 1))
		case pim.EntryRetain:
			if err := l.knowRetained(ctx, s.store); err != nil {
				return nil, err
			}
			l.unretained = l.retain(&tail[i])
		}
	}
	if err := l.loadFolds(ctx, s.store, tail); err != nil {
		return nil, err
	}
	if err := l.knowUntold(ctx, s.store, tail); err != nil {
		return nil, err
	}
	l.front = front
	l.dropTrimmedPins(front)
	l.stale = skipped || len(tail) > 0
	l.ids.Grow(len(tail))
	for i := range tail {
		l.take(&tail[i])
	}
	if skipped || long {
		if err := l.loadMarks(ctx, s.store, skipped && len(tail) == 0); err != nil {
			return nil, err
		}
	}
	l.untold = nil
	l.setMarks()
	if err := l.eraseUnsettled(ctx, s.store); err != nil {
		return nil, err
	}
	for _, m := range l.members {
		l.mixed = l.mixed || m.changed > l.last
	}
	return l, nil
}

// loadState reads the snapshot, the pinned messages and, for a direct conversation, the blocks.
func (l *live) loadState(ctx context.Context, s store.Store) error {
	cells, err := s.List(ctx, stateCells(l.id), "", 64)
	if err != nil {
		return err
	}
	for _, c := range cells {
		var err error
		switch c.Key {
		case snapshotKey:
			err = l.restore(pim.Seq(c.Version), c.Value)
		case pinsKey:
			err = l.restorePins(c)
		}
		if err != nil {
			return err
		}
	}
	return l.loadBlocks(ctx, s, cells)
}

// skipped tells the operator that the snapshot of id is lost: a trim never passes the snapshot that
// it leaves, see Trim.
func (s *Writers) skipped(id pim.ConversationID, snapshot, front pim.Seq) {
	s.metrics.Skipped.Inc()
	s.log.Error("a conversation's snapshot is lost; its state is taken from its members' cells", "conversation", id, "snapshot", snapshot, "front", front)
}

// skip takes note that the entries up to seq were trimmed, and that the snapshot is older than
// that: the snapshot was lost. What followed from the entries behind the snapshot is in cells:
// the members, and the count in their lines (loadMarks). Their client message IDs are forgotten,
// so a message of theirs that is sent again is a new one.
func (l *live) skip(ctx context.Context, s store.Store, seq pim.Seq) error {
	if l.id.IsGroup() {
		l.members, l.present = nil, nil
		if err := l.loadMembers(ctx, s); err != nil {
			return err
		}
	}
	if seq > l.last {
		l.last = seq
		l.ids.Skip(seq)
	}
	return nil
}

// tailBound is how many entries may stand behind a snapshot. The writer always writes the
// next snapshot long before there are so many, see snapshotsLost.
const tailBound = 16 << 10

// loadTail returns the entries behind the snapshot, up to last.
func (l *live) loadTail(ctx context.Context, s store.Store, last pim.Seq) (tail []pim.Entry, err error) {
	switch {
	case last <= l.last: // another writer has gone on meanwhile, or nothing stands behind it
	case last-l.last > tailBound:
		err = pim.Errorf(pim.KindCorrupt, "log of %s has more than %d entries behind the snapshot at seq %d", l.id, tailBound, l.snapshot)
	default:
		tail, l.behind, err = readEntries(ctx, s, l.id, l.last+1, last)
	}
	return tail, err
}

// loadCells reads what the snapshot does not have. That is the settings of an own log. It is
// also a group's members, if they are too many for the snapshot, or if the tail has an entry
// of a kind that this version does not know: only the members' cells tell its effect.
func (l *live) loadCells(ctx context.Context, s store.Store, tail []pim.Entry) error {
	if _, own := l.id.OwnUser(); own {
		return l.loadSettings(ctx, s)
	}
	later := slices.ContainsFunc(tail, func(e pim.Entry) bool { return e.Kind > pim.EntryRetain })
	if l.members == nil || later {
		return l.loadMembers(ctx, s)
	}
	return nil
}

// take applies an entry of the log to the state that is being loaded.
func (l *live) take(e *pim.Entry) {
	if e.Anchor == e.Seq {
		l.anchors(e.Sender).Next(e.Seq, e.OrderTime(), e.Server)
	}
	l.times.Take(e)
	if l.ids.Add(e.ClientID, e.Server) {
		l.unsettledIDs = append(l.unsettledIDs, dedup.Strange(l.id, e.ClientID, e.Seq))
	}
	l.last, l.count = e.Seq, e.Count
	l.takeCommand(e)
	l.takeSent(e)
	l.takeMentions(e)
	// A user who leaves gets the last line even if the membership has already ended in the state.
	// Then its own cell was written, but the line is another cell and may not have been written.
	gone := departures(e, func(u pim.UserID) standing { return l.loaded[u] })
	joined := l.change(e)
	gone = append(gone, l.invite(e, l.untold)...)
	l.takeMarks(e)
	l.unsettledPins = l.pin(e) || l.unsettledPins
	if l.unsettled == nil && len(e.Members)+len(e.Invited) > 0 {
		l.unsettled = make(map[pim.UserID]inbox.Line)
	}
	for _, u := range joined {
		l.unsettled[u] = inbox.Line{}
	}
	for _, d := range gone {
		keepLine(l.unsettled, d)
	}
}

func (c *conversation) loadMembers(ctx context.Context, s store.Store) error {
	if !c.id.IsGroup() {
		return nil
	}
	c.members, c.present = make(map[pim.UserID]*member), nil
	return listAll(ctx, s, inbox.Members(c.id), func(cell store.Cell) error {
		m, err := inbox.ParseMembership(cell.Value)
		if err != nil {
			return err
		}
		c.members[pim.UserID(cell.Key)] = &member{Membership: m, changed: pim.Seq(cell.Version)}
		if m.Present() {
			c.present = append(c.present, pim.UserID(cell.Key))
		}
		return nil
	})
}

// parseEntry decodes the entry at seq with r. It keeps the payload only of a command or an edit.
func parseEntry(r *wire.EntryReader, id pim.ConversationID, data []byte, seq pim.Seq) (pim.Entry, error) {
	e, err := r.Read(id, data)
	if err == nil && e.Seq != seq {
		err = pim.Errorf(pim.KindCorrupt, "log of %s holds seq %d at seq %d", id, e.Seq, seq)
	}
	switch {
	case e.Kind != pim.EntryCommand && e.Kind != pim.EntryEdit, len(e.Payload) == 0:
		e.Payload = nil
	default:
		e.Payload = bytes.Clone(e.Payload)
	}
	return e, err
}

// errTrimmed is the error of a read of entries that were trimmed.
var errTrimmed = pim.Errorf(pim.KindNotFound, "the entry was trimmed")

// readEntries returns the entries from..to, all of which must be there, and how many bytes they
// are in the log. It keeps the payloads of commands and edits only. If some were trimmed, it
// returns errTrimmed.
func readEntries(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq) (entries []pim.Entry, size int, err error) {
	entries, size, err = readLeft(ctx, s, id, from, to)
	if err == nil && len(entries) < int(to-from+1) {
		err = errTrimmed
	}
	return entries, size, err
}

// readLeft is readEntries for entries of which some, or all, may have been trimmed.
func readLeft(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq) (entries []pim.Entry, size int, err error) {
	entries = make([]pim.Entry, 0, to-from+1)
	for next := from; next <= to; next = entries[len(entries)-1].Seq + 1 {
		n := 0
		if entries, n, err = readPage(ctx, s, id, next, to, entries); err == errTrimmed {
			return nil, 0, nil
		}
		if err != nil {
			return nil, 0, err
		}
		size += n
	}
	return entries, size, nil
}

// readPage appends to dst the first of the entries from..to that are left, at least one and as
// many as one read takes, and returns how many bytes they are in the log. It keeps the payloads of
// commands and edits only. If all were trimmed, it returns errTrimmed.
func readPage(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq, dst []pim.Entry) ([]pim.Entry, int, error) {
	reads := []store.Read{{
		Log: inbox.Entries(id), From: from, To: to, Limit: store.Limit{Records: int(to - from + 1), Bytes: pim.MaxPageBytes},
	}}
	if err := s.Read(ctx, reads); err != nil {
		return nil, 0, err
	}
	r := &reads[0]
	if r.First > to {
		return nil, 0, errTrimmed
	}
	if len(r.Records) == 0 {
		return nil, 0, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d, its last is %d", id, from, to)
	}
	if r.First > from {
		dst = dst[:0] // what was read before was trimmed meanwhile
	}
	return parseRecords(id, r.First, r.Records, dst)
}

// parseRecords appends to dst the entries in records, which are those from seq first on, and returns how many bytes they are
// in the log. It keeps the payloads of commands and edits only.
func parseRecords(id pim.ConversationID, first pim.Seq, records [][]byte, dst []pim.Entry) ([]pim.Entry, int, error) {
	size := 0
	var reader wire.EntryReader
	for i, data := range records {
		e, err := parseEntry(&reader, id, data, first+pim.Seq(i))
		if err != nil {
			return nil, 0, err
		}
		dst = append(dst, e)
		size += len(data)
	}
	return dst, size, nil
}
