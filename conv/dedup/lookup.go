package dedup

import (
	"context"
	"errors"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// maxReads is how many stretches of entries one Search reads, at most.
const maxReads = 512

// ErrTooMany is the error of a look-up that would read more than maxReads stretches of some
// hundred entries. That happens only if thousands of messages a second were appended when the
// ID was made.
var ErrTooMany = errors.New("the client message ID may be that of too many messages")

// Log is where a Search looks for IDs that are not remembered.
type Log struct {
	Conversation pim.ConversationID
	Store        store.Store
	// Entries returns those of the entries from..to that were not trimmed.
	Entries func(ctx context.Context, from, to pim.Seq) ([]pim.Entry, error)
}

// Search looks IDs up, one after the other. It reads each stretch of entries once, and at most
// maxReads of them for all IDs together.
type Search struct {
	ids  *IDs
	log  Log
	now  pim.Millis
	read map[pim.Seq]bool                // the first seqs of the stretches that were read
	seqs map[pim.ClientMessageID]pim.Seq // of the entries in them

	strange map[pim.ClientMessageID]pim.Seq // what Foresee has found; 0: the ID has no cell
}

// Search returns a Search for IDs of x. now is the conversation's time. Nothing may be added to
// x while the Search is used.
func (x *IDs) Search(log Log, now pim.Millis) *Search {
	return &Search{x, log, now, make(map[pim.Seq]bool), make(map[pim.ClientMessageID]pim.Seq), make(map[pim.ClientMessageID]pim.Seq)}
}

// Foresee reads the cells of all ids that may be strange with one call of the store, at most store.MaxBatch of them. LookUp needs no
// call for these any more. Errors are those of the store; LookUp then reads each by itself.
func (s *Search) Foresee(ctx context.Context, ids []pim.ClientMessageID) error {
	var gets []store.Get
	asked := make(map[pim.ClientMessageID]bool)
	for _, id := range ids {
		if _, known := s.strange[id]; !known && !asked[id] && s.ids.strangers.mayHave(idTime(id)) && len(gets) < store.MaxBatch {
			asked[id] = true
			gets = append(gets, store.Get{Partition: partition(s.log.Conversation), Key: string(id[:])})
		}
	}
	if len(gets) == 0 {
		return nil
	}
	if err := s.log.Store.Get(ctx, gets); err != nil {
		return err
	}
	for i := range gets {
		s.strange[pim.ClientMessageID([]byte(gets[i].Key))] = pim.Seq(gets[i].Cell.Version)
	}
	return nil
}

// LookUp returns the seq of the entry with id, or 0 if there is none. Elsewhere(id) must be
// true. After LookUp the IDs remember more than before, see Room. Errors are those of the log,
// or ErrTooMany.
func (s *Search) LookUp(ctx context.Context, id pim.ClientMessageID) (pim.Seq, error) {
	x, r, t := s.ids, &s.ids.recent, idTime(id)
	if x.strangers.mayHave(t) {
		if err := s.Foresee(ctx, []pim.ClientMessageID{id}); err != nil || s.strange[id] != 0 {
			return s.strange[id], err
		}
	}
	if t > r.newestGone {
		return 0, nil
	}
	if err := x.remember(ctx, s.log, t, s.now); err != nil || r.seq(id) != 0 {
		return r.seq(id), err
	}
	if seq := s.seqs[id]; seq != 0 {
		return seq, nil
	}
	err := x.index.search(ctx, s.log, t, func(part stretch) (bool, error) {
		if part.first >= r.first || s.read[part.first] {
			return false, nil // remembered, or not in it
		}
		if len(s.read) == maxReads {
			return true, ErrTooMany
		}
		entries, err := s.log.Entries(ctx, part.first, part.last)
		if err != nil {
			return false, err
		}
		s.read[part.first] = true
		for i := range entries {
			s.seqs[entries[i].ClientID] = entries[i].Seq
		}
		return s.seqs[id] != 0, nil
	})
	return s.seqs[id], err
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
