package migrate

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"golang.org/x/sync/errgroup"
)

// mostNamed is how many differences a Comparison names.
const mostNamed = 20

// Comparison is what two stores have in common.
type Comparison struct {
	From, To Summary

	// Lost are the records and cells of from that to has not, or has otherwise; a log with another
	// fence or front counts as one more. Added are those of to that from has not.
	Lost, Added uint64

	// Expired are the cells that only one store has, and whose lifetime may have ended in the other one.
	Expired uint64

	// Unjudged are the cells with a lifetime that only one store has, and of which nobody can tell whether
	// they have expired in the other one or were lost, because the age of the copy is not known or too great.
	Unjudged uint64

	// Named are some of what is lost, added or not judged, in words.
	Named []string
}

// Equal reports whether nothing is lost or added, and nothing is left unjudged.
func (c *Comparison) Equal() bool { return c.Lost == 0 && c.Added == 0 && c.Unjudged == 0 }

// Compare reads all of both stores, and tells whether to is a copy of from. Errors are those of the
// stores, and ctx's; that the stores differ is none.
func Compare(ctx context.Context, from, to store.Scanner, o Options) (Comparison, error) {
	o = o.withDefaults()
	var c Comparison
	var err error
	if c.From, err = Summarize(ctx, from, o, ReadingFrom); err != nil {
		return c, err
	}
	if c.To, err = Summarize(ctx, to, o, ReadingTo); err != nil || c.From == c.To {
		return c, err
	}
	d := &difference{Options: o, Comparison: &c}
	if err := d.walk(ctx, from, to, &d.Lost, "lost"); err != nil {
		return c, err
	}
	if err := d.walk(ctx, to, from, &d.Added, "added"); err != nil {
		return c, err
	}
	d.unexplained()
	return c, nil
}

// unexplained sees that sums which differ are never called equal: not even if each item of one store is in
// the other one. Then a cell is permanent in one store and expires in the other, or a store was changed
// while it was read. The sums of what expires prove nothing, since it may have expired between two reads.
func (d *difference) unexplained() {
	if d.Lost+d.Added > 0 {
		return
	}
	for _, sort := range []struct {
		name     string
		from, to Sum
	}{
		{"logs", d.From.Logs, d.To.Logs},
		{"permanent cells", d.From.Cells, d.To.Cells},
		{"permanent cells that pass", d.From.Passing, d.To.Passing},
	} {
		if sort.from == sort.to {
			continue
		}
		n := max(sort.from.Items, sort.to.Items) - min(sort.from.Items, sort.to.Items)
		d.found(&d.Lost, max(n, 1), fmt.Sprintf("lost: the sums of the %s differ, of which one store has %d and the other %d: some expire in one of them only, or it was changed meanwhile",
			sort.name, sort.from.Items, sort.to.Items))
	}
}

// difference is a search for what differs.
type difference struct {
	Options
	*Comparison
	mu   sync.Mutex // guards the Comparison
	seen Summary    // how far the search has come; owned by walk
}

// walk looks each item of a up in b. Those that b does not have are counted in count. Of those that
// both have, it counts those that differ when a is the original.
func (d *difference) walk(ctx context.Context, a, b store.Scanner, count *uint64, what string) error {
	original := count == &d.Lost
	d.seen = Summary{}
	return d.pages(ctx, a, func(page *store.Page) error {
		g, all := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for i := range page.Logs {
			l := &page.Logs[i]
			d.seen.Logs.Items++
			d.seen.Records += uint64(l.Last - l.Front + 1)
			g.Go(func() error {
				n, err := d.log(all, a, b, l, original)
				if n > 0 {
					d.found(count, n, fmt.Sprintf("%s: %d of the log %q", what, n, l.Log))
				}
				return err
			})
		}
		d.seen.Cells.Items += uint64(len(page.Cells))
		g.Go(func() error { return d.cells(all, b, page.Cells, count, what, original) })
		err := g.Wait()
		d.Progress(d.seen.progress(LookingUp))
		return err
	})
}

