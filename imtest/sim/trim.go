package sim

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest"
)

// Trim removes the entries of c up to the seq upTo, as retention does.
func (w *World) Trim(c pim.ConversationID, upTo pim.Seq) {
	if upTo < w.Server.Front(c) {
		return
	}
	w.tell(nil, "trims %s up to seq %d", c, upTo)
	w.trimmed = true
	w.fronts[c] = append(w.fronts[c], upTo+1)
	w.Server.Trim(c, upTo)
}

// someTrim trims a conversation, anywhere. In a world with bots it does nothing: a question may be
// gone before the bot has seen it. Nor does it after the server has gone back, because a device
// can't tell what was lost from what was trimmed.
func (w *World) someTrim(d *Device) {
	if !w.wentBack && !slices.ContainsFunc(w.devices, func(d *Device) bool { return d.bot != nil }) {
		w.trimSome(w.someConversation(d))
	}
}

// trimSome trims c, anywhere.
func (w *World) trimSome(c pim.ConversationID) {
	if n := len(w.Server.Log(c)); n > 0 {
		w.Trim(c, 1+pim.Seq(w.rng.IntN(n)))
	}
}

// someErase erases what the user of d has written in a conversation, up to any seq.
func (w *World) someErase(d *Device) { w.eraseSome(d, w.someConversation(d)) }

// eraseSome erases what the user of d has written in c, up to any seq.
func (w *World) eraseSome(d *Device, c pim.ConversationID) {
	if newest := d.disk.conversations[c].Newest; newest > 0 {
		d.queue(engine.Outgoing{Conversation: c, Kind: pim.EntryErase, Refers: 1 + pim.Seq(w.rng.Uint64N(uint64(newest)))})
	}
}

// recordLog puts c into h as it is stored now.
func (w *World) recordLog(h *imtest.History, c pim.ConversationID) {
	log := w.Server.Log(c)
	for _, front := range w.fronts[c] {
		h.Trimmed(c, front, log[:front-1])
	}
	h.Log(c, log[w.Server.Front(c)-1:])
}

// counted returns the seq whose count is in read, a read position in c: its own, or that of the last
// entry that had been trimmed when it was given.
func (w *World) counted(c pim.ConversationID, read pim.Setting) pim.Seq {
	log := w.Server.Log(c)
	for _, front := range w.fronts[c] {
		if last := front - 1; last > read.Seq && read.Seq > 0 && log[read.Seq-1].Count != read.Count && log[last-1].Count == read.Count {
			return last
		}
	}
	return read.Seq
}
