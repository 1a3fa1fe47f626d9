package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/prometheus/client_golang/prometheus"
)

// brake holds up the fsyncs of the write-ahead log.
type brake struct {
	on    atomic.Bool
	held  chan struct{} // receives one for each fsync that is held up
	loose chan struct{} // closed to let the fsyncs go on
}

func newBrake() *brake {
	return &brake{held: make(chan struct{}, 100), loose: make(chan struct{})}
}

func (b *brake) String() string { return "brake" }

func (b *brake) MaybeError(op errorfs.Op) error {
	sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
	if sync && b.on.Load() && strings.HasSuffix(op.Path, ".log") {
		b.held <- struct{}{}
		<-b.loose
	}
	return nil
}

// TestOnlyDurableIsShown holds an fsync up. Pebble shows the append already; the
// store must not.
func TestOnlyDurableIsShown(t *testing.T) {
	ctx := context.Background()
	limit := store.Limit{Records: 9, Bytes: 999}
	b := newBrake()
	s := open(t, "db", small(errorfs.Wrap(vfs.NewMem(), b)))
	appends(t, s, "log", 0, "one")
	appends(t, s, "other", 0, "one")
	b.on.Store(true)
	committed := make(chan error)
	go func() {
		w := &store.Write{Log: "log", After: 1, Records: [][]byte{[]byte("two"), []byte("three")}}
		committed <- errors.Join(store.Commit(ctx, s, []*store.Write{w}, store.Durable), w.Err)
	}()
	<-b.held

	if last, _, err := store.LogEnd(ctx, s, "log"); err != nil || last != 1 {
		t.Errorf("last: %d, %v", last, err)
	}
	if records, err := store.ReadLog(ctx, s, "log", 1, 0, limit); err != nil || len(records) != 1 {
		t.Errorf("read: %q, %v", records, err)
	}
	if records, err := store.ReadLog(ctx, s, "log", 4, 0, limit); err != nil || len(records) != 0 {
		t.Errorf("read past what is being appended: %q, %v", records, err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := store.ReadLog(short, s, "log", 2, 0, limit); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read of what is being appended: %v", err)
	}
	rival := make(chan error) // another append to the log waits
	w := &store.Write{Log: "log", After: 1, Records: [][]byte{[]byte("rival")}}
	go func() { store.Commit(ctx, s, []*store.Write{w}, store.Durable); rival <- w.Err }()
	read := make(chan string)
	go func() {
		records, err := store.ReadLog(ctx, s, "log", 3, 0, limit)
		read <- fmt.Sprintf("%q %v", records, err)
	}()

	close(b.loose)
	if err := <-committed; err != nil {
		t.Error(err)
	}
	var conflict *store.ConflictError
	if err := <-rival; !errors.As(err, &conflict) || conflict.Last != 3 {
		t.Errorf("second append: %v", err)
	}
	if got := <-read; got != `["three"] <nil>` {
		t.Errorf("read of what was being appended: %s", got)
	}
	closes(t, s)
}

// stalls is the StallAfter of tests. On a slow machine a commit whose disk does not hold it up takes tens of milliseconds.
const stalls = 300 * time.Millisecond

// closesSoon closes a store whose StallAfter is short. On a slow machine the calls that are done take longer to leave,
// Close gives up, and is called again.
func closesSoon(t *testing.T, s *pebble.Store) {
	t.Helper()
	for {
		err := s.Close()
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "has not ended") {
			t.Fatal(err)
		}
	}
}

// TestStall holds the disk up for longer than StallAfter. The store refuses writes, and
// Close gives up; when the disk goes on, the slow commit and the next Close succeed.
func TestStall(t *testing.T) {
	ctx := context.Background()
	b := newBrake()
	o := small(errorfs.Wrap(vfs.NewMem(), b))
	o.StallAfter = stalls
	s := open(t, "db", o)
	b.on.Store(true)
	committed := make(chan error)
	go func() {
		committed <- store.Commit(ctx, s, []*store.Write{{Log: "log", Records: [][]byte{[]byte("slow")}}}, store.Durable)
	}()
	<-b.held
	waiting := make(chan error)
	go func() {
		w := &store.Write{Log: "log", Records: [][]byte{[]byte("it waits for the slow one")}}
		waiting <- store.Commit(ctx, s, []*store.Write{w}, store.Durable)
	}()
	becomes(t, s, pim.KindUnavailable)
	if err := <-waiting; pim.KindOf(err) != pim.KindUnavailable || errors.Is(err, store.ErrUnknown) {
		t.Errorf("commit that waits while the disk becomes stuck: %v", err)
	}
	w := &store.Write{Log: "other", Records: [][]byte{[]byte("refused")}}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); pim.KindOf(err) != pim.KindUnavailable || errors.Is(err, store.ErrUnknown) {
		t.Errorf("commit to a stuck disk: %v", err)
	}
	if err := s.Close(); pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("close of a stuck store: %v", err)
	}
	close(b.loose)
	if err := <-committed; err != nil {
		t.Errorf("the slow commit: %v", err)
	}
	closesSoon(t, s)
}

