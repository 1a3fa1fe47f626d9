package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// Clients append to the same logs, raise their fences, trim them, write the same cells and read
// them, all at once. Porcupine looks for an order in which one call after the other would have had the
// same outcomes. A call has its place in that order between its begin and its outcome. A write
// of unknown outcome has it at any time after its begin, and the last place is as good as none.
//
// PIM_SEED repeats what the clients choose, but not how they meet.
func TestHistoriesAreLinearizable(t *testing.T) {
	for _, test := range []struct {
		name string
		open func(seed uint64) store.Store
	}{
		{"memory", func(uint64) store.Store { return storetest.NewMemory() }},
		{"loose memory", func(seed uint64) store.Store { return loosened(storetest.NewMemory(), seed) }},
		{"pebble", func(uint64) store.Store { return open(t, "db", small(vfs.NewMem())) }},
		{"loose pebble", func(seed uint64) store.Store { return loosened(open(t, "db", small(vfs.NewMem())), seed) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			first, n := seeds.Schedules(t, 20, "")
			unknown := 0
			for seed := first; seed < first+n; seed++ {
				s := test.open(seed)
				h := record(t, s, seed)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if wrong := h.check(); wrong != "" {
					t.Fatalf("PIM_SEED=%d: %s", seed, wrong)
				}
				unknown += h.unknown
			}
			if loose := strings.HasPrefix(test.name, "loose"); loose != (unknown > 0) {
				t.Errorf("%d outcomes were unknown", unknown)
			}
		})
	}
}

// Stores that are broken on purpose have histories that no order explains.
func TestHistoriesOfBrokenStores(t *testing.T) {
	const enough = 100 // histories
	for _, test := range []struct {
		name   string
		broken func(store.Store) store.Store
	}{
		{"an append follows whatever is there", func(s store.Store) store.Store { return eager{s} }},
		{"an append heeds no fence", func(s store.Store) store.Store { return fenceless{s} }},
		{"an unknown outcome is told as a success", func(s store.Store) store.Store { return sure{loosened(s, 1)} }},
		{"a log's end is read from a cache", func(s store.Store) store.Store { return &cached{Store: s, ends: map[store.Log]store.Read{}} }},
		{"a trim takes less than it tells", func(s store.Store) store.Store { return untrimmed{s} }},
		{"a trim beyond the log's last seq takes all there is", func(s store.Store) store.Store { return lenient{s} }},
		{"a trim raises the fence", func(s store.Store) store.Store { return fencing{s} }},
		{"an older version of a cell wins", func(s store.Store) store.Store { return lowest{s} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			first := seeds.First(t)
			for seed := first; seed < first+enough; seed++ {
				if record(t, test.broken(storetest.NewMemory()), seed).check() != "" {
					t.Logf("noticed in history %d", seed-first+1)
					return
				}
			}
			t.Errorf("not noticed in %d histories", enough)
		})
	}
}

func loosened(s store.Store, seed uint64) store.Store {
	l := storetest.Loose(s, seed)
	l.FailRate(0.1)
	return l
}

// history is what clients asked of logs and cells, and what they were told.
type history struct {
	clock   atomic.Int64 // grows with every begin and every outcome
	mu      sync.Mutex
	logs    map[store.Log][]porcupine.Operation
	cells   map[store.Partition][]porcupine.Operation
	unknown int // outcomes
}

// logCall is a call to a log: a read from seq 1 if it is nothing else.
type logCall struct {
	append, raise bool
	after, fence  uint64
	trim          uint64 // 0: it is no trim
	records       string
}

// logOutcome is the outcome of a logCall. What a read or a conflict tells is in last, fence and
// trimmed.
type logOutcome struct {
	unknown, conflict, invalid bool
	last, fence, trimmed       uint64
	records                    string // there may be more
}

// logState is a log: its records, recordBytes each, its fence, and up to where it was trimmed.
type logState struct {
	records        string
	fence, trimmed uint64
}

