package conv

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A retain (pim.EntryRetain) says for how long the entries of its conversation are kept: the owner
// of a group says so, and either user of a direct conversation. What it comes to with those before
// it (pim.Retention) is written to a cell (inbox.Retained), which is all that the removal of old
// entries reads. So it holds when the entry itself has been removed. The writer reads the cell
// before it takes a retain, because a shorter time than what holds waits for its notice.

// longestRetain is the longest time that a retain names: 100 years.
const longestRetain = 100 * 365 * day

const day = 24 * time.Hour

// checkRetain validates what r says about how long entries are kept.
func (r *Request) checkRetain() error {
	switch {
	case r.Kind != pim.EntryRetain && r.Retain != 0:
		return pim.Errorf(pim.KindInvalid, "a %s does not say for how long messages are kept", r.Kind)
	case r.Kind != pim.EntryRetain:
		return nil
	case len(r.Members) > 0 || len(r.Payload) > 0:
		return pim.Errorf(pim.KindInvalid, "a retain has no members and no payload")
	case r.Retain != 0 && (r.Retain < pim.Millis(pim.DedupWindow.Milliseconds()) || r.Retain > pim.Millis(longestRetain.Milliseconds())):
		return pim.Errorf(pim.KindInvalid, "messages are kept for at least %d days, at most %d, or as long as the server keeps them", pim.DedupWindow/day, longestRetain/day)
	}
	return nil
}

// retained is what the retains in a log come to.
type retained struct {
	pim.Retention
	seq pim.Seq // of the last retain that it accounts for
}

// needsRetained reports whether the cell of the retains before r must be read before r is stepped.
func (l *live) needsRetained(r *Request) bool { return r.Kind == pim.EntryRetain && l.retained == nil }

// knowRetained reads what the retains up to now come to, if it is not known. The cell may lack those
// behind the snapshot.
func (l *live) knowRetained(ctx context.Context, s store.Store) error {
	if l.retained != nil {
		return nil
	}
	cell, _, err := store.Lookup(ctx, s, inbox.Retained(inbox.LogsOf(l.id)), string(l.id))
	if err != nil {
		return err
	}
	r, err := inbox.ParseRetainCell(cell)
	if err != nil {
		return err
	}
	l.retained = &retained{r, pim.Seq(cell.Version)}
	return nil
}

// retain takes e, a retain, and returns the cells that it writes. An entry that the cell accounts for
// already changes nothing.
func (l *live) retain(e *pim.Entry) []store.CellWrite {
	if e.Seq > l.retained.seq {
		l.retained = &retained{l.retained.Said(e.Retain, e.Server, l.windows.notice), e.Seq}
	}
	return inbox.RetainCells(l.id, l.retained.seq, l.retained.Retention)
}
