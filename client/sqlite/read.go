package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// Load implements client.Store.
func (s *Store) Load(ctx context.Context) (client.Snapshot, error) {
	snapshot, err := s.load(ctx)
	return snapshot, wrap("read", err)
}

func (s *Store) load(ctx context.Context) (client.Snapshot, error) {
	var out client.Snapshot
	m := &out.Meta
	err := s.db.QueryRowContext(ctx, "SELECT user, device, ack_serial, full_sync, last_local, number FROM meta").
		Scan(&m.User, &m.Device, &m.AckSerial, &m.FullSync, &m.LastLocal, &m.Number)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return out, err
	}
	err = s.each(ctx, func(rows *sql.Rows) error {
		var c client.Conversation
		err := rows.Scan(&c.ID, &c.Known, &c.Newest, &c.Count, &c.Left)
		out.Conversations = append(out.Conversations, c)
		return err
	}, "SELECT id, known, newest, count, gone FROM conversations")
	if err != nil {
		return out, err
	}
	err = s.each(ctx, func(rows *sql.Rows) error {
		var o client.Outgoing
		var id []byte
		var members string
		if err := rows.Scan(&id, &o.Number, &o.Conversation, &o.Kind, &members, &o.Payload, &o.Local); err != nil {
			return err
		}
		var ok bool
		if o.ID, ok = wire.ClientID(id); !ok {
			return pim.Errorf(pim.KindCorrupt, "outbox: a client message ID of %d bytes", len(id))
		}
		o.Members = users(members)
		out.Outbox = append(out.Outbox, o)
		return nil
	}, "SELECT id, number, conversation, kind, members, payload, local FROM outbox ORDER BY number")
	return out, err
}

// Conversations implements client.Store.
func (s *Store) Conversations(ctx context.Context) ([]client.Conversation, error) {
	list := []client.Conversation{}
	err := s.each(ctx, func(rows *sql.Rows) error {
		var c client.Conversation
		var last []byte
		err := rows.Scan(&c.ID, &c.Known, &c.Newest, &c.Count, &last, &c.LastCut, &c.Left)
		if err == nil && last != nil {
			c.Last, err = wire.ParseEntry(c.ID, last)
		}
		list = append(list, c)
		return err
	}, `SELECT id, known, newest, count, coalesce(last,
			(SELECT data FROM entries WHERE conversation = id ORDER BY seq DESC LIMIT 1)), last_cut, gone
		FROM conversations ORDER BY id`)
	return list, wrap("read", err)
}

// Messages implements client.Store.
func (s *Store) Messages(ctx context.Context, conv pim.ConversationID, limit int) ([]pim.Entry, error) {
	var list []pim.Entry
	err := s.each(ctx, func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e, err := wire.ParseEntry(conv, data)
		list = append(list, e)
		return err
	}, `SELECT data FROM entries WHERE conversation = ?
		ORDER BY anchor DESC, place DESC, seq DESC LIMIT ?`, string(conv), max(limit, 0))
	slices.Reverse(list)
	return list, wrap("read", err)
}

// each calls f on every row.
func (s *Store) each(ctx context.Context, f func(*sql.Rows) error, query string, args ...any) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