const recordBytes = 4

var logModel = porcupine.Model{
	Init: func() any { return logState{} },
	Step: func(state, call, outcome any) (bool, any) {
		s, c, o := state.(logState), call.(logCall), outcome.(logOutcome)
		last := uint64(len(s.records) / recordBytes)
		fits := c.after == last && c.fence == s.fence
		switch {
		case c.raise:
			return true, logState{s.records, s.fence + 1, s.trimmed}
		case c.trim > last:
			return o.invalid || o.unknown, s
		case c.trim > 0:
			return !o.invalid, logState{s.records, s.fence, max(s.trimmed, c.trim)}
		case c.append && o.conflict:
			return !fits && o.last == last && o.fence == s.fence, s
		case c.append && fits:
			return true, logState{s.records + c.records, s.fence, s.trimmed}
		case c.append:
			return o.unknown, s
		}
		left := s.records[s.trimmed*recordBytes:]
		some := (o.records != "") == (left != "")
		return some && o.last == last && o.fence == s.fence && o.trimmed == s.trimmed && strings.HasPrefix(left, o.records), s
	},
}

// cellCall is a call to a cell: it writes a version with the value, unless that is 0. The
// outcome is what was read.
type cellCall struct {
	version uint64
	value   string
}

var cellModel = porcupine.Model{
	Init: func() any { return cellCall{} },
	Step: func(state, call, outcome any) (bool, any) {
		s, c := state.(cellCall), call.(cellCall)
		switch {
		case c.version == 0:
			return outcome.(cellCall) == s, s
		case c.version > s.version || c.version == s.version && c.value > s.value:
			return true, c
		}
		return true, s
	},
}

// check returns which log or cell no order explains; "" if there is an order for each.
func (h *history) check() string {
	for log, operations := range h.logs {
		if !porcupine.CheckOperations(logModel, operations) {
			return fmt.Sprintf("no order explains the %d calls to log %q:%s", len(operations), log, told(operations))
		}
	}
	for p, operations := range h.cells {
		if !porcupine.CheckOperations(cellModel, operations) {
			return fmt.Sprintf("no order explains the %d calls to the cell of %q:%s", len(operations), p, told(operations))
		}
	}
	return ""
}

// told returns a line for each call.
func told(operations []porcupine.Operation) string {
	var b strings.Builder
	for _, o := range operations {
		fmt.Fprintf(&b, "\n%d to %d: %+v: %+v", o.Call, o.Return, o.Input, o.Output)
	}
	return b.String()
}

// record lets clients make the calls that the seed chooses.
func record(t *testing.T, s store.Store, seed uint64) *history {
	h := &history{logs: map[store.Log][]porcupine.Operation{}, cells: map[store.Partition][]porcupine.Operation{}}
	var clients sync.WaitGroup
	for n := range 4 {
		c := &client{
			T: t, history: h, store: s, n: n, rng: rand.New(rand.NewPCG(seed, uint64(n))), known: map[store.Log]*store.ConflictError{},
		}
		clients.Go(func() {
			for range 20 {
				if c.rng.IntN(3) == 0 {
					c.read()
				} else {
					c.write()
				}
			}
		})
	}
	clients.Wait()
	return h
}

// client makes one call after the other.
type client struct {
	*testing.T
	*history
	store store.Store
	n     int
	rng   *rand.Rand
	made  int                                // records
	known map[store.Log]*store.ConflictError // what a read or a conflict told of a log last
}

var (
	linearLogs  = []store.Log{"a", "b"}
	linearCells = []store.Partition{"c", "~c"}
)

func (c *client) end(log store.Log) *store.ConflictError {
	if c.known[log] == nil {
		c.known[log] = &store.ConflictError{Log: log}
	}
	return c.known[log]
}

