package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store/pebble"
)

// Backed says what a backup holds.
type Backed struct {
	Contents pebble.Contents
	Keys     bool // keys.json is in it; a file that Config.Keys names never is
}

// Backup copies the store under c.Data, and keys.json beside it, to dir, and reads the copy to see
// that it is whole. It has all that was acknowledged before the call. If a server runs on c.Data
// that server makes the copy, and goes on meanwhile; it must be able to write there. Parents of dir
// are made. dir itself appears when the copy is complete; what an interrupted backup leaves beside
// it is called .pim-backup-*.
//
// Errors: KindUnsupported if the store is not an embedded one, KindInvalid if there is something in dir, KindNotFound if there is no store, KindConflict
// if another backup is under way, KindCorrupt if the copy is not whole, KindDiskFull,
// KindUnavailable, and ctx's.
func Backup(ctx context.Context, c Config, dir string, log *slog.Logger) (Backed, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Backed{}, pim.Errorf(pim.KindInvalid, "back up: %w", err)
	}
	if err := c.embedded("back up"); err != nil {
		return Backed{}, err
	}
	full, err := holdsFiles(c.storePath())
	if err != nil {
		return Backed{}, err
	}
	if err := c.order(ctx, "backup", backupOrder{dir}, nil); errors.Is(err, errNotRunning) {
		if !full {
			return Backed{}, pim.Errorf(pim.KindNotFound, "there is no store in %s", c.Data)
		}
		st, err := pebble.Open(c.storePath(), pebble.Options{Logger: log})
		if err != nil {
			return Backed{}, err
		}
		err = c.backUp(ctx, st, dir)
		if end := st.Close(); err == nil {
			err = end
		}
		if err != nil {
			return Backed{}, err
		}
	} else if err != nil {
		return Backed{}, err
	}
	copied := Config{Data: dir}
	var b Backed
	if b.Contents, err = pebble.Verify(ctx, copied.storePath(), pebble.Options{Logger: log}); err != nil {
		return b, err
	}
	_, err = os.Stat(copied.KeysPath())
	b.Keys = err == nil
	return b, nil
}

// backUp makes a backup while the server runs.
func (s *Server) backUp(ctx context.Context, dir string) error {
	st, ok := s.engine.(*pebble.Store)
	if !ok {
		return errNotEmbedded("back up")
	}
	return s.config.backUp(ctx, st, dir)
}

// backUp copies st, which is the store under c.Data, and the keys beside it to dir.
func (c *Config) backUp(ctx context.Context, st *pebble.Store, dir string) error {
	if full, err := holdsFiles(dir); err != nil || full {
		return pim.Errorf(pim.KindInvalid, "back up: %s is not an empty directory", dir)
	}
	if within(dir, c.storePath()) {
		return pim.Errorf(pim.KindInvalid, "back up: %s lies in the store", dir)
	}
	parent := filepath.Dir(dir)
	err := os.MkdirAll(parent, 0o700)
	if err != nil {
		return fileError("back up", err)
	}
	part, err := os.MkdirTemp(parent, ".pim-backup-*") // for its owner only
	if err != nil {
		return fileError("back up", err)
	}
	copied := Config{Data: part}
	if err = st.Backup(ctx, copied.storePath()); err == nil {
		err = c.copyKeys(copied.KeysPath())
	}
	if err == nil {
		err = syncDir(part)
	}
	if err == nil {
		if err = os.Remove(dir); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		_ = os.RemoveAll(part)
		return fileError("back up", err)
	}
	return fileError("back up", syncDir(parent))
}

// copyKeys copies keys.json, if that is where the keys are, to path.
func (c *Config) copyKeys(path string) error {
	if c.Keys != "" {
		return nil
	}
	err := copyFile(c.KeysPath(), path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fileError returns err, the error of a file in op, with a kind.
func fileError(op string, err error) error {
	var typed *pim.Error
	if err == nil || errors.As(err, &typed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	kind := pim.KindUnavailable
	if errors.Is(err, syscall.ENOSPC) {
		kind = pim.KindDiskFull
	}
	return pim.Errorf(kind, "%s: %w", op, err)
}

// within reports whether path is dir or lies in it.
func within(path, dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	rest, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rest)
}

// copyFile copies a file durably, for its owner only. to must not exist.
func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err == nil {
		err = target.Sync()
	}
	return errors.Join(err, target.Close())
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
