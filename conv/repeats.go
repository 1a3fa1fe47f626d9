package conv

import (
	"context"
	"errors"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/store"
)

// tooManyStretches is the error of a request whose look-up fails with dedup.ErrTooMany.
var tooManyStretches = &pim.Error{Kind: pim.KindOverloaded, Text: dedup.ErrTooMany.Error(), Err: idsTooWide}

// mayRepeat reports whether an entry may have the client message ID of r although l.ids does
// not remember the ID. It is false for a sender who never was a member: nothing is read for
// such a sender.
func (l *live) mayRepeat(r *Request) bool {
	return l.ids.Elsewhere(r.ClientID) && (!l.id.IsGroup() || l.members[r.Sender] != nil)
}

// lookUpID looks in the store for the entry with the client message ID of r, if mayRepeat. It
// returns the entry's seq, or 0 if there is none.
func (l *live) lookUpID(ctx context.Context, s store.Store, r *Request) (pim.Seq, error) {
	if !l.mayRepeat(r) {
		return 0, nil
	}
	log := dedup.Log{
		Conversation: l.id,
		Store:        s,
		Entries: func(ctx context.Context, from, to pim.Seq) ([]pim.Entry, error) {
			entries, _, err := readEntries(ctx, s, l.id, from, to)
			return entries, err
		},
	}
	seq, err := l.ids.LookUp(ctx, log, r.ClientID, l.times.State().Server)
	if errors.Is(err, dedup.ErrTooMany) {
		err = tooManyStretches
	}
	return seq, err
}
