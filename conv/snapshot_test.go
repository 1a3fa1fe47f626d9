package conv_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// A writer with hardly any memory loads a conversation for nearly every batch. It gives the
// same answers as a writer that forgets nothing: a client message ID has one effect however
// old the ID is, and anchors are those of the rule. That holds also if writes end with an
// unknown outcome and nodes take over from each other.
func TestEvictionAfterEveryBatch(t *testing.T) {
	n := seeds.First(t)
	step := uint64(1)
	if testing.Short() {
		step = 5 // each rate of failures, and each order of the pace
	}
	for i := uint64(0); i < 12; i += step {
		evictions(t, n+i, []float64{0, 0.15, 0.5}[i%3], time.Duration(1+i*i*i)*time.Millisecond)
	}
}

func evictions(t *testing.T, n uint64, failRate float64, pace time.Duration) {
	rng := rand.New(rand.NewPCG(n, 0))
	var now atomic.Int64
	now.Store(1_795_000_000_000)
	mem, rec := storetest.NewMemory(), newRecorder()
	loose := storetest.Loose(mem, n)
	open := func() *conv.Writers {
		return conv.New(loose, conv.Options{
			Outlet: rec, Shards: 1 + rng.IntN(2), Memory: 1, Logger: quiet(),
			Now: func() time.Time { return time.UnixMilli(now.Load()) },
		})
	}
	w := open()
	create := &conv.Request{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"u1", "u2", "u3", "u4", "u5"}}
	if _, err := persist(w, rec, create); err != nil {
		t.Fatal(err)
	}
	loose.FailRate(failRate)
	chats := []pim.ConversationID{theGroup, pim.Direct("u0", "u1"), pim.Direct("u0", "u2")}
	var sent []*conv.Request
	for range 400 {
		var batch []*conv.Request
		for range 1 + rng.IntN(12) {
			if len(sent) > 0 && rng.IntN(6) == 0 {
				batch = append(batch, sent[rng.IntN(len(sent))])
				continue
			}
			now.Add(rng.Int64N(2 * pace.Milliseconds()))
			r := message(chats[rng.IntN(len(chats))], pim.UserID(fmt.Sprint("u", rng.IntN(2))), "")
			if a, b, ok := r.Conversation.DirectUsers(); ok {
				r.Sender = []pim.UserID{a, b}[rng.IntN(2)]
			}
			made := now.Load() - rng.Int64N(3000)
			if rng.IntN(5) == 0 { // the message waited for a network, or the device's clock is wrong
				made -= rng.Int64N(120_000) - 30_000
			}
			r.ClientID = pim.NewClientMessageID(time.UnixMilli(made))
			if r.Local = pim.Millis(now.Load()); rng.IntN(12) == 0 {
				r.Local -= pim.Millis(rng.Int64N(200_000))
			}
			sent = append(sent, r)
			batch = append(batch, r)
		}
		for i, r := range batch {
			batch[i] = rec.track(r)
		}
		w.Submit(batch)
		for _, r := range batch {
			if a := rec.wait(r); a.Err != nil {
				if _, err := persist(w, rec, r); err != nil {
					t.Fatal(err)
				}
			}
		}
		if rng.IntN(60) == 0 {
			w.Close()
			w = open()
		}
	}
	w.Close()
	checkLogs(t, mem, chats, rec.snapshot())
	for _, c := range chats {
		entries, err := readLog(mem, c)
		if err == nil {
			err = everyLineIsThere(mem, c, entries)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// checkLogs compares the logs with the rules, and with all answers.
func checkLogs(t *testing.T, st store.Store, chats []pim.ConversationID, acked []acknowledged) {
	logs := map[pim.ConversationID][]pim.Entry{}
	for _, c := range chats {
		entries, err := readLog(st, c)
		if err != nil {
			t.Fatal(err)
		}
		logs[c] = entries
		rule := map[pim.UserID]*pim.Anchors{}
		for _, e := range entries {
			if rule[e.Sender] == nil {
				rule[e.Sender] = new(pim.Anchors)
			}
			if want := rule[e.Sender].Next(e.Seq, e.OrderTime(), e.Server); e.Anchor != want {
				t.Fatalf("%s: anchor of seq %d is %d, want %d", c, e.Seq, e.Anchor, want)
			}
		}
	}
	for _, a := range acked {
		if err := isThere(a, logs[a.request.Conversation]); err != nil {
			t.Fatal(err)
		}
	}
}

// reads counts the reads of a store, and the records and cells that they return.
type reads struct {
	store.Store
	calls, records, cells atomic.Int64
	bytes                 atomic.Int64 // of the records
	lasts                 atomic.Int64 // how many of calls read no record, only a log's last seq
}

func (s *reads) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	for i := range reads {
		s.calls.Add(1)
		s.records.Add(int64(len(reads[i].Records)))
		for _, r := range reads[i].Records {
			s.bytes.Add(int64(len(r)))
		}
		if reads[i].Limit == (store.Limit{}) {
			s.lasts.Add(1)
		}
	}
	return err
}

func (s *reads) Get(ctx context.Context, gets []store.Get) error {
	s.calls.Add(int64(len(gets)))
	return s.Store.Get(ctx, gets)
}

func (s *reads) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	cells, err := s.Store.List(ctx, p, after, limit)
	s.calls.Add(1)
	s.cells.Add(int64(len(cells)))
	return cells, err
}

