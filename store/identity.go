package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/pim-im/pim"
)

// A store has an identity: a random name that says to devices whether what they
// know of it still holds. It is a cell like any other, so a copy of the store has
// the same, and an engine needs nothing for it.
const (
	identityPartition = Partition("store")
	identityKey       = "identity"
	identityBytes     = 16
)

// Identity returns the identity of s, 32 hexadecimal digits; a store that has none
// gets one first, durably. Of several that give it one at the same time all get the
// same answer. Errors are those of the store.
func Identity(ctx context.Context, s Store) (string, error) {
	c, ok, err := s.Get(ctx, identityPartition, identityKey)
	if err != nil {
		return "", err
	}
	if !ok {
		return identify(ctx, s, 1)
	}
	return identityOf(c)
}

// NewIdentity gives s another identity, durably, and returns it: for a store that
// went back to an earlier state. Errors are those of the store.
func NewIdentity(ctx context.Context, s Store) (string, error) {
	c, _, err := s.Get(ctx, identityPartition, identityKey)
	if err != nil {
		return "", err
	}
	return identify(ctx, s, c.Version+1)
}

// identify writes a new identity as the given version and returns what the store has
// then: with the same version somebody else's may have won.
func identify(ctx context.Context, s Store, version uint64) (string, error) {
	value := make([]byte, identityBytes)
	_, _ = rand.Read(value) // never fails
	w := &Write{Cells: []CellWrite{{
		Partition: identityPartition, Cell: Cell{Key: identityKey, Version: version, Value: value},
	}}}
	if err := s.Commit(ctx, []*Write{w}, Durable); err != nil {
		return "", err
	}
	c, _, err := s.Get(ctx, identityPartition, identityKey)
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
