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
// Pebble cannot go on after an error of its write-ahead log or its manifest. It then
// calls Logger.Fatalf or panics. Some of the panics (a failing rotation of the
// write-ahead log, in DB.rotateWAL) unwind through the unlock of a mutex that is not
// locked, which no recover can catch. The first plan was to report the error and to
// recover in the goroutine that writes. That would have to work in background goroutines
// and under Pebble's mutexes too, and cannot.
//
// So Pebble never learns of such an error. At the first one the guard freezes:
//
//   - The guard notes the failure before the failing operation returns.
//   - From then on nothing on the disk changes: the guard accepts and drops writes,
//     syncs, renames and removals of the files that recovery reads. The directory stays
//     as a crash at this moment would leave it, and the next Open recovers from it as
//     from a crash. In particular, if a dropped manifest edit says that a file is
//     obsolete, the file stays.
//   - Every commit looks for the failure after its fsync "succeeded" and before it tells
//     the outcomes of its writes. Later writes are refused at once.
//   - Reads go on: what Pebble has in memory agrees with the files that it reads.
//   - Close ends as usual; its last writes are dropped too.
//
// The guard passes errors of sstables on, because Pebble survives them: it drops the new
// table, keeps the old ones and the memtable, and tries again. It tries without a pause,
// so the guard makes one. A frozen guard refuses new tables, because Pebble would want
// to read them.
//
// If a file cannot be opened because there is no file descriptor, that is no error of
// the disk, and it passes: see starving.go.
//
// Open is different: it waits until the writes that it recovered are in a table, for ever
// if need be. So before opened is set, the guard also freezes after openTries errors of
// tables, and a frozen guard drops tables like other files. That ends Open, and the store
// is not used.
//
// A backup is made through the guard, too. What it changes outside the store's directory is
// not guarded: see copying.
type guard struct {
	vfs.FS
	dir     string // the store's directory
	copying atomic.Pointer[copying]
	frozen  atomic.Pointer[failed]
	pauses  chan struct{} // closed when the store closes; ends every pause
	onError func(op, name string, err error, fatal bool)
	onSync  func(time.Duration) // of the write-ahead log

	starving starving

	opened      atomic.Bool  // Open has succeeded
	renew       atomic.Bool  // no file is used again, see renewLogs
	tableErrors atomic.Int32 // counted before opened is set

	mu    sync.Mutex
	files map[vfs.File]struct{}   // open for writing; Pebble leaves some open after an error
	logs  map[string]*guardedFile // files of the write-ahead log that are open for writing
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

// table reports whether name is an sstable: Pebble survives its errors.
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

// create calls open, unless the guard is frozen, and wraps the file that it returns.
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
		return g.guarded(f, name), nil
	case table(name):
		return nil, g.tableError(op, name, err)
	default:
		g.freeze(op, name, err)
		return g.hole(name), nil
	}
}

// syncBefore syncs the directory before open makes a marker in it. Pebble creates a
// manifest, then the marker that names it, and syncs the directory once, after both. On a
// file system that keeps its journal in order that is safe. On others a crash may keep
// the marker and lose the manifest.
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

// hole returns a file that drops what is written to it, for a frozen guard.
func (g *guard) hole(name string) vfs.File {
	return &guardedFile{File: vfs.NewMemFile(nil), guard: g, name: name}
}

// guarded returns f, which is called name and open for writing, guarded by g.
func (g *guard) guarded(f vfs.File, name string) *guardedFile {
	guarded := &guardedFile{File: f, guard: g, name: name, wal: filepath.Ext(name) == ".log"}
	if guarded.wal {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.logs == nil {
			g.logs = make(map[string]*guardedFile)
		}
		g.logs[name] = guarded
	}
	return guarded
}

// written returns how many bytes of a file of the write-ahead log have been written, if it is open
// for writing.
func (g *guard) written(name string) (bytes int64, growing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.logs[name]
	if f == nil {
		return 0, false
	}
	return f.written.Load(), true
}

// away returns the file system of the backup that is under way, if name belongs to its copy.
func (g *guard) away(name string) (vfs.FS, bool) {
	c := g.copying.Load()
	return c, c != nil && c.takes(name)
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

// ended notes that f is written no more.
func (g *guard) ended(f *guardedFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.logs[f.name] == f {
		delete(g.logs, f.name)
	}
}

// closeFiles closes the files that Pebble has left open.
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
	if away, ok := g.away(name); ok {
		return away.Create(name, category)
	}
	return g.create("create", name, func() (vfs.File, error) { return g.FS.Create(name, category) })
}

// ReuseForWrite creates a file from an obsolete one. If renew is set, it deletes the obsolete one
// and creates another file.
func (g *guard) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if g.renew.Load() {
		return g.create("create", newname, func() (vfs.File, error) {
			if err := g.FS.Remove(oldname); err != nil && !errors.Is(err, fs.ErrNotExist) { // gone: this is another try
				return nil, err
			}
			return g.FS.Create(newname, category)
		})
	}
	tried := false
	return g.create("reuse", newname, func() (vfs.File, error) {
		if tried { // the first try may have renamed the file before it found no descriptor
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
	if away, ok := g.away(name); ok {
		return away.OpenDir(name)
	}
	f, err := g.openPatiently(func() (vfs.File, error) { return g.FS.OpenDir(name) })
	if err != nil {
		return nil, err
	}
	g.track(f)
	return &guardedFile{File: f, guard: g, name: name}, nil
}

// change carries out an operation that recovery depends on, unless the guard is frozen.
// An error freezes the guard; Pebble does not see it.
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
	if away, ok := g.away(newname); ok {
		return away.Link(oldname, newname)
	}
	return g.change("link", newname, func() error { return g.FS.Link(oldname, newname) })
}

// Remove removes a file. Its error is passed on: a file that stays does no harm.
func (g *guard) Remove(name string) error {
	if g.frozen.Load() != nil {
		return nil
	}
	return g.FS.Remove(name)
}

// RemoveAll removes files.
func (g *guard) RemoveAll(name string) error {
	if away, ok := g.away(name); ok {
		return away.RemoveAll(name)
	}
	if g.frozen.Load() != nil {
		return nil
	}
	return g.FS.RemoveAll(name)
}

// Unwrap returns the file system below.
func (g *guard) Unwrap() vfs.FS { return g.FS }
