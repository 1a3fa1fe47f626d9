package pebble

import (
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
}

func (f *guardedFile) Write(p []byte) (int, error) {
	f.do("write", func() (err error) { _, err = f.File.Write(p); return err })
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
	if err := f.File.Close(); err != nil {
		f.guard.freeze("close", f.name, err)
	}
	return nil
}

// do carries out op and reports whether it did.
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

// tableFile is an sstable being written.
type tableFile struct {
	vfs.File
	guard *guard
	name  string
}

func (f *tableFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.check("write", err)
}

func (f *tableFile) Sync() error     { return f.check("sync", f.File.Sync()) }
func (f *tableFile) SyncData() error { return f.check("sync", f.File.SyncData()) }

func (f *tableFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.check("sync", err)
}

// Preallocate is an optimisation.
func (f *tableFile) Preallocate(offset, length int64) error {
	_ = f.File.Preallocate(offset, length)
	return nil
}

func (f *tableFile) Close() error {
	f.guard.untrack(f.File)
	return f.check("close", f.File.Close())
}

func (f *tableFile) check(op string, err error) error {
	if err == nil {
		return nil
	}
	return f.guard.tableError(op, f.name, err)
}
