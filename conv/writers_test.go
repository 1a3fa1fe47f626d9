package conv_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/store/storetest"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func message(c pim.ConversationID, from pim.UserID, text string) *conv.Request {
	return &conv.Request{
		Conversation: c, Kind: pim.EntryMessage, Sender: from, Device: "d",
		ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()), Payload: []byte(text),
	}
}

// persist sends r until it is acknowledged, as a client does.
func persist(w *conv.Writers, rec *recorder, r *conv.Request) (conv.Answer, error) {
	for range 1000 {
		sent := rec.track(r)
		w.Submit([]*conv.Request{sent})
		a := rec.wait(sent)
		if a.Err == nil || !pim.KindOf(a.Err).Retryable() {
			return a, a.Err
		}
	}
	return conv.Answer{}, errors.New("a thousand tries failed")
}

// A distributed engine may fail before, between or after the parts of a write, and nobody
// knows which. Clients that send again still get one entry for each message, whole offline
// lists, and the same answer every time.
func TestUnknownOutcomes(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(40), "")
	for seed := first; seed < first+n; seed++ {
		unknownOutcomes(t, seed)
	}
}

func unknownOutcomes(t *testing.T, n uint64) {
	mem := storetest.NewMemory()
	loose := storetest.Loose(mem, n)
	loose.FailRate(0.3)
	rec := newRecorder()
	w := conv.New(loose, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()})
	defer w.Close()
	create := &conv.Request{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"u1", "u2", "u3", "u4", "u5"}}
	if _, err := persist(w, rec, create); err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for i := range 6 {
		users.Go(func() {
			rng := rand.New(rand.NewPCG(n, uint64(i)))
			for range 150 {
				r := randomRequest(pim.UserID(fmt.Sprint("u", i)), rng)
				if r.Kind == pim.EntryCreate {
					continue
				}
				first, err := persist(w, rec, r)
				if err != nil {
					continue // the sender was not a member then, or the request changed nothing
				}
				again, err := persist(w, rec, r)
				if err != nil || again.Seq != first.Seq || again.Server != first.Server || !again.Duplicate {
					t.Errorf("answered with %+v first and %+v then, %v", first, again, err)
				}
			}
		})
	}
	users.Wait()
	checked := map[pim.ConversationID]bool{}
	for _, a := range rec.snapshot() {
		c := a.request.Conversation
		entries, err := readLog(mem, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := isThere(a, entries); err != nil {
			t.Fatal(err)
		}
		if !checked[c] {
			checked[c] = true
			if err := everyLineIsThere(mem, c, entries); err != nil {
				t.Error(err)
			}
		}
	}
}

