package engine

import (
	"time"

	"github.com/pim-im/pim"
)

// The engine hands an entry over at most once: the process may die between storing
// the entry and handing it over. An app that must not miss any reads on from its store,
// in the order in which the entries were stored. That is not the order of their seqs: a
// hole is filled below entries that were handed over before. So entries are numbered as
// they are stored, and the app confirms a number. The app's answers are queued in the
// transaction that stores the confirmation: killed at any moment, the app has done both
// or neither.

// unreadableAgain is the wait before a page that the server can't read is pulled again.
const unreadableAgain = 10 * time.Minute

// beginConfirming notes that the app confirms from now on. Entries that were stored
// before count as confirmed.
func (e *Engine) beginConfirming() {
	if !e.cfg.Confirms {
		return
	}
	if !e.meta.Confirms {
		e.meta.Confirms, e.meta.Confirmed = true, e.meta.Stored
	}
	e.metaDirty = true // Key may be new
}

// confirm takes Confirm: the number and all answers, or nothing.
func (e *Engine) confirm(in Confirm) error {
	switch {
	case !e.cfg.Confirms:
		return pim.Errorf(pim.KindInvalid, "without Options.Confirm there is nothing to confirm")
	case in.Number > e.meta.Stored:
		return pim.Errorf(pim.KindInvalid, "entry number %d is not stored, the last is %d", in.Number, e.meta.Stored)
	}
	answers, err := e.outbox.checkAnswers(in.Answers)
	if err != nil {
		return err
	}
	for i := range answers {
		e.outbox.queue(newMessage(answers[i]))
	}
	if in.Number > e.meta.Confirmed {
		e.meta.Confirmed, e.metaDirty = in.Number, true
	}
	return nil
}
