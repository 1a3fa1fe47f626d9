package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/migrate"
	"github.com/pim-im/pim/store/pebble"
)

// equal fails unless nothing is lost or added and the two summaries are one.
func equal(t testing.TB, what string, c migrate.Comparison) {
	t.Helper()
	if !c.Equal() || c.From != c.To || c.From.Logs.Items == 0 {
		t.Errorf("%s: lost %d, added %d, expired %d: %s", what, c.Lost, c.Added, c.Expired, strings.Join(c.Named, "; "))
	}
}

// A store is copied from one engine to another of the same sort, whatever it holds.
func TestCopy(t *testing.T) {
	first, count := seeds.Schedules(t, 40, "")
	for seed := first; seed < first+count; seed++ {
		from, to := embedded(), embedded()
		a := opens(t, from, false)
		(&source{TB: t, s: a}).fill(seed, 60)
		closes(t, a)
		equal(t, fmt.Sprint("seed ", seed), copies(t, from, to))
	}
}

// dying is a store that another one is copied to by a process that dies at its n-th step.
type dying struct {
	migrate.Target
	left atomic.Int64
	kill context.CancelFunc
	half bool // the step at which it dies is carried out
}

var errDead = errors.New("the process has died")

// dies reports whether a step is not carried out.
func (d *dying) dies() (before, after bool) {
	left := d.left.Add(-1)
	if left <= 0 {
		d.kill()
	}
	return left < 0 || left == 0 && !d.half, left == 0
}

func (d *dying) Begin(ctx context.Context, writes []*store.Write, durability store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		before, after := d.dies()
		if before {
			w.Err = errDead
			done(w)
			continue
		}
		d.Target.Begin(context.WithoutCancel(ctx), []*store.Write{w}, durability, func(w *store.Write) {
			if after {
				w.Err = errDead
			}
			done(w)
		})
	}
}

func (d *dying) RestoreLog(ctx context.Context, l store.LogState) error {
	return d.step(func() error { return d.Target.RestoreLog(context.WithoutCancel(ctx), l) })
}

func (d *dying) SetNote(ctx context.Context, note []byte) error {
	return d.step(func() error { return d.Target.SetNote(context.WithoutCancel(ctx), note) })
}

func (d *dying) step(do func() error) error {
	before, after := d.dies()
	if before {
		return errDead
	}
	if err := do(); err != nil || !after {
		return err
	}
	return errDead
}

// interrupted copies from to to with a process that dies at the step-th step. It reports whether the copy
// was done before.
func interrupted(t *testing.T, from, to engine, step int64, half bool) (done bool) {
	t.Helper()
	a, b := opens(t, from, false), opens(t, to, true)
	defer closes(t, a)
	defer closes(t, b)
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	d := &dying{Target: b, kill: kill, half: half}
	d.left.Store(step)
	_, err := migrate.Copy(ctx, a, d, migrate.Options{})
	if err != nil && !errors.Is(err, errDead) && !errors.Is(err, context.Canceled) {
		t.Fatalf("step %d: %v", step, err)
	}
	return err == nil
}

// A copy that is killed at each of its steps, before the step or behind it, goes on when it is started
// again, and ends with the same.
func TestInterruptedCopy(t *testing.T) {
	from := embedded()
	a := opens(t, from, false)
	(&source{TB: t, s: a}).fill(1, 80)
	closes(t, a)
	for step := int64(1); ; step += 1 + step/8 {
		done := false
		for _, half := range []bool{false, true} {
			to := embedded()
			done = interrupted(t, from, to, step, half)
			equal(t, fmt.Sprintf("killed at step %d, %v", step, half), copies(t, from, to))
		}
		if done {
			if step < 40 {
				t.Errorf("the copy had %d steps, which are too few for this test", step)
			}
			return
		}
	}
}

// A copy that is killed again and again, each time after as many steps as it needs for one page, comes to
// its end.
func TestCopyKilledAgainAndAgain(t *testing.T) {
	from, to := embedded(), embedded()
	a := opens(t, from, false)
	(&source{TB: t, s: a}).fill(2, 500)
	closes(t, a)
	runs := 1
	for !interrupted(t, from, to, 45, runs%2 == 0) {
		if runs++; runs > 1000 {
			t.Fatal("the copy comes to no end")
		}
	}
	if runs < 3 {
		t.Errorf("the copy took %d runs", runs)
	}
	equal(t, "again and again", copies(t, from, to))
}

