package cql

import (
	"context"
	"errors"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

var _ store.Restorer = (*Store)(nil)

// A store that another one is being copied to has a row in meta, with the note. Open refuses it
// then. The row is written by lightweight transactions, as the others of that table are.

const (
	selectNote = `SELECT value FROM meta WHERE name = ?`
	firstNote  = `INSERT INTO meta (name, value) VALUES (?, '') IF NOT EXISTS`
	nextNote   = `UPDATE meta SET value = ? WHERE name = ? IF value = ?`
	dropNote   = `DELETE FROM meta WHERE name = ? IF value = ?`

	restoreHead = `INSERT INTO log (log, part, last_seq, last, fence, front, swept, rev, newest)
		VALUES (?, 0, ` + headSeq + `, ?, ?, ?, ?, 0, 0) IF NOT EXISTS`
)

// restoreName names the row.
func (s *Store) restoreName() string { return "restoring" + s.space }

// checkRestore refuses a store to which another one is being copied, unless it is opened for that.
// Then it makes such a store of an empty one, and refuses any other.
func (s *Store) checkRestore(ctx context.Context) error {
	note, restoring, err := s.storedNote(ctx)
	switch {
	case err != nil:
		return err
	case restoring && !s.restore:
		return pim.Errorf(pim.KindConflict, "another store is being copied to this keyspace, and the copy is not complete: let the same pim migrate go on, or drop the keyspace")
	case restoring:
		s.note = note
		return nil
	case !s.restore:
		return nil
	}
	for token := ""; ; {
		page, err := s.Scan(ctx, token)
		if err != nil {
			return err
		}
		if len(page.Logs)+len(page.Cells) > 0 {
			return pim.Errorf(pim.KindConflict, "there is a store in the keyspace already, and it is complete")
		}
		if token = page.Next; token == "" {
			break
		}
	}
	return s.changeNote(ctx, s.batch().Query(firstNote, s.restoreName()), "")
}

// Is reports whether o names the keyspace of this store, by whatever hosts. It opens no store there, and
// changes nothing. Errors are those of Open that say why the keyspace can't be reached.
func (s *Store) Is(ctx context.Context, o Options) (bool, error) {
	if o = o.withDefaults(); o.Keyspace != s.keyspace || o.space != s.space {
		return false, nil
	}
	if err := s.enter(ctx, o.check()); err != nil {
		return false, err
	}
	defer s.calls.Done()
	other, err := o.connectTo(ctx)
	if err != nil {
		return false, err
	}
	defer other.Close()
	ours := map[string]bool{}
	for _, host := range s.session.GetHosts() {
		ours[host.HostID()] = true
	}
	for _, host := range other.GetHosts() { // no two clusters have a node in common
		if id := host.HostID(); id != "" && ours[id] {
			return true, nil
		}
	}
	return false, nil
}

// storedNote returns the note; ok is false if there is no row.
func (s *Store) storedNote(ctx context.Context) (note string, ok bool, err error) {
	err = s.again(ctx, func() error {
		return s.session.Query(selectNote, s.restoreName()).Consistency(gocql.Serial).ScanContext(ctx, &note)
	})
	if errors.Is(err, gocql.ErrNotFound) {
		return "", false, nil
	}
	return note, err == nil, err
}

// changeNote carries out a transaction on the row, after which the note is next.
func (s *Store) changeNote(ctx context.Context, b *gocql.Batch, next string) error {
	within, cancel := context.WithTimeout(ctx, s.writeWithin)
	defer cancel()
	return s.until(within, func() (over bool, err error) {
		applied, err := s.transact(within, b)
		if err != nil {
			return false, err
		}
		if !applied { // a transaction that was sent twice is refused the second time
			note, ok, err := s.storedNote(within)
			if err != nil {
				return false, err
			}
			if !ok || note != next {
				return true, pim.Errorf(pim.KindConflict, "another process copies a store to this keyspace")
			}
		}
		s.note = next
		return true, nil
	})
}

// RestoreLog implements store.Restorer. The head of part 0 is enough: if the front lies in a later part,
// part 0 is closed by that, and whoever needs the next part opens it.
func (s *Store) RestoreLog(ctx context.Context, l store.LogState) error {
	if err := s.enterRestore(ctx, l.Check()); err != nil {
		return err
	}
	defer s.calls.Done()
	if l.Front > mostSeq || l.Fence > mostSeq {
		return pim.Errorf(pim.KindInvalid, "a log whose front is %d and whose fence is %d", l.Front, l.Fence)
	}
	within, cancel := context.WithTimeout(ctx, s.writeWithin)
	defer cancel()
	log, last := s.log(l.Log), l.Front-1
	return s.until(within, func() (over bool, err error) {
		b := s.batch().Query(restoreHead, log, int64(last), int64(l.Fence), int64(l.Front), s.partOf(last))
		if applied, err := s.transact(within, b); err != nil || applied {
			return err == nil, err
		}
		e, err := s.end(within, log)
		if err != nil {
			return false, err
		}
		if e.fence != l.Fence || e.front != l.Front || e.last < last {
			return true, pim.Errorf(pim.KindConflict, "the log %q is there already, and otherwise", l.Log)
		}
		return true, nil
	})
}

// enterRestore is enter for a call that only a store to which another one is copied takes.
func (s *Store) enterRestore(ctx context.Context, checks ...error) error {
	if !s.restore {
		return pim.Errorf(pim.KindInvalid, "the store was not opened to copy another one to it")
	}
	return s.enter(ctx, checks...)
}

// Note implements store.Restorer.
func (s *Store) Note(ctx context.Context) ([]byte, error) {
	if err := s.enterRestore(ctx); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	note, ok, err := s.storedNote(ctx)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, pim.Errorf(pim.KindConflict, "the copy to this keyspace was ended")
	}
	if s.note = note; note == "" {
		return nil, nil
	}
	return []byte(note), nil
}

// SetNote implements store.Restorer.
func (s *Store) SetNote(ctx context.Context, note []byte) error {
	if err := s.enterRestore(ctx, store.CheckNote(note)); err != nil {
		return err
	}
	defer s.calls.Done()
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	return s.changeNote(ctx, s.batch().Query(nextNote, string(note), s.restoreName(), s.note), string(note))
}

// EndRestore implements store.Restorer.
func (s *Store) EndRestore(ctx context.Context) error {
	if err := s.enterRestore(ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	within, cancel := context.WithTimeout(ctx, s.writeWithin)
	defer cancel()
	return s.until(within, func() (over bool, err error) {
		applied, err := s.transact(within, s.batch().Query(dropNote, s.restoreName(), s.note))
		if err != nil || applied {
			return err == nil, err
		}
		if _, ok, err := s.storedNote(within); err != nil || !ok { // it was dropped by the same, sent before
			return err == nil, err
		}
		return true, pim.Errorf(pim.KindConflict, "another process copies a store to this keyspace")
	})
}
