package conv_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// trimmed trims c up to upTo, as often as it takes.
func trimmed(t *testing.T, w *conv.Writers, c pim.ConversationID, upTo pim.Seq) {
	t.Helper()
	for range 1000 {
		if err := w.Trim(t.Context(), c, upTo); err == nil {
			return
		} else if !pim.KindOf(err).Retryable() {
			t.Fatal(err)
		}
	}
	t.Fatal("a thousand trims failed")
}

// trimsBlindly is a trim that asks only the log for its last seq.
func trimsBlindly(ctx context.Context, s store.Store, c pim.ConversationID, upTo pim.Seq) error {
	last, _, err := store.LogEnd(ctx, s, inbox.Entries(c))
	if err != nil {
		return err
	}
	return store.Commit(ctx, s, []*store.Write{{Log: inbox.Entries(c), Trim: min(upTo, last)}}, store.Durable)
}

// severed is the store of a process that dies with its next append: only the append takes effect,
// without an answer, and no later write does until dead is false again.
type severed struct {
	store.Store
	next, dead atomic.Bool
}

func (s *severed) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s *severed) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	if s.dead.Load() {
		return unanswered(ctx, s.Store, writes, d, func(store.Write) store.Write { return store.Write{} })
	}
	if len(writes[0].Records) == 0 || !s.next.Load() {
		return store.Commit(ctx, s.Store, writes, d)
	}
	s.dead.Store(true)
	return unanswered(ctx, s.Store, writes, d, func(w store.Write) store.Write {
		return withCells(w, func(store.CellWrite) bool { return false })
	})
}

// A process appended an entry and died before it wrote what follows from it. Nobody has loaded
// the conversation since. A trim of everything keeps what follows: who is a member, what is
// blocked, and the counts. A trim that passes what is not written yet is caught by this test.
func TestATrimPassesNothingThatIsNotWritten(t *testing.T) {
	type trim func(w *conv.Writers, s store.Store, c pim.ConversationID) error
	right := func(w *conv.Writers, _ store.Store, c pim.ConversationID) error {
		err := w.Trim(t.Context(), c, math.MaxInt64)
		if _, own := c.OwnUser(); own && pim.KindOf(err) == pim.KindInvalid {
			return nil // an own log can't be trimmed
		}
		return err
	}
	blind := func(_ *conv.Writers, s store.Store, c pim.ConversationID) error {
		return trimsBlindly(t.Context(), s, c, math.MaxInt64)
	}
	for _, test := range []struct {
		name string
		lost func(g pim.ConversationID) *conv.Request
		ask  func(g pim.ConversationID) *conv.Request
		want pim.Kind
	}{
		{
			"join",
			func(g pim.ConversationID) *conv.Request { return inGroup(g, pim.EntryJoin, "ann", "cat") },
			func(g pim.ConversationID) *conv.Request { return message(g, "cat", "") }, 0,
		},
		{
			"leave",
			func(g pim.ConversationID) *conv.Request { return inGroup(g, pim.EntryLeave, "ann", "bob") },
			func(g pim.ConversationID) *conv.Request { return message(g, "bob", "") }, pim.KindNotMember,
		},
		{
			"block",
			func(pim.ConversationID) *conv.Request {
				return command("ann", "d", pim.Command{Kind: pim.CommandBlock, Subject: "bob"})
			},
			func(pim.ConversationID) *conv.Request { return message(pim.Direct("ann", "bob"), "bob", "") }, pim.KindForbidden,
		},
		{
			"message",
			func(g pim.ConversationID) *conv.Request { return message(g, "bob", "") },
			func(g pim.ConversationID) *conv.Request { return message(g, "bob", "") }, 0,
		},
	} {
		for _, by := range []struct {
			name string
			trim trim
			ok   bool
		}{{"a trim", right, true}, {"a blind trim", blind, false}} {
			s, rec := &severed{Store: storetest.NewMemory()}, newRecorder()
			var w *conv.Writers
			begin := func() { w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()}) }
			send := func(r *conv.Request) (conv.Answer, error) {
				a, err := persist(w, rec, r)
				return a, err
			}
			begin()
			a, err := send(inGroup("", pim.EntryCreate, "ann", "bob"))
			if err != nil {
				t.Fatal(err)
			}
			g := a.Request.Conversation
			for range 150 { // enough for a snapshot
				if _, err := send(message(g, "ann", "")); err != nil {
					t.Fatal(err)
				}
			}
			s.next.Store(true)
			r := rec.track(test.lost(g))
			w.Submit([]*conv.Request{r})
			if a := rec.wait(r); a.Err == nil {
				t.Fatal("a dead process has answered")
			}
			w.Close()
			s.next.Store(false)
			s.dead.Store(false)
			begin()
			if err := by.trim(w, s, r.Conversation); err != nil {
				t.Fatal(err)
			}
			if test.name != "block" { // who reads the cells, and is no writer
				user := map[string]pim.UserID{"join": "cat", "leave": "bob", "message": "ann"}[test.name]
				line, _, err := inbox.New(s).Line(t.Context(), user, g)
				if told := err == nil && line.Newest == 152 && line.Left == (test.name == "leave"); told != by.ok {
					t.Errorf("the line of %s after %s by %s: %+v, %v", user, test.name, by.name, line, err)
				}
			}
			if test.name == "block" { // the writer of the own log settles what it can
				if _, err := send(command("ann", "d", pim.Command{Kind: pim.CommandContact, Subject: "eve"})); err != nil {
					t.Fatal(err)
				}
			}
			a, err = send(test.ask(g))
			kept := pim.KindOf(err) == test.want && (err == nil) == (test.want == 0)
			if test.name == "message" {
				kept = err == nil && a.Count == 152
			}
			if kept != by.ok {
				t.Errorf("%s is kept by %s: %v (%v, %+v)", test.name, by.name, kept, err, a)
			}
			w.Close()
		}
	}
}

