package imtest

import (
	"maps"
	"slices"

	"github.com/pim-im/pim"
)

// Displayed is what a device shows of a message.
type Displayed struct {
	Payload  string // empty: it was recalled or erased
	Edited   bool
	Recalled bool
	Pinned   bool
	// Reactions are "text user", ascending.
	Reactions []string
}

// Display returns what every device has to show of the message at seq of the log, whose entries
// ascend. It reads them in their order, and knows nothing of pim.Fold.
func Display(log []pim.Entry, seq pim.Seq) (d Displayed) {
	reactions := make(map[string]bool)
	erased := func(by pim.UserID) bool {
		return slices.ContainsFunc(log, func(e pim.Entry) bool { return e.Kind == pim.EntryErase && e.Sender == by && e.Refers >= seq })
	}
	for i := range log {
		switch e := &log[i]; {
		case e.Seq == seq:
			if d.Payload = string(e.Payload); erased(e.Sender) {
				d.Payload = ""
			}
		case e.Refers != seq:
		case e.Kind == pim.EntryEdit && erased(e.Sender):
		case e.Kind == pim.EntryEdit:
			d.Payload, d.Edited = string(e.Payload), true
		case e.Kind == pim.EntryRecall:
			d.Recalled = true
		case e.Kind == pim.EntryPin:
			d.Pinned = !e.Removed
		case e.Kind == pim.EntryReaction && e.Removed:
			delete(reactions, e.Reaction+" "+string(e.Sender))
		case e.Kind == pim.EntryReaction:
			reactions[e.Reaction+" "+string(e.Sender)] = true
		}
	}
	if d.Recalled {
		return Displayed{Recalled: true}
	}
	d.Reactions = slices.Sorted(maps.Keys(reactions))
	return d
}

// Shown returns what a device shows of the stored message e with the stored fold f.
func Shown(e *pim.Entry, f *pim.Fold) Displayed {
	d := Displayed{Payload: string(e.Payload), Edited: f.Edit.Seq != 0, Recalled: f.Recalled(), Pinned: f.Pinned()}
	if d.Edited {
		d.Payload = string(f.Edit.Payload)
	}
	for _, r := range f.InForce() {
		d.Reactions = append(d.Reactions, r.Text+" "+string(r.User))
	}
	slices.Sort(d.Reactions)
	return d
}
