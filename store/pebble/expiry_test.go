package pebble_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

const (
	week  = 7 * 24 * time.Hour
	grace = 3 * time.Hour // in which a sweep drops a week that is over
)

// aging is a store whose monotonic clock the test moves. The test opens the store again
// and again; each time the monotonic clock begins at a random time, as in a new process.
type aging struct {
	*testing.T
	*pebble.Store
	o    pebble.Options
	mono atomic.Int64 // a time.Duration; the store's own goroutines read it, too
}

func newAging(t *testing.T) *aging {
	a := &aging{T: t, o: small(vfs.NewMem())}
	a.o.Mono = func() time.Duration { return time.Duration(a.mono.Load()) }
	a.open()
	t.Cleanup(func() { closes(t, a.Store) })
	return a
}

func (a *aging) open() {
	a.mono.Store(int64(rand.N(100 * week)))
	a.Store = open(a.T, "db", a.o)
}

func (a *aging) reopen() {
	a.Helper()
	closes(a.T, a.Store)
	a.open()
}

func (a *aging) writes(key string, lifetime time.Duration) {
	a.Helper()
	w := &store.Write{Cells: []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: key, Version: 1}, Lifetime: lifetime}}}
	if err := store.Commit(context.Background(), a, []*store.Write{w}, store.Durable); err != nil {
		a.Fatal(err)
	}
}

// runs lets the store be open for d, with a sweep every hour.
func (a *aging) runs(d time.Duration) {
	a.Helper()
	for ; d > 0; d -= time.Hour {
		a.mono.Add(int64(min(time.Hour, d)))
		if err := a.Sweep(); err != nil {
			a.Fatal(err)
		}
	}
}

func (a *aging) has(key string, want bool) {
	a.Helper()
	if got := get(a.T, a.Store, "p", key).Version == 1; got != want {
		a.Fatalf("%s is there: %t, at an age of %v", key, got, a.Age())
	}
}

// A cell is there until it expires. A week and a sweep later it is gone, whether the
// store was opened again in between or not.
func TestExpiry(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		t.Run(fmt.Sprintf("reopened=%t", reopened), func(t *testing.T) {
			a := newAging(t)
			for day := range 9 { // cells are written at many places of a week
				key := fmt.Sprint("expires ", day)
				a.writes(key, week)
				a.writes("stays", 0)
				for lived := time.Duration(0); lived < week; lived += 20 * time.Hour {
					a.has(key, true)
					if reopened {
						a.reopen()
					}
					a.runs(min(20*time.Hour, week-lived))
				}
				a.has(key, true)
				a.runs(week + grace)
				a.has(key, false)
				a.has("stays", true)
				a.runs(24*time.Hour - grace)
			}
			if err := a.Compact(); err != nil {
				t.Fatal(err)
			}
			if n := a.Keys('e'); n != 0 {
				t.Errorf("%d expired cells are on the disk", n)
			}
		})
	}
}

// The wall clock of a store's first start was wrong, so its age began with any number.
// A cell lives as long as it should all the same.
func TestAgeOfAnyBeginning(t *testing.T) {
	for _, began := range []time.Duration{time.Millisecond, 3000 * week, 2*week - time.Hour, 100 * 366 * 24 * time.Hour} {
		a := newAging(t)
		a.SetAge(began)
		a.writes("k", week)
		a.runs(week)
		a.has("k", true)
		a.reopen()
		a.has("k", true)
		a.runs(week + grace)
		a.has("k", false)
	}
}

// A crash that loses the notes of the age ends no cell early. Nor does a long time in
// which the store is closed: only the time that it is open counts.
func TestAgeAfterACrash(t *testing.T) {
	a := newAging(t)
	mem := vfs.NewCrashableMem()
	a.o.FS = mem
	closes(t, a.Store)
	a.open()
	a.writes("first", week)
	a.runs(week - time.Hour)
	a.writes("second", week)
	lost := a.Store
	a.o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
	a.open()
	closes(t, lost)
	a.has("first", true)
	a.runs(week)
	a.has("second", true)
	a.runs(2*week + grace)
	a.has("second", false)
	a.has("first", false)
}

// The wall clock stood at 1970 when a version without an age wrote a store. The store takes the
// least age, notes it, and opens again.
func TestStoreOfTheFirstWeek(t *testing.T) {
	a := newAging(t)
	a.SetAge(time.Millisecond)
	a.writes("k", time.Hour)
	if err := a.ForgetAge(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a.open()
	if age := a.Age(); age != time.Millisecond {
		t.Errorf("the age is %v", age)
	}
	for range 2 {
		if err := a.Sweep(); err != nil { // notes the age
			t.Fatal(err)
		}
		a.reopen()
		a.has("k", true)
	}
}

// A store comes from a version that expired cells by the wall clock, which may have been
// wrong at any time. Its cells live another week.
func TestStoreWithoutAnAge(t *testing.T) {
	for _, ahead := range []time.Duration{0, 52 * week} {
		a := newAging(t)
		a.writes("old", week)
		a.SetAge(a.Age() + ahead)
		a.writes("later", week)
		if err := a.ForgetAge(); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		a.open()
		a.writes("new", week)
		a.runs(week)
		for _, key := range []string{"old", "later", "new"} {
			a.has(key, true)
		}
		a.runs(ahead + 2*week + grace)
		for _, key := range []string{"old", "later", "new"} {
			a.has(key, false)
		}
	}
}