// A process died when it had appended an erase, and before it had erased anything. A trim that comes
// before any other writer erases what it leaves, since its snapshot hides the erase.
func TestATrimCarriesOutAnErase(t *testing.T) {
	s, rec := &severed{Store: storetest.NewMemory()}, newRecorder()
	chat := pim.Direct("ann", "bob")
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	for range 5 {
		if _, err := persist(w, rec, message(chat, "ann", "secret")); err != nil {
			t.Fatal(err)
		}
	}
	r := message(chat, "ann", "")
	r.Kind, r.Refers, r.Payload = pim.EntryErase, 5, nil
	r = rec.track(r)
	s.next.Store(true)
	w.Submit([]*conv.Request{r})
	if a := rec.wait(r); a.Err == nil {
		t.Fatal("a dead process has answered")
	}
	w.Close()
	s.next.Store(false)
	s.dead.Store(false)
	w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	trimmed(t, w, chat, 2)
	records, err := store.ReadLog(t.Context(), s, inbox.Entries(chat), 3, 5, store.Limit{Records: 9, Bytes: 1 << 20})
	if err != nil || len(records) != 3 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for _, data := range records {
		if e, err := wire.ParseEntry(chat, data); err != nil || !e.Erased || len(e.Payload) > 0 {
			t.Errorf("seq %d: erased %t, payload %q, %v", e.Seq, e.Erased, e.Payload, err)
		}
	}
}

// between is a store that calls next once, before a read of a log's records.
type between struct {
	store.Store
	next atomic.Pointer[func()]
}

func (s *between) Read(ctx context.Context, reads []store.Read) error {
	if reads[0].Limit.Records > 0 {
		if f := s.next.Swap(nil); f != nil {
			(*f)()
		}
	}
	return s.Store.Read(ctx, reads)
}

