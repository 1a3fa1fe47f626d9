package store_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// A store keeps its identity until it is given another one. Two stores have different
// identities.
func TestIdentity(t *testing.T) {
	s := storetest.NewMemory()
	get := func(f func() (string, error)) string {
		t.Helper()
		id, err := f()
		if err != nil || len(id) != 32 {
			t.Fatalf("identity %q, %v", id, err)
		}
		return id
	}
	identity := func() (string, error) { return store.Identity(t.Context(), s) }
	first := get(identity)
	if again := get(identity); again != first {
		t.Errorf("the identity was %s and is %s", first, again)
	}
	second := get(func() (string, error) { return store.NewIdentity(t.Context(), s) })
	if again := get(identity); again != second || second == first {
		t.Errorf("the new identity is %s, after %s; stored is %s", second, first, again)
	}
	if other := get(func() (string, error) { return store.Identity(t.Context(), storetest.NewMemory()) }); other == second {
		t.Error("two stores have one identity")
	}
}

// Eight callers give a store an identity at the same time. All get the same one, and it
// stays, in a new store and in one that an earlier version wrote. If all of them want a new
// one, some caller gets the one that stays.
func TestIdentityOfManyStarts(t *testing.T) {
	for seed := range uint64(200) {
		s := storetest.Loose(storetest.NewMemory(), seed)
		identify := store.Identity
		if seed%3 == 1 {
			cell := store.Cell{Key: "identity", Version: 1, Value: []byte("0123456789abcdef")}
			w := &store.Write{Cells: []store.CellWrite{{Partition: "store", Cell: cell}}}
			if err := store.Commit(t.Context(), s, []*store.Write{w}, store.Durable); err != nil {
				t.Fatal(err)
			}
		}
		if seed%3 == 2 {
			identify = store.NewIdentity
		}
		if seed%2 == 1 {
			s.FailRate(0.3)
		}
		var got [8]string
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				err := errors.New("not tried")
				for err != nil { // the store may fail
					got[i], err = identify(t.Context(), s)
				}
			})
		}
		wg.Wait()
		s.FailRate(0)
		after, err := store.Identity(t.Context(), s)
		if err != nil || len(after) != 32 {
			t.Fatalf("identity %q, %v", after, err)
		}
		if seed%3 == 1 && after != hex.EncodeToString([]byte("0123456789abcdef")) {
			t.Errorf("the store of an earlier version has the identity %s", after)
		}
		for i, id := range got {
			if id != after && seed%3 != 2 { // a caller that began later gave it another one
				t.Errorf("seed %d: caller %d got %s, the store has %s", seed, i, id, after)
			}
		}
		if seed%3 == 2 && !slices.Contains(got[:], after) {
			t.Errorf("seed %d: nobody got %s, which the store has", seed, after)
		}
	}
}

// A store of an earlier version gets another identity like any other.
func TestNewIdentityOfAnEarlierStore(t *testing.T) {
	s := storetest.NewMemory()
	cell := store.Cell{Key: "identity", Version: 7, Value: []byte("0123456789abcdef")}
	w := &store.Write{Cells: []store.CellWrite{{Partition: "store", Cell: cell}}}
	if err := store.Commit(t.Context(), s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	was, _ := store.Identity(t.Context(), s)
	id, err := store.NewIdentity(t.Context(), s)
	if after, _ := store.Identity(t.Context(), s); err != nil || id == was || after != id {
		t.Errorf("%s, then %s, %v, and then %s", was, id, err, after)
	}
}
