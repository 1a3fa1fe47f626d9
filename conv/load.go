package conv

import (
	"context"
	"slices"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// live is a conversation in memory: its state, and which of the cells that follow from the
// log are known to be written.
type live struct {
	*conversation

	// stale is set if entries behind the snapshot were loaded: nobody knows whether the cells
	// that follow from them were written. The next write writes these cells again: every
	// member's line, the memberships in unsettled, and for users who left their last lines.
	stale     bool
	unsettled map[pim.UserID]inbox.Line

	unsettledSettings []string          // entities of an own log whose settings the next write writes again
	unsettledIDs      []store.CellWrite // cells of strange IDs that the next write writes again
	blockings         uint64            // Writers.blockings when blocks was read

	snapshot pim.Seq // of the newest snapshot that was loaded or is durable; 0: there is none
	behind   int     // bytes of the entries behind snapshot
	durable  pim.Seq // the log's last seq before the entries of the present batch; durable
}

// load reads a conversation's state: the snapshot, the entries behind it, and the cells that
// the snapshot lacks.
func (s *Writers) load(ctx context.Context, id pim.ConversationID) (*live, error) {
	l := &live{conversation: newConversation(id, s.members)}
	if err := l.loadState(ctx, s.store, s.blockings.Load()); err != nil {
		return nil, err
	}
	tail, size, whole, err := readTail(ctx, s.store, id, l.last+1)
	if err != nil {
		return nil, err
	}
	if !whole && l.snapshot == 0 {
		if tail, err = l.loadUnsnapped(ctx, s.store); err != nil {
			return nil, err
		}
	} else if !whole {
		return nil, pim.Errorf(pim.KindCorrupt, "log of %s has more than %d entries behind the snapshot at seq %d", id, tailBound, l.snapshot)
	}
	if l.last+pim.Seq(len(tail)) == 0 {
		return l, s.heedBlocks(ctx, l)
	}
	if err := l.loadCells(ctx, s.store, tail); err != nil {
		return nil, err
	}
	l.stale, l.behind = len(tail) > 0, size
	for i := range tail {
		l.take(&tail[i])
	}
	return l, s.heedBlocks(ctx, l)
}

// loadState reads the snapshot and the block cells. If the snapshot does not know the blocks,
// heedBlocks must read them. The caller has read blockings from Writers.blockings before the
// call.
func (l *live) loadState(ctx context.Context, s store.Store, blockings uint64) error {
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
	if !l.blocks.known {
		return nil
	}
	for _, c := range cells {
		if by, ok := strings.CutPrefix(c.Key, blockPrefix); ok && len(c.Value) > 0 {
			l.blocks.take(pim.UserID(by), c.Version, c.Value[0] == 1)
		}
	}
	l.blockings = blockings
	return nil
}

// loadCells reads what the snapshot does not have. That is the settings of an own log. It is
// also a group's members, if they are too many for the snapshot, or if the tail has an entry
// of a kind that this version does not know: only the members' cells tell its effect.
func (l *live) loadCells(ctx context.Context, s store.Store, tail []pim.Entry) error {
	if _, own := l.id.OwnUser(); own {
		return l.loadSettings(ctx, s)
	}
	later := slices.ContainsFunc(tail, func(e pim.Entry) bool { return e.Kind > pim.EntryCommand })
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
		// Even if the membership is known to have ended: its cell and the line's cell are
		// two, and the second may not have been written.
		for _, u := range e.Members {
			l.unsettled[u] = lastLine(e)
		}
	}
}

// settled takes note that the batch g is durable, and with it all cells that follow from the
// log.
func (l *live) settled(g *batch) {
	l.stale, l.unsettled, l.unsettledSettings, l.unsettledIDs = false, nil, nil, nil
	if g.indexed {
		l.ids.Stored(g.level)
	}
	if g.snapshot != 0 {
		l.snapshot, l.behind = g.snapshot, 0
	}
	for _, r := range g.write.Records {
		l.behind += len(r)
	}
	for _, a := range l.many { // not before: the entries that Trim forgets must be in the log
		a.Trim(anchorBytes)
	}
	l.many = l.many[:0]
}

// due reports whether a snapshot should be written: at least every entries (snapshotEvery or
// evictedEvery) or snapshotBytes bytes stand behind the last one. A stale state is not due,
// because a snapshot says that all cells are written.
func (l *live) due(every pim.Seq) bool {
	return !l.stale && l.last > 0 && (l.last-l.snapshot >= every || l.behind >= snapshotBytes)
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

// tailBound is how many entries may stand behind a snapshot. The writer always writes the
// next snapshot long before there are so many.
const tailBound = 16 << 10

// readTail returns the entries from seq from to the log's last seq, and their size in the log,
// in bytes. whole is false if there are more than a load takes: tailBound, or dedup.Unsnapped
// if from is 1.
func readTail(ctx context.Context, s store.Store, id pim.ConversationID, from pim.Seq) (tail []pim.Entry, size int, whole bool, err error) {
	limit := store.Limit{Records: dedup.Unsnapped, Bytes: 4 << 20}
	bound := tailBound
	if from == 1 {
		bound = dedup.Unsnapped
	}
	for {
		records, err := s.Read(ctx, inbox.Entries(id), from+pim.Seq(len(tail)), 0, limit)
		if err != nil {
			return nil, 0, false, err
		}
		bytes := 0
		for _, data := range records {
			e, err := parseEntry(id, data, from+pim.Seq(len(tail)))
			if err != nil {
				return nil, 0, false, err
			}
			tail = append(tail, e)
			bytes += len(data)
		}
		size += bytes
		switch {
		case len(tail) > bound:
			return tail, size, false, nil
		case len(records) < limit.Records && bytes+store.MaxRecordBytes <= limit.Bytes: // another record would have fitted
			return tail, size, true, nil
		}
	}
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

// readEntries returns the entries from..to, all of which must be there. It keeps a payload only
// if that is a command.
func readEntries(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq) ([]pim.Entry, error) {
	entries := make([]pim.Entry, 0, to-from+1)
	for next := from; next <= to; next = from + pim.Seq(len(entries)) {
		var err error
		if entries, _, err = readPage(ctx, s, id, next, to, entries); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// readPage appends to dst the first of the entries from..to, at least one and as many as one
// read takes, and returns how many bytes they are in the log. It keeps a payload only if that
// is a command.
func readPage(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq, dst []pim.Entry) ([]pim.Entry, int, error) {
	records, err := s.Read(ctx, inbox.Entries(id), from, to, store.Limit{Records: int(to - from + 1), Bytes: pim.MaxPageBytes})
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
