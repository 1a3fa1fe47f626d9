package conv

import (
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// load reads a conversation's state: the log's last seq and fence, then the snapshot, the
// entries behind it up to that last seq, and the cells that the snapshot lacks. The fence comes
// first. If an effect comes later, the next append conflicts, whether the load has seen the
// effect or not.
func (s *Writers) load(ctx context.Context, id pim.ConversationID) (*live, error) {
	l := &live{conversation: newConversation(id, s.members)}
	last, fence, err := store.LogEnd(ctx, s.store, inbox.Entries(id))
	if err != nil {
		return nil, err
	}
	l.fence = fence
	if err := l.loadState(ctx, s.store); err != nil {
		return nil, err
	}
	if last == 0 && l.last == 0 {
		return l, nil
	}
	tail, err := l.loadTail(ctx, s.store, last)
	if err != nil {
		return nil, err
	}
	if err := l.loadCells(ctx, s.store, tail); err != nil {
		return nil, err
	}
	l.stale = len(tail) > 0
	for i := range tail {
		l.take(&tail[i])
	}
	for _, m := range l.members {
		l.mixed = l.mixed || m.changed > l.last
	}
	return l, nil
}

// loadState reads the snapshot and, for a direct conversation, the blocks.
func (l *live) loadState(ctx context.Context, s store.Store) error {
	cells, err := s.List(ctx, stateCells(l.id), "", 64)
	if err != nil {
		return err
	}
	for _, c := range cells {
		if c.Key == snapshotKey {
			if err := l.restore(pim.Seq(c.Version), c.Value); err != nil {
				return err
			}
		}
	}
	return l.loadBlocks(ctx, s, cells)
}

// tailBound is how many entries may stand behind a snapshot. The writer always writes the
// next snapshot long before there are so many.
const tailBound = 16 << 10

// loadTail returns the entries behind the snapshot, up to last.
func (l *live) loadTail(ctx context.Context, s store.Store, last pim.Seq) (tail []pim.Entry, err error) {
	switch {
	case last <= l.last: // another writer has gone on meanwhile, or nothing stands behind it
	case l.snapshot == 0 && last > dedup.Unsnapped:
		tail, err = l.loadUnsnapped(ctx, s, last)
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
	later := slices.ContainsFunc(tail, func(e pim.Entry) bool { return e.Kind > pim.EntryPin })
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
	joined, _ := l.change(e)
	if l.unsettled == nil && len(e.Members) > 0 {
		l.unsettled = make(map[pim.UserID]inbox.Line)
	}
	for _, u := range joined {
		l.unsettled[u] = inbox.Line{}
	}
	if e.Kind == pim.EntryLeave {
		// This holds even if the membership has already ended in the state. Then its own cell
		// was written, but the line is another cell and may not have been written.
		for _, u := range e.Members {
			l.unsettled[u] = lastLine(e)
		}
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

// parseEntry decodes the entry at seq. It keeps the payload only if that is a command.
func parseEntry(id pim.ConversationID, data []byte, seq pim.Seq) (pim.Entry, error) {
	e, err := wire.ParseEntry(id, data)
	if err == nil && e.Seq != seq {
		err = pim.Errorf(pim.KindCorrupt, "log of %s holds seq %d at seq %d", id, e.Seq, seq)
	}
	if e.Kind != pim.EntryCommand {
		e.Payload = nil
	}
	return e, err
}

// readEntries returns the entries from..to, all of which must be there, and how many bytes they
// are in the log. It keeps a payload only if that is a command.
func readEntries(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq) (entries []pim.Entry, size int, err error) {
	entries = make([]pim.Entry, 0, to-from+1)
	for next := from; next <= to; next = from + pim.Seq(len(entries)) {
		n := 0
		if entries, n, err = readPage(ctx, s, id, next, to, entries); err != nil {
			return nil, 0, err
		}
		size += n
	}
	return entries, size, nil
}

// readPage appends to dst the first of the entries from..to, at least one and as many as one
// read takes, and returns how many bytes they are in the log. It keeps a payload only if that
// is a command.
func readPage(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq, dst []pim.Entry) ([]pim.Entry, int, error) {
	records, err := store.ReadLog(ctx, s, inbox.Entries(id), from, to, store.Limit{Records: int(to - from + 1), Bytes: pim.MaxPageBytes})
	if err != nil {
		return nil, 0, err
	}
	if len(records) == 0 {
		return nil, 0, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d, its last is %d", id, from, to)
	}
	size := 0
	for i, data := range records {
		e, err := parseEntry(id, data, from+pim.Seq(i))
		if err != nil {
			return nil, 0, err
		}
		dst = append(dst, e)
		size += len(data)
	}
	return dst, size, nil
}
