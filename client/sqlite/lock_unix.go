//go:build unix

package sqlite

import (
	"errors"
	"os"
	"syscall"

	"github.com/pim-im/pim"
)

// takeLock takes the lock on path until the file is closed, by whatever ends the
// process. It stays: who removed it could remove what another has just locked.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, pim.Errorf(pim.KindConflict, "the file is open already, here or in another process")
		}
		return nil, err
	}
	return f, nil
}