// An append that pushes IDs out of the recent ones also writes cells for them. I2 holds for
// these IDs, too, when nobody knows whether the cells were written.
func TestUnknownOutcomesOfLongLogs(t *testing.T) {
	const recentIDs = 1024
	n := seeds.First(t)
	for i := range uint64(10) {
		mem, rec := storetest.NewMemory(), newRecorder()
		loose := storetest.Loose(mem, n+i)
		w := conv.New(loose, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		chat := pim.Direct("alice", "bob")
		var sent []*conv.Request
		for j := range recentIDs {
			sent = append(sent, message(chat, "alice", fmt.Sprint(j)))
		}
		for _, r := range sent {
			if _, err := persist(w, rec, r); err != nil {
				t.Fatal(err)
			}
		}
		loose.FailRate(0.3)
		rng := rand.New(rand.NewPCG(n, i))
		for range 100 {
			if rng.IntN(10) == 0 { // another node takes over, at any time
				w.Close()
				w = conv.New(loose, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
			}
			if _, err := persist(w, rec, message(chat, "bob", "more")); err != nil {
				t.Fatal(err)
			}
		}
		for j, r := range sent[:110] {
			if a, err := persist(w, rec, r); err != nil || !a.Duplicate || a.Seq != pim.Seq(j+1) {
				t.Errorf("seed %d: message %d is answered with %+v, %v", n+i, j+1, a, err)
			}
		}
		w.Close()
		if _, err := readLog(mem, chat); err != nil {
			t.Error(err)
		}
	}
}

// I7: two writers of one conversation cause retries, never a wrong log.
func TestTwoWritersOfOneConversation(t *testing.T) {
	mem := storetest.NewMemory()
	chat := pim.Direct("alice", "bob")
	var writers sync.WaitGroup
	var recs []*recorder
	for i := range 2 {
		rec := newRecorder()
		recs = append(recs, rec)
		w := conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		writers.Go(func() {
			defer w.Close()
			for j := range 300 {
				if _, err := persist(w, rec, message(chat, "alice", fmt.Sprint(i, " ", j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	entries, err := readLog(mem, chat)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 600 {
		t.Errorf("%d entries for 600 messages", len(entries))
	}
	for _, a := range slices.Concat(recs[0].snapshot(), recs[1].snapshot()) {
		if err := isThere(a, entries); err != nil {
			t.Error(err)
		}
	}
}

// I2 holds for older messages than a writer keeps in memory, and over restarts.
func TestOldMessagesAreKnownAfterARestart(t *testing.T) {
	fs := vfs.NewMem()
	st := openPebble(t, fs)
	chat := pim.Direct("alice", "bob")
	rec := newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1})
	var sent []*conv.Request
	for i := range 2500 {
		sent = append(sent, message(chat, "alice", fmt.Sprint(i)))
	}
	for batch := range slices.Chunk(sent, 100) {
		tracked := make([]*conv.Request, len(batch))
		for i, r := range batch {
			tracked[i] = rec.track(r)
		}
		w.Submit(tracked)
		for _, r := range tracked {
			if a := rec.wait(r); a.Err != nil {
				t.Fatal(a.Err)
			}
		}
	}
	for round := range 2 {
		for _, i := range []int{0, 1, 1000, 1475, 1476, 1477, 2499} {
			a, err := persist(w, rec, sent[i])
			if err != nil || !a.Duplicate || a.Seq != pim.Seq(i+1) {
				t.Errorf("round %d: message %d is answered with %+v, %v", round, i, a, err)
			}
		}
		w.Close()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		st = openPebble(t, fs)
		w = conv.New(st, conv.Options{Outlet: rec, Shards: 1})
	}
	w.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// A message is sent again and comes into the batch whose entries push its ID out of the
// recent ones, while the ID's cell is under way. It is still one entry.
func TestRepeatInTheBatchThatForgetsIt(t *testing.T) {
	const recentIDs = 1024
	mem, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	chat := pim.Direct("alice", "bob")
	var sent []*conv.Request
	for i := range recentIDs {
		sent = append(sent, rec.track(message(chat, "alice", fmt.Sprint(i))))
	}
	w.Submit(sent)
	for _, r := range sent {
		rec.wait(r)
	}
	batch := []*conv.Request{rec.track(message(chat, "bob", "new")), rec.track(sent[0]), rec.track(sent[1])}
	w.Submit(batch)
	for i, want := range []pim.Seq{recentIDs + 1, 1, 2} {
		if a := rec.wait(batch[i]); a.Err != nil || a.Seq != want || a.Duplicate != (i > 0) {
			t.Errorf("request %d of the batch is answered with %+v, want seq %d", i, a, want)
		}
	}
	if _, err := readLog(mem, chat); err != nil {
		t.Error(err)
	}
}

func TestForeignClientMessageID(t *testing.T) {
	rec := newRecorder()
	w := conv.New(storetest.NewMemory(), conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	chat := pim.Direct("alice", "bob")
	hers := message(chat, "alice", "hers")
	his := message(chat, "bob", "his")
	his.ClientID = hers.ClientID
	if _, err := persist(w, rec, hers); err != nil {
		t.Fatal(err)
	}
	if _, err := persist(w, rec, his); pim.KindOf(err) != pim.KindConflict {
		t.Errorf("refused with %v", err)
	}
}

// The same message twice in one batch is one entry.
func TestRepeatWithinABatch(t *testing.T) {
	rec := newRecorder()
	w := conv.New(storetest.NewMemory(), conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	r := message(pim.Direct("alice", "bob"), "alice", "once")
	batch := []*conv.Request{rec.track(r), rec.track(r), rec.track(r)}
	w.Submit(batch)
	for i, r := range batch {
		if a := rec.wait(r); a.Err != nil || a.Seq != 1 || a.Duplicate != (i > 0) {
			t.Errorf("transmission %d is answered with %+v", i, a)
		}
	}
}

func TestSubmitRefuses(t *testing.T) {
	rec := newRecorder()
	w := conv.New(storetest.NewMemory(), conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	ok := message(pim.Direct("alice", "bob"), "alice", "x")
	with := func(change func(*conv.Request)) *conv.Request {
		r := *ok
		change(&r)
		return &r
	}
	for _, test := range []struct {
		name string
		r    *conv.Request
		want pim.Kind
	}{
		{"no client message ID", with(func(r *conv.Request) { r.ClientID = pim.ClientMessageID{} }), pim.KindInvalid},
		{"payload too large", with(func(r *conv.Request) { r.Payload = make([]byte, pim.MaxPayload+1) }), pim.KindTooLarge},
		{"no conversation", with(func(r *conv.Request) { r.Conversation = "x" }), pim.KindInvalid},
		{"unknown kind", with(func(r *conv.Request) { r.Kind = 99 }), pim.KindUnsupported},
		{"create with an ID", with(func(r *conv.Request) { r.Kind = pim.EntryCreate }), pim.KindInvalid},
		{"join of nobody", with(func(r *conv.Request) { r.Kind = pim.EntryJoin; r.Conversation = "g:x" }), pim.KindInvalid},
		{"leave a direct conversation", with(func(r *conv.Request) { r.Kind = pim.EntryLeave }), pim.KindInvalid},
	} {
		sent := rec.track(test.r)
		w.Submit([]*conv.Request{sent})
		if a := rec.wait(sent); pim.KindOf(a.Err) != test.want {
			t.Errorf("%s: refused with %v, want %v", test.name, a.Err, test.want)
		}
	}
	w.Close()
	sent := rec.track(ok)
	w.Submit([]*conv.Request{sent})
	if a := rec.wait(sent); pim.KindOf(a.Err) != pim.KindUnavailable {
		t.Errorf("after Close: %v", a.Err)
	}
}

// However and wherever the disk fails, everything that was acknowledged is there afterwards.
func TestFailingDisk(t *testing.T) {
	n := seeds.First(t)
	for _, fault := range []struct {
		name string
		err  error
		on   []errorfs.OpKind
	}{
		{"full", syscall.ENOSPC, []errorfs.OpKind{errorfs.OpFileWrite}},
		{"write fails", errors.New("injected: write"), []errorfs.OpKind{errorfs.OpFileWrite}},
		{"fsync fails", errors.New("injected: fsync"), []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			hit, runs := 0, seeds.Many(40)
			for i := range runs {
				if failingDisk(t, rand.New(rand.NewPCG(n, uint64(i))), fault.err, fault.on) {
					hit++
				}
			}
			if hit < runs/4 {
				t.Errorf("the fault was met in %d of %d runs", hit, runs)
			}
		})
	}
}

func failingDisk(t *testing.T, rng *rand.Rand, fault error, on []errorfs.OpKind) (hit bool) {
	mem := vfs.NewCrashableMem()
	countdown := 20 + rng.IntN(200)
	var mu sync.Mutex
	broken := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !slices.Contains(on, op.Kind) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if countdown--; countdown > 0 {
			return nil
		}
		return fault
	}))
	st, err := pebble.Open("data", pebble.Options{FS: broken, MemTableBytes: 256 << 10, CacheBytes: 1 << 20, Logger: quiet()})
	if err != nil {
		return false // the store did not even start
	}
	rec := newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()})
	refused := 0
	for i := 0; i < 2000 && refused < 20; i++ {
		r := rec.track(message(pim.Direct("u0", pim.UserID(fmt.Sprint("u", i%5))), "u0", "x"))
		w.Submit([]*conv.Request{r})
		if a := rec.wait(r); a.Err != nil {
			refused++
			if !pim.KindOf(a.Err).Retryable() {
				t.Errorf("refused with %v, which tells the client to give up", a.Err)
			}
		}
	}
	if refused > 0 && st.Health() == nil {
		t.Error("nothing can be written, and the store says that it is well")
	}
	w.Close()
	st.Close() // fails because the disk does
	acked := rec.snapshot()
	clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	if err := checkCrashed(t, clone, acked); err != nil {
		t.Error(err)
	}
	return refused > 0
}
