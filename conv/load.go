package conv

import (
	"context"
	"slices"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// live is a conversation as its shard holds it.
type live struct {
	*conversation

	// stale: nobody knows whether the cells of the log's last append were
	// written, because the state was loaded. The next write settles them, with
	// the memberships in unsettled, and of those who left their last lines.
	stale     bool
	unsettled map[pim.UserID]inbox.Line

	unsettledSettings []string          // as unsettled, of an own log: entities
	unsettledIDs      []store.CellWrite // as unsettled: strange IDs
	blockings         uint64            // Writers.blockings when blocks was read

	snapshot pim.Seq // of the snapshot in the store, or under way to it; 0: there is none
	behind   int     // bytes of the entries behind it

	batch   *group  // what the batch being made adds; nil if nothing yet
	weight  int     // cost when last counted
	weighed pim.Seq // last, then

	bulkWeighed int // bulk, then

	newer *live // neighbours in the shard's list by last use
	older *live
}

// load reads a conversation's state: the snapshot and the entries behind it.
func (s *shard) load(ctx context.Context, id pim.ConversationID) (*live, error) {
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
		return l, nil
	}
	if err := l.loadCells(ctx, s.store, tail); err != nil {
		return nil, err
	}
	l.stale, l.behind = len(tail) > 0, size
	for i := range tail {
		l.take(&tail[i])
	}
	return l, nil
}

// loadState reads the snapshot, and who blocks whom as far as it is there. blockings
// is Writers.blockings from before.
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

// loadCells reads what the snapshot does not have: the settings of an own log, and a
// group's members if they are many, or if the tail has an entry of a kind that this
// version does not know, of whose effect only their cells tell.
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
	if l.addID(e.ClientID, e.Server) {
		l.unsettledIDs = append(l.unsettledIDs, strangeCell(l.id, e.ClientID, e.Seq))
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
		// Even where the membership is known to have ended: its cell and the
		// line's are two.
		for _, u := range e.Members {
			l.unsettled[u] = lastLine(e)
		}
	}
}

// settled takes note that the conversation's write g is durable, and with it all that
// follows from the log.
func (l *live) settled(g *group) {
	l.stale, l.unsettled, l.unsettledSettings, l.unsettledIDs = false, nil, nil, nil
	if g.indexed {
		l.index.stored(g.level)
	}
	if g.snapshot != 0 {
		l.snapshot, l.behind = g.snapshot, 0
	}
	for _, r := range g.write.Records {
		l.behind += len(r)
	}
	for _, a := range l.many { // what they forget is in the log now
		a.Trim(anchorBytes)
	}
	l.many = l.many[:0]
}

// due reports whether a snapshot should be written: one that has entries to tell of,
// every as many (snapshotEvery or evictedEvery), or snapshotBytes of them.
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

// tailBound is how many entries may stand behind a snapshot: far more than a commit
// adds before the next is written.
const tailBound = 16 << 10

// readTail returns the entries from seq from on, up to the log's last, and how many bytes
// they are in the log; whole is false if there are more than a load takes.
func readTail(ctx context.Context, s store.Store, id pim.ConversationID, from pim.Seq) (tail []pim.Entry, size int, whole bool, err error) {
	limit := store.Limit{Records: recentIDs, Bytes: 4 << 20}
	bound := tailBound
	if from == 1 {
		bound = recentIDs
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
		case len(records) < limit.Records && bytes+store.MaxRecordBytes <= limit.Bytes: // another would have fitted
			return tail, size, true, nil
		}
	}
}

// parseEntry reads the entry at seq. Of payloads only commands are kept.
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

// readEntries returns the entries from..to, all of which must be there. Of payloads
// only commands are kept.
func readEntries(ctx context.Context, s store.Store, id pim.ConversationID, from, to pim.Seq) ([]pim.Entry, error) {
	entries := make([]pim.Entry, 0, to-from+1)
	for next := from; next <= to; {
		records, err := s.Read(ctx, inbox.Entries(id), next, to, store.Limit{Records: int(to - next + 1), Bytes: pim.MaxPageBytes})
		if err != nil {
			return nil, err
		}
		if len(records) == 0 {
			return nil, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d, its last is %d", id, next, to)
		}
		for _, data := range records {
			e, err := parseEntry(id, data, next)
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
			next++
		}
	}
	return entries, nil
}
