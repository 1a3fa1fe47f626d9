//go:build unix

package sqlite

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// lockFiles locks the file beside path, and on Linux the file at path too. The file
// beside path is never removed: a process that removed it could remove the file that
// another has just locked.
func lockFiles(path string) ([]*os.File, error) {
	names := []string{path + ".lock"}
	if runtime.GOOS == "linux" {
		names = append(names, path)
	}
	var files []*os.File
	for _, name := range names {
		f, err := lockFile(name)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errOpen
		}
		return nil, err
	}
	return f, nil
}
