package client

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// Store is the local storage of one device of one user. All methods may be called
// concurrently. Package storetest is the suite that every Store passes.
type Store interface {
	// Claim takes the store for one Client, until release is called. The error is of
	// KindConflict if another Client has the store. A Store embeds Claims to have Claim.
	Claim() (release func(), err error)
	// Load returns everything except the entries; the zero Snapshot if the store
	// is new.
	Load(ctx context.Context) (Snapshot, error)
	// Apply makes the changes of b, all of them or, if it returns an error, none.
	// When it returns nil they survive whatever the store promises to survive.
	Apply(ctx context.Context, b *Batch) error
	// Conversations returns what is known of every conversation, sorted by ID.
	Conversations(ctx context.Context) ([]ConversationRow, error)
	// Conversation returns what is known of one conversation; the zero row if nothing is.
	Conversation(ctx context.Context, id pim.ConversationID) (ConversationRow, error)
	// Entries returns, in display order, the last limit entries of conv that are
	// displayed before a place; nil stands for the end.
	Entries(ctx context.Context, conv pim.ConversationID, before *pim.Place, limit int) ([]pim.Entry, error)
	// Range returns the entries of conv with the seqs from..to, ascending by seq, the
	// first limit of them.
	Range(ctx context.Context, conv pim.ConversationID, from, to pim.Seq, limit int) ([]pim.Entry, error)
	// Since returns the entries whose number is above number, ascending by it, the
	// first limit of them.
	Since(ctx context.Context, number uint64, limit int) ([]Stored, error)
	// Below returns the entries of conv with seqs up to to, ascending by seq, the last
	// limit of them.
	Below(ctx context.Context, conv pim.ConversationID, to pim.Seq, limit int) ([]pim.Entry, error)
	// Former returns the entries of conv that are kept aside (Batch.Rewinds), ascending
	// by the seqs that they had: without the first skip of them, at most limit.
	Former(ctx context.Context, conv pim.ConversationID, skip, limit int) ([]pim.Entry, error)
	// Folds returns the folds of the messages of conv with the seqs from..to, ascending by
	// seq.
	Folds(ctx context.Context, conv pim.ConversationID, from, to pim.Seq) ([]pim.Fold, error)
	// Close releases what the store holds.
	Close() error
}

// Claims implements Claim for the Store that embeds it.
type Claims struct{ taken atomic.Bool }

// Claim implements Store. release may be called more than once.
func (c *Claims) Claim() (release func(), err error) {
	if !c.taken.CompareAndSwap(false, true) {
		return nil, pim.Errorf(pim.KindConflict, "another Client uses the store: two would send, confirm and store over each other")
	}
	return sync.OnceFunc(func() { c.taken.Store(false) }), nil
}

// The types of what a Store holds; package engine documents them.
type (
	Snapshot        = engine.Snapshot
	Batch           = engine.Batch
	Meta            = engine.Meta
	Stored          = engine.Stored
	Outgoing        = engine.Outgoing
	ConversationRow = engine.Conversation
	Hole            = engine.Hole
	Setting         = engine.Setting
	Network         = engine.Network
	Rewind          = engine.Rewind
	Former          = engine.Former
	Trim            = engine.Trim
	StoredFold      = engine.Fold
	StoredErasure   = engine.Erasure
)
