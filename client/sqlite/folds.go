package sqlite

import (
	"context"
	"database/sql"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// fold merges f into what is stored of its message. If that recalls the message, the payloads
// of the message and of its edits go.
func (s *Store) fold(w *writer, f *client.StoredFold) {
	merged, known := s.stored(w, f.Conversation, f.Target, false)
	was := merged.Recalled()
	if !known {
		merged.Target = f.Target
	}
	merged.Merge(&f.Fold)
	w.exec(s.putFold, string(f.Conversation), int64(f.Target), integer(merged.Newest()), merged.Recalled(), wire.AppendFold(nil, &merged))
	if merged.Recalled() && !was {
		w.erase(f.Conversation, &merged)
	}
}

// stored returns the fold of the message at seq; only one with a recall if recalled is set. ok is
// false if there is none.
func (s *Store) stored(w *writer, conv pim.ConversationID, seq pim.Seq, recalled bool) (f pim.Fold, ok bool) {
	if w.err != nil {
		return pim.Fold{}, false
	}
	var data []byte
	err := w.tx.StmtContext(w.ctx, s.getFold).QueryRowContext(w.ctx, string(conv), integer(seq), recalled).Scan(&data)
	if err == sql.ErrNoRows {
		return pim.Fold{}, false
	}
	if err == nil {
		f, err = wire.ParseFold(data)
	}
	w.err = err
	return f, err == nil
}

// unlessRecalled returns e, without its payload if a recall has erased that.
func (s *Store) unlessRecalled(w *writer, e *pim.Entry) pim.Entry {
	target := e.Seq
	switch e.Kind {
	case pim.EntryMessage:
	case pim.EntryEdit:
		target = e.Refers
	default:
		return *e
	}
	kept := *e
	if f, ok := s.stored(w, e.Conversation, target, true); ok && f.Erases(e) {
		kept.Payload, kept.Erased = nil, true
	}
	return kept
}

// erase takes the payloads of the recalled message f.Target and of its edits out of the file. The
// index has only entries that refer, so the query must say refers > 0 to use it.
func (w *writer) erase(conv pim.ConversationID, f *pim.Fold) {
	var erased []pim.Entry
	w.query(func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e, err := wire.ParseEntry(conv, data)
		if err == nil && f.Erases(&e) {
			e.Payload, e.Erased = nil, true
			erased = append(erased, e)
		}
		return err
	}, `SELECT data FROM entries WHERE conversation = ? AND seq = ? UNION ALL
		SELECT data FROM entries WHERE conversation = ? AND refers = ? AND refers > 0`,
		string(conv), integer(f.Target), string(conv), integer(f.Target))
	for i := range erased {
		w.putData(&erased[i])
	}
}

// Folds implements client.Store.
func (s *Store) Folds(ctx context.Context, conv pim.ConversationID, from, to pim.Seq) ([]pim.Fold, error) {
	var list []pim.Fold
	err := s.each(ctx, func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		f, err := wire.ParseFold(data)
		list = append(list, f)
		return err
	}, "SELECT data FROM folds WHERE conversation = ? AND seq BETWEEN ? AND ? ORDER BY seq", string(conv), integer(from), integer(to))
	return list, s.wrap("read", err)
}
