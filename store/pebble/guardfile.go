package pebble

import (
	"bufio"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardedFile is a file, or directory, that recovery depends on, open for
// writing. Its writes and syncs do not fail; they freeze the guard.
type guardedFile struct {
	vfs.File
	guard *guard
	name  string
	wal   bool

	written atomic.Int64 // bytes, if it is written from the start
}

func (f *guardedFile) Write(p []byte) (int, error) {
	if f.do("write", func() (err error) { _, err = f.File.Write(p); return err }) {
		f.written.Add(int64(len(p)))
	}
	return len(p), nil
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	f.do("write", func() (err error) { _, err = f.File.WriteAt(p, off); return err })
	return len(p), nil
}

func (f *guardedFile) Sync() error {
	f.sync(f.File.Sync)
	return nil
}

func (f *guardedFile) SyncData() error {
	f.sync(f.File.SyncData)
	return nil
}

func (f *guardedFile) sync(do func() error) {
	start := time.Now()
	if f.do("sync", do) && f.wal {
		f.guard.onSync(time.Since(start))
	}
}

func (f *guardedFile) SyncTo(length int64) (full bool, _ error) {
	f.do("sync", func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, nil
}

// Preallocate is an optimisation: if there is no room, a write will say so.
func (f *guardedFile) Preallocate(offset, length int64) error {
	if f.guard.frozen.Load() == nil {
		_ = f.File.Preallocate(offset, length)
	}
	return nil
}

func (f *guardedFile) Close() error {
	f.guard.untrack(f.File)
	f.guard.ended(f)
	if err := f.File.Close(); err != nil {
		f.guard.freeze("close", f.name, err)
	}
	return nil
}

// do carries out op and reports whether op was carried out without an error.
func (f *guardedFile) do(op string, do func() error) bool {
	if f.guard.frozen.Load() != nil {
		return false
	}
	if err := do(); err != nil {
		f.guard.freeze(op, f.name, err)
		return false
	}
	return true
}

// tableFile is an sstable being written. Pebble writes it block by block. The operating
// system takes a few large writes with much less CPU time than many small ones, so
// tableFile gathers the blocks. Pebble syncs a table before it closes and uses it.
type tableFile struct {
	vfs.File
	guard *guard
	name  string
	bw    *bufio.Writer
}

// tableBuffer is how many bytes of a table are gathered for one write.
const tableBuffer = 256 << 10

// newTableFile returns f, named name, guarded by g.
func newTableFile(f vfs.File, g *guard, name string) *tableFile {
	return &tableFile{f, g, name, bufio.NewWriterSize(f, tableBuffer)}
}

func (f *tableFile) Write(p []byte) (int, error) {
	n, err := f.bw.Write(p)
	return n, f.check("write", err)
}

func (f *tableFile) Sync() error     { return f.flushed("sync", f.File.Sync) }
func (f *tableFile) SyncData() error { return f.flushed("sync", f.File.SyncData) }

func (f *tableFile) SyncTo(length int64) (full bool, err error) {
	err = f.flushed("sync", func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// flushed carries out op after it has written the gathered bytes to the file.
func (f *tableFile) flushed(op string, do func() error) error {
	if err := f.bw.Flush(); err != nil {
		return f.check("write", err)
	}
	return f.check(op, do())
}

// Preallocate is an optimisation.
func (f *tableFile) Preallocate(offset, length int64) error {
	_ = f.File.Preallocate(offset, length)
	return nil
}

func (f *tableFile) Close() error {
	f.guard.untrack(f.File)
	err := f.bw.Flush() // writes nothing, unless Pebble gives the table up before a sync
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return f.check("close", err)
}

func (f *tableFile) check(op string, err error) error {
	if err == nil {
		return nil
	}
	return f.guard.tableError(op, f.name, err)
}