// However long a conversation is and however fast it grew, a load needs the log's last seq and
// two reads, of a bounded part of the conversation.
func TestALoadIsTwoReads(t *testing.T) {
	for _, test := range []struct {
		name    string
		entries int
		batch   int
		pace    time.Duration
		members int
		payload int
		most    int64 // reads, besides the one of the log's end
	}{
		{"new", 0, 1, time.Second, 0, 0, 3}, // two reads are for who blocks whom
		{"young", 40, 1, time.Second, 0, 0, 4},
		{"long, slow", 5000, 1, time.Minute, 0, 0, 2},
		{"long, fast", 20_040, 40, time.Millisecond, 0, 0, 2},
		{"long, in large batches", 20_000, 1000, time.Millisecond, 0, 0, 2},
		{"long messages", 500, 1, time.Second, 0, 10_000, 2},
		{"long messages, in batches", 500, 10, time.Second, 0, 10_000, 2},
		{"group", 5000, 10, 10 * time.Millisecond, 200, 0, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			var now atomic.Int64
			now.Store(1_795_000_000_000)
			st, rec := &reads{Store: storetest.NewMemory()}, newRecorder()
			options := conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return time.UnixMilli(now.Load()) }}
			w := conv.New(st, options)
			chat := pim.Direct("u0", "u1")
			if test.members > 0 {
				create := &conv.Request{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}}
				for i := range test.members {
					create.Members = append(create.Members, pim.UserID(fmt.Sprint("u", i)))
				}
				if _, err := persist(w, rec, create); err != nil {
					t.Fatal(err)
				}
				chat = theGroup
			}
			for i := 0; i < test.entries; i += test.batch {
				batch := make([]*conv.Request, test.batch)
				for j := range batch {
					now.Add(test.pace.Milliseconds())
					r := message(chat, pim.UserID(fmt.Sprint("u", j%2)), "")
					r.Local = pim.Millis(now.Load())
					r.ClientID = pim.NewClientMessageID(time.UnixMilli(now.Load()))
					r.Payload = append(r.Payload, make([]byte, test.payload)...)
					batch[j] = rec.track(r)
				}
				w.Submit(batch)
				for _, r := range batch {
					rec.wait(r)
				}
			}
			w.Close()
			st.calls.Store(0)
			st.lasts.Store(0)
			st.records.Store(0)
			st.bytes.Store(0)
			w = conv.New(st, options)
			defer w.Close()
			now.Add(1)
			last := message(chat, "u1", "")
			last.ClientID, last.Local = pim.NewClientMessageID(time.UnixMilli(now.Load())), pim.Millis(now.Load())
			if _, err := persist(w, rec, last); err != nil {
				t.Fatal(err)
			}
			if n := st.lasts.Load(); n != 1 {
				t.Errorf("the last seq was asked for %d times", n)
			}
			if n := st.calls.Load() - st.lasts.Load(); n > test.most { // it may be less: how requests fall into batches is chance
				t.Errorf("%d reads, want %d at most", n, test.most)
			}
			if n, bytes := st.records.Load(), st.bytes.Load(); n >= 64 || bytes >= 32<<10 {
				t.Errorf("%d entries of %d bytes were read", n, bytes)
			}
		})
	}
}

