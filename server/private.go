package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
)

// closeToOthers makes sure that only the user of this process can read the store, whatever
// the umask is. It makes the store's directory, which is pim's own, and closes it to others.
// The data directory around it may be any directory, such as /tmp: if that is open to
// others it logs a warning.
func (s *Server) closeToOthers() error {
	path := s.config.storePath()
	if err := os.MkdirAll(path, 0o700); err != nil {
		return pim.Errorf(pim.KindUnavailable, "make the store's directory: %w", err)
	}
	if mode := openTo(path); mode != 0 {
		if err := os.Chmod(path, 0o700); err != nil {
			s.log.Warn("others may read the store, and its mode cannot be changed", "directory", path, "mode", fmt.Sprintf("%04o", mode), "error", err)
		} else {
			s.log.Warn("others could read the store; its directory is now closed to them", "directory", path, "mode", fmt.Sprintf("%04o", mode))
		}
	}
	if mode := openTo(s.config.Data); mode != 0 {
		s.log.Warn("others may look into the data directory; run: chmod 700 "+s.config.Data, "directory", s.config.Data, "mode", fmt.Sprintf("%04o", mode))
	}
	return nil
}

// openTo returns the mode of the file or directory at path if others than its owner may use
// it, else 0.
func openTo(path string) fs.FileMode {
	info, err := os.Stat(path)
	if err != nil || !modesCount || info.Mode().Perm()&0o077 == 0 {
		return 0
	}
	return info.Mode().Perm()
}

// warnOfKeys logs what is dangerous about a key file that was taken all the same.
func (s *Server) warnOfKeys(keys *account.Keys) {
	for _, warning := range keys.Warnings() {
		s.log.Warn("the key file is not safe: "+warning, "file", s.config.KeysPath())
	}
}

// warnOfTLSKey logs if everyone may read the private key at path. The key is taken all the same,
// since other programs make and share such files. That a group may read it is no reason to
// warn: it may be how pim reads it.
func (s *Server) warnOfTLSKey(path string) {
	if mode := openTo(path); mode&0o007 != 0 {
		s.log.Warn("every user of this machine may read the TLS key; run: chmod 600 "+path, "mode", fmt.Sprintf("%04o", mode))
	}
}

// holdsFiles reports whether path is a directory that is not empty.
func holdsFiles(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, pim.Errorf(pim.KindUnavailable, "look for a store: %w", err)
	}
	return len(entries) > 0, nil
}
