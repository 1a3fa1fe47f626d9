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

// A file is one Store's at a time, by whatever name it is opened:
//
//   - A symbolic link is resolved, and the lock is on a file beside what it leads to.
//   - In this process the file is known by its device and inode.
//   - On Linux there is a lock on the file itself too, so that another process does
//     not open it by a hard link. Elsewhere that lock would be one of SQLite's own.

// lock is a file that this Store has open.
type lock struct {
	info  os.FileInfo
	files []*os.File
}

var errOpen = pim.Errorf(pim.KindConflict, "the file is open already, here or in another process")

// held are the files that Stores of this process have open. To open one of them once
// more only to find out would be wrong: closing it again would take SQLite's locks
// away, which are the process's, not a descriptor's.
var held struct {
	mu    sync.Mutex
	files []os.FileInfo
}

// locate creates the file at path if there is none, and returns the path that it
// comes to. Messages are for their user alone: SQLite gives the files beside this one
// the permissions of it.
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

// takeLock takes the lock on the file at path until it is released, by whatever
// ends the process. path is as of locate.
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
