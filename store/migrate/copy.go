package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"golang.org/x/sync/errgroup"
)

// Target is a store that another one can be copied to.
type Target interface {
	store.Scanner
	store.Restorer
}

// Options tune Copy and Compare. The zero value is ready for use.
type Options struct {
	// Patience is how long one step is tried again while a store can't be reached or is overloaded; 0: 1
	// minute.
	Patience time.Duration

	// Progress is called after each page, with what was done since the beginning; nil: nobody is told. It
	// is called from one goroutine at a time.
	Progress func(Progress)

	// Age is the age of the copy, for Compare. A cell that expires may be gone from one of the stores if
	// it has no more than that to live in the other one, and an hour; in the copy it may live for eight days
	// more. If the copy is older than a day, such a cell of the original is Unjudged, unless it has no
	// more than an hour to live.
	Age time.Duration

	// AgeUnknown says that nobody knows the age of the copy. Then Age counts for nothing.
	AgeUnknown bool
}

// Progress is how far a copy or a comparison has come.
type Progress struct {
	Step    Step
	Logs    uint64
	Records uint64
	Cells   uint64
}

// Step is what is being done.
type Step string

// Steps. Copy has the first one, Compare the others.
const (
	Copying     Step = "copying"
	ReadingFrom Step = "reading the original"
	ReadingTo   Step = "reading the copy"
	LookingUp   Step = "looking for what differs"
)

const (
	atOnce      = 16        // logs that are copied or read at a time
	readRecords = 1024      // records of one read
	readBytes   = 1 << 20   // bytes of one read, which are those of one append
	writeCells  = 64        // cells of one write
	writeBytes  = 256 << 10 // bytes of the cells of one write
)

func (o Options) withDefaults() Options {
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return o
}

// note is what the target keeps of a copy.
type note struct {
	From    string    `json:"from"`  // the identity of the original; empty if it has none
	Begun   time.Time `json:"begun"` // by the clock of the machine that began
	Token   []byte    `json:"token"` // of the page that comes next
	Copied  bool      `json:"copied"`
	Logs    uint64    `json:"logs"`
	Records uint64    `json:"records"`
	Cells   uint64    `json:"cells"`
}

// Copy copies all of from to to, which was opened as a Restorer, or goes on with a copy that was
// interrupted. It returns when that copy was begun. Whoever has compared the two then calls
// to.EndRestore. Errors: KindConflict if to holds a part of a copy of another store, or something
// that from does not have; those of the stores; and ctx's. After any of them Copy may be called again.
func Copy(ctx context.Context, from store.Scanner, to Target, o Options) (begun time.Time, err error) {
	c := &copying{from: from, to: to, Options: o.withDefaults()}
	if err := c.begin(ctx); err != nil {
		return time.Time{}, err
	}
	for !c.note.Copied {
		if err := c.page(ctx); err != nil {
			return c.note.Begun, err
		}
		c.Progress(Progress{Copying, c.note.Logs, c.note.Records, c.note.Cells})
	}
	return c.note.Begun, nil
}

// copying is a copy that is under way.
type copying struct {
	Options
	from store.Scanner
	to   Target
	note note
}

// begin reads the note, or writes the first one.
func (c *copying) begin(ctx context.Context) error {
	identity, _, err := store.KnownIdentity(ctx, c.from)
	if err != nil {
		return err
	}
	data, err := c.to.Note(ctx)
	if err != nil {
		return err
	}
	if data == nil {
		c.note = note{From: identity, Begun: time.Now().UTC().Truncate(time.Second)}
		return c.keep(ctx)
	}
	if err := json.Unmarshal(data, &c.note); err != nil {
		return pim.Errorf(pim.KindCorrupt, "the note of the copy: %w", err)
	}
	if c.note.From != identity {
		return pim.Errorf(pim.KindConflict, "a part of another store is there: its identity is %s, and this one's is %s", c.note.From, identity)
	}
	return nil
}

// keep writes the note.
func (c *copying) keep(ctx context.Context) error {
	data, err := json.Marshal(&c.note)
	if err != nil {
		return err
	}
	return c.try(ctx, func() error { return c.to.SetNote(ctx, data) })
}