// An earlier version wrote this log without snapshots. The log's last 1,024 client message
// IDs are in no cell. The older IDs are in cells, except those whose cells the log's last
// append was to write.
func TestLogsWithoutASnapshot(t *testing.T) {
	const recentIDs = 1024
	n := seeds.First(t)
	for i, shape := range []struct{ entries, unkept int }{{100, 0}, {1024, 0}, {1025, 1}, {3000, 0}, {3000, 300}, {30_000, 1000}} {
		rng := rand.New(rand.NewPCG(n, uint64(i)))
		mem, rec := storetest.NewMemory(), newRecorder()
		chat := pim.Direct("u0", "u1")
		var now atomic.Int64
		now.Store(1_795_000_000_000)
		var sent []*conv.Request
		rule := map[pim.UserID]*pim.Anchors{"u0": {}, "u1": {}}
		var append1 []*store.Write
		newest := uint64(0)
		for j := range shape.entries {
			now.Add(rng.Int64N(60))
			at := pim.Millis(now.Load())
			r := message(chat, pim.UserID(fmt.Sprint("u", rng.IntN(2))), "")
			r.ClientID = pim.NewClientMessageID(time.UnixMilli(now.Load()))
			if r.Local = at; rng.IntN(50) == 0 {
				r.Local -= pim.Millis(rng.Int64N(200_000))
			}
			sent = append(sent, r)
			e := pim.Entry{
				Conversation: chat, Seq: pim.Seq(j + 1), Count: uint64(j + 1), Kind: r.Kind, Sender: r.Sender, Device: r.Device,
				ClientID: r.ClientID, Local: r.Local, Server: at,
			}
			e.Anchor = rule[e.Sender].Next(e.Seq, e.OrderTime(), e.Server)
			append1 = append(append1, &store.Write{Log: inbox.Entries(chat), After: pim.Seq(j), Records: [][]byte{wire.AppendEntry(nil, &e)}})
			gone := shape.entries - recentIDs
			if j < gone {
				newest = max(newest, binary.BigEndian.Uint64(r.ClientID[:8])|1)
			}
			if j < gone-shape.unkept {
				append1[j].Cells = []store.CellWrite{{
					Partition: store.Partition("dedup/" + chat), Lifetime: pim.DedupWindow,
					Cell: store.Cell{Key: string(r.ClientID[:]), Version: uint64(j + 1)},
				}}
			}
		}
		if gone := shape.entries - recentIDs; gone > 0 {
			append1[len(append1)-1].Cells = append(append1[len(append1)-1].Cells, store.CellWrite{
				Partition: store.Partition("dedup/" + chat),
				Cell:      store.Cell{Key: "newest", Version: newest, Value: binary.BigEndian.AppendUint64(nil, uint64(gone-shape.unkept))},
			})
		}
		for _, write := range append1 {
			if err := store.Commit(context.Background(), mem, []*store.Write{write}, store.Durable); err != nil {
				t.Fatal(err)
			}
		}
		options := conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return time.UnixMilli(now.Load()) }}
		w := conv.New(mem, options)
		for range 300 {
			j := rng.IntN(len(sent))
			if a, err := persist(w, rec, sent[j]); err != nil || !a.Duplicate || j < shape.entries && a.Seq != pim.Seq(j+1) {
				t.Fatalf("%+v: message %d is answered with %+v, %v", shape, j+1, a, err)
			}
			r := message(chat, pim.UserID(fmt.Sprint("u", rng.IntN(2))), "")
			if r.Local = pim.Millis(now.Load()); rng.IntN(3) == 0 {
				r.Local -= pim.Millis(rng.Int64N(200_000))
			}
			if _, err := persist(w, rec, r); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, r)
			if now.Add(rng.Int64N(300)); rng.IntN(40) == 0 {
				w.Close()
				w = conv.New(mem, options)
			}
		}
		w.Close()
		checkLogs(t, mem, []pim.ConversationID{chat}, rec.snapshot())
	}
}

