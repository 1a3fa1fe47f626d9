package migrate_test

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
)

// A store is copied from the embedded engine to Cassandra, by processes that are killed, and back. All
// three are equal, and the last one goes on where the first one ended.
func TestCassandraAndBack(t *testing.T) {
	first, count := seeds.Schedules(t, 2, "")
	for seed := first; seed < first+count; seed++ {
		what := fmt.Sprint("seed ", seed)
		here, there, back := embedded(), keyspace(t, fmt.Sprintf("pim_%x", seed)), embedded()
		a := opens(t, here, false)
		(&source{TB: t, s: a}).fill(seed, 60)
		id, _, err := store.KnownIdentity(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		closes(t, a)
		for _, step := range []int64{1, 2, 30} {
			interrupted(t, here, there, step, step%2 == 0)
		}
		unfinished(t, here, there)
		equal(t, what+", there", copies(t, here, there))
		interrupted(t, there, back, 20, true)
		unfinished(t, there, back)
		equal(t, what+", back", copies(t, there, back))

		a, b, c := opens(t, here, false), opens(t, there, false), opens(t, back, false)
		equal(t, what+", there and back", compares(t, a, c))
		for _, s := range []store.Store{a, b, c} {
			if got, err := store.Identity(t.Context(), s); err != nil || got != id {
				t.Errorf("%s: the identity is %s, %v, and was %s", what, got, err, id)
			}
		}
		page, err := a.Scan(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page.Logs { // whoever writes it goes on, everywhere
			for _, s := range []store.Store{b, c} {
				commits(t, s, &store.Write{Log: l.Log, After: l.Last, Fence: l.Fence, Records: [][]byte{[]byte("goes on")}})
				commits(t, s, &store.Write{Log: l.Log, Raise: true}, &store.Write{Log: l.Log, Trim: l.Last})
			}
		}
		equal(t, what+", gone on", compares(t, b, c))
		if c := compares(t, a, b); c.Equal() {
			t.Errorf("%s: the stores have gone on, and are said to be equal", what)
		}
		for _, s := range []store.Store{a, b, c} {
			closes(t, s)
		}
	}
}
