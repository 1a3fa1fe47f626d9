package server

import (
	"context"
	"log/slog"
	"os"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// Restore gives the store under c.Data, which was put back from a backup, a new identity and
// returns it. Devices see the new identity when they connect next, drop what the store lacks,
// and send again what their user had sent of it. No server may run on the directory. Errors:
// KindNotFound if there is no store (Restore makes none), and the store's own.
func Restore(ctx context.Context, c Config, log *slog.Logger) (identity string, err error) {
	files, err := os.ReadDir(c.storePath())
	switch {
	case os.IsNotExist(err), err == nil && len(files) == 0:
		return "", pim.Errorf(pim.KindNotFound, "there is no store in %s: put the backup there first, then restore", c.Data)
	case err != nil:
		return "", pim.Errorf(pim.KindUnavailable, "read %s: %w", c.storePath(), err)
	}
	st, err := pebble.Open(c.storePath(), pebble.Options{Logger: log})
	if err != nil {
		return "", err
	}
	identity, err = store.NewIdentity(ctx, st)
	if end := st.Close(); err == nil {
		err = end
	}
	return identity, err
}
