package conv

import (
	"context"
	"encoding/binary"

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

	unsettledSettings []string    // as unsettled, of an own log: entities
	unsettledGone     []pim.Entry // as unsettled: entries whose IDs may have no cell
	blockings         uint64      // Writers.blockings when blocked was read

	batch  *group // what the batch being made adds; nil if nothing yet
	weight int    // cost when last counted
	newer  *live  // neighbours in the shard's list by last use
	older  *live
}

// load builds a conversation's state from its log and cells.
func load(ctx context.Context, s store.Store, id pim.ConversationID, bound int) (*live, error) {
	c := newConversation(id, bound)
	last, err := s.Last(ctx, inbox.Entries(id))
	if err != nil || last == 0 {
		return &live{conversation: c}, err
	}
	l := &live{conversation: c, stale: true}
	for _, load := range []func(context.Context, store.Store) error{c.loadMembers, c.loadSettings} {
		if err := load(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := l.loadGone(ctx, s, last); err != nil {
		return nil, err
	}
	return l, l.loadTail(ctx, s, last)
}

// take applies an entry of the log to the state that is being loaded.
func (l *live) take(e *pim.Entry, last pim.Seq) {
	l.anchors(e.Sender).Next(e.Seq, e.OrderTime(), e.Server)
	l.times.Take(e)
	if last-e.Seq < recentIDs {
		l.recent.add(e.ClientID, e.Seq)
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

// settled says that all that follows from the log is written.
func (l *live) settled() {
	l.stale, l.unsettled, l.unsettledSettings, l.unsettledGone = false, nil, nil, nil
	if l.last > recentIDs {
		l.recent.kept = l.last - recentIDs
	}
}

func (c *conversation) loadMembers(ctx context.Context, s store.Store) error {
	if !c.id.IsGroup() {
		return nil
	}
	c.members = make(map[pim.UserID]*member)
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

// maxTail is how far back, in entries, a load looks for anchors. In a conversation
// of more than 180 entries a second for three minutes a resend that is older is
// displayed in server order, as with pim.Anchors itself.
const maxTail = 1 << 15

// loadTail applies the log's end, as much of it as the state needs, page by page.
func (l *live) loadTail(ctx context.Context, s store.Store, last pim.Seq) error {
	from, err := tailStart(ctx, s, l.id, last)
	for err == nil && from <= last {
		var page []pim.Entry
		page, err = readEntries(ctx, s, l.id, from, min(from+recentIDs-1, last))
		for i := range page {
			l.take(&page[i], last)
		}
		from += pim.Seq(len(page))
	}
	return err
}

// tailStart returns where the log's end begins: recentIDs back, and on to the first
// entry that can be an anchor. That goes by the log, not by the node's clock, which
// may be wrong: the next entry's server time is not below the last one's. Server
// times do not decrease, so it is searched for.
func tailStart(ctx context.Context, s store.Store, id pim.ConversationID, last pim.Seq) (pim.Seq, error) {
	if last <= recentIDs {
		return 1, nil
	}
	end, err := readEntries(ctx, s, id, last, last)
	if err != nil {
		return 0, err
	}
	high := last - recentIDs + 1 // it begins here, or earlier
	low := high - min(high-1, maxTail-recentIDs)
	for probe := high; ; probe = low + (high-low)/2 {
		e, err := readEntries(ctx, s, id, probe, probe)
		if err != nil {
			return 0, err
		}
		if e[0].Server > end[0].Server-pim.OrderWindow-pim.OrderSlack {
			high = probe
		} else {
			low = min(probe+1, high)
		}
		if low == high {
			return high, nil
		}
	}
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
			e, err := wire.ParseEntry(id, data)
			if err == nil && e.Seq != next {
				err = pim.Errorf(pim.KindCorrupt, "log of %s holds seq %d at seq %d", id, e.Seq, next)
			}
			if err != nil {
				return nil, err
			}
			if e.Kind != pim.EntryCommand {
				e.Payload = nil
			}
			entries = append(entries, e)
			next++
		}
	}
	return entries, nil
}

// Cells of IDs that are no longer recent.

// goneIDs holds them: key the client message ID, version its seq, and at
// newestGoneKey the greatest idTime, with recent.kept, big-endian, as its value.
func goneIDs(c pim.ConversationID) store.Partition { return store.Partition("dedup/" + c) }

const newestGoneKey = "newest"

const (
	// maxUnsettled is how many IDs that may have no cell a batch settles beside what
	// it adds. That they are settled is on the disk with the batch after it only, so
	// a conversation that is loaded for every batch would settle ever more of them.
	maxUnsettled = 256
	firstBatches = 8 // after so many without any cell a log was not written here
)

func goneCell(c pim.ConversationID, id pim.ClientMessageID, seq pim.Seq) store.CellWrite {
	return store.CellWrite{
		Partition: goneIDs(c),
		Cell:      store.Cell{Key: string(id[:]), Version: uint64(seq)},
		Lifetime:  pim.DedupWindow,
	}
}

func newestGoneCell(c pim.ConversationID, r *recent) store.CellWrite {
	return store.CellWrite{Partition: goneIDs(c), Cell: store.Cell{
		Key: newestGoneKey, Version: r.newestGone, Value: binary.BigEndian.AppendUint64(nil, uint64(r.kept)),
	}}
}

// loadGone finds out which IDs are in cells. Those that the last append pushed
// out, or an earlier one whose cells nobody has settled, may not be.
func (l *live) loadGone(ctx context.Context, s store.Store, last pim.Seq) error {
	if last <= recentIDs {
		return nil
	}
	gone := last - recentIDs
	cell, ok, err := s.Get(ctx, goneIDs(l.id), newestGoneKey)
	if err != nil {
		return err
	}
	r := &l.recent
	r.newestGone = cell.Version
	switch {
	case len(cell.Value) >= 8: // what stands behind is a later version's
		r.kept = min(pim.Seq(binary.BigEndian.Uint64(cell.Value)), gone)
	case ok: // written before the cell had a value
		r.kept = gone - min(gone, batchBound)
	default: // the first appends that pushed IDs out wrote none of their cells
		r.kept = gone - min(gone, firstBatches*batchBound)
	}
	if r.kept == gone {
		return nil
	}
	l.unsettledGone, err = readEntries(ctx, s, l.id, r.kept+1, gone)
	for i := range l.unsettledGone {
		r.newestGone = max(r.newestGone, idTime(l.unsettledGone[i].ClientID))
	}
	return err
}

// settleGone writes the cells of IDs that may have none, by themselves, where there
// are many.
func (l *live) settleGone(ctx context.Context, s store.Store) error {
	if len(l.unsettledGone) <= maxUnsettled {
		return nil
	}
	w := &store.Write{Cells: make([]store.CellWrite, len(l.unsettledGone))}
	for i := range l.unsettledGone {
		w.Cells[i] = goneCell(l.id, l.unsettledGone[i].ClientID, l.unsettledGone[i].Seq)
	}
	if err := s.Commit(context.WithoutCancel(ctx), []*store.Write{w}, store.Durable); err != nil {
		return err
	}
	l.recent.kept, l.unsettledGone = l.last-recentIDs, nil
	return nil
}

// lookUp returns the seq of an ID that was pushed out of the recent ones, 0 if
// there is none. One that was pushed out in the batch being made has no cell yet,
// and of one that is not settled nobody knows.
func (l *live) lookUp(ctx context.Context, s store.Store, id pim.ClientMessageID) (pim.Seq, error) {
	if !l.recent.maybeGone(id) || l.recent.seq(id) != 0 {
		return 0, nil
	}
	if l.batch != nil {
		if seq := l.batch.left[id]; seq != 0 {
			return seq, nil
		}
	}
	for i := range l.unsettledGone {
		if e := &l.unsettledGone[i]; e.ClientID == id {
			return e.Seq, nil
		}
	}
	cell, _, err := s.Get(ctx, goneIDs(l.id), string(id[:]))
	return pim.Seq(cell.Version), err
}