// halfway is a store that loses the answers to two commits in a row. Of the first commit only
// the append takes effect, of the second one only the snapshot.
type halfway struct {
	store.Store
	left atomic.Int64 // commits until the first of them
}

func (h *halfway) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, h.commit, writes, d, done)
}

func (h *halfway) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	left := h.left.Add(-1)
	if left != 0 && left != -1 {
		return store.Commit(ctx, h.Store, writes, d)
	}
	return unanswered(ctx, h.Store, writes, d, func(w store.Write) store.Write {
		if left == 0 {
			return withCells(w, func(store.CellWrite) bool { return false })
		}
		w.Log, w.Records = "", nil
		return withCells(w, func(c store.CellWrite) bool { return c.Key == "snapshot" })
	})
}

// A snapshot says that all cells that follow from the entries up to it are written. So the
// writer must not take a snapshot before it knows that they are.
func TestASnapshotComesAfterWhatItStandsFor(t *testing.T) {
	for at := int64(85); at < 110; at++ {
		st, rec := &halfway{Store: storetest.NewMemory()}, newRecorder()
		st.left.Store(at)
		chat := pim.Direct("u0", "u1")
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		var sent []*conv.Request
		for range 300 {
			r := message(chat, "u0", "")
			r.ClientID = pim.NewClientMessageID(time.Now().Add(-time.Minute)) // the message waited
			sent = append(sent, r)
			if _, err := persist(w, rec, r); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		for i, r := range sent {
			if a, err := persist(w, rec, r); err != nil || !a.Duplicate || a.Seq != pim.Seq(i+1) {
				t.Fatalf("answers lost from commit %d on: message %d is answered with %+v, %v", at, i+1, a, err)
			}
		}
		w.Close()
	}
}

// A whole batch of the largest messages may follow the snapshot in the log. A load reads all
// of them, in as many reads as it takes.
func TestLoadOfLargeMessages(t *testing.T) {
	st, rec := &watchdog{Store: storetest.NewMemory()}, newRecorder()
	chat := pim.Direct("u0", "u1")
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	var sent []*conv.Request
	for range 192 { // the last batch has 64 messages, 4 MiB
		r := message(chat, "u0", "")
		r.Payload = make([]byte, pim.MaxPayload)
		sent = append(sent, rec.track(r))
	}
	w.Submit(sent)
	for _, r := range sent {
		if a := rec.wait(r); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	w.Close()
	for i := range 3 {
		w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		if a, err := persist(w, rec, message(chat, "u1", "next")); err != nil || a.Seq != pim.Seq(193+i) {
			t.Fatalf("answered with %+v, %v", a, err)
		}
		if a, err := persist(w, rec, sent[150]); err != nil || a.Seq != 151 || !a.Duplicate {
			t.Fatalf("a repeat is answered with %+v, %v", a, err)
		}
		w.Close()
	}
	if n := st.conflicts.Load(); n != 0 {
		t.Errorf("%d appends were made after what is not the log's last entry", n)
	}
}

// The entries behind a snapshot are few bytes, too, however often a conversation is evicted
// from memory and loaded again.
func TestLargeMessagesOfAConversationThatComesAndGoes(t *testing.T) {
	st, rec := &reads{Store: storetest.NewMemory()}, newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Memory: 1, Logger: quiet()})
	defer w.Close()
	for i := range 80 {
		st.records.Store(0)
		r := message(pim.Direct("u0", pim.UserID(fmt.Sprint("u", 1+i%2))), "u0", "")
		r.Payload = make([]byte, 30<<10)
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
		if n := st.records.Load(); n > 4 {
			t.Fatalf("for message %d a load read %d messages of 30 KiB", i, n)
		}
	}
}

// watchdog counts conflicts.
type watchdog struct {
	store.Store
	conflicts atomic.Int64
}

