package migrate

import (
	"bytes"
	"context"
	"fmt"
	"sync"

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

	// Expired are the cells that only one store has, and whose lifetime is about to end.
	Expired uint64

	// Named are some of what is lost or added, in words.
	Named []string
}

// Equal reports whether nothing is lost or added.
func (c *Comparison) Equal() bool { return c.Lost == 0 && c.Added == 0 }

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
	return c, d.walk(ctx, to, from, &d.Added, "added")
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
	if original && (other.Fence != l.Fence || other.Front != l.Front) {
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
		case got.Version == 0 && d.gone(c):
			d.mu.Lock()
			d.Expired++
			d.mu.Unlock()
		case got.Version == 0, original && (got.Version != c.Version || !bytes.Equal(got.Value, c.Value)):
			d.found(count, 1, fmt.Sprintf("%s: the cell %q of %q", what, c.Key, c.Partition))
		}
	}
	return nil
}
