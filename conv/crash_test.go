package conv_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/wire"
)

// crashPoints is the number of crashes that TestCrash checks.
const crashPoints = 2000

// Users write to direct conversations and to a group that people join and leave.
// At random moments the computer loses its power: data that was written and not
// synced is kept or lost at random. After each crash these hold: every entry that was
// acknowledged before is in the log, at its seq, and in the offline list of everyone who
// reads it; logs are dense; no client message ID occurs twice; and sending acknowledged
// requests again adds nothing. In half of the runs conversations are evicted from memory
// after every batch. In every sixteenth run one conversation is so long that a part of the
// index of its client message IDs is in a cell.
func TestCrash(t *testing.T) {
	const clones = 20
	first, n := seeds.Schedules(t, seeds.Many(crashPoints)/clones, "")
	work := make(chan uint64)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for s := range work {
				crashRun(t, s, clones)
			}
		})
	}
	for s := first; s < first+n; s++ {
		work <- s
	}
	close(work)
	wg.Wait()
}

func crashRun(t *testing.T, seed uint64, clones int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewCrashableMem()
	st := openPebble(t, fs)
	rec := newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 2, Memory: rng.IntN(2)}) // 0: the default
	if seed%16 == 0 {
		for range 24 {
			writeMany(w, rec, 340)
		}
		oldest := string(binary.BigEndian.AppendUint64([]byte{'i', 0}, 1))
		if _, ok, err := store.Lookup(context.Background(), st, store.Partition("dedup/"+pim.Direct("u0", "u1")), oldest); err != nil || !ok {
			t.Errorf("the oldest part of the index is not in a cell: %v", err)
		}
	}
	stop := make(chan struct{})
	var users sync.WaitGroup
	for i := range 6 {
		r := rand.New(rand.NewPCG(seed, uint64(i+2)))
		users.Go(func() { writeUntil(stop, w, rec, pim.UserID(fmt.Sprint("u", i)), r) })
	}
	type crash struct {
		fs    vfs.FS
		acked []acknowledged
	}
	var crashes []crash
	for range clones {
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Microsecond)
		acked := rec.snapshot() // before the crash: all of it must survive
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		crashes = append(crashes, crash{clone, acked})
	}
	close(stop)
	users.Wait()
	w.Close()
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range crashes {
		if err := checkCrashed(t, c.fs, c.acked); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func openPebble(t *testing.T, fs vfs.FS) *pebble.Store {
	st, err := pebble.Open("data", pebble.Options{FS: fs, MemTableBytes: 256 << 10, CacheBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// writeMany writes n messages to a direct conversation in one batch of requests.
func writeMany(w *conv.Writers, rec *recorder, n int) {
	batch := make([]*conv.Request, n)
	for i := range batch {
		batch[i] = rec.track(message(pim.Direct("u0", "u1"), "u0", ""))
	}
	w.Submit(batch)
	for _, r := range batch {
		rec.wait(r)
	}
}

// writeUntil sends one request after the other until stop is closed: mostly messages, now and
// then a change of the group, sometimes the request before again.
func writeUntil(stop chan struct{}, w *conv.Writers, rec *recorder, user pim.UserID, rng *rand.Rand) {
	var last *conv.Request
	for {
		select {
		case <-stop:
			return
		default:
		}
		batch := make([]*conv.Request, 1+rng.IntN(8))
		for i := range batch {
			r := randomRequest(user, rng)
			if last != nil && rng.IntN(10) == 0 {
				again := *last
				if r = &again; r.Kind == pim.EntryCreate {
					r.Conversation = "" // the writer chose the conversation's ID
				}
			}
			last = rec.track(r)
			batch[i] = last
		}
		w.Submit(batch)
		for _, r := range batch {
			rec.wait(r)
		}
	}
}

var theGroup = pim.NewGroup("u0", pim.ClientMessageID{1})

func randomRequest(user pim.UserID, rng *rand.Rand) *conv.Request {
	r := &conv.Request{
		Kind: pim.EntryMessage, Sender: user, Device: "d", ClientID: pim.NewClientMessageID(time.Now()),
		Local: pim.MillisOf(time.Now()), Payload: make([]byte, rng.IntN(200)),
	}
	other := pim.UserID(fmt.Sprint("u", rng.IntN(6)))
	switch rng.IntN(12) {
	case 0:
		r.Kind, r.Conversation, r.Members, r.Payload = pim.EntryLeave, theGroup, []pim.UserID{user}, nil
	case 1, 2:
		r.Kind, r.Conversation, r.Members, r.Payload = pim.EntryJoin, theGroup, []pim.UserID{other}, nil
	case 3, 4, 5:
		r.Conversation = theGroup
	case 6:
		if user == "u0" {
			r.Kind, r.ClientID, r.Members = pim.EntryCreate, pim.ClientMessageID{1}, []pim.UserID{"u1", "u2", "u3", "u4", "u5"}
			return r
		}
		fallthrough
	default:
		r.Conversation = pim.Direct(user, other)
	}
	return r
}

// checkCrashed opens the store that a crash left behind, and compares it with what had been
// acknowledged.
func checkCrashed(t *testing.T, fs vfs.FS, acked []acknowledged) error {
	st := openPebble(t, fs)
	defer st.Close()
	logs := map[pim.ConversationID][]pim.Entry{}
	for _, a := range acked {
		c := a.request.Conversation
		if _, read := logs[c]; !read {
			entries, err := readLog(st, c)
			if err != nil {
				return err
			}
			logs[c] = entries
		}
		if err := isThere(a, logs[c]); err != nil {
			return err
		}
	}
	for c, entries := range logs {
		if err := everyLineIsThere(st, c, entries); err != nil {
			return err
		}
	}
	return sendAgain(st, acked, logs)
}

func readLog(st store.Store, c pim.ConversationID) ([]pim.Entry, error) {
	ctx := context.Background()
	var entries []pim.Entry
	ids := map[pim.ClientMessageID]bool{}
	for {
		records, err := store.ReadLog(ctx, st, inbox.Entries(c), pim.Seq(len(entries)+1), 0, store.Limit{Records: 1000, Bytes: 1 << 20})
		if err != nil {
			return nil, err
		}
		if len(records) == 0 {
			break
		}
		for _, data := range records {
			e, err := wire.ParseEntry(c, data)
			if err != nil {
				return nil, err
			}
			if e.Seq != pim.Seq(len(entries)+1) {
				return nil, fmt.Errorf("%s: seq %d where %d belongs", c, e.Seq, len(entries)+1)
			}
			if ids[e.ClientID] {
				return nil, fmt.Errorf("%s: client message ID %s stands twice", c, e.ClientID)
			}
			ids[e.ClientID] = true
			entries = append(entries, e)
		}
	}
	last, _, err := store.LogEnd(ctx, st, inbox.Entries(c))
	if err == nil && last != pim.Seq(len(entries)) {
		err = fmt.Errorf("%s: %d entries, the last is %d", c, len(entries), last)
	}
	return entries, err
}

func isThere(a acknowledged, entries []pim.Entry) error {
	c := a.request.Conversation
	if a.answer.Seq > pim.Seq(len(entries)) {
		return fmt.Errorf("%s: acknowledged seq %d is lost, the log ends at %d", c, a.answer.Seq, len(entries))
	}
	e := entries[a.answer.Seq-1]
	if e.ClientID != a.request.ClientID || e.Anchor != a.answer.Anchor || e.Server != a.answer.Server {
		return fmt.Errorf("%s: seq %d was acknowledged as %+v and is %+v", c, e.Seq, a.answer, e)
	}
	return nil
}

// everyLineIsThere derives from the log's entries how far each user reads, and what each has read
// by writing or joining, and checks that the user's line says so.
func everyLineIsThere(st store.Store, c pim.ConversationID, entries []pim.Entry) error {
	want := map[pim.UserID]inbox.Line{}
	if a, b, ok := c.DirectUsers(); ok {
		want[a], want[b] = inbox.Line{}, inbox.Line{}
	}
	for i := range entries {
		e := &entries[i]
		mark := inbox.Mark{Own: e.Seq, OwnCount: e.Count}
		if e.Kind == pim.EntryMessage {
			want[e.Sender] = inbox.Line{Mark: mark}
		}
		for _, u := range e.Members {
			if e.Kind == pim.EntryLeave {
				mark = want[u].Mark
			}
			want[u] = inbox.Line{Left: e.Kind == pim.EntryLeave, Mark: mark}
		}
		for u, line := range want {
			if !line.Left || line.Newest == 0 {
				line.Newest, line.Count, line.Time = e.Seq, e.Count, e.Time()
				want[u] = line
			}
		}
	}
	for u, to := range want {
		line, _, err := inbox.New(st).Line(context.Background(), u, c)
		if err != nil {
			return err
		}
		if line != to {
			return fmt.Errorf("%s: the line of %s is %+v, the log says %+v", c, u, line, to)
		}
	}
	return nil
}

// sendAgain sends the first and the latest requests again, as clients would after the
// restart. It checks that each request gets its first answer.
func sendAgain(st store.Store, acked []acknowledged, logs map[pim.ConversationID][]pim.Entry) error {
	rec := newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 2})
	defer w.Close()
	const each = 100
	if len(acked) > 2*each {
		acked = append(acked[:each:each], acked[len(acked)-each:]...)
	}
	again := make([]*conv.Request, len(acked))
	for i, a := range acked {
		r := *a.request
		if r.Kind == pim.EntryCreate {
			r.Conversation = ""
		}
		again[i] = rec.track(&r)
	}
	w.Submit(again)
	for i, r := range again {
		got, want := rec.wait(r), acked[i].answer
		if got.Err != nil || !got.Duplicate || got.Seq != want.Seq || got.Server != want.Server || got.Anchor != want.Anchor {
			return fmt.Errorf("%s: answered with seq %d first, with %+v when sent again", r.Conversation, want.Seq, got)
		}
	}
	for c, before := range logs {
		after, err := readLog(st, c)
		if err != nil {
			return err
		}
		if len(after) != len(before) {
			return fmt.Errorf("%s: sending again added %d entries", c, len(after)-len(before))
		}
	}
	return nil
}
