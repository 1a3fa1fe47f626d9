package sqlite

import (
	"database/sql"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// trim takes away what retention has removed.
func (w *writer) trim(t *client.Trim) {
	conv, front := string(t.Conversation), integer(t.Front)
	var newest pim.Millis
	w.query(func(rows *sql.Rows) error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e, err := wire.ParseEntry(t.Conversation, data)
		newest = e.Time()
		return err
	}, "SELECT data FROM entries WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT 1", conv, front)
	w.do("UPDATE conversations SET gone_at = max(gone_at, ?) WHERE id = ?", int64(newest), conv)
	w.do("DELETE FROM entries WHERE conversation = ? AND seq < ?", conv, front)
	w.do("DELETE FROM folds WHERE conversation = ? AND seq < ?", conv, front)
	w.do("DELETE FROM former WHERE conversation = ? AND seq < ?", conv, integer(t.Former))
}
