// Package sqlite is a client.Store in an SQLite file, one for each user and
// device. Changes that Apply has stored survive a crash of the process and of the
// machine.
package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"io/fs"
	"net/url"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Store is a client.Store. One Store may have a file open at a time, by whatever
// name: see Open.
type Store struct {
	client.Claims
	path string
	db   *sql.DB
	lock *lock

	checkpoints checkpoints

	putMeta, putConversation, putEntry, getFold, putFold, putOutgoing, dropOutgoing, putSetting, dropNetworks, putNetwork *sql.Stmt
}

var _ client.Store = (*Store)(nil)

// migrations bring a file from one version of the schema to the next. The file has its
// version in user_version; the version of this program is the number of the last migration.
//
//	1  November 2026, the first
//	2  November 2026: holes, failed messages, settings, networks
//	3  November 2026: the first transmission of what is sent again by hand
//	4  November 2026: entries are numbered, and confirmed by the app; one's own newest message
//	5  November 2026: a server's store that went back
//	6  November 2026: entries that refer to a message
//	7  November 2026: mentions
//	8  November 2026: retention
//	9  November 2026: erasures
//	10  November 2026: for how long messages are kept
var migrations = []string{v1, v2, v3, v4, v5, v6, v7, v8, v9, v10}

var (
	//go:embed v1.sql
	v1 string
	//go:embed v2.sql
	v2 string
	//go:embed v3.sql
	v3 string
	//go:embed v4.sql
	v4 string
	//go:embed v5.sql
	v5 string
	//go:embed v6.sql
	v6 string
	//go:embed v7.sql
	v7 string
	//go:embed v8.sql
	v8 string
	//go:embed v9.sql
	v9 string
	//go:embed v10.sql
	v10 string
)

// pragmas are set on every connection. With synchronous = FULL a commit in WAL
// mode is durable when it returns. With secure_delete what is deleted is written over; when the bytes
// leave the file and its write-ahead log: checkpoint.go.
var pragmas = url.Values{
	"_pragma": {busyTimeout, "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(1)"},
	"_txlock": {"immediate"},
}

const busyTimeout = "busy_timeout(5000)"

// maxConnections leaves room for one connection that writes and two that read beside it.
const maxConnections = 3

// Open opens the file at path, and creates it if there is none. Errors:
// KindConflict if the file is open already, in this process or (on Unix systems) in
// another, KindCorrupt if it is damaged or no SQLite file, KindUnsupported if a newer
// version wrote it, KindInvalid if path is empty, KindDiskFull, KindUnavailable.
//
// A file that is open by one name can't be opened by another one, a symbolic or hard
// link; except by a hard link in another process, on systems other than Linux. After a
// crash, open the file by the same hard link as before: SQLite's write-ahead log lies
// beside that name.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if path == "" {
		return nil, pim.Errorf(pim.KindInvalid, "local store: the path of its file is empty")
	}
	real, err := locate(path)
	if err != nil {
		return nil, wrap("open "+path, err)
	}
	lock, err := takeLock(real)
	if err != nil {
		return nil, wrap("open "+path, err)
	}
	s, err := openLocked(ctx, real)
	if err != nil {
		lock.release()
		return nil, wrap("open "+path, err)
	}
	s.lock = lock
	return s, nil
}

func openLocked(ctx context.Context, path string) (*Store, error) {
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: pragmas.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(maxConnections)
	s := &Store{path: path, db: db}
	if err := s.migrate(ctx); err != nil {
		db.Close()
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		db.Close()
		return nil, err
	}
	s.checkpointIn(checkpointAfter) // a program that was killed may have erased something
	return s, nil
}