func (s *watchdog) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s *watchdog) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	err := store.Commit(ctx, s.Store, writes, d)
	for _, w := range writes {
		var conflict *store.ConflictError
		if errors.As(w.Err, &conflict) {
			s.conflicts.Add(1)
		}
	}
	return err
}

// A later version changed a group's members by entries behind the snapshot, of a kind that
// this version does not know. The members' cells tell of the change.
func TestMembersOfALaterVersionBehindASnapshot(t *testing.T) {
	mem, rec := storetest.NewMemory(), newRecorder()
	options := conv.Options{Outlet: rec, Shards: 1, Members: 5, Logger: quiet()}
	w := conv.New(mem, options)
	create := &conv.Request{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"u1", "u2", "u3"}}
	if _, err := persist(w, rec, create); err != nil {
		t.Fatal(err)
	}
	last := pim.Seq(1)
	for range 150 {
		a, err := persist(w, rec, message(theGroup, "u0", ""))
		if err != nil {
			t.Fatal(err)
		}
		last = a.Seq
	}
	w.Close()
	banned := inbox.Membership{Periods: []inbox.Period{{From: 1, To: last + 1}}}
	put(t, mem, store.Write{
		Log: inbox.Entries(theGroup), After: last,
		Records: [][]byte{wire.AppendEntry(nil, &pim.Entry{
			Seq: last + 1, Kind: 300, Sender: "u0", Device: "d", ClientID: pim.ClientMessageID{6}, Server: 1, Members: []pim.UserID{"u2"},
		})},
		Cells: []store.CellWrite{{
			Partition: inbox.Members(theGroup), Cell: store.Cell{Key: "u2", Version: uint64(last + 1), Value: banned.Value()},
		}},
	})
	w = conv.New(mem, options)
	defer w.Close()
	if _, err := persist(w, rec, message(theGroup, "u2", "")); pim.KindOf(err) != pim.KindNotMember {
		t.Errorf("who was put out by a later version: %v", err)
	}
	join := message(theGroup, "u0", "")
	join.Kind, join.Members, join.Payload = pim.EntryJoin, []pim.UserID{"u4", "u5"}, nil
	if _, err := persist(w, rec, join); err != nil {
		t.Errorf("there is room for two: %v", err)
	}
}

// For a message of a sender who is refused, the log is not read, however old the message
// claims to be. Only the log's last seq is asked for.
func TestNothingIsReadForWhoIsRefused(t *testing.T) {
	var now atomic.Int64
	now.Store(1_795_000_000_000)
	st, rec := &reads{Store: storetest.NewMemory()}, newRecorder()
	options := conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return time.UnixMilli(now.Load()) }}
	w := conv.New(st, options)
	create := &conv.Request{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"u1"}}
	if _, err := persist(w, rec, create); err != nil {
		t.Fatal(err)
	}
	say := func(from pim.UserID, age time.Duration) error {
		r := message(theGroup, from, "")
		at := time.UnixMilli(now.Load()).Add(-age)
		r.ClientID, r.Local = pim.NewClientMessageID(at), pim.MillisOf(at)
		_, err := persist(w, rec, r)
		return err
	}
	for range 2000 {
		now.Add(50)
		if err := say("u0", 0); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	w = conv.New(st, options)
	defer w.Close()
	if err := say("u1", 0); err != nil { // loads the conversation
		t.Fatal(err)
	}
	leave := message(theGroup, "u1", "")
	leave.Kind, leave.Payload = pim.EntryLeave, nil
	if _, err := persist(w, rec, leave); err != nil {
		t.Fatal(err)
	}
	st.calls.Store(0)
	st.lasts.Store(0)
	for _, age := range []time.Duration{0, time.Second, 40 * time.Second, time.Hour} {
		if err := say("stranger", age); pim.KindOf(err) != pim.KindNotMember {
			t.Errorf("a stranger: %v", err)
		}
	}
	if n := st.calls.Load() - st.lasts.Load(); n != 0 {
		t.Errorf("%d reads for a stranger", n)
	}
	if err := say("u0", 40*time.Second); err != nil || st.calls.Load() == 0 {
		t.Errorf("a member's late message: %v, %d reads", err, st.calls.Load())
	}
}
