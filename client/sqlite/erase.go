package sqlite

import (
	"context"
	"database/sql"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// eraseOf remembers x, and takes what it erases out of the file.
func (w *writer) eraseOf(x *client.StoredErasure) {
	w.do("INSERT INTO erasures (conversation, user, upto) VALUES (?, ?, ?) ON CONFLICT (conversation, user) DO UPDATE SET upto = excluded.upto",
		string(x.Conversation), string(x.By), integer(x.UpTo))
	var entries []pim.Entry
	w.query(func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e, err := wire.ParseEntry(x.Conversation, data)
		if err == nil && x.Erases(&e) {
			e.Payload, e.Erased = nil, true
			entries = append(entries, e)
		}
		return err
	}, `SELECT data FROM entries WHERE conversation = ? AND seq <= ? UNION ALL
		SELECT data FROM entries WHERE conversation = ? AND refers > 0 AND refers <= ? AND seq > ?`,
		string(x.Conversation), integer(x.UpTo), string(x.Conversation), integer(x.UpTo), integer(x.UpTo))
	for i := range entries {
		w.putData(&entries[i])
	}
	var folds []pim.Fold
	w.query(func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		f, err := wire.ParseFold(data)
		if err == nil && x.Unfold(&f) {
			folds = append(folds, f)
		}
		return err
	}, "SELECT data FROM folds WHERE conversation = ? AND seq <= ?", string(x.Conversation), integer(x.UpTo))
	for i := range folds {
		f := &folds[i]
		w.do("UPDATE folds SET newest = ?, data = ? WHERE conversation = ? AND seq = ?",
			integer(f.Newest()), wire.AppendFold(nil, f), string(x.Conversation), integer(f.Target))
	}
}

// putData replaces what is stored of e.
func (w *writer) putData(e *pim.Entry) {
	w.do("UPDATE entries SET data = ? WHERE conversation = ? AND seq = ?", wire.AppendEntry(nil, e), string(e.Conversation), integer(e.Seq))
}

func (s *Store) loadErasures(ctx context.Context, out *client.Snapshot) error {
	return s.each(ctx, func(rows *sql.Rows) error {
		var x client.StoredErasure
		err := rows.Scan(&x.Conversation, &x.By, count(&x.UpTo))
		out.Erasures = append(out.Erasures, x)
		return err
	}, "SELECT conversation, user, upto FROM erasures")
}