// migrate brings the file to this version of the schema.
func (s *Store) migrate(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var has int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&has); err != nil {
		return err
	}
	if has < 0 || has > len(migrations) {
		return pim.Errorf(pim.KindUnsupported, "the file is of version %d, this program knows up to %d", has, len(migrations))
	}
	for _, m := range migrations[has:] {
		if _, err := tx.ExecContext(ctx, m); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s *Store) prepare(ctx context.Context) error {
	for query, stmt := range map[string]**sql.Stmt{
		`INSERT INTO meta (one, user, device, ack_serial, full_sync, last_local, number, stored, confirms, confirmed, key,
			store, heard, doubt) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (one) DO UPDATE SET user = excluded.user, device = excluded.device, ack_serial = excluded.ack_serial,
			full_sync = excluded.full_sync, last_local = excluded.last_local, number = excluded.number,
			stored = excluded.stored, confirms = excluded.confirms, confirmed = excluded.confirmed, key = excluded.key,
			store = excluded.store, heard = excluded.heard, doubt = excluded.doubt`: &s.putMeta,
		`INSERT INTO conversations (id, known, newest, count, last, last_cut, gone, holes, own, own_count,
			folded, stale, named, all_count, own_all, front, lost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET known = excluded.known, newest = excluded.newest, count = excluded.count,
			last = excluded.last, last_cut = excluded.last_cut, gone = excluded.gone, holes = excluded.holes,
			own = excluded.own, own_count = excluded.own_count, folded = excluded.folded, stale = excluded.stale,
			named = excluded.named, all_count = excluded.all_count, own_all = excluded.own_all,
			front = excluded.front, lost = excluded.lost`: &s.putConversation,
		`INSERT INTO entries (conversation, seq, anchor, place, data, number, late, refers) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (conversation, seq) DO NOTHING`: &s.putEntry,
		`SELECT data FROM folds WHERE conversation = ? AND seq = ? AND recalled >= ?`: &s.getFold,
		`INSERT INTO folds (conversation, seq, newest, recalled, data) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (conversation, seq) DO UPDATE SET newest = excluded.newest, recalled = excluded.recalled,
			data = excluded.data`: &s.putFold,
		`INSERT INTO outbox (id, number, conversation, kind, members, payload, local, first,
			queued, again, failed_kind, failed_op, failed_text, refers, reaction, removed, mentions, mention_all, retain)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET number = excluded.number, conversation = excluded.conversation, kind = excluded.kind,
			members = excluded.members, payload = excluded.payload, local = excluded.local, first = excluded.first,
			queued = excluded.queued, again = excluded.again, failed_kind = excluded.failed_kind, failed_op = excluded.failed_op,
			failed_text = excluded.failed_text, refers = excluded.refers, reaction = excluded.reaction,
			removed = excluded.removed, mentions = excluded.mentions, mention_all = excluded.mention_all,
			retain = excluded.retain`: &s.putOutgoing,
		`DELETE FROM outbox WHERE id = ?`: &s.dropOutgoing,
		`INSERT INTO settings (entity, command, at, deleted, by) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (entity) DO UPDATE SET command = excluded.command, at = excluded.at, deleted = excluded.deleted,
			by = excluded.by`: &s.putSetting,
		`DELETE FROM networks`: &s.dropNetworks,
		`INSERT INTO networks (name, every, stable, used) VALUES (?, ?, ?, ?)`: &s.putNetwork,
	} {
		var err error
		if *stmt, err = s.db.PrepareContext(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file, and releases it for others.
func (s *Store) Close() error {
	s.checkpoints.end()
	return s.wrap("close", errors.Join(s.db.Close(), s.lock.release()))
}

// wrap returns err as a *pim.Error that names the file; nil if err is nil.
func (s *Store) wrap(op string, err error) error { return wrap(op+" "+s.path, err) }

// wrap returns err as a *pim.Error; nil if err is nil.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	e := &pim.Error{Op: "local store: " + op, Kind: pim.KindUnavailable, Text: err.Error(), Err: err}
	// op names the file already.
	if file, ok := err.(*fs.PathError); ok && strings.HasSuffix(op, " "+file.Path) {
		e.Text = file.Err.Error()
	}
	if k := pim.KindOf(err); k != pim.KindUnknown {
		e.Kind = k
	}
	var cause *driver.Error
	if errors.As(err, &cause) {
		switch cause.Code() & 0xff { // the rest is the extended code
		case lib.SQLITE_FULL:
			e.Kind = pim.KindDiskFull
		case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB, lib.SQLITE_FORMAT,
			// Our statements fit the tables that we have made: the file has others.
			lib.SQLITE_ERROR, lib.SQLITE_MISMATCH:
			e.Kind = pim.KindCorrupt
		}
	}
	return e
}
