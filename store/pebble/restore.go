package pebble

import (
	"bytes"
	"context"
	"errors"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

var _ store.Restorer = (*Store)(nil)

// formatRestoring stands in place of the layout's version while another store is being copied to this
// one. Versions of pim that know nothing of it refuse the store, because it is none of their layouts.
const formatRestoring = "restoring"

var restoreKey = []byte{prefixRestore}

// checkRestore sees that the store that was opened is one to which another one is being copied. It
// makes one of an empty store.
func (s *Store) checkRestore() error {
	value, closer, err := s.db.Get([]byte{prefixFormat})
	if err != nil {
		return err
	}
	restoring := string(value) == formatRestoring
	if err := closer.Close(); err != nil || restoring {
		return err
	}
	for _, section := range sections {
		it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: []byte{section.prefix}, UpperBound: []byte{section.prefix + 1}})
		if err != nil {
			return err
		}
		full := it.First()
		if err := it.Close(); err != nil {
			return err
		}
		if full {
			return &pim.Error{Op: "open " + s.dir, Kind: pim.KindConflict, Text: "there is a store already, and it is complete"}
		}
	}
	return s.db.Set([]byte{prefixFormat}, []byte(formatRestoring), crdb.Sync)
}

// RestoreLog implements store.Restorer.
func (s *Store) RestoreLog(ctx context.Context, l store.LogState) error {
	if err := s.enterRestore(ctx, l.Check()); err != nil {
		return err
	}
	defer s.leave(1)
	e, err := s.logEnd(l.Log)
	if err != nil {
		return s.readError("restore "+string(l.Log), err)
	}
	want := end{last: l.Front - 1, fence: l.Fence, trimmed: l.Front - 1}
	switch {
	case e == want, e.fence == want.fence && e.trimmed == want.trimmed && e.last > want.last:
		return nil
	case e != end{}, !s.logs.forget(l.Log):
		return pim.Errorf(pim.KindConflict, "the log %q is there already, and otherwise", l.Log)
	}
	batch := s.db.NewBatch()
	defer batch.Close()
	fillFence(batch, l.Log, want)
	return s.failed(s.db.Apply(batch, crdb.Sync))
}

// enterRestore is enter for a call that only a store to which another one is copied takes. checks are
// the results of checking its arguments.
func (s *Store) enterRestore(ctx context.Context, checks ...error) error {
	if !s.restore {
		return pim.Errorf(pim.KindInvalid, "the store was not opened to copy another one to it")
	}
	if err := s.trouble(); err != nil {
		return err
	}
	return s.enterRead(ctx, checks...)
}

// forget drops what the table knows of a log. It returns false if a write to the log is under way.
func (l *logs) forget(log store.Log) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.table[string(log)]
	if st != nil && (st.owner != nil || st.applied) {
		return false
	}
	delete(l.table, string(log))
	return true
}

// Note implements store.Restorer.
func (s *Store) Note(ctx context.Context) ([]byte, error) {
	if err := s.enterRestore(ctx); err != nil {
		return nil, err
	}
	defer s.leave(1)
	value, closer, err := s.db.Get(restoreKey)
	if errors.Is(err, crdb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, s.readError("note of a copy", err)
	}
	return bytes.Clone(value), closer.Close()
}

// SetNote implements store.Restorer. No other process can have the store open.
func (s *Store) SetNote(ctx context.Context, note []byte) error {
	if err := s.enterRestore(ctx, store.CheckNote(note)); err != nil {
		return err
	}
	defer s.leave(1)
	return s.failed(s.db.Set(restoreKey, note, crdb.Sync))
}

// EndRestore implements store.Restorer.
func (s *Store) EndRestore(ctx context.Context) error {
	if err := s.enterRestore(ctx); err != nil {
		return err
	}
	defer s.leave(1)
	batch := s.db.NewBatch()
	defer batch.Close()
	err := errors.Join(batch.Set([]byte{prefixFormat}, []byte(formatVersion), nil), batch.Delete(restoreKey, nil))
	if err == nil {
		err = s.failed(s.db.Apply(batch, crdb.Sync))
	}
	return err
}
