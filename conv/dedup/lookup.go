package dedup

import (
	"context"
	"errors"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// maxReads is how many stretches of entries one look-up reads, at most.
const maxReads = 512

// ErrTooMany is the error of a look-up that would read more than maxReads stretches of some
// hundred entries. That happens only if thousands of messages a second were appended when the
// ID was made.
var ErrTooMany = errors.New("the client message ID may be that of too many messages")

// Log is where LookUp looks for IDs that are not remembered.
type Log struct {
	Conversation pim.ConversationID
	Store        store.Store
	// Entries returns those of the entries from..to that were not trimmed.
	Entries func(ctx context.Context, from, to pim.Seq) ([]pim.Entry, error)
}

// LookUp returns the seq of the entry with id, or 0 if there is none. Elsewhere(id) must be
// true. now is the conversation's time. After LookUp x may remember more IDs than before, see
// Room. Errors are those of log, or ErrTooMany.
func (x *IDs) LookUp(ctx context.Context, log Log, id pim.ClientMessageID, now pim.Millis) (pim.Seq, error) {
	r, t := &x.recent, idTime(id)
	if x.strangers.mayHave(t) {
		cell, _, err := store.Lookup(ctx, log.Store, partition(log.Conversation), string(id[:]))
		if err != nil || cell.Version != 0 {
			return pim.Seq(cell.Version), err
		}
	}
	if t > r.newestGone {
		return 0, nil
	}
	if err := x.remember(ctx, log, t, now); err != nil || r.seq(id) != 0 {
		return r.seq(id), err
	}
	found, left := pim.Seq(0), maxReads
	err := x.index.search(ctx, log, t, func(part stretch) (bool, error) {
		if part.first >= r.first {
			return false, nil // remembered
		}
		if left--; left < 0 {
			return true, ErrTooMany
		}
		entries, err := log.Entries(ctx, part.first, part.last)
		for i := range entries {
			if entries[i].ClientID == id {
				found = entries[i].Seq
			}
		}
		return found != 0, err
	})
	return found, err
}

// remember reads the entries back to the first stretch that may have an ID of time t, and
// remembers their IDs; it reads back no further than rememberMost entries. A device that sends
// one message again sends others again. So if a crash makes many devices send again, the
// entries are read once.
func (x *IDs) remember(ctx context.Context, log Log, t int64, now pim.Millis) error {
	r := &x.recent
	from := r.first
	if len(x.index.levels) > 0 {
		for _, part := range slices.Backward(x.index.levels[0]) {
			if r.last-part.first >= rememberMost {
				break
			}
			if part.has(t) {
				from = min(from, part.first)
			}
		}
	}
	if from >= r.first {
		return nil
	}
	entries, err := log.Entries(ctx, from, r.first-1)
	if err != nil {
		return err
	}
	r.addBefore(entries, x.index.newest(from-1), now)
	return nil
}
