package cql

import (
	"context"
	"errors"
	"strings"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

var _ store.Scanner = (*Store)(nil)

// A token of a Scan is a letter for the table, and then the paging state that Cassandra has given.

// scanRows is how many rows are asked for at once. Cassandra counts no bytes, so with the greatest
// values such a page has 64 MiB.
const scanRows = 64

// scans are the tables that a Scan goes through, and what it asks each for.
var scans = []struct {
	letter byte
	cql    string
	take   func(*Store, context.Context, *gocql.Iter, *store.Page) error
}{
	{'l', `SELECT DISTINCT log, part FROM log`, (*Store).takeLogs},
	{'c', `SELECT partition, key, value, WRITETIME(value) FROM cell`, (*Store).takeCells},
	{'p', `SELECT partition, key, value, WRITETIME(value) FROM passing`, (*Store).takeCells},
	{'e', `SELECT partition, key, value, WRITETIME(value), TTL(value) FROM expiring`, (*Store).takeExpiring},
}

// Scan implements store.Scanner.
func (s *Store) Scan(ctx context.Context, token string) (store.Page, error) {
	if err := s.enter(ctx); err != nil {
		return store.Page{}, err
	}
	defer s.calls.Done()
	if token == "" {
		token = string(rune(scans[0].letter))
	}
	for i, scan := range scans {
		if token[0] != scan.letter {
			continue
		}
		var page store.Page
		var state []byte
		rows := scanRows
		err := s.again(ctx, func() (err error) {
			page, state, err = s.scanPage(ctx, i, []byte(token[1:]), rows)
			rows = max(rows/8, 1) // a page that has failed may have passed over too many tombstones
			return err
		})
		switch {
		case len(token) > 1 && answers(err, gocql.ErrCodeProtocol):
			return store.Page{}, pim.Errorf(pim.KindInvalid, "Cassandra does not take the token of a scan: %w", err)
		case err != nil:
			return store.Page{}, err
		case len(state) > 0:
			page.Next = token[:1] + string(state)
		case i+1 < len(scans):
			page.Next = string(rune(scans[i+1].letter))
		}
		return page, nil
	}
	return store.Page{}, pim.Errorf(pim.KindInvalid, "%.20q is no token of a scan", token)
}

// scanPage returns a page of a table, and the paging state of the next one.
func (s *Store) scanPage(ctx context.Context, table int, state []byte, rows int) (page store.Page, next []byte, err error) {
	q := s.session.Query(scans[table].cql).PageSize(rows).PageState(state)
	iter := q.IterContext(ctx)
	next = iter.PageState()
	err = scans[table].take(s, ctx, iter, &page)
	return page, next, errors.Join(err, iter.Close())
}

// takeLogs adds logs to page. Every log has part 0, whose head stays whatever is trimmed.
func (s *Store) takeLogs(ctx context.Context, iter *gocql.Iter, page *store.Page) error {
	var logs [][]byte
	var log []byte
	var part int64
	for iter.Scan(&log, &part) {
		if part == 0 && strings.HasPrefix(string(log), s.space) {
			logs = append(logs, log)
		}
		log = nil
	}
	ends, errs := make([]end, len(logs)), make([]error, len(logs))
	each(len(logs), func(i int) { ends[i], errs[i] = s.end(ctx, logs[i]) })
	for i, e := range ends {
		if errs[i] != nil {
			return errs[i]
		}
		if e.exists { // if not, a first append has come half way and was not carried out
			page.Logs = append(page.Logs, store.LogState{
				Log: store.Log(logs[i][len(s.space):]), Last: e.last, Fence: e.fence, Front: e.front,
			})
		}
	}
	return nil
}

func (s *Store) takeCells(_ context.Context, iter *gocql.Iter, page *store.Page) error {
	for s.takeCell(iter, page) {
	}
	return nil
}

// takeExpiring adds cells to page, but not those that live only because each lives a day longer than
// it must.
func (s *Store) takeExpiring(_ context.Context, iter *gocql.Iter, page *store.Page) error {
	var seconds *int
	for s.takeCell(iter, page, &seconds) {
		n := len(page.Cells) - 1
		if n < 0 || page.Cells[n].Left != 0 {
			continue // the row is another store's
		}
		if seconds == nil {
			return pim.Errorf(pim.KindCorrupt, "a cell of %q has no lifetime", page.Cells[n].Partition)
		}
		if left := time.Duration(*seconds)*time.Second - extraLife; left > 0 {
			page.Cells[n].Left = left
		} else {
			page.Cells = page.Cells[:n]
		}
	}
	return nil
}

// takeCell reads a row of iter, and adds it to page if it is this store's. more are the columns behind
// the version. It returns false if there is no row.
func (s *Store) takeCell(iter *gocql.Iter, page *store.Page, more ...any) bool {
	var partition, key, value []byte
	var version int64
	if !iter.Scan(append([]any{&partition, &key, &value, &version}, more...)...) {
		return false
	}
	if p, ok := strings.CutPrefix(string(partition), s.space); ok {
		if value == nil {
			value = []byte{}
		}
		cell := store.Cell{Key: string(key), Version: uint64(version), Value: value}
		page.Cells = append(page.Cells, store.LiveCell{Partition: store.Partition(p), Cell: cell})
	}
	return true
}