// TestStallPasses holds the disk up until the store refuses writes. When the disk goes
// on, the store accepts writes again.
func TestStallPasses(t *testing.T) {
	b := newBrake()
	o := small(errorfs.Wrap(vfs.NewMem(), b))
	o.StallAfter = stalls
	s := open(t, "db", o)
	b.on.Store(true)
	go func() {
		<-b.held
		becomes(t, s, pim.KindUnavailable)
		b.on.Store(false)
		close(b.loose)
	}()
	appends(t, s, "log", 0, "slow")
	becomes(t, s, pim.KindUnknown)
	appends(t, s, "log", 1, "quick")
	closesSoon(t, s)
}

// TestStallBesideRelaxedWrites holds up an fsync while relaxed writes go on. The store refuses
// writes all the same.
func TestStallBesideRelaxedWrites(t *testing.T) {
	b := newBrake()
	o := small(errorfs.Wrap(vfs.NewMem(), b))
	o.StallAfter = stalls
	s := open(t, "db", o)
	b.on.Store(true)
	durable := make(chan error)
	go func() {
		durable <- store.Commit(context.Background(), s, []*store.Write{{Log: "log", Records: [][]byte{[]byte("slow")}}}, store.Durable)
	}()
	<-b.held
	for version := uint64(1); s.Health() == nil; version++ {
		w := &store.Write{Cells: []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: "k", Version: version}}}}
		if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Relaxed); err != nil && pim.KindOf(err) != pim.KindUnavailable {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // else the memtable would be full before, and its flush held up, too
	}
	close(b.loose)
	if err := <-durable; err != nil {
		t.Error(err)
	}
	closesSoon(t, s)
}

// TestLowSpace checks that the store refuses writes while space is short, and still
// reads.
func TestLowSpace(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	s := open(t, "db", small(fs))
	appends(t, s, "log", 0, "one")
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20})
	becomes(t, s, pim.KindDiskFull)
	w := &store.Write{Log: "log", After: 1, Records: [][]byte{[]byte("two")}}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); pim.KindOf(err) != pim.KindDiskFull || errors.Is(err, store.ErrUnknown) {
		t.Errorf("commit: %v", err)
	}
	if last, _, err := store.LogEnd(ctx, s, "log"); err != nil || last != 1 {
		t.Errorf("last: %d, %v", last, err)
	}
	if m := s.Metrics(); m.FreeBytes != 1<<20 || m.Records != 1 {
		t.Errorf("metrics: %+v", m)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	becomes(t, s, pim.KindUnknown)
	appends(t, s, "log", 1, "two")
	closes(t, s)

	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1})
	s = open(t, "db", small(fs)) // to read
	if err := s.Health(); pim.KindOf(err) != pim.KindDiskFull {
		t.Errorf("health at once: %v", err)
	}
	closes(t, s)
}

// looks counts the looks at a disk's free space.
type looks struct {
	vfs.FS
	n atomic.Int64
}

func (l *looks) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	defer l.n.Add(1)
	return l.FS.GetDiskUsage(path)
}

// A quota is used up, or there are no inodes: the disk has no room for a table although bytes
// are free. The store refuses writes until there was no such error for a while.
func TestFullWithFreeBytes(t *testing.T) {
	for _, fullFor := range []time.Duration{time.Hour, time.Millisecond} {
		mem := vfs.NewMem()
		mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
		f := &fault{err: syscall.ENOSPC, files: ".sst", count: 1 << 40}
		fs := &looks{FS: errorfs.Wrap(mem, f)}
		s := open(t, "db", small(fs).FullFor(fullFor))
		appends(t, s, "log", 0, "one")
		f.armed.Store(true)
		flushed := make(chan error)
		go func() { flushed <- s.Flush() }()
		becomes(t, s, pim.KindDiskFull)
		f.armed.Store(false)
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		if fullFor == time.Millisecond {
			becomes(t, s, pim.KindUnknown)
			appends(t, s, "log", 1, "two")
		}
		for seen := fs.n.Load(); fullFor == time.Hour && fs.n.Load() < seen+20; {
			if err := s.Health(); pim.KindOf(err) != pim.KindDiskFull {
				t.Fatalf("health: %v", err)
			}
		}
		closes(t, s)
	}
}

// lines counts the lines of a log that contain text.
type lines struct {
	text string
	n    atomic.Int64
}

func (l *lines) Write(p []byte) (int, error) {
	if strings.Contains(string(p), l.text) {
		l.n.Add(1)
	}
	return len(p), nil
}

