package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file system that Pebble works on. It keeps a disk error from
// taking the process down, and from ever becoming a false acknowledgement.
//
// Pebble cannot go on after an error of its write-ahead log or its manifest. Its
// answer is Logger.Fatalf or a panic, and some of the panics (a failing rotation
// of the write-ahead log, in DB.rotateWAL) unwind through the unlock of a mutex
// that is not locked, which no recover can catch. Reporting the error and
// recovering in Commit was the first plan; it would have to hold in background
// goroutines and under Pebble's mutexes too, and cannot.
//
// So Pebble never learns of such an error. At the first one the guard freezes:
//
//   - The failure is noted before the failing operation returns.
//   - From then on nothing on the disk changes: writes, syncs, renames and
//     removals of the files that recovery reads are accepted and dropped. The
//     directory stays as a crash at this moment would leave it, and the next
//     Open recovers from it as from a crash. In particular no file goes that a
//     manifest edit, which was dropped, says is obsolete.
//   - Every Commit looks for the failure after its fsync "succeeded" and before
//     it acknowledges; those after it are refused at once.
//   - Reads go on: what Pebble has in memory agrees with the files that it reads.
//   - Close ends as usual, its last writes being dropped too.
//
// Errors of sstables are passed on. Pebble bears them: it drops the new table,
// keeps the old ones and the memtable, and tries again, without a pause, which is
// why the guard makes one. A frozen guard refuses new tables, since Pebble would
// want to read them.
//
// That there is no file descriptor to open a file with is no error of the disk, and
// passes: see starving.go.
//
// Open is different: it waits until what it recovered is in a table, for ever if
// need be. So there the guard freezes after some errors of tables too, and a
// frozen one drops tables like the rest, which ends Open; the store is not used.
type guard struct {
	vfs.FS
	frozen  atomic.Pointer[failed]
	pauses  chan struct{} // closed when the store closes
	onError func(op, name string, err error, fatal bool)
	onSync  func(time.Duration) // of the write-ahead log

	starving starving

	opened      atomic.Bool
	tableErrors atomic.Int32 // before opened

	mu    sync.Mutex
	files map[vfs.File]struct{} // open for writing; Pebble forgets some after an error
}

// failed is why a guard froze.
type failed struct {
	op, name string
	err      error
}

func (f *failed) Error() string { return fmt.Sprintf("%s %s: %v", f.op, f.name, f.err) }
func (f *failed) Unwrap() error { return f.err }

const (
	errFrozen  = guardError("the store has failed and writes no more tables")
	retryPause = 50 * time.Millisecond
	openTries  = 10
)

type guardError string

func (e guardError) Error() string { return string(e) }

// failure returns why the guard froze, nil if it did not.
func (g *guard) failure() error {
	if f := g.frozen.Load(); f != nil {
		return f
	}
	return nil
}

// freeze makes the disk stay as it is.
func (g *guard) freeze(op, name string, err error) {
	if g.frozen.CompareAndSwap(nil, &failed{op, name, err}) {
		g.onError(op, name, err, true)
	}
}

// table reports whether name is an sstable: a file whose errors Pebble bears.
func table(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".sst" || ext == ".blob"
}

// tableError reports an error of a table, and slows Pebble's next try down.
func (g *guard) tableError(op, name string, err error) error {
	g.onError(op, name, err, false)
	if !g.opened.Load() && g.tableErrors.Add(1) == openTries {
		g.freeze(op, name, err)
	}
	g.pause()
	return err
}

// create wraps the file that open makes.
func (g *guard) create(op, name string, open func() (vfs.File, error)) (vfs.File, error) {
	if g.frozen.Load() != nil {
		if table(name) && g.opened.Load() {
			return nil, g.tableError(op, name, errFrozen)
		}
		return g.hole(name), nil
	}
	f, err := g.openPatiently(func() (vfs.File, error) { return g.syncBefore(name, open) })
	switch {
	case err == nil:
		g.track(f)
		if table(name) {
			return newTableFile(f, g, name), nil
		}
		return &guardedFile{File: f, guard: g, name: name, wal: filepath.Ext(name) == ".log"}, nil
	case table(name):
		return nil, g.tableError(op, name, err)
	default:
		g.freeze(op, name, err)
		return g.hole(name), nil
	}
}

// syncBefore makes the directory durable before a marker appears in it. Pebble
// creates a manifest, then the marker that names it, and syncs the directory
// once, after both. A file system that keeps its journal in order makes that
// safe; one that does not may keep the marker and lose the manifest.
func (g *guard) syncBefore(name string, open func() (vfs.File, error)) (vfs.File, error) {
	if !strings.HasPrefix(g.PathBase(name), "marker.") {
		return open()
	}
	dir, err := g.FS.OpenDir(g.PathDir(name))
	if err != nil {
		return nil, err
	}
	err = dir.Sync()
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return open()
}

// hole returns a file of a frozen guard, which drops what is written to it.
func (g *guard) hole(name string) vfs.File {
	return &guardedFile{File: vfs.NewMemFile(nil), guard: g, name: name}
}

func (g *guard) track(f vfs.File) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.files == nil {
		g.files = make(map[vfs.File]struct{})
	}
	g.files[f] = struct{}{}
}

func (g *guard) untrack(f vfs.File) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.files, f)
}

// closeFiles closes what Pebble has left open.
func (g *guard) closeFiles() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for f := range g.files {
		f.Close()
	}
	clear(g.files)
}

// Create creates a file.
func (g *guard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.create("create", name, func() (vfs.File, error) { return g.FS.Create(name, category) })
}

// ReuseForWrite creates a file from an obsolete one.
func (g *guard) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	tried := false
	return g.create("reuse", newname, func() (vfs.File, error) {
		if tried { // it was renamed, perhaps, before there was no file descriptor
			if _, err := g.FS.Stat(oldname); errors.Is(err, fs.ErrNotExist) {
				return g.FS.OpenReadWrite(newname, category)
			}
		}
		tried = true
		return g.FS.ReuseForWrite(oldname, newname, category)
	})
}

// OpenReadWrite opens a file, creating it if necessary.
func (g *guard) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.create("open", name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, category, opts...) })
}

// OpenDir opens a directory for syncing.
func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.openPatiently(func() (vfs.File, error) { return g.FS.OpenDir(name) })
	if err != nil {
		return nil, err
	}
	g.track(f)
	return &guardedFile{File: f, guard: g, name: name}, nil
}

// change carries out an operation that recovery depends on.
func (g *guard) change(op, name string, do func() error) error {
	if g.frozen.Load() == nil {
		if err := do(); err != nil {
			g.freeze(op, name, err)
		}
	}
	return nil
}

// Rename renames a file.
func (g *guard) Rename(oldname, newname string) error {
	return g.change("rename", newname, func() error { return g.FS.Rename(oldname, newname) })
}

// Link gives a file a second name.
func (g *guard) Link(oldname, newname string) error {
	return g.change("link", newname, func() error { return g.FS.Link(oldname, newname) })
}

// Remove removes a file. A file that cannot be removed does no harm.
func (g *guard) Remove(name string) error {
	if g.frozen.Load() != nil {
		return nil
	}
	return g.FS.Remove(name)
}

// RemoveAll removes files.
func (g *guard) RemoveAll(name string) error {
	if g.frozen.Load() != nil {
		return nil
	}
	return g.FS.RemoveAll(name)
}

// Unwrap returns the file system below.
func (g *guard) Unwrap() vfs.FS { return g.FS }
