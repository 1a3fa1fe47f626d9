package store_test

import (
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

// Eight callers give a new store an identity at the same time. Afterwards the identity
// does not change.
func TestIdentityOfTwoStarts(t *testing.T) {
	s := storetest.NewMemory()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := store.Identity(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, _ := store.Identity(t.Context(), s)
	if b, err := store.Identity(t.Context(), s); a != b || err != nil {
		t.Errorf("%s, then %s, %v", a, b, err)
	}
}