// Whatever is changed in either of two equal stores is found and counted.
func TestChangesAreNoticed(t *testing.T) {
	log := &store.Write{Log: "x", Records: [][]byte{[]byte("1"), []byte("2"), []byte("3"), []byte("4")}}
	cells := &store.Write{}
	for _, p := range []store.Partition{"p", "~p"} {
		cells.Cells = append(cells.Cells, store.CellWrite{Partition: p, Cell: store.Cell{Key: "k", Version: 5, Value: []byte("v")}})
	}
	cells.Cells = append(cells.Cells, store.CellWrite{Partition: "e", Cell: store.Cell{Key: "k", Version: 5, Value: []byte("v")}, Lifetime: 20 * 24 * time.Hour})
	change := func(p store.Partition, key string, version uint64, value string) *store.Write {
		return &store.Write{Cells: []store.CellWrite{{Partition: p, Cell: store.Cell{Key: key, Version: version, Value: []byte(value)}}}}
	}
	forget := change("~p", "k", 5, "")
	forget.Cells[0].Forget = true
	expiring := change("e", "k2", 1, "v")
	expiring.Cells[0].Lifetime = 20 * 24 * time.Hour
	raised := &store.Write{Log: "z", Raise: true}
	for _, test := range []struct {
		name string
		w    *store.Write

		lost, added   uint64 // if the original is changed
		lost2, added2 uint64 // if the copy is
	}{
		{"nothing", &store.Write{}, 0, 0, 0, 0},
		{"append", &store.Write{Log: "x", After: 4, Records: [][]byte{{5}, {6}}}, 2, 0, 0, 2},
		{"a new log", &store.Write{Log: "y", Records: [][]byte{{5}, {6}, {7}}}, 3, 0, 0, 3},
		{"a new log with a fence and no record", raised, 1, 0, 0, 1},
		{"raise", &store.Write{Log: "x", Raise: true}, 1, 0, 1, 0},
		{"trim", &store.Write{Log: "x", Trim: 3}, 1, 3, 4, 0},
		{"trim of all", &store.Write{Log: "x", Trim: 4}, 1, 4, 5, 0},
		{"erase", &store.Write{Log: "x", After: 4, Erase: []store.Erasure{{Seq: 2, Rest: []byte("e")}}}, 1, 0, 1, 0},
		{"a version", change("p", "k", 6, "v"), 1, 0, 1, 0},
		{"a value", change("p", "k", 5, "w"), 1, 0, 1, 0},
		{"a new cell", change("p", "k2", 1, ""), 1, 0, 0, 1},
		{"a cell that passes", change("~p", "k2", 1, ""), 1, 0, 0, 1},
		{"a forgotten one", forget, 0, 1, 1, 0},
		{"one that expires", expiring, 1, 0, 0, 1},
	} {
		for _, original := range []bool{true, false} {
			from, to := embedded(), embedded()
			a := opens(t, from, false)
			l := *log
			commits(t, a, &l, &store.Write{Cells: cells.Cells})
			closes(t, a)
			equal(t, test.name, copies(t, from, to))
			a, b := opens(t, from, false), opens(t, to, false)
			w, changed, lost, added := *test.w, store.Store(a), test.lost, test.added
			if !original {
				changed, lost, added = b, test.lost2, test.added2
			}
			commits(t, changed, &w)
			c := compares(t, a, b)
			if c.Lost != lost || c.Added != added {
				t.Errorf("%s, in the original %v: lost %d, added %d, should be %d and %d: %q", test.name, original, c.Lost, c.Added, lost, added, c.Named)
			}
			if lost+added > 0 && (c.From == c.To || len(c.Named) == 0) {
				t.Errorf("%s, in the original %v: nothing is named", test.name, original)
			}
			closes(t, a)
			closes(t, b)
		}
	}
}

// living is a store whose cells that expire have left to live.
type living struct {
	migrate.Target
	left time.Duration
}

func (l living) Scan(ctx context.Context, token string) (store.Page, error) {
	page, err := l.Target.Scan(ctx, token)
	for i := range page.Cells {
		if page.Cells[i].Left != 0 {
			page.Cells[i].Left = l.left
		}
	}
	return page, err
}

// What expires and is in one store only counts as expired when the age of the copy says that it may be. If
// that can't be known, the stores are not called equal.
func TestWhatExpiresIsJudgedByTheAgeOfTheCopy(t *testing.T) {
	a, b := opens(t, embedded(), false), opens(t, embedded(), false)
	defer closes(t, a)
	defer closes(t, b)
	commits(t, a, &store.Write{Cells: []store.CellWrite{{Partition: "e", Cell: store.Cell{Key: "k", Version: 1}, Lifetime: time.Hour}}})
	const day = 24 * time.Hour
	unknown := migrate.Options{AgeUnknown: true}
	for _, test := range []struct {
		left     time.Duration
		o        migrate.Options
		original bool // has the cell; or else the copy has it
		want     string
	}{
		{20 * day, unknown, true, "unjudged"},
		{20 * day, unknown, false, "unjudged"},
		{2 * time.Hour, unknown, true, "unjudged"},
		{30 * time.Minute, unknown, true, "expired"},
		{20 * day, migrate.Options{Age: time.Hour}, true, "lost"},
		{20 * day, migrate.Options{Age: time.Hour}, false, "added"},
		{90 * time.Minute, migrate.Options{Age: time.Hour}, true, "expired"},
		{8 * day, migrate.Options{Age: time.Hour}, true, "lost"},
		{8 * day, migrate.Options{Age: time.Hour}, false, "expired"},
		{20 * day, migrate.Options{Age: 30 * day}, true, "unjudged"},
		{20 * day, migrate.Options{Age: 19 * day}, true, "lost"},
		{20 * day, migrate.Options{Age: 30 * day}, false, "expired"},
		{30 * time.Minute, migrate.Options{Age: 30 * day}, true, "expired"},
	} {
		from, to := migrate.Target(living{a, test.left}), b
		if !test.original {
			from, to = to, from
		}
		c, err := migrate.Compare(t.Context(), from, to, test.o)
		got := map[string]uint64{"lost": c.Lost, "added": c.Added, "expired": c.Expired, "unjudged": c.Unjudged}
		if err != nil || c.Lost+c.Added+c.Expired+c.Unjudged != 1 || got[test.want] != 1 || c.Equal() != (test.want == "expired") {
			t.Errorf("%v to live, %+v, in the original %v: %v, %v; should be %s", test.left, test.o, test.original, got, err, test.want)
		}
		if !c.Equal() && len(c.Named) == 0 {
			t.Errorf("%v: nothing is named", test.left)
		}
	}
}

