package pebble

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
)

// copying is a backup that is under way, as the guard sees it. Pebble makes the copy through the
// guard, like everything else. What it writes there is not the store: an error ends the backup and
// nothing more.
type copying struct {
	vfs.FS  // not watched for slow operations: the copy may be on a slow disk
	ctx     context.Context
	store   string // the store's own directory
	minFree uint64
}

// takes reports whether the file or directory called name does not belong to the store.
func (c *copying) takes(name string) bool {
	rest, ok := strings.CutPrefix(name, c.store)
	return !ok || rest != "" && rest[0] != filepath.Separator
}

// Create creates a file of the copy, if there is room.
func (c *copying) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	usage, err := c.GetDiskUsage(c.PathDir(name))
	if err == nil && usage.AvailBytes < c.minFree {
		return nil, pim.Errorf(pim.KindDiskFull, "%d bytes are free in %s, which leaves no room for a copy", usage.AvailBytes, c.PathDir(name))
	}
	f, err := c.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return copiedFile{f, c.ctx}, nil
}

// copiedFile is a file of a copy. Writing it ends with the context: Pebble's Checkpoint takes none.
type copiedFile struct {
	vfs.File
	ctx context.Context
}

func (f copiedFile) Write(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// Backup makes dir, which must not exist, a store with all that was written before the call,
// relaxed writes included, and perhaps later ones. The store goes on meanwhile. Where dir is on the
// same disk the copy shares files with the store, which neither changes, so it takes next to no
// room at first. If Backup fails, dir is removed.
//
// Errors: KindInvalid if dir exists or lies in the store, KindConflict if another backup is under
// way, KindDiskFull, KindUnavailable if the store has failed or a file could not be written, and
// ctx's.
func (s *Store) Backup(ctx context.Context, dir string) error {
	const op = "back up"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.enterRead(ctx); err != nil {
		return err
	}
	defer s.leave(1)
	closing := make(chan struct{})
	defer func() { <-closing }()
	go func() { // a store that is closed waits for no copy
		defer close(closing)
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer cancel()

	c := &copying{FS: s.raw, ctx: ctx, store: s.dir, minFree: s.minFree}
	if !c.takes(dir) {
		return &pim.Error{Op: op, Kind: pim.KindInvalid, Text: dir + " lies in the store"}
	}
	if !s.guard.copying.CompareAndSwap(nil, c) {
		return &pim.Error{Op: op, Kind: pim.KindConflict, Text: "another backup is under way"}
	}
	defer s.guard.copying.Store(nil)
	err := s.guard.failure()
	if err == nil {
		err = s.db.Checkpoint(dir, crdb.WithFlushedWAL())
	}
	if failure := s.guard.failure(); failure != nil {
		err = failure // the guard has dropped what the copy would have
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		_ = s.raw.RemoveAll(dir)
	}
	return s.backupError(ctx, op, err)
}

// backupError returns err, with which a backup has failed, as a *pim.Error or ctx's error.
func (s *Store) backupError(ctx context.Context, op string, err error) error {
	var e *pim.Error
	switch {
	case s.shutOff.Load():
		return errClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &e):
		return err
	}
	e = &pim.Error{Op: op, Kind: pim.KindUnavailable, Text: err.Error(), Err: err}
	switch {
	case errors.Is(err, fs.ErrExist):
		e.Kind = pim.KindInvalid
	case isNoSpace(err):
		e.Kind = pim.KindDiskFull
	case isCorruption(err):
		e.Kind = pim.KindCorrupt
	}
	return e
}

// walCopy is a file of the write-ahead log that is opened for a copy while it is being written. It
// ends where the file ended then. Otherwise the copy could lack a block that was written while the
// file was being read, and have the block behind it: then the log would look corrupt.
type walCopy struct {
	vfs.File
	rest int64
}

func (f *walCopy) Read(p []byte) (int, error) {
	if f.rest == 0 {
		return 0, io.EOF
	}
	n, err := f.File.Read(p[:min(int64(len(p)), f.rest)])
	f.rest -= int64(n)
	return n, err
}