// page copies the next page.
func (c *copying) page(ctx context.Context) error {
	var page store.Page
	err := c.try(ctx, func() (err error) {
		page, err = c.from.Scan(ctx, string(c.note.Token))
		return err
	})
	if err != nil {
		return err
	}
	records := make([]uint64, len(page.Logs))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range page.Logs {
		g.Go(func() (err error) {
			records[i], err = c.log(all, &page.Logs[i])
			return err
		})
	}
	g.Go(func() error { return c.cells(all, page.Cells) })
	if err := g.Wait(); err != nil {
		return err
	}
	next := c.note
	next.Token, next.Copied = []byte(page.Next), page.Next == ""
	next.Logs += uint64(len(page.Logs))
	next.Cells += uint64(len(page.Cells))
	for _, n := range records {
		next.Records += n
	}
	c.note = next
	return c.keep(ctx)
}

// log copies a log, and returns how many records it has.
func (c *copying) log(ctx context.Context, l *store.LogState) (records uint64, err error) {
	if l.Front > 1 || l.Fence > 0 {
		if err := c.try(ctx, func() error { return c.to.RestoreLog(ctx, *l) }); err != nil {
			return 0, err
		}
	}
	for last := l.Front - 1; last < l.Last; {
		if last, err = c.some(ctx, l, last); err != nil {
			return 0, err
		}
	}
	return uint64(l.Last - l.Front + 1), nil
}

// some copies the records behind last, as many as one append takes, and returns where the log then
// ends.
func (c *copying) some(ctx context.Context, l *store.LogState, last pim.Seq) (pim.Seq, error) {
	records, err := c.read(ctx, c.from, l.Log, last+1, l.Last)
	if err != nil {
		return 0, err
	}
	w := &store.Write{Log: l.Log, After: last, Fence: l.Fence, Records: records}
	err = c.try(ctx, func() error {
		if err := store.Commit(ctx, c.to, []*store.Write{w}, store.Durable); err != nil {
			return err
		}
		return w.Err
	})
	var conflict *store.ConflictError
	switch {
	case err == nil:
		return last + pim.Seq(len(records)), nil
	case !errors.As(err, &conflict):
		return 0, err
	case conflict.Fence != l.Fence, conflict.Last <= last, conflict.Last > l.Last:
		return 0, pim.Errorf(pim.KindConflict, "the copy of the log %q ends at seq %d and has the fence %d; the original ends at %d and has the fence %d",
			l.Log, conflict.Last, conflict.Fence, l.Last, l.Fence)
	}
	return conflict.Last, nil // an earlier run has come so far, or this append was carried out unseen
}

// cells copies cells.
func (c *copying) cells(ctx context.Context, cells []store.LiveCell) error {
	var writes []*store.Write
	size := 0
	for i := range cells {
		from := &cells[i]
		if len(writes) == 0 || len(writes[len(writes)-1].Cells) == writeCells || size > writeBytes {
			writes, size = append(writes, &store.Write{}), 0
		}
		w := writes[len(writes)-1]
		w.Cells = append(w.Cells, store.CellWrite{Partition: from.Partition, Cell: from.Cell, Lifetime: lifetime(from.Left)})
		size += len(from.Value)
	}
	return c.try(ctx, func() error { return store.Commit(ctx, c.to, writes, store.Durable) })
}

// lifetime returns the lifetime of a copy of a cell that has left to live.
func lifetime(left time.Duration) time.Duration {
	if left == 0 {
		return 0
	}
	return min(max(left, time.Millisecond), store.MaxLifetime)
}

// try calls do until it succeeds, or fails with an error that does not pass, for o.Patience at most.
// do may be repeated without harm.
func (o *Options) try(ctx context.Context, do func() error) error {
	const first, longest = 50 * time.Millisecond, 2 * time.Second
	end := time.Now().Add(o.Patience)
	for pause := first; ; pause = min(2*pause, longest) {
		err := do()
		switch pim.KindOf(err) {
		case pim.KindUnavailable, pim.KindOverloaded, pim.KindTimeout:
		default:
			return err
		}
		if time.Now().Add(pause).After(end) {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}