// write begins writes to several logs, each with a cell or without one, and waits for all of them.
func (c *client) write() {
	var writes []*store.Write
	for _, i := range c.rng.Perm(len(linearLogs))[:1+c.rng.IntN(len(linearLogs))] {
		end := c.end(linearLogs[i])
		w := &store.Write{Log: end.Log, After: end.Last, Fence: end.Fence}
		switch c.rng.IntN(8) {
		case 0:
			w = &store.Write{Log: end.Log, Raise: true}
		case 1:
			w = &store.Write{}
		case 2:
			w = &store.Write{Log: end.Log, Trim: end.Last/2 + pim.Seq(c.rng.IntN(3))} // perhaps 0, or beyond the last seq
		default:
			for range 1 + c.rng.IntN(2) {
				c.made++
				w.Records = append(w.Records, fmt.Appendf(nil, "%c%03d", 'a'+c.n, c.made)) // recordBytes
			}
		}
		if c.rng.IntN(2) == 0 {
			w.Cells = []store.CellWrite{{Partition: linearCells[c.rng.IntN(len(linearCells))], Cell: store.Cell{
				Key: "k", Version: 1 + c.rng.Uint64N(30), Value: []byte{'a' + byte(c.n)},
			}}}
		}
		writes = append(writes, w)
	}
	begun := c.clock.Add(1)
	var running sync.WaitGroup
	running.Add(len(writes))
	c.store.Begin(context.Background(), writes, store.Durable, func(w *store.Write) {
		c.wrote(w, begun, c.clock.Add(1))
		running.Done()
	})
	running.Wait()
	for _, w := range writes {
		var conflict *store.ConflictError
		switch {
		case errors.As(w.Err, &conflict):
			c.known[w.Log] = conflict
		case w.Err == nil && len(w.Records) > 0:
			c.known[w.Log] = &store.ConflictError{Log: w.Log, Last: w.After + pim.Seq(len(w.Records)), Fence: w.Fence}
		}
	}
}

// wrote notes the outcome of w.
func (h *history) wrote(w *store.Write, begun, ended int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var (
		conflict *store.ConflictError
		o        logOutcome
	)
	switch {
	case errors.As(w.Err, &conflict):
		o = logOutcome{conflict: true, last: uint64(conflict.Last), fence: conflict.Fence}
	case errors.Is(w.Err, store.ErrUnknown):
		h.unknown++
		o.unknown, ended = true, math.MaxInt64
	case w.Trim != 0 && pim.KindOf(w.Err) == pim.KindInvalid:
		o.invalid = true
	case w.Trim != 0 && pim.KindOf(w.Err) == pim.KindUnavailable: // of the look-up in Loose
		return
	case w.Err != nil:
		panic(w.Err)
	}
	if w.TouchesLog() {
		call := logCall{append: w.Follows(), raise: w.Raise, after: uint64(w.After), fence: w.Fence, trim: uint64(w.Trim)}
		for _, r := range w.Records {
			call.records += string(r)
		}
		h.logs[w.Log] = append(h.logs[w.Log], porcupine.Operation{Input: call, Call: begun, Output: o, Return: ended})
	}
	for _, cell := range w.Cells {
		if !o.conflict && !o.invalid { // else it is not written
			call := cellCall{cell.Version, string(cell.Value)}
			h.cells[cell.Partition] = append(h.cells[cell.Partition], porcupine.Operation{Input: call, Call: begun, Output: cellCall{}, Return: ended})
		}
	}
}

