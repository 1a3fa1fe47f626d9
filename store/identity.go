package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/pim-im/pim"
)

// A store has an identity: a random name by which devices find out whether what they
// know of the store still holds. It is a cell like any other, so a copy of the store
// has the same identity, and an engine needs no code for it.
const (
	identityPartition = Partition("store")
	identityKey       = "identity"
	identityBytes     = 16
)

// Identity returns the identity of s, 32 hexadecimal digits. A store without an
// identity gets one first, durably. If several callers give it one at the same time,
// the greatest value stays, and an earlier answer may have been another. Errors are
// those of the store.
func Identity(ctx context.Context, s Store) (string, error) {
	c, ok, err := Lookup(ctx, s, identityPartition, identityKey)
	if err != nil {
		return "", err
	}
	if !ok {
		return identify(ctx, s, 1)
	}
	return identityOf(c)
}

// NewIdentity gives s another identity, durably, and returns it. It is for a store that
// went back to an earlier state. Errors are those of the store.
func NewIdentity(ctx context.Context, s Store) (string, error) {
	c, _, err := Lookup(ctx, s, identityPartition, identityKey)
	if err != nil {
		return "", err
	}
	return identify(ctx, s, c.Version+1)
}

// identify writes a new identity with the given version and returns the identity that
// the store has afterwards: another caller's value of the same version may have won.
func identify(ctx context.Context, s Store, version uint64) (string, error) {
	value := make([]byte, identityBytes)
	_, _ = rand.Read(value) // never fails
	w := &Write{Cells: []CellWrite{{
		Partition: identityPartition, Cell: Cell{Key: identityKey, Version: version, Value: value},
	}}}
	if err := Commit(ctx, s, []*Write{w}, Durable); err != nil {
		return "", err
	}
	c, _, err := Lookup(ctx, s, identityPartition, identityKey)
	if err != nil {
		return "", err
	}
	return identityOf(c)
}

func identityOf(c Cell) (string, error) {
	if len(c.Value) != identityBytes {
		return "", pim.Errorf(pim.KindCorrupt, "the identity of the store has %d bytes, not %d", len(c.Value), identityBytes)
	}
	return hex.EncodeToString(c.Value), nil
}
