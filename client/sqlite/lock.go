package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/pim-im/pim"
)

// Only one Store at a time may have a file open, by whatever name:
//
//   - A symbolic link is resolved. The lock is on a file beside the one that it leads to.
//   - Within this process a file is known by its device and inode.
//   - On Linux there is a lock on the file itself too, so that another process does
//     not open it by a hard link. On other systems that lock would be of the same kind as
//     SQLite's own, and conflict with them.

// lock is a file that this Store has open.
type lock struct {
	info  os.FileInfo
	files []*os.File
}

var errOpen = pim.Errorf(pim.KindConflict, "the file is open already, here or in another process")

// held are the files that Stores of this process have open. takeLock looks here first,
// because it must not open such a file once more: closing the second descriptor would
// release SQLite's locks, which belong to the process, not to a descriptor.
var held struct {
	mu    sync.Mutex
	files []os.FileInfo
}

// locate creates the file at path if there is none, and returns its absolute path, with
// symbolic links resolved. Only the user may read the file, since it holds messages.
// SQLite gives the files beside it the same permissions.
func locate(path string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return "", err
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// takeLock takes the lock on the file at path, which locate has returned. The lock is
// held until release, or until the process ends, however it ends.
func takeLock(path string) (*lock, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if slices.ContainsFunc(held.files, func(other os.FileInfo) bool { return os.SameFile(info, other) }) {
		return nil, errOpen
	}
	files, err := lockFiles(path)
	if err != nil {
		return nil, err
	}
	held.files = append(held.files, info)
	return &lock{info: info, files: files}, nil
}

func (l *lock) release() error {
	held.mu.Lock()
	defer held.mu.Unlock()
	held.files = slices.DeleteFunc(held.files, func(other os.FileInfo) bool { return other == l.info })
	return closeAll(l.files)
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
