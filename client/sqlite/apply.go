package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// Apply implements client.Store: one transaction.
func (s *Store) Apply(ctx context.Context, b *client.Batch) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.wrap("begin", err)
	}
	defer tx.Rollback()
	w := writer{ctx: ctx, tx: tx}
	for i := range b.Rewinds {
		w.rewind(&b.Rewinds[i])
	}
	for i := range b.Keep {
		w.keep(&b.Keep[i])
	}
	if m := b.Meta; m != nil {
		w.exec(s.putMeta, string(m.User), string(m.Device), int64(m.AckSerial), m.FullSync, int64(m.LastLocal), int64(m.Number),
			int64(m.Stored), m.Confirms, int64(m.Confirmed), m.Key[:], m.Store, int64(m.Heard), m.Doubt)
	}
	for i := range b.Entries {
		e := &b.Entries[i]
		p, kept := e.Place(), s.unlessRecalled(&w, &e.Entry)
		w.exec(s.putEntry, string(e.Conversation), int64(e.Seq), int64(p.Anchor), int64(p.Local), wire.AppendEntry(nil, &kept),
			int64(e.Number), e.Late, int64(e.Refers))
	}
	for i := range b.Folds {
		s.fold(&w, &b.Folds[i])
	}
	for i := range b.Erasures {
		w.eraseOf(&b.Erasures[i])
	}
	for i := range b.Conversations {
		c := &b.Conversations[i]
		var last []byte
		if c.Last.Seq != 0 {
			last = wire.AppendEntry(nil, &c.Last)
		}
		w.exec(s.putConversation, string(c.ID), int64(c.Known), int64(c.Newest), int64(c.Count), last, c.LastCut, c.Left, encodeHoles(c.Holes),
			int64(c.Own), int64(c.OwnCount), int64(c.Folded), int64(c.Stale),
			int64(c.Named), int64(c.All), int64(c.OwnAll), int64(c.Front), int64(c.Lost))
	}
	for i := range b.Outbox {
		m := &b.Outbox[i]
		f, kind := m.Failed, any(nil)
		if f == nil {
			f = new(pim.Error)
		} else {
			kind = int64(f.Kind)
		}
		w.exec(s.putOutgoing, m.ID[:], int64(m.Number), string(m.Conversation), int64(m.Kind), lines(m.Members),
			blob(m.Payload), int64(m.Local), int64(m.First), int64(m.Queued), m.Again, kind, f.Op, f.Text,
			int64(m.Refers), m.Reaction, m.Removed, lines(m.Mentions), m.MentionAll, int64(m.Retain))
	}
	for _, id := range b.Remove {
		w.exec(s.dropOutgoing, id[:])
	}
	for i := range b.Settings {
		set := &b.Settings[i]
		w.exec(s.putSetting, set.Entity, wire.AppendCommand(nil, &set.Command), int64(set.At), int64(set.Deleted), string(set.By))
	}
	if b.Networks != nil {
		w.exec(s.dropNetworks)
	}
	for _, n := range b.Networks {
		w.exec(s.putNetwork, n.Name, n.Every.Milliseconds(), n.Stable, int64(n.Used))
	}
	for i := range b.Forget {
		w.forget(&b.Forget[i])
	}
	for i := range b.Trims {
		w.trim(&b.Trims[i])
	}
	if w.err == nil {
		w.err = tx.Commit()
	}
	if w.err == nil && erases(b) {
		s.checkpointIn(checkpointAfter)
	}
	return s.wrap("write", w.err)
}

// writer executes statements until one fails.
type writer struct {
	ctx context.Context
	tx  *sql.Tx
	err error
}

func (w *writer) exec(stmt *sql.Stmt, args ...any) {
	if w.err == nil {
		_, w.err = w.tx.StmtContext(w.ctx, stmt).ExecContext(w.ctx, args...)
	}
}

// blob returns p, or an empty slice for nil, which SQLite would take for NULL.
func blob(p []byte) []byte {
	if p == nil {
		return []byte{}
	}
	return p
}

// lines joins users, whose IDs hold no line break.
func lines(users []pim.UserID) string {
	s := make([]string, len(users))
	for i, u := range users {
		s[i] = string(u)
	}
	return strings.Join(s, "\n")
}

func users(lines string) []pim.UserID {
	if lines == "" {
		return nil
	}
	var list []pim.UserID
	for s := range strings.SplitSeq(lines, "\n") {
		list = append(list, pim.UserID(s))
	}
	return list
}
