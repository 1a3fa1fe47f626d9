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
	StoreInsecure
	VerifyOnly bool                    // compare the two, and copy nothing
	Patience   time.Duration           // how long one step is tried again while a store does not answer
	Progress   func(MigrationProgress) // as in migrate.Options
	Logger     *slog.Logger
}

// MigrationProgress is how far a Migration has come.
type MigrationProgress = migrate.Progress

// Holdings is what a store holds.
type Holdings = migrate.Summary

// Migrated is what a Migration has come to.
type Migrated struct {
	migrate.Comparison

	// Copied says that there was a copy to make or to go on with. If it is false, m.To was complete before,
	// servers may have served it since, and nothing was changed. Then what differs is no reason to remove
	// anything.
	Copied bool
}

// Migrate copies the store m.From to m.To, or goes on with a copy that was interrupted, and compares the
// two. If they are equal, m.To can be served. If m.To is a complete store of the same identity, or with
// m.VerifyOnly, it compares the two and changes nothing. No server may run on either of them: of a data directory its
// lock tells, of Cassandra nothing. Keys are not in a store, and are not copied.
//
// That the two are not equal is no error: see Comparison.Equal. Then a copy that was made stays incomplete.
// When a store was copied is not known once the copy is complete. So of a store that was complete before, cells
// that expire and are missing are Unjudged. Errors:
// KindInvalid if From and To name no two stores, or one store in two ways; KindNotFound if there is none in From, KindConflict if there is
// another one in To, or if From has changed since the copy began; those of the stores; and ctx's.
func Migrate(ctx context.Context, m Migration) (c Migrated, err error) {
	if same, err := m.sameName(); err != nil || same {
		return c, errors.Join(err, m.itself(same))
	}
	from, err := m.open(ctx, m.From, false)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if same, err := m.sameKeyspace(ctx, from); err != nil || same {
		return c, errors.Join(err, m.itself(same))
	}
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
	c.Copied = !begun.IsZero()
	o := m.options()
	if o.AgeUnknown = !c.Copied; c.Copied {
		o.Age = time.Since(begun)
	}
	if c.Comparison, err = migrate.Compare(ctx, from, to, o); err == nil && c.Equal() && c.Copied {
		err = to.EndRestore(ctx)
	}
	return c, err
}

// sameName reports whether From and To are one name, or two of one directory.
func (m *Migration) sameName() (bool, error) {
	if m.From == m.To {
		return true, nil
	}
	if strings.Contains(m.From, "://") || strings.Contains(m.To, "://") {
		return false, nil
	}
	from, err := os.Stat(m.From)
	if err == nil {
		var to os.FileInfo
		if to, err = os.Stat(m.To); err == nil {
			return os.SameFile(from, to), nil
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return false, fileError("migrate", err)
}

// sameKeyspace reports whether To is the keyspace of from. It is asked before To is opened, because that
// makes a copy of an empty store.
func (m *Migration) sameKeyspace(ctx context.Context, from migrate.Target) (bool, error) {
	s, ok := from.(*cql.Store)
	if !ok || !strings.HasPrefix(m.To, cql.Scheme) {
		return false, nil
	}
	o, err := m.cassandra(m.To)
	if err != nil {
		return false, err
	}
	return s.Is(ctx, o)
}

// itself returns the error for a store that would be copied to itself.
func (m *Migration) itself(same bool) error {
	if !same {
		return nil
	}
	return pim.Errorf(pim.KindInvalid, "%s is the store itself, which is %s", m.To, m.From)
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
		o, err := m.cassandra(name)
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

// cassandra returns the options of the store on Cassandra that is called name.
func (m *Migration) cassandra(name string) (cql.Options, error) {
	c := StoreConfig{Store: name, StoreAccess: m.StoreAccess}
	if err := c.validate(m.Insecure); err != nil {
		return cql.Options{}, err
	}
	return c.options(m.Logger)
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
