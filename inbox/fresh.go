package inbox

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// A user's offline list lies in two partitions. Writers put lines into Fresh. A sync
// folds those that its device has acknowledged: it writes them to Lines and forgets
// them in Fresh. So new lines lie among few others, and a sync of a device that is known
// to have acknowledged all of Lines reads Fresh alone. If a conversation has two lines,
// the one of the greater version counts. See docs/decisions/0019.

// Line returns a user's line of a conversation; ok is false if there is none.
func (x *Inbox) Line(ctx context.Context, user pim.UserID, c pim.ConversationID) (l Line, ok bool, err error) {
	cell, _, err := store.Lookup(ctx, x.store, Fresh(user), string(c)) // first: a line is in Lines before it is forgotten in Fresh
	if err != nil {
		return Line{}, false, err
	}
	folded, _, err := store.Lookup(ctx, x.store, Lines(user), string(c))
	if folded.Version > cell.Version {
		cell = folded
	}
	if err != nil || cell.Version == 0 {
		return Line{}, false, err
	}
	l, err = ParseLine(cell)
	return l, err == nil, err
}

// walk goes over a user's offline list in the order of conversations.
type walk struct {
	fresh     cursor
	folded    cursor
	freshOnly bool
	at        string // key of the last line
}

// fewLines is how many lines Fresh mostly has, at most: the size of the first page.
const fewLines = 16

func (x *Inbox) newWalk(user pim.UserID, after pim.ConversationID, freshOnly bool) *walk {
	return &walk{
		fresh:     cursor{store: x.store, partition: Fresh(user), after: string(after), size: x.fewLines},
		folded:    cursor{store: x.store, partition: Lines(user), ended: true}, // until Fresh has been read
		freshOnly: freshOnly, at: string(after),
	}
}

// line is a line of an offline list, and what a sync knows of it.
type line struct {
	store.Cell
	fresh  store.Cell // what the conversation has in Fresh, the same or an older line; version 0: nothing
	acked  uint64     // the seq up to which the device has acknowledged the conversation
	read   bool       // newest was read
	newest []byte     // the entry of the line, encoded; nil if it is not durable yet
	front  pim.Seq    // of the log, if newest was read
	err    error      // of the read of newest
}

// some returns the next lines, at most n. It returns none if there are no more.
func (w *walk) some(ctx context.Context, n int) (lines []line, err error) {
	for len(lines) < n {
		cell, fresh, ok, err := w.next(ctx)
		if err != nil || !ok {
			return lines, err
		}
		if lines == nil {
			lines = make([]line, 0, min(n, fewLines))
		}
		lines = append(lines, line{Cell: cell, fresh: fresh})
	}
	return lines, nil
}

// next returns the next line, and what its conversation has in Fresh. Every stretch of Fresh
// is read before the same stretch of Lines, because a line moves from Fresh to Lines, and is
// in both meanwhile.
func (w *walk) next(ctx context.Context) (line, fresh store.Cell, ok bool, err error) {
	if len(w.fresh.page) == 0 && !w.fresh.ended {
		if err := w.fresh.read(ctx); err != nil {
			return line, fresh, false, err
		}
		// The page of Lines was read before this one of Fresh: it is too old.
		w.folded.page, w.folded.after, w.folded.ended = nil, w.at, w.freshOnly
	}
	f, isFresh, err := w.fresh.peek(ctx)
	if err != nil {
		return line, fresh, false, err
	}
	line, isFolded, err := w.folded.peek(ctx)
	switch {
	case err != nil || !isFresh && !isFolded:
		return store.Cell{}, fresh, false, err
	case !isFolded || isFresh && f.Key < line.Key:
		line, fresh = f, f
		w.fresh.skip()
	case !isFresh || line.Key < f.Key:
		w.folded.skip()
	default:
		if fresh = f; f.Version >= line.Version {
			line = f
		}
		w.fresh.skip()
		w.folded.skip()
	}
	w.at = line.Key
	return line, fresh, true, nil
}

// cursor walks over a partition, a page at a time.
type cursor struct {
	store     store.Store
	partition store.Partition
	after     string // key of the last cell read
	size      int    // of the first page; 0: scanPage
	page      []store.Cell
	ended     bool
}

func (c *cursor) peek(ctx context.Context) (store.Cell, bool, error) {
	if len(c.page) == 0 && !c.ended {
		if err := c.read(ctx); err != nil {
			return store.Cell{}, false, err
		}
	}
	if len(c.page) == 0 {
		return store.Cell{}, false, nil
	}
	return c.page[0], true, nil
}

// read gets the next page.
func (c *cursor) read(ctx context.Context) error {
	size := c.size
	if size == 0 {
		size = scanPage
	}
	page, err := c.store.List(ctx, c.partition, c.after, size)
	if err != nil {
		return err
	}
	c.page, c.size, c.ended = page, 0, len(page) < size
	if len(page) > 0 {
		c.after = page[len(page)-1].Key
	}
	return nil
}

func (c *cursor) skip() { c.page = c.page[1:] }

// version moves on to key and returns its version, 0 if there is no such cell.
// Keys must ascend from call to call.
func (c *cursor) version(ctx context.Context, key string) (uint64, error) {
	for {
		cell, ok, err := c.peek(ctx)
		if err != nil || !ok || cell.Key > key {
			return 0, err
		}
		c.skip()
		if cell.Key == key {
			return cell.Version, nil
		}
	}
}
