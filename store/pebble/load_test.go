package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// rounds returns how many rounds a random test does: PIM_ROUNDS if it is set, otherwise n.
func rounds(n int) int {
	if r, err := strconv.Atoi(os.Getenv("PIM_ROUNDS")); err == nil && r > 0 {
		return r
	}
	return n
}

func crash(fs *vfs.MemFS, rng *rand.Rand) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
}

// ledger holds what a store has told the outside: the records that it acknowledged or
// that somebody read, the fences that somebody read, and the trims.
type ledger struct {
	mu     sync.Mutex
	sealed bool
	logs   map[store.Log]map[pim.Seq]string
	fences map[store.Log]uint64
	raises map[store.Log]uint64  // how many were acknowledged
	fronts map[store.Log]pim.Seq // that somebody read, or that trims were acknowledged for
	trims  map[store.Log]pim.Seq // up to which seq trims were begun
	count  int
	enough chan struct{} // closed when count reaches until
	until  int
}

func newLedger() *ledger {
	return &ledger{
		logs: map[store.Log]map[pim.Seq]string{}, fences: map[store.Log]uint64{}, raises: map[store.Log]uint64{},
		fronts: map[store.Log]pim.Seq{}, trims: map[store.Log]pim.Seq{},
	}
}

// expect makes the ledger close the channel that it returns after n more
// acknowledgements.
func (l *ledger) expect(n int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed, l.count, l.until, l.enough = false, 0, n, make(chan struct{})
	return l.enough
}

func (l *ledger) note(log store.Log, first pim.Seq, records [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		return
	}
	if l.logs[log] == nil {
		l.logs[log] = map[pim.Seq]string{}
	}
	for i, r := range records {
		l.logs[log][first+pim.Seq(i)] = string(r)
	}
	if l.count++; l.count == l.until {
		close(l.enough)
	}
}

func (l *ledger) noteFence(log store.Log, fence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sealed {
		l.fences[log] = max(l.fences[log], fence)
	}
}

func (l *ledger) noteRaise(log store.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sealed {
		l.raises[log]++
	}
}

func (l *ledger) noteFront(log store.Log, front pim.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sealed {
		l.fronts[log] = max(l.fronts[log], front)
	}
}

// noteTrim notes a trim that begins. It may take effect although the ledger is sealed.
func (l *ledger) noteTrim(log store.Log, upTo pim.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trims[log] = max(l.trims[log], upTo)
}

// seal makes the ledger ignore all later notes, and calls at.
func (l *ledger) seal(at func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
	at()
}

// head names the partition of the cell that goes with every append to log. The cell's
// version is the log's last seq.
func head(log store.Log) store.Partition { return "heads/" + store.Partition(log) }

// holdsIn checks that a store has all records, fences and fronts of the ledger, and that each
// log is dense from its front on and has the cell of its last append.
func (l *ledger) holdsIn(t testing.TB, s store.Store) {
	t.Helper()
	ctx := context.Background()
	for log, acked := range l.logs {
		last, fence, err := store.LogEnd(ctx, s, log)
		if err != nil {
			t.Fatal(err)
		}
		if fence < max(l.fences[log], l.raises[log]) {
			t.Fatalf("log %s has the fence %d, the outside knows of %d and %d raises", log, fence, l.fences[log], l.raises[log])
		}
		reads := []store.Read{{Log: log, From: 1, Limit: store.Limit{Records: 1 << 30, Bytes: 1 << 30}, WithLast: true}}
		err = s.Read(ctx, reads)
		records, front := reads[0].Records, reads[0].Front
		if err != nil || reads[0].First != front || front+pim.Seq(len(records)) != last+1 {
			t.Fatalf("log %s: its front is %d and its last %d, it holds %d from %d, %v", log, front, last, len(records), reads[0].First, err)
		}
		if front < l.fronts[log] || front > l.trims[log]+1 {
			t.Fatalf("log %s has the front %d, the outside knows of %d and of trims up to %d", log, front, l.fronts[log], l.trims[log])
		}
		for seq, want := range acked {
			if seq > last {
				t.Fatalf("log %s ends at %d, the outside knows of %d", log, last, seq)
			}
			if seq < front {
				continue
			}
			if got := string(records[seq-front]); got != want {
				t.Fatalf("log %s at %d: %.40q, the outside knows of %.40q", log, seq, got, want)
			}
		}
		for i, r := range records {
			if want := fmt.Sprintf("%s %d ", log, front+pim.Seq(i)); !strings.HasPrefix(string(r), want) {
				t.Fatalf("log %s at %d: %.40q", log, front+pim.Seq(i), r)
			}
		}
		cell, _, err := store.Lookup(ctx, s, head(log), "head")
		if err != nil || cell.Version != uint64(last) {
			t.Fatalf("log %s ends at %d, its cell says %d, %v", log, last, cell.Version, err)
		}
	}
}

// load writes to a store until end is called, or until the store has failed.
type load struct {
	*ledger
	t       testing.TB
	s       store.Store
	prefix  string
	seed    uint64
	stop    chan struct{}
	running sync.WaitGroup
}

