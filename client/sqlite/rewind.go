package sqlite

import (
	"context"
	"database/sql"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// The statements here run rarely, so they are not kept prepared.

// rewind takes a conversation back.
func (w *writer) rewind(r *client.Rewind) {
	var kept []pim.Entry
	w.query(func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e, err := wire.ParseEntry(r.Conversation, data)
		if err == nil && e.Sender == r.Sender && !e.Erased {
			kept = append(kept, e)
		}
		return err
	}, "SELECT data FROM entries WHERE conversation = ? AND seq > ?", string(r.Conversation), integer(r.After))
	for i := range kept {
		w.keep(&kept[i])
	}
	w.aside(r)
	w.do("DELETE FROM entries WHERE conversation = ? AND seq > ?", string(r.Conversation), integer(r.After))
	w.do("DELETE FROM folds WHERE conversation = ? AND newest > ?", string(r.Conversation), integer(r.After))
	if _, own := r.Conversation.OwnUser(); own {
		w.do("DELETE FROM settings")
	}
}

// aside changes what is kept aside as r asks for.
func (w *writer) aside(r *client.Rewind) {
	var all []pim.Entry
	w.query(func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e, err := wire.ParseEntry(r.Conversation, data)
		all = append(all, e)
		return err
	}, "SELECT data FROM former WHERE conversation = ? AND refers > ?", string(r.Conversation), integer(r.After))
	for i := range all {
		if e := &all[i]; r.Aside(e) {
			w.keep(e)
		} else {
			w.forget(&client.Former{Conversation: r.Conversation, ID: e.ClientID})
		}
	}
}

// keep keeps an entry aside.
func (w *writer) keep(e *pim.Entry) {
	w.do(`INSERT INTO former (conversation, id, seq, refers, data) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (conversation, id) DO UPDATE SET seq = excluded.seq, refers = excluded.refers, data = excluded.data`,
		string(e.Conversation), e.ClientID[:], int64(e.Seq), int64(e.Refers), wire.AppendEntry(nil, e))
}

// forget deletes what was kept aside.
func (w *writer) forget(f *client.Former) {
	if f.ID.IsZero() {
		w.do("DELETE FROM former WHERE conversation = ?", string(f.Conversation))
		return
	}
	w.do("DELETE FROM former WHERE conversation = ? AND id = ?", string(f.Conversation), f.ID[:])
}

// do executes a statement that is not prepared.
func (w *writer) do(query string, args ...any) {
	if w.err == nil {
		_, w.err = w.tx.ExecContext(w.ctx, query, args...)
	}
}

// query calls f on every row.
func (w *writer) query(f func(*sql.Rows) error, query string, args ...any) {
	if w.err != nil {
		return
	}
	rows, err := w.tx.QueryContext(w.ctx, query, args...)
	if err != nil {
		w.err = err
		return
	}
	defer rows.Close()
	for rows.Next() {
		if w.err = f(rows); w.err != nil {
			return
		}
	}
	w.err = rows.Err()
}

func (s *Store) loadFormer(ctx context.Context, out *client.Snapshot) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var id pim.ConversationID
		err := rows.Scan(&id)
		out.Former = append(out.Former, id)
		return err
	}, "SELECT DISTINCT conversation FROM former")
}

// Below implements client.Store.
func (s *Store) Below(ctx context.Context, conv pim.ConversationID, to pim.Seq, limit int) ([]pim.Entry, error) {
	list, err := s.entries(ctx, conv, "SELECT data FROM entries WHERE conversation = ? AND seq <= ? ORDER BY seq DESC LIMIT ?",
		string(conv), integer(to), max(limit, 0))
	slices.Reverse(list)
	return list, wrap("read", err)
}

// Former implements client.Store.
func (s *Store) Former(ctx context.Context, conv pim.ConversationID, skip, limit int) ([]pim.Entry, error) {
	list, err := s.entries(ctx, conv, "SELECT data FROM former WHERE conversation = ? ORDER BY seq, id LIMIT ? OFFSET ?",
		string(conv), max(limit, 0), max(skip, 0))
	return list, wrap("read", err)
}