// A cell that expires in one store only is a difference, although both stores have it.
func TestLifetimeThatOnlyOneStoreHas(t *testing.T) {
	a, b := opens(t, embedded(), false), opens(t, embedded(), false)
	defer closes(t, a)
	defer closes(t, b)
	for s, lifetime := range map[store.Store]time.Duration{a: 0, b: time.Hour} {
		commits(t, s, &store.Write{Cells: []store.CellWrite{
			{Partition: "e", Cell: store.Cell{Key: "k", Version: 1}, Lifetime: lifetime},
			{Partition: "e", Cell: store.Cell{Key: "other", Version: 1}},
		}})
	}
	for _, c := range []migrate.Comparison{compares(t, a, b), compares(t, b, a)} {
		if c.Equal() || c.Lost != 1 || len(c.Named) != 1 {
			t.Errorf("lost %d, added %d: %q", c.Lost, c.Added, c.Named)
		}
	}
}

// refusal returns with which kind of error a copy from a to b fails.
func refusal(t *testing.T, from, to engine) pim.Kind {
	t.Helper()
	a, b := opens(t, from, false), opens(t, to, true)
	defer closes(t, a)
	defer closes(t, b)
	_, err := migrate.Copy(t.Context(), a, b, migrate.Options{})
	return pim.KindOf(err)
}

// A copy goes on only with what it was begun with.
func TestCopyOfAnotherStore(t *testing.T) {
	from, other, to := embedded(), embedded(), embedded()
	for _, e := range []engine{from, other} {
		a := opens(t, e, false)
		(&source{TB: t, s: a}).fill(3, 20)
		closes(t, a)
	}
	interrupted(t, from, to, 8, false)
	if k := refusal(t, other, to); k != pim.KindConflict {
		t.Errorf("another store is copied to what is there of one: %v", k)
	}
	// A log that was trimmed behind what is copied of it. The store of before is gone.
	a := opens(t, from, false)
	for log := range 20 {
		name := store.Log(fmt.Sprint("log/", log, "\x00"))
		last, _, err := store.LogEnd(t.Context(), a, name)
		if err != nil {
			t.Fatal(err)
		}
		if last > 0 {
			commits(t, a, &store.Write{Log: name, Raise: true})
		}
	}
	closes(t, a)
	if k := refusal(t, from, to); k != pim.KindConflict {
		t.Errorf("the store was changed before the copy went on: %v", k)
	}
}

// Nothing but a copy opens a store that is not complete, and no copy goes to one that is.
func TestIncompleteStores(t *testing.T) {
	from, to := embedded(), embedded()
	a := opens(t, from, false)
	(&source{TB: t, s: a}).fill(4, 20)
	closes(t, a)
	interrupted(t, from, to, 8, false)
	unfinished(t, from, to)
	_, err := pebble.Verify(t.Context(), "db", pebble.Options{FS: to.(onDisk).fs})
	if pim.KindOf(err) != pim.KindConflict {
		t.Errorf("an incomplete copy is said to be whole: %v", err)
	}
	equal(t, "gone on", copies(t, from, to))
	closes(t, opens(t, to, false))
	if _, err := pebble.Verify(t.Context(), "db", pebble.Options{FS: to.(onDisk).fs}); err != nil {
		t.Error(err)
	}
}

// unfinished fails if a store can be opened to which another one is being copied, or another one can be
// copied to a store that is complete.
func unfinished(t *testing.T, complete, copying engine) {
	t.Helper()
	refused := func(what string, s store.Store, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s was opened", what)
			closes(t, s)
		} else if pim.KindOf(err) != pim.KindConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	s, err := complete.open(true)
	refused("a complete store, to copy another one to it,", s, err)
	s, err = copying.open(false)
	refused("an incomplete copy", s, err)
}
