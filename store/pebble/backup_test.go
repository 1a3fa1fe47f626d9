package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// clone returns a copy of what l knows now.
func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &ledger{logs: map[store.Log]map[pim.Seq]string{}, fences: maps.Clone(l.fences), raises: maps.Clone(l.raises), fronts: maps.Clone(l.fronts)}
	for log, records := range l.logs {
		c.logs[log] = maps.Clone(records)
	}
	return c
}

// begunTrims returns up to which seq trims were begun.
func (l *ledger) begunTrims() map[store.Log]pim.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.trims)
}

// TestBackup makes backups under concurrent commits. Each has what was acknowledged or shown before
// it was begun, is whole, and can be written to. The store knows nothing of that.
func TestBackup(t *testing.T) {
	for _, disk := range []struct {
		name   string
		fs     func() vfs.FS
		rounds int
	}{
		{"in memory", func() vfs.FS { return vfs.NewMem() }, rounds(seeds.Many(60))},
		{"on disk", func() vfs.FS { return vfs.Default }, rounds(seeds.Many(8))},
		{"on another disk", func() vfs.FS { return unlinked{vfs.NewMem()} }, rounds(seeds.Many(30))},
	} {
		t.Run(disk.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seeds.First(t), 0))
			for range disk.rounds {
				backsUp(t, disk.fs(), rng)
			}
		})
	}
}

// unlinked is a disk on which no file has two names.
type unlinked struct{ vfs.FS }

func (unlinked) Link(string, string) error { return errors.New("another device") }

// backsUp makes three backups of a store on disk that is written to.
func backsUp(t *testing.T, disk vfs.FS, rng *rand.Rand) {
	t.Helper()
	dir, known := t.TempDir(), newLedger()
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "db"), small(disk))
	load := known.start(t, s, "", rng.Uint64())
	var copies []*ledger
	for i := range 3 {
		<-known.expect(1 + rng.IntN(100))
		copies = append(copies, known.clone())
		if err := s.Backup(t.Context(), filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		copies[i].trims = known.begunTrims()
	}
	load.end()
	known.holdsIn(t, s)
	closes(t, s)
	for i, known := range copies {
		copied := filepath.Join(dir, fmt.Sprint(i))
		found, err := pebble.Verify(t.Context(), copied, small(disk))
		if err != nil || found.Logs == 0 || found.Records == 0 || found.Cells == 0 || found.Bytes == 0 {
			t.Fatalf("backup %d: %+v, %v", i, found, err)
		}
		s := open(t, copied, small(disk))
		known.holdsIn(t, s)
		commitCell(t, s, "p", "after", 1)
		closes(t, s)
	}
}

// TestBackupKeepsRelaxed checks that a backup has the relaxed writes that came before it.
func TestBackupKeepsRelaxed(t *testing.T) {
	disk := vfs.NewMem()
	s := open(t, "db", small(disk))
	commitCell(t, s, "p", "k", 1)
	if err := s.Backup(t.Context(), "copy"); err != nil {
		t.Fatal(err)
	}
	closes(t, s)
	s = open(t, "copy", small(disk))
	defer closes(t, s)
	if c := get(t, s, "p", "k"); c.Version != 1 {
		t.Fatalf("the cell has version %d", c.Version)
	}
}

// later calls then when a file of the write-ahead log has been opened for reading.
type later struct {
	vfs.FS
	then func()
}

func (l *later) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := l.FS.Open(name, opts...)
	if l.then != nil && filepath.Ext(name) == ".log" {
		l.then()
	}
	return f, err
}

// TestBackupEndsItsLog checks that a copy of the write-ahead log has nothing that is written while
// it is being read. A disk may show a later write to a reader that it has not shown an earlier one.
func TestBackupEndsItsLog(t *testing.T) {
	disk := &later{FS: vfs.NewMem()}
	s := open(t, "db", small(disk))
	commitCell(t, s, "p", "k", 1)
	version := uint64(1)
	disk.then = func() {
		version++
		commitCell(t, s, "p", "k", version)
		commitRecords(t, s, "log", version)
	}
	if err := s.Backup(t.Context(), "copy"); err != nil {
		t.Fatal(err)
	}
	disk.then = nil
	closes(t, s)
	s = open(t, "copy", small(disk))
	defer closes(t, s)
	if c := get(t, s, "p", "k"); version == 1 || c.Version != 1 {
		t.Fatalf("the cell has version %d in the copy and %d in the store", c.Version, version)
	}
}

// commitRecords appends a record to log, so that the write-ahead log is synced.
func commitRecords(t *testing.T, s store.Store, log store.Log, n uint64) {
	t.Helper()
	w := &store.Write{Log: log, After: pim.Seq(n - 2), Records: [][]byte{{'r'}}}
	if err := store.Commit(t.Context(), s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
}

// brokenBeside fails in all that concerns files beside the store, in one way of many.
type brokenBeside struct {
	vfs.FS
	store string
	op    string
	err   error
}

func (b *brokenBeside) fails(op, name string) error {
	if op == b.op && !strings.HasPrefix(name, b.store) {
		return b.err
	}
	return nil
}

func (b *brokenBeside) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := b.fails("create", name); err != nil {
		return nil, err
	}
	f, err := b.FS.Create(name, c)
	if err == nil && b.fails("write", name) != nil {
		f = unwritable{f, b.err}
	}
	return f, err
}