// found notes a difference that counts n times.
func (d *difference) found(count *uint64, n uint64, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*count += n
	if len(d.Named) < mostNamed {
		d.Named = append(d.Named, name)
	}
}

// log returns how many records of l, which is in a, b does not have, and with original set also how many
// it has otherwise.
func (d *difference) log(ctx context.Context, a, b store.Store, l *store.LogState, original bool) (n uint64, err error) {
	reads := []store.Read{{Log: l.Log, WithLast: true}}
	if err := d.try(ctx, func() error { return b.Read(ctx, reads) }); err != nil {
		return 0, err
	}
	other := store.LogState{Log: l.Log, Last: reads[0].Last, Fence: reads[0].Fence, Front: reads[0].Front}
	unwritten := other.Fence == 0 && other.Front == 1 && other.Last == 0 // so the walk of b has not met it
	if (original || unwritten) && (other.Fence != l.Fence || other.Front != l.Front) {
		n++
	}
	both := store.LogState{Log: l.Log, Front: max(l.Front, other.Front), Last: min(l.Last, other.Last)}
	all := uint64(l.Last - l.Front + 1)
	if both.Front > both.Last {
		return n + all, nil
	}
	n += all - uint64(both.Last-both.Front+1)
	if !original {
		return n, nil
	}
	for next := both.Front; next <= both.Last; {
		ours, err := d.read(ctx, a, l.Log, next, both.Last)
		if err != nil {
			return n, err
		}
		i, end := 0, next+pim.Seq(len(ours))
		err = d.records(ctx, b, &store.LogState{Log: l.Log, Front: next, Last: end - 1}, func(r []byte) error {
			if !bytes.Equal(r, ours[i]) {
				n++
			}
			i++
			return nil
		})
		if err != nil {
			return n, err
		}
		next = end
	}
	return n, nil
}

// fate is what has become of a cell that only one store has.
type fate int

const (
	missing  fate = iota
	expired       // it may have reached its end in the other store
	unjudged      // that can't be told from a loss
)

// fate returns the fate of c, which the original has, or else only the copy.
func (o *Options) fate(c *store.LiveCell, original bool) fate {
	const (
		margin  = time.Hour          // of clocks, and of the time that a comparison takes
		longer  = 8 * 24 * time.Hour // by so much a copy may make a cell live longer
		telling = 24 * time.Hour     // the age of a copy of which most of what expires must still be there
	)
	switch {
	case c.Left == 0:
		return missing
	case c.Left <= margin:
		return expired
	case o.AgeUnknown:
		return unjudged
	case !original && c.Left <= o.Age+margin+longer: // it does no harm, unlike one that has ended early
		return expired
	case c.Left > o.Age+margin:
		return missing
	case o.Age > telling:
		return unjudged
	}
	return expired
}

// cells looks cells up in b.
func (d *difference) cells(ctx context.Context, b store.Store, cells []store.LiveCell, count *uint64, what string, original bool) error {
	gets := make([]store.Get, len(cells))
	for i := range cells {
		gets[i] = store.Get{Partition: cells[i].Partition, Key: cells[i].Key}
	}
	if err := d.try(ctx, func() error { return b.Get(ctx, gets) }); err != nil {
		return err
	}
	for i := range cells {
		c, got := &cells[i], &gets[i].Cell
		switch {
		case got.Version == 0 && d.fate(c, original) == expired:
			d.mu.Lock()
			d.Expired++
			d.mu.Unlock()
		case got.Version == 0 && d.fate(c, original) == unjudged:
			d.found(&d.Unjudged, 1, fmt.Sprintf("not judged: the cell %q of %q, which expires", c.Key, c.Partition))
		case got.Version == 0, original && (got.Version != c.Version || !bytes.Equal(got.Value, c.Value)):
			d.found(count, 1, fmt.Sprintf("%s: the cell %q of %q", what, c.Key, c.Partition))
		}
	}
	return nil
}
