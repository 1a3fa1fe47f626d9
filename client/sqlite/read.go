package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// Load implements client.Store.
func (s *Store) Load(ctx context.Context) (client.Snapshot, error) {
	snapshot, err := s.load(ctx)
	return snapshot, s.wrap("read", err)
}

func (s *Store) load(ctx context.Context) (client.Snapshot, error) {
	var out client.Snapshot
	m := &out.Meta
	var key []byte
	err := s.db.QueryRowContext(ctx, "SELECT user, device, ack_serial, full_sync, last_local, number, stored, confirms, confirmed, key, store, heard, doubt FROM meta").
		Scan(&m.User, &m.Device, count(&m.AckSerial), &m.FullSync, &m.LastLocal, count(&m.Number),
			count(&m.Stored), &m.Confirms, count(&m.Confirmed), &key, &m.Store, count(&m.Heard), &m.Doubt)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return out, err
	}
	copy(m.Key[:], key)
	err = s.each(ctx, func(rows *sql.Rows) error {
		var c client.ConversationRow
		var holes []byte
		err := rows.Scan(&c.ID, count(&c.Known), count(&c.Newest), count(&c.Count), &c.Left, &holes, count(&c.Own), count(&c.OwnCount),
			count(&c.Folded), count(&c.Stale), count(&c.Named), count(&c.All), count(&c.OwnAll),
			count(&c.Front), count(&c.Lost), &c.GoneAt)
		if err == nil {
			c.Holes, err = decodeHoles(holes)
		}
		out.Conversations = append(out.Conversations, c)
		return err
	}, "SELECT id, known, newest, count, gone, holes, own, own_count, folded, stale, named, all_count, own_all, front, lost, gone_at FROM conversations")
	if err != nil {
		return out, err
	}
	for _, load := range []func(context.Context, *client.Snapshot) error{s.loadOutbox, s.loadSettings, s.loadNetworks, s.loadErasures, s.loadFormer} {
		if err := load(ctx, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (s *Store) loadOutbox(ctx context.Context, out *client.Snapshot) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var o client.Outgoing
		var id []byte
		var members, mentions string
		var failed sql.NullInt64
		var f pim.Error
		err := rows.Scan(&id, count(&o.Number), &o.Conversation, &o.Kind, &members, &o.Payload, &o.Local, &o.First, &o.Queued, &o.Again, &failed, &f.Op, &f.Text,
			count(&o.Refers), &o.Reaction, &o.Removed, &mentions, &o.MentionAll, &o.Retain)
		if err != nil {
			return err
		}
		var ok bool
		if o.ID, ok = wire.ClientID(id); !ok {
			return pim.Errorf(pim.KindCorrupt, "outbox: a client message ID of %d bytes", len(id))
		}
		if failed.Valid {
			f.Kind = pim.Kind(failed.Int64)
			o.Failed = &f
		}
		o.Members, o.Mentions = users(members), users(mentions)
		out.Outbox = append(out.Outbox, o)
		return nil
	}, `SELECT id, number, conversation, kind, members, payload, local, first, queued, again, failed_kind, failed_op, failed_text,
		refers, reaction, removed, mentions, mention_all, retain
		FROM outbox ORDER BY number`)
}

func (s *Store) loadSettings(ctx context.Context, out *client.Snapshot) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var set client.Setting
		var command []byte
		if err := rows.Scan(&set.Entity, &command, count(&set.At), count(&set.Deleted), &set.By); err != nil {
			return err
		}
		var err error
		if set.Command, err = wire.DecodeCommand(command); err != nil {
			return pim.Errorf(pim.KindCorrupt, "setting %s: %w", set.Entity, err)
		}
		out.Settings = append(out.Settings, set)
		return nil
	}, "SELECT entity, command, at, deleted, by FROM settings")
}

func (s *Store) loadNetworks(ctx context.Context, out *client.Snapshot) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var n client.Network
		var every int64
		err := rows.Scan(&n.Name, &every, &n.Stable, &n.Used)
		n.Every = time.Duration(every) * time.Millisecond
		out.Networks = append(out.Networks, n)
		return err
	}, "SELECT name, every, stable, used FROM networks")
}

// Conversations implements client.Store.
func (s *Store) Conversations(ctx context.Context) ([]client.ConversationRow, error) {
	list, err := s.rows(ctx, "ORDER BY id")
	return list, s.wrap("read", err)
}

// Conversation implements client.Store.
func (s *Store) Conversation(ctx context.Context, id pim.ConversationID) (client.ConversationRow, error) {
	list, err := s.rows(ctx, "WHERE id = ?", string(id))
	if err != nil || len(list) == 0 {
		return client.ConversationRow{}, s.wrap("read", err)
	}
	return list[0], nil
}