func (b *brokenBeside) Link(oldname, newname string) error {
	if err := b.fails("link", newname); err != nil {
		return err
	}
	return b.FS.Link(oldname, newname)
}

func (b *brokenBeside) OpenDir(name string) (vfs.File, error) {
	if err := b.fails("open", name); err != nil {
		return nil, err
	}
	return b.FS.OpenDir(name)
}

type unwritable struct {
	vfs.File
	err error
}

func (f unwritable) Write([]byte) (int, error) { return 0, f.err }

// TestBackupFails checks that a backup that fails leaves nothing, and the store as it was.
func TestBackupFails(t *testing.T) {
	disk := &brokenBeside{FS: vfs.NewMem(), store: "db"}
	s := open(t, "db", small(disk))
	defer closes(t, s)
	commitCell(t, s, "p", "k", 1)
	if err := s.Flush(); err != nil { // so that there is a table to link
		t.Fatal(err)
	}
	broken := fmt.Errorf("no such luck: %w", fs.ErrPermission)
	for _, op := range []string{"create", "write", "link", "open"} {
		disk.op, disk.err = op, broken
		if err := s.Backup(t.Context(), "copy"); pim.KindOf(err) != pim.KindUnavailable {
			t.Errorf("%s fails: %v", op, err)
		}
		if _, err := disk.Stat("copy"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s fails, and there is a copy: %v", op, err)
		}
		if err := s.Health(); err != nil {
			t.Fatalf("%s fails beside the store: %v", op, err)
		}
	}
	disk.op = ""
	for _, dir := range []string{"db", "db/copy"} {
		if err := s.Backup(t.Context(), dir); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("into %s: %v", dir, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ctx, "copy"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Backup(t.Context(), "copy"); err != nil {
		t.Error(err)
	}
	if err := s.Backup(t.Context(), "copy"); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("twice to the same place: %v", err)
	}
	if _, err := disk.Stat("copy"); err != nil {
		t.Error("the second backup has removed the first:", err)
	}
}

// closing closes a store while the first file of a copy is being made.
type closing struct {
	vfs.FS
	begun func()
}

func (c *closing) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(name, "copy") {
		c.begun()
	}
	return c.FS.Create(name, category)
}

// TestBackupEndsWithTheStore checks that Close waits for no copy, and that one backup at a time is
// made.
func TestBackupEndsWithTheStore(t *testing.T) {
	disk := &closing{FS: unlinked{vfs.NewMem()}}
	s := open(t, "db", small(disk))
	var once sync.Once
	var closed sync.WaitGroup
	var second, end error
	disk.begun = func() {
		once.Do(func() {
			second = s.Backup(t.Context(), "copy2")
			closed.Go(func() { end = s.Close() })
			for s.Health() == nil { // until Close has begun
			}
		})
		time.Sleep(time.Second) // with each file, since the backup hears of Close by a goroutine of its own, which must have run
	}
	err := s.Backup(t.Context(), "copy")
	closed.Wait()
	if pim.KindOf(err) != pim.KindUnavailable || end != nil || pim.KindOf(second) != pim.KindConflict {
		t.Errorf("the backup: %v; a second one: %v; Close: %v", err, second, end)
	}
	if _, err := disk.Stat("copy"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a copy: %v", err)
	}
}

// TestVerifyFindsWhatIsWrong changes a byte in each table of a store, and takes each away.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	disk, known := vfs.NewMem(), newLedger()
	s := open(t, "db", small(disk))
	load := known.start(t, s, "", rng.Uint64())
	<-known.expect(300)
	load.end()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	closes(t, s)
	if _, err := pebble.Verify(t.Context(), "db", small(disk)); err != nil {
		t.Fatal(err)
	}
	files, err := disk.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if filepath.Ext(name) != ".sst" {
			continue
		}
		path := disk.PathJoin("db", name)
		whole := content(t, disk, path)
		for range 4 {
			broken := []byte(whole)
			broken[rng.IntN(len(broken))] ^= 1 << rng.IntN(8)
			put(t, disk, path, broken)
			if _, err := pebble.Verify(t.Context(), "db", small(disk)); pim.KindOf(err) != pim.KindCorrupt {
				t.Errorf("%s with a wrong bit: %v", name, err)
			}
		}
		if err := disk.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := pebble.Verify(t.Context(), "db", small(disk)); pim.KindOf(err) != pim.KindCorrupt {
			t.Errorf("without %s: %v", name, err)
		}
		put(t, disk, path, []byte(whole))
	}
	for _, dir := range []string{"nowhere", "empty"} {
		if err := disk.MkdirAll("empty", 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := pebble.Verify(t.Context(), dir, small(disk)); pim.KindOf(err) != pim.KindNotFound {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func content(t *testing.T, disk vfs.FS, path string) string {
	t.Helper()
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func put(t *testing.T, disk vfs.FS, path string, data []byte) {
	t.Helper()
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