// A trim comes while the log is loaded, between the read of its end and that of its entries.
// Nobody's request fails.
func TestATrimUnderALoad(t *testing.T) {
	for _, upTo := range []pim.Seq{1, 100, 119, 120} {
		s, rec := &between{Store: storetest.NewMemory()}, newRecorder()
		chat := pim.Direct("ann", "bob")
		w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		for range 120 {
			if _, err := persist(w, rec, message(chat, "ann", "")); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		trim := func() { trimmed(t, w, chat, upTo) }
		s.next.Store(&trim)
		r := rec.track(message(chat, "bob", ""))
		w.Submit([]*conv.Request{r})
		if a := rec.wait(r); a.Err != nil || a.Seq != 121 || a.Count != 121 {
			t.Errorf("trimmed up to %d: %+v", upTo, a)
		}
		w.Close()
	}
}

// endless is a store on which a trim comes before each read of records.
type endless struct {
	store.Store
	upTo pim.Seq
}

func (s *endless) Read(ctx context.Context, reads []store.Read) error {
	if reads[0].Limit.Records > 0 && s.upTo > 0 {
		s.upTo++
		if err := trimsBlindly(ctx, s.Store, pim.ConversationID(reads[0].Log), s.upTo); err != nil {
			return err
		}
	}
	return s.Store.Read(ctx, reads)
}

// A load that finds entries trimmed every time ends, and the sender sends again.
func TestALoadUnderTrimsEnds(t *testing.T) {
	s, rec := &endless{Store: storetest.NewMemory()}, newRecorder()
	chat := pim.Direct("ann", "bob")
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	for range 40 { // too few for a snapshot
		if _, err := persist(w, rec, message(chat, "ann", "")); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	s.upTo = 1
	w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	r := rec.track(message(chat, "bob", ""))
	w.Submit([]*conv.Request{r})
	if a := rec.wait(r); pim.KindOf(a.Err) != pim.KindUnavailable {
		t.Errorf("%+v", a)
	}
	w.Close()
}

// A message that was trimmed is sent again. The answer says where it stood, whether the writer
// remembers its ID or finds it in a cell.
func TestATrimmedMessageIsSentAgain(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	chat := pim.Direct("ann", "bob")
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	var sent []*conv.Request
	for i := range 20 {
		r := message(chat, "ann", "")
		if i%2 == 0 { // as if it had waited for a network: its ID has a cell
			r.ClientID = pim.NewClientMessageID(time.Now().Add(-time.Hour))
		}
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, r)
	}
	for _, upTo := range []pim.Seq{5, 20} {
		trimmed(t, w, chat, upTo)
		for range 2 {
			for i, r := range sent {
				if a, err := persist(w, rec, r); err != nil || !a.Duplicate || a.Seq != pim.Seq(i+1) || a.Anchor == 0 || a.Seq > upTo != (a.Server != 0) {
					t.Errorf("trimmed up to %d, message %d: %+v, %v", upTo, i+1, a, err)
				}
			}
			w.Close()
			w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		}
	}
	if a, err := persist(w, rec, message(chat, "bob", "")); err != nil || a.Seq != 21 || a.Count != 21 {
		t.Errorf("the next message: %+v, %v", a, err)
	}
	w.Close()
}

// A version before snapshots has written a long log. It can be trimmed, by this version and by
// whoever does not know about snapshots, and messages that are left are known when they are sent
// again.
func TestTrimsOfLongLogsWithoutASnapshot(t *testing.T) {
	for _, n := range []int{1025, 2000, 20_000} {
		for _, upTo := range []pim.Seq{1, pim.Seq(n) - 500, pim.Seq(n) - 1, pim.Seq(n)} {
			for _, blind := range []bool{false, true} {
				s, rec := storetest.NewMemory(), newRecorder()
				chat := pim.Direct("ann", "bob")
				var ids []pim.ClientMessageID
				for from := 0; from < n; from += 1000 {
					w := store.Write{Log: inbox.Entries(chat), After: pim.Seq(from)}
					for i := from; i < min(from+1000, n); i++ {
						at := pim.Millis(1_795_000_000_000 + 100*i)
						ids = append(ids, pim.NewClientMessageID(time.UnixMilli(int64(at))))
						w.Records = append(w.Records, wire.AppendEntry(nil, &pim.Entry{
							Seq: pim.Seq(i + 1), Kind: pim.EntryMessage, Sender: "ann", Device: "d",
							ClientID: ids[i], Count: uint64(i + 1), Server: at, Local: at,
						}))
						if i < n-1024 {
							w.Cells = append(w.Cells, store.CellWrite{
								Partition: store.Partition("dedup/" + chat), Lifetime: pim.DedupWindow,
								Cell: store.Cell{Key: string(ids[i][:]), Version: uint64(i + 1)},
							})
						}
					}
					put(t, s, w)
				}
				put(t, s, store.Write{Cells: []store.CellWrite{
					{Partition: store.Partition("dedup/" + chat), Cell: store.Cell{
						Key: "newest", Version: binary.BigEndian.Uint64(ids[n-1025][:]) | 1, Value: binary.BigEndian.AppendUint64(nil, uint64(n-1024)),
					}},
					{Partition: inbox.Fresh("ann"), Cell: inbox.Line{Newest: pim.Seq(n), Count: uint64(n)}.Cell(chat)},
				}})
				now := func() time.Time { return time.UnixMilli(1_795_000_000_000 + 100*int64(n)) }
				w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: now})
				if blind {
					if err := trimsBlindly(t.Context(), s, chat, upTo); err != nil {
						t.Fatal(err)
					}
				} else {
					trimmed(t, w, chat, upTo)
				}
				name := fmt.Sprint(n, " entries, up to ", upTo, ", blindly ", blind, ": ")
				for _, seq := range []int{int(upTo) + 1, n - 1024, n - 1023, n} {
					if seq <= int(upTo) || seq > n {
						continue
					}
					r := message(chat, "ann", "")
					r.ClientID = ids[seq-1]
					if a, err := persist(w, rec, r); err != nil || !a.Duplicate || a.Seq != pim.Seq(seq) {
						t.Errorf("%s message %d sent again: %+v, %v", name, seq, a, err)
					}
				}
				if a, err := persist(w, rec, message(chat, "bob", "")); err != nil || a.Seq != pim.Seq(n+1) || a.Count != uint64(n+1) {
					t.Errorf("%s the next message: %+v, %v", name, a, err)
				}
				w.Close()
			}
		}
	}
}

