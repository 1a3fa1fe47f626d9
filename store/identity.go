package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"

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

// The cell that held the identity before 2026-11-29. It counts while the log is empty.
const (
	identityPartition = Partition("store")
	identityKey       = "identity"
)

// Identity returns the identity of s, 32 hexadecimal digits. A store without an
// identity gets one first, durably. Errors are those of the store.
func Identity(ctx context.Context, s Store) (string, error) {
	value, _, err := identity(ctx, s)
	if err != nil {
		return "", err
	}
	if value == nil {
		return identify(ctx, s, 0)
	}
	return identityOf(value)
}

// NewIdentity gives s another identity, durably, and returns it. It is for a store that
// went back to an earlier state. If another caller does the same meanwhile, its identity
// counts. Errors are those of the store.
func NewIdentity(ctx context.Context, s Store) (string, error) {
	_, last, err := identity(ctx, s)
	if err != nil {
		return "", err
	}
	return identify(ctx, s, last)
}

// identity returns the identity of s, nil if it has none, and the last seq of its log.
func identity(ctx context.Context, s Store) (value []byte, last pim.Seq, err error) {
	if last, _, err = LogEnd(ctx, s, identityLog); err != nil {
		return nil, 0, err
	}
	if last == 0 {
		c, _, err := Lookup(ctx, s, identityPartition, identityKey)
		return c.Value, 0, err
	}
	records, err := ReadLog(ctx, s, identityLog, last, last, Limit{Records: 1, Bytes: identityBytes})
	if err != nil {
		return nil, 0, err
	}
	if len(records) != 1 {
		return nil, 0, pim.Errorf(pim.KindCorrupt, "the log of identities ends before seq %d", last)
	}
	return records[0], last, nil
}

// identify appends a new identity after the last one, and returns the identity that s has
// then: another caller's append may have come first.
func identify(ctx context.Context, s Store, last pim.Seq) (string, error) {
	value := make([]byte, identityBytes)
	_, _ = rand.Read(value) // never fails
	w := &Write{Log: identityLog, After: last, Records: [][]byte{value}}
	if err := Commit(ctx, s, []*Write{w}, Durable); err != nil {
		return "", err
	}
	if w.Err != nil { // a conflict
		var err error
		if value, _, err = identity(ctx, s); err != nil {
			return "", err
		}
	}
	return identityOf(value)
}

func identityOf(value []byte) (string, error) {
	if len(value) != identityBytes {
		return "", pim.Errorf(pim.KindCorrupt, "the identity of the store has %d bytes, not %d", len(value), identityBytes)
	}
	return hex.EncodeToString(value), nil
}
