package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/cql"
	"github.com/pim-im/pim/store/migrate"
	"github.com/pim-im/pim/store/pebble"
)

// Migration says which store is copied where.
type Migration struct {
	From, To string // data directories, or URLs as Config.Store has them
	StoreAccess
	VerifyOnly bool                    // compare the two, and copy nothing
	Patience   time.Duration           // how long one step is tried again while a store does not answer
	Progress   func(MigrationProgress) // as in migrate.Options
	Logger     *slog.Logger
}

// MigrationProgress is how far a Migration has come.
type MigrationProgress = migrate.Progress

// Holdings is what a store holds.
type Holdings = migrate.Summary

// Migrate copies the store m.From to m.To, or goes on with a copy that was interrupted, and compares the
// two. If they are equal, m.To can be served. If m.To is a complete store of the same identity, or with
// m.VerifyOnly, it compares the two and changes nothing. No server may run on either of them: of a data directory its
// lock tells, of Cassandra nothing. Keys are not in a store, and are not copied.
//
// That the two are not equal is no error: see Comparison.Equal. Then the copy stays incomplete. Errors:
// KindInvalid if From and To name no two stores, KindNotFound if there is none in From, KindConflict if there is
// another one in To, or if From has changed since the copy began; those of the stores; and ctx's.
func Migrate(ctx context.Context, m Migration) (c migrate.Comparison, err error) {
	if m.From == m.To {
		return c, pim.Errorf(pim.KindInvalid, "%s is the store itself", m.To)
	}
	from, err := m.open(ctx, m.From, false)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	identity, _, err := store.KnownIdentity(ctx, from)
	if err != nil {
		return c, err
	}
	to, begun, err := m.copy(ctx, from, identity)
	if to == nil {
		return c, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err != nil {
		return c, err
	}
	o := m.options()
	if o.Age = store.MaxLifetime; !begun.IsZero() {
		o.Age = time.Since(begun)
	}
	if c, err = migrate.Compare(ctx, from, to, o); err == nil && c.Equal() && !begun.IsZero() {
		err = to.EndRestore(ctx)
	}
	return c, err
}

func (m *Migration) options() migrate.Options {
	return migrate.Options{Patience: m.Patience, Progress: m.Progress}
}

// copy copies from to m.To, and returns that store and when the copy was begun: the zero time if nothing
// was to be copied. The caller closes to unless it is nil.
func (m *Migration) copy(ctx context.Context, from store.Scanner, identity string) (to migrate.Target, begun time.Time, err error) {
	if !m.VerifyOnly {
		to, err = m.open(ctx, m.To, true)
		if err == nil {
			begun, err = migrate.Copy(ctx, from, to, m.options())
			return to, begun, err
		}
		if pim.KindOf(err) != pim.KindConflict {
			return nil, begun, err
		}
	}
	refused := err // there is a complete store, perhaps that of a migration that was done before
	if to, err = m.open(ctx, m.To, false); err != nil {
		return nil, begun, err
	}
	there, _, err := store.KnownIdentity(ctx, to)
	if err == nil && refused != nil && there != identity {
		err = pim.Errorf(pim.KindConflict, "there is another store in %s: its identity is %s, that of %s is %s", m.To, there, m.From, identity)
	}
	return to, begun, err
}

// open opens the store called name. restore says that it is copied to.
func (m *Migration) open(ctx context.Context, name string, restore bool) (migrate.Target, error) {
	if strings.HasPrefix(name, cql.Scheme) {
		c := StoreConfig{Store: name, StoreAccess: m.StoreAccess}
		if err := c.validateStore(); err != nil {
			return nil, err
		}
		o, err := c.options(m.Logger)
		if err != nil {
			return nil, err
		}
		o.Restore = restore
		return orNil(cql.Open(ctx, o))
	}
	if strings.Contains(name, "://") {
		return nil, pim.Errorf(pim.KindInvalid, "%q names no store: write a data directory, or cql://HOST/KEYSPACE", name)
	}
	c := Config{Data: name}
	full, err := holdsFiles(c.storePath())
	if err != nil {
		return nil, err
	}
	if !full && !restore {
		return nil, pim.Errorf(pim.KindNotFound, "there is no store in %s", name)
	}
	if err := os.MkdirAll(c.storePath(), 0o700); err != nil {
		return nil, fileError("migrate", err)
	}
	return orNil(pebble.Open(c.storePath(), pebble.Options{Logger: m.Logger, Restore: restore}))
}

// orNil returns s, or nil after an error.
func orNil[S migrate.Target](s S, err error) (migrate.Target, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// HasKeys reports whether keys.json lies in the data directory that a Migration names. In a store are no
// keys.
func HasKeys(data string) bool {
	_, err := os.Stat(filepath.Join(data, "keys.json"))
	return err == nil
}