// read reads a log from its first record on, or gets a cell.
func (c *client) read() {
	begun := c.clock.Add(1)
	if c.rng.IntN(2) == 0 {
		p := linearCells[c.rng.IntN(len(linearCells))]
		cell, _, err := store.Lookup(context.Background(), c.store, p, "k")
		if ended := c.clock.Add(1); err == nil { // Loose's look-ups fail now and then
			c.mu.Lock()
			defer c.mu.Unlock()
			got := cellCall{cell.Version, string(cell.Value)}
			c.cells[p] = append(c.cells[p], porcupine.Operation{Input: cellCall{}, Call: begun, Output: got, Return: ended})
		}
		return
	}
	log := linearLogs[c.rng.IntN(len(linearLogs))]
	reads := []store.Read{{Log: log, From: 1, Limit: store.Limit{Records: 1000, Bytes: 1 << 20}, WithLast: true}}
	err := c.store.Read(context.Background(), reads)
	ended := c.clock.Add(1)
	if err != nil {
		return
	}
	r := &reads[0]
	o := logOutcome{last: uint64(r.Last), fence: r.Fence, trimmed: uint64(r.Front) - 1}
	for _, data := range r.Records {
		o.records += string(data)
	}
	c.known[log] = &store.ConflictError{Log: log, Last: r.Last, Fence: r.Fence}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs[log] = append(c.logs[log], porcupine.Operation{Input: logCall{}, Call: begun, Output: o, Return: ended})
}

// changed carries out copies of writes that change has changed, and tells their outcomes.
func changed(s store.Store, writes []*store.Write, d store.Durability, done func(*store.Write), change func(*store.Write)) {
	for _, w := range writes {
		other := *w
		change(&other)
		s.Begin(context.Background(), []*store.Write{&other}, d, func(*store.Write) {
			w.Err = other.Err
			done(w)
		})
	}
}

// eager appends behind whatever the log ends with.
type eager struct{ store.Store }

func (s eager) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(s.Store, writes, d, done, func(w *store.Write) { w.After, w.Fence, _ = store.LogEnd(ctx, s.Store, w.Log) })
}

// fenceless appends whatever the fence is.
type fenceless struct{ store.Store }

func (s fenceless) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(s.Store, writes, d, done, func(w *store.Write) { _, w.Fence, _ = store.LogEnd(ctx, s.Store, w.Log) })
}

// untrimmed trims by half of what it tells.
type untrimmed struct{ store.Store }

func (s untrimmed) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(s.Store, writes, d, done, func(w *store.Write) { w.Trim /= 2 })
}

// lenient trims all there is if it is to trim more.
type lenient struct{ store.Store }

func (s lenient) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(s.Store, writes, d, done, func(w *store.Write) {
		if last, _, _ := store.LogEnd(ctx, s.Store, w.Log); w.Trim > last {
			w.Trim = last
		}
	})
}

// fencing raises a log's fence with each trim.
type fencing struct{ store.Store }

func (s fencing) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(s.Store, writes, d, done, func(w *store.Write) {
		if w.Trim != 0 {
			_ = store.Commit(ctx, s.Store, []*store.Write{{Log: w.Log, Raise: true}}, store.Durable)
		}
	})
}

// sure says that a write whose outcome is unknown has taken effect.
type sure struct{ store.Store }

func (s sure) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	s.Store.Begin(ctx, writes, d, func(w *store.Write) {
		if errors.Is(w.Err, store.ErrUnknown) {
			w.Err = nil
		}
		done(w)
	})
}

// cached tells the end of a log that it has read once.
type cached struct {
	store.Store
	mu   sync.Mutex
	ends map[store.Log]store.Read
}

func (s *cached) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range reads {
		if old, known := s.ends[reads[i].Log]; known {
			reads[i] = old
		} else if err == nil {
			s.ends[reads[i].Log] = reads[i]
		}
	}
	return err
}

// lowest has the lowest version of a cell win.
type lowest struct{ store.Store }

func (s lowest) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	changed(s.Store, writes, d, done, func(w *store.Write) {
		cells := w.Cells
		w.Cells = nil
		for _, c := range cells {
			c.Version = store.MaxVersion - 1 - c.Version
			w.Cells = append(w.Cells, c)
		}
	})
}

func (s lowest) Get(ctx context.Context, gets []store.Get) error {
	err := s.Store.Get(ctx, gets)
	for i := range gets {
		if c := &gets[i].Cell; c.Version != 0 {
			c.Version = store.MaxVersion - 1 - c.Version
		}
	}
	return err
}
