package conv

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A retain (pim.EntryRetain) says for how long the entries of its conversation are kept: the owner
// of a group says so, and either user of a direct conversation. It is written to a cell
// (inbox.Retained), which is all that the removal of old entries reads. So it holds when the
// entry itself has been removed. The writer needs nothing of it.

// longestRetain is the longest time that a retain names: 100 years.
const longestRetain = 100 * 365 * 24 * time.Hour

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
		return pim.Errorf(pim.KindInvalid, "messages are kept for at least %s, at most %s, or 0: as long as the server keeps them", pim.DedupWindow, longestRetain)
	}
	return nil
}

// retainCell returns the cell that e, a retain, writes.
func retainCell(e *pim.Entry) *store.CellWrite {
	w := inbox.RetainCell(e.Conversation, e.Seq, e.Retain)
	return &w
}
