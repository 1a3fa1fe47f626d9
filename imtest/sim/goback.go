package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/imtest"
)

// GoBack takes the server back to b, or puts a new server in its place if b is nil. The
// server's store gets another identity, and the server is down for the time down.
func (w *World) GoBack(b *clienttest.Backup, down time.Duration) {
	w.stores++
	w.wentBack = true
	w.StopServer(down)
	// What is erased is not sent again. A device may still hear of it: it was pushed before.
	for _, c := range w.Server.All() {
		for _, e := range w.Server.Log(c) {
			if e.Erased {
				delete(w.queued, e.ClientID)
			}
		}
	}
	w.Server.Restore(b, fmt.Sprint("store ", w.stores))
	w.tell(nil, "has gone back")
	for _, d := range w.devices {
		// Of conversations of which it has nothing, the app is not told that they were taken back.
		maps.DeleteFunc(d.readElsewhere, func(c pim.ConversationID, _ []pim.Seq) bool { return d.disk.conversations[c].Known == 0 })
	}
	w.keep()
}

// keep drops from w.queued, once the server has gone back, the messages that neither
// the server nor a device of the user still has: they can't be in a log at the end. What a recall
// has erased on a device is not sent again.
func (w *World) keep() {
	if !w.wentBack {
		return
	}
	has := make(map[pim.ClientMessageID]bool)
	for _, d := range w.devices {
		for id := range d.disk.outbox {
			has[id] = true
		}
		for _, of := range d.disk.entries {
			for _, e := range of {
				has[e.ClientID] = has[e.ClientID] || e.Sender == d.User && !e.Erased
			}
		}
		for _, of := range d.disk.former {
			for _, e := range of {
				has[e.ClientID] = true
			}
		}
	}
	for _, c := range w.Server.All() {
		for _, e := range w.Server.Log(c) {
			has[e.ClientID] = true
		}
	}
	maps.DeleteFunc(w.queued, func(id pim.ClientMessageID, _ *Device) bool { return !has[id] })
}

// rewrite begins the history anew if the server has gone back. The new history has what
// was sent and what devices have now; what was acknowledged and handed over before the
// server went back does not hold any more.
func (w *World) rewrite() {
	if !w.wentBack {
		return
	}
	w.history = imtest.NewHistory()
	w.history.WentBack()
	logged := make(map[pim.ClientMessageID]pim.Entry)
	for _, c := range w.Server.All() {
		for _, e := range w.Server.Log(c) {
			logged[e.ClientID] = e
		}
	}
	for _, s := range w.sends {
		if s.Kind != pim.EntryMessage && s.Kind != pim.EntryCreate {
			delete(w.queued, s.ClientID) // it may not be worth sending again
		}
		// Any device of the user may have brought the message back. A command that is
		// given again has another payload, since it knows the new log.
		if e, ok := logged[s.ClientID]; ok && e.Sender == s.Sender {
			s.Device = e.Device
			if e.Kind == pim.EntryErase {
				s.Refers = e.Refers // it may have been above the place to which the log was taken back
			}
			if e.Kind == pim.EntryCommand {
				s.Payload = imtest.SentSum(e.Kind, e.Payload)
			}
		}
		w.history.Sent(s)
	}
	for _, d := range w.devices {
		w.history.Opened(d.device(), d.storage)
		for _, c := range slices.Sorted(maps.Keys(d.disk.entries)) {
			for _, e := range d.disk.shown(c) {
				w.history.Handed(d.device(), d.storage, e, true)
			}
		}
	}
}

// someGoingBack backs the server up, or takes it back to the last backup; if there is
// no backup, to nothing. In a world with bots it does nothing: what a bot has answered
// may be lost together with the question. Nor does it take the server back to before a trim: devices
// believe that what they were told is gone for good, and retention would trim again.
func (w *World) someGoingBack(*Device) {
	if slices.ContainsFunc(w.devices, func(d *Device) bool { return d.bot != nil }) {
		return
	}
	if w.rng.IntN(2) == 0 {
		w.before, w.trimmed = w.Server.Backup(), false
		return
	}
	if w.trimmed {
		return
	}
	w.GoBack(w.before, time.Duration(1+w.rng.IntN(20))*time.Second)
}
