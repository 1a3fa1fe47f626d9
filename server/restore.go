package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// Restore gives the store under c.Data, which was put back from a backup, a new identity and
// returns it. Devices see the new identity when they connect next, drop what the store lacks,
// and send again what their user had sent of it. No server may run on the directory. Errors:
// KindUnsupported if the store is not an embedded one, KindNotFound if there is no store (Restore makes
// none), and the store's own.
func Restore(ctx context.Context, c Config, log *slog.Logger) (identity string, err error) {
	if err := c.embedded("restore"); err != nil {
		return "", err
	}
	full, err := holdsFiles(c.storePath())
	switch {
	case err != nil:
		return "", err
	case !full:
		return "", pim.Errorf(pim.KindNotFound, "there is no store in %s: put the backup there first, then restore", c.Data)
	}
	return renew(ctx, c.storePath(), log)
}

// RestoreFrom reads the backup in from to see that it is whole, copies it to c.Data, where there
// must be no store, and does what Restore does. keys.json is copied if none is there. The store
// appears under c.Data when all is done; what an interrupted call leaves there is called
// .pim-restore-*. Errors: KindUnsupported if the store is not an embedded one, KindNotFound if there is no backup in from, KindInvalid if there is
// a store in c.Data, KindCorrupt if the backup is not whole, KindDiskFull, KindUnavailable, and
// ctx's.
func RestoreFrom(ctx context.Context, c Config, from string, log *slog.Logger) (identity string, err error) {
	if err := c.embedded("restore"); err != nil {
		return "", err
	}
	backup := Config{Data: from}
	full, err := holdsFiles(c.storePath())
	switch {
	case err != nil:
		return "", err
	case full:
		return "", pim.Errorf(pim.KindInvalid, "there is a store in %s already: move it away first, and keep it, since it may hold what the backup lacks", c.Data)
	}
	if _, err := pebble.Verify(ctx, backup.storePath(), pebble.Options{Logger: log}); err != nil {
		return "", err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return "", fileError("restore", err)
	}
	part, err := os.MkdirTemp(c.Data, ".pim-restore-*")
	if err != nil {
		return "", fileError("restore", err)
	}
	defer os.RemoveAll(part)
	restored := Config{Data: part}
	if err := copyDir(ctx, backup.storePath(), restored.storePath()); err != nil {
		return "", fileError("restore", err)
	}
	if identity, err = renew(ctx, restored.storePath(), log); err != nil {
		return "", err
	}
	if err := backup.copyKeys(c.KeysPath()); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fileError("restore", err)
	}
	if err = os.Remove(c.storePath()); err == nil || errors.Is(err, fs.ErrNotExist) { // it is empty
		err = os.Rename(restored.storePath(), c.storePath())
	}
	if err == nil {
		err = syncDir(c.Data)
	}
	return identity, fileError("restore", err)
}

// renew gives the store in dir a new identity and returns it.
func renew(ctx context.Context, dir string, log *slog.Logger) (identity string, err error) {
	st, err := pebble.Open(dir, pebble.Options{Logger: log})
	if err != nil {
		return "", err
	}
	identity, err = store.NewIdentity(ctx, st)
	if end := st.Close(); err == nil {
		err = end
	}
	return identity, err
}

// copyDir copies the files of a directory to another one, which it makes.
func copyDir(ctx context.Context, from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	for _, f := range files {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && f.Type().IsRegular() {
			err = copyFile(filepath.Join(from, f.Name()), filepath.Join(to, f.Name()))
		}
	}
	if err == nil {
		err = syncDir(to)
	}
	return err
}