// start runs three committers, each with logs of its own and one log that all race for.
// It also runs a reader, because a record that was read must stay, as an acknowledged one
// must.
func (l *ledger) start(t testing.TB, s store.Store, prefix string, seed uint64) *load {
	d := &load{ledger: l, t: t, s: s, prefix: prefix, seed: seed, stop: make(chan struct{})}
	for c := range 3 {
		d.running.Go(func() { d.commit(c) })
	}
	d.running.Go(d.read)
	return d
}

func (d *load) end() {
	close(d.stop)
	d.running.Wait()
}

func (d *load) stopped() bool {
	select {
	case <-d.stop:
		return true
	default:
		return false
	}
}

func (d *load) commit(c int) {
	rng := rand.New(rand.NewPCG(d.seed, uint64(c)))
	last, fences := map[store.Log]pim.Seq{}, map[store.Log]uint64{}
	ctx := context.Background()
	for !d.stopped() {
		logs := []store.Log{store.Log(d.prefix + "shared")}
		for i := range rng.IntN(4) {
			logs = append(logs, store.Log(fmt.Sprintf("%s%d.%d", d.prefix, c, i)))
		}
		var writes []*store.Write
		for _, log := range logs {
			w := write(rng, log, last[log], c)
			w.Fence = fences[log]
			writes = append(writes, w)
		}
		if rng.IntN(4) == 0 {
			writes = append(writes, &store.Write{Log: logs[0], Raise: true})
		}
		if log := logs[rng.IntN(len(logs))]; last[log] > 0 && rng.IntN(4) == 0 {
			upTo := 1 + pim.Seq(rng.Uint64N(uint64(last[log])))
			d.noteTrim(log, upTo)
			writes = append(writes, &store.Write{Log: log, Trim: upTo})
		}
		if err := store.Commit(ctx, d.s, writes, store.Durable); err != nil && !d.typed(err) {
			return
		}
		for _, w := range writes {
			var conflict *store.ConflictError
			switch {
			case w.Err == nil && w.Raise: // the next append learns the fence from its conflict
				d.noteRaise(w.Log)
			case w.Err == nil && w.Trim != 0:
				d.noteFront(w.Log, w.Trim+1)
			case w.Err == nil:
				last[w.Log] = w.After + pim.Seq(len(w.Records))
				d.note(w.Log, w.After+1, w.Records)
			case errors.As(w.Err, &conflict):
				last[w.Log], fences[w.Log] = conflict.Last, conflict.Fence
			case errors.Is(w.Err, store.ErrUnknown):
				return // the store has failed
			default:
				if d.typed(w.Err); d.stopped() {
					return
				}
				time.Sleep(100 * time.Microsecond) // refused for now
			}
		}
		if rng.IntN(4) == 0 {
			w := &store.Write{Cells: []store.CellWrite{{Partition: "acks", Cell: store.Cell{Key: string(logs[0]), Version: rng.Uint64N(1000) + 1}}}}
			if err := store.Commit(ctx, d.s, []*store.Write{w}, store.Relaxed); err != nil {
				d.typed(err)
			}
		}
	}
}

// write makes an append to log whose records hold the log's name and their seq.
func write(rng *rand.Rand, log store.Log, after pim.Seq, c int) *store.Write {
	w := &store.Write{Log: log, After: after}
	for i := range 1 + rng.IntN(3) {
		padding := strings.Repeat("x", rng.IntN(400))
		w.Records = append(w.Records, fmt.Appendf(nil, "%s %d by %d %s", log, int(after)+i+1, c, padding))
	}
	w.Cells = []store.CellWrite{{
		Partition: head(log),
		Cell:      store.Cell{Key: "head", Version: uint64(after) + uint64(len(w.Records))},
	}}
	return w
}

// typed checks that err, which a fault may cause, has one of the kinds of the contract.
func (d *load) typed(err error) bool {
	switch pim.KindOf(err) {
	case pim.KindUnavailable, pim.KindDiskFull, pim.KindCorrupt:
		return true
	}
	d.t.Errorf("an error without a kind: %v", err)
	return false
}

func (d *load) read() {
	ctx := context.Background()
	log := store.Log(d.prefix + "shared")
	var next pim.Seq = 1
	for !d.stopped() {
		reads := []store.Read{{Log: log, From: next, Limit: store.Limit{Records: 100, Bytes: 1 << 20}}}
		if err := d.s.Read(ctx, reads); err != nil {
			d.typed(err)
			return
		}
		records := reads[0].Records
		if reads[0].First > next {
			next = reads[0].First
			d.noteFront(log, next)
		}
		if len(records) > 0 {
			d.note(log, next, records)
		}
		_, fence, err := store.LogEnd(ctx, d.s, log)
		if err != nil {
			d.typed(err)
			return
		}
		d.noteFence(log, fence)
		next += pim.Seq(len(records))
		time.Sleep(100 * time.Microsecond)
	}
}

func small(fs vfs.FS) pebble.Options {
	return pebble.Options{FS: fs, MemTableBytes: 64 << 10, Logger: quiet()}.Hurried()
}