// A group whose members are too many for a snapshot keeps its owners when the entries that made
// them members are trimmed: whoever is named first by such an entry, not by the alphabet.
func TestOwnersOfATrimmedGroup(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	others := []pim.UserID{"yan", "alice"}
	for i := range 300 {
		others = append(others, pim.UserID(fmt.Sprintf("member-with-a-long-name-%03d", i)))
	}
	do := func(want pim.Kind, r *conv.Request) pim.ConversationID {
		t.Helper()
		a, err := persist(w, rec, r)
		if pim.KindOf(err) != want {
			t.Errorf("%s by %s of %v: %v", r.Kind, r.Sender, r.Members, err)
		}
		w.Close()
		w = conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		return a.Request.Conversation
	}
	g := do(0, inGroup("", pim.EntryCreate, "zed", others...))
	for range 2 {
		trimmed(t, w, g, math.MaxInt64)
		do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "alice", others[5]))
		do(0, inGroup(g, pim.EntryLeave, "zed", others[5]))
		others = others[:5]
		others = append(others, "member-with-a-long-name-004")
	}
	do(0, inGroup(g, pim.EntryLeave, "zed"))
	trimmed(t, w, g, math.MaxInt64)
	do(pim.KindForbidden, inGroup(g, pim.EntryLeave, "alice", "yan"))
	do(0, inGroup(g, pim.EntryLeave, "yan", "alice"))
	w.Close()
}
