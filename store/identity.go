package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"github.com/pim-im/pim"
)

// A store has an identity: a random name by which devices find out whether what they
// know of the store still holds. It is the last record of a log of its own, so a copy of the
// store has the same identity, and an engine needs no code for it. An append takes effect only
// after the record that its caller knows as the last one, so if several callers give a store an
// identity at the same time, one of them does, and all return that one.
const (
	identityLog   = Log("store")
	identityBytes = 16
)

// The cell that held the identity before 2026-11-29. It counts while the log is empty. An earlier
// pim does not see the log, and gives the store another identity.
const (
	identityPartition = Partition("store")
	identityKey       = "identity"
)

// Identity returns the identity of s, 32 hexadecimal digits. A store without an
// identity gets one first, durably. Errors are those of the store.
func Identity(ctx context.Context, s Store) (string, error) { return identify(ctx, s, false) }

// KnownIdentity returns the identity of s, as Identity does, but gives it none: ok is false if it has
// none. Errors are those of the store.
func KnownIdentity(ctx context.Context, s Store) (id string, ok bool, err error) {
	value, _, _, err := identity(ctx, s)
	if err != nil || value == nil {
		return "", false, err
	}
	id, err = identityOf(value)
	return id, err == nil, err
}

// NewIdentity gives s another identity, durably, and returns it. It is for a store that
// went back to an earlier state. If another caller does the same meanwhile, its identity
// counts. Errors are those of the store.
func NewIdentity(ctx context.Context, s Store) (string, error) { return identify(ctx, s, true) }

// identifyTries is how often identify looks again after an append that conflicts or whose
// outcome is unknown.
const identifyTries = 4

// identify returns the identity of s. If there is none, or another one is wanted, it appends
// one.
func identify(ctx context.Context, s Store, another bool) (string, error) {
	var begun pim.Seq
	for try := 1; ; try++ {
		value, last, fence, err := identity(ctx, s)
		if err != nil {
			return "", err
		}
		if try == 1 {
			begun = last
		}
		if value != nil && (!another || last > begun) {
			return identityOf(value)
		}
		value = make([]byte, identityBytes)
		_, _ = rand.Read(value) // never fails
		w := &Write{Log: identityLog, After: last, Fence: fence, Records: [][]byte{value}}
		err = Commit(ctx, s, []*Write{w}, Durable)
		if w.Err == nil {
			return identityOf(value)
		}
		if err != nil && !errors.Is(err, ErrUnknown) || try == identifyTries {
			return "", w.Err
		}
	}
}

// identity returns the identity of s, nil if it has none, and the end of its log.
func identity(ctx context.Context, s Store) (value []byte, last pim.Seq, fence uint64, err error) {
	if last, fence, err = LogEnd(ctx, s, identityLog); err != nil {
		return nil, 0, 0, err
	}
	if last == 0 {
		c, _, err := Lookup(ctx, s, identityPartition, identityKey)
		return c.Value, 0, fence, err
	}
	records, err := ReadLog(ctx, s, identityLog, last, last, Limit{Records: 1, Bytes: identityBytes})
	if err != nil {
		return nil, 0, 0, err
	}
	if len(records) != 1 {
		return nil, 0, 0, pim.Errorf(pim.KindCorrupt, "the log of identities ends before seq %d", last)
	}
	return records[0], last, fence, nil
}

func identityOf(value []byte) (string, error) {
	if len(value) != identityBytes {
		return "", pim.Errorf(pim.KindCorrupt, "the identity of the store has %d bytes, not %d", len(value), identityBytes)
	}
	return hex.EncodeToString(value), nil
}