// A table that cannot be written is tried again and again, and logged once.
func TestFailingTablesFillNoLog(t *testing.T) {
	f := &fault{err: syscall.EIO, files: ".sst", count: 1 << 40}
	log := &lines{text: "injected into"}
	o := small(errorfs.Wrap(vfs.NewMem(), f))
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	s := open(t, "db", o)
	appends(t, s, "log", 0, "one")
	f.armed.Store(true)
	flushed := make(chan error)
	go func() { flushed <- s.Flush() }()
	for f.hits.Load() < 20 {
		time.Sleep(time.Millisecond)
	}
	f.armed.Store(false)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	if n := log.n.Load(); n == 0 || n > 4 { // of the table, of the flush, and why writes are refused
		t.Errorf("%d lines tell of %d errors", n, f.hits.Load())
	}
	closes(t, s)
}

// TestTablesCannotBeWritten checks that the store refuses writes before they pile up in
// memory, and accepts them again when a table can be written.
func TestTablesCannotBeWritten(t *testing.T) {
	f := &fault{err: syscall.EIO, files: ".sst", count: 1 << 40}
	s := open(t, "db", small(errorfs.Wrap(vfs.NewMem(), f)))
	appends(t, s, "log", 0, "one")
	f.armed.Store(true)
	flushed := make(chan error)
	go func() { flushed <- s.Flush() }()
	becomes(t, s, pim.KindUnavailable)
	w := &store.Write{Log: "log", After: 1, Records: [][]byte{[]byte("two")}}
	err := store.Commit(context.Background(), s, []*store.Write{w}, store.Durable)
	if pim.KindOf(err) != pim.KindUnavailable || errors.Is(err, store.ErrUnknown) {
		t.Errorf("commit: %v", err)
	}
	f.armed.Store(false)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	becomes(t, s, pim.KindUnknown)
	appends(t, s, "log", 1, "two")
	closes(t, s)
}

// TestOpenWithoutRoom opens a store that has writes to recover, on a disk that is full.
// Open must return.
func TestOpenWithoutRoom(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, "db", small(fs))
	appends(t, s, "log", 0, "one")
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	closes(t, s)
	f := &fault{err: syscall.ENOSPC, files: ".sst", count: 1 << 40}
	f.armed.Store(true)
	if _, err := pebble.Open("db", small(errorfs.Wrap(crashed, f))); pim.KindOf(err) != pim.KindDiskFull {
		t.Errorf("open: %v", err)
	}
	s = open(t, "db", small(crashed))
	if last, _, err := store.LogEnd(context.Background(), s, "log"); err != nil || last != 1 {
		t.Errorf("last: %d, %v", last, err)
	}
	closes(t, s)
}

func TestMetricsAreRegistered(t *testing.T) {
	r := prometheus.NewRegistry()
	o := small(vfs.NewMem())
	o.Registerer = r
	for range 2 { // Close takes them back
		s := open(t, "db", o)
		w := &store.Write{Cells: []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: "k", Version: 1}}}}
		if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Durable); err != nil {
			t.Fatal(err)
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		for name, want := range map[string]float64{
			"pim_store_commits_total": 1, "pim_store_cells_total": 1, "pim_store_records_total": 0,
			"pim_store_conflicts_total": 0, "pim_store_disk_slow_total": 0, "pim_store_free_bytes": 0,
			"pim_store_commit_seconds": 1,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
		if got["pim_store_fsync_seconds"] < 1 {
			t.Error("no fsync was counted")
		}
		if _, err := pebble.Open("other", o); err == nil {
			t.Error("a second store in one registry: no error")
		}
		closes(t, s)
	}
}

// TestSlowDiskIsCounted holds an fsync up until Pebble's supervision has seen it, which
// looks every two seconds.
func TestSlowDiskIsCounted(t *testing.T) {
	b := newBrake()
	o := small(errorfs.Wrap(vfs.NewMem(), b))
	o.SlowAfter = time.Millisecond
	s := open(t, "db", o)
	b.on.Store(true)
	go func() {
		<-b.held
		for s.Metrics().DiskSlow == 0 {
			time.Sleep(time.Millisecond)
		}
		b.on.Store(false)
		close(b.loose)
	}()
	appends(t, s, "log", 0, "slow")
	if err := s.Health(); err != nil {
		t.Errorf("health: %v; slow is not stuck", err)
	}
	closes(t, s)
}

// While a commit's fsync is under way, and while one waits for company, a relaxed write is
// carried out at once.
func TestRelaxedWritesWaitForNoFsync(t *testing.T) {
	b := newBrake()
	s := open(t, "db", small(errorfs.Wrap(vfs.NewMem(), b)))
	b.on.Store(true)
	durable := make(chan error)
	go func() {
		durable <- store.Commit(context.Background(), s, []*store.Write{{Log: "log", Records: [][]byte{[]byte("one")}}}, store.Durable)
	}()
	<-b.held
	for version := range uint64(10) {
		w := &store.Write{Cells: []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: "k", Version: version + 1}}}}
		if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Relaxed); err != nil {
			t.Fatal(err)
		}
	}
	close(b.loose)
	if err := <-durable; err != nil {
		t.Error(err)
	}
	closes(t, s)
}