func (s *Store) rows(ctx context.Context, which string, args ...any) ([]client.ConversationRow, error) {
	list := []client.ConversationRow{}
	err := s.each(ctx, func(rows *sql.Rows) error {
		var c client.ConversationRow
		var last, holes []byte
		err := rows.Scan(&c.ID, count(&c.Known), count(&c.Newest), count(&c.Count), &last, &c.LastCut, &c.Left, &holes,
			count(&c.Own), count(&c.OwnCount), count(&c.Folded), count(&c.Stale), count(&c.Named), count(&c.All), count(&c.OwnAll),
			count(&c.Front), count(&c.Lost), &c.GoneAt)
		if err == nil && last != nil {
			c.Last, err = wire.ParseEntry(c.ID, last)
		}
		if err == nil {
			c.Holes, err = decodeHoles(holes)
		}
		list = append(list, c)
		return err
	}, `SELECT id, known, newest, count, coalesce(last,
			(SELECT data FROM entries WHERE conversation = id ORDER BY seq DESC LIMIT 1)), last_cut, gone, holes, own, own_count, folded, stale,
			named, all_count, own_all, front, lost, gone_at
		FROM conversations `+which, args...)
	return list, err
}

// Entries implements client.Store.
func (s *Store) Entries(ctx context.Context, conv pim.ConversationID, before *pim.Place, limit int) ([]pim.Entry, error) {
	query, args := "SELECT data FROM entries WHERE conversation = ?", []any{string(conv)}
	if before != nil {
		query += " AND (anchor, place, seq) < (?, ?, ?)"
		args = append(args, int64(before.Anchor), int64(before.Local), int64(before.Seq))
	}
	query += " ORDER BY anchor DESC, place DESC, seq DESC LIMIT ?"
	list, err := s.entries(ctx, conv, query, append(args, max(limit, 0))...)
	slices.Reverse(list)
	return list, s.wrap("read", err)
}

// Range implements client.Store.
func (s *Store) Range(ctx context.Context, conv pim.ConversationID, from, to pim.Seq, limit int) ([]pim.Entry, error) {
	list, err := s.entries(ctx, conv, "SELECT data FROM entries WHERE conversation = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
		string(conv), integer(from), integer(to), max(limit, 0))
	return list, s.wrap("read", err)
}

// integer returns n as one of SQLite's integers, which are signed. If n is too large for
// that, integer returns the largest one, which no seq or number of an entry exceeds.
func integer[T ~uint64](n T) int64 { return int64(min(n, math.MaxInt64)) }

func (s *Store) entries(ctx context.Context, conv pim.ConversationID, query string, args ...any) ([]pim.Entry, error) {
	var list []pim.Entry
	err := s.each(ctx, func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e, err := wire.ParseEntry(conv, data)
		list = append(list, e)
		return err
	}, query, args...)
	return list, err
}

// Since implements client.Store. The index has only entries with a number, so the query
// must say number > 0 to use it.
func (s *Store) Since(ctx context.Context, number uint64, limit int) ([]client.Stored, error) {
	var list []client.Stored
	err := s.each(ctx, func(rows *sql.Rows) error {
		var conv pim.ConversationID
		var e client.Stored
		var data sql.RawBytes
		err := rows.Scan(&conv, &data, count(&e.Number), &e.Late)
		if err == nil {
			e.Entry, err = wire.ParseEntry(conv, data)
		}
		list = append(list, e)
		return err
	}, "SELECT conversation, data, number, late FROM entries WHERE number > 0 AND number > ? ORDER BY number LIMIT ?",
		integer(number), max(limit, 0))
	return list, s.wrap("read", err)
}

// counter reads an unsigned number that Apply has written as an int64: SQLite's integers
// are signed, and a number that a server sends may need all 64 bits.
type counter[T ~uint64] struct{ to *T }

func count[T ~uint64](to *T) counter[T] { return counter[T]{to} }

// Scan implements sql.Scanner.
func (c counter[T]) Scan(value any) error {
	n, ok := value.(int64)
	if !ok {
		return pim.Errorf(pim.KindCorrupt, "%v is no integer", value)
	}
	*c.to = T(n)
	return nil
}

// each calls f on every row.
func (s *Store) each(ctx context.Context, f func(*sql.Rows) error, query string, args ...any) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil && ctx.Err() == nil {
			return pim.Errorf(pim.KindCorrupt, "a row does not hold what it should: %w", err)
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}
