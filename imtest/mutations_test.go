package imtest_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// These tests show what the checker notices. Each server is broken in one way, from
// outside, by a wrapper between two of its parts. When the same script is played to a
// sound server, the checker finds nothing.

var chat = pim.Direct("alice", "bob")

// caught expects that invariants[0] is broken, and that no invariant is broken that is
// not in invariants.
func caught(t *testing.T, h *imtest.History, invariants ...string) {
	t.Helper()
	found := imtest.Check(h)
	first := false
	for _, v := range found {
		t.Log(v)
		first = first || v.Invariant == invariants[0]
		if !slices.Contains(invariants, v.Invariant) {
			t.Errorf("%s was not broken", v.Invariant)
		}
	}
	if !first {
		t.Errorf("%s was broken, and it was not noticed", invariants[0])
	}
}

// soundAndBroken plays a script to a sound and to a broken server.
func soundAndBroken(t *testing.T, script func(t *testing.T, broken bool) *imtest.History, invariants ...string) {
	t.Parallel()
	t.Run("sound", func(t *testing.T) { nothingFound(t, script(t, false)) })
	t.Run("broken", func(t *testing.T) { caught(t, script(t, true), invariants...) })
}

// The server acknowledges while the disk is still writing; then the power fails.
func TestMutationAckBeforeCommit(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		disk := &slowDisk{impatient: broken, waiting: make(chan struct{}, 1)}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: server.Options{WrapStore: disk.wrap}})
		alice, bob := lab.User("alice"), lab.User("bob")
		alice.Sends(chat, "one")
		bob.Sees("one")
		resume := disk.stall()
		t.Cleanup(resume)
		alice.Sends(chat, "two")
		<-disk.waiting
		if broken {
			lab.Settled() // alice is told that it is safe
		}
		lab.Crash(resume)
		alice.Sends(chat, "three")
		return lab.Finish()
	}, "I1", "I2", "I3", "I4", "I7", "fold") // I2: alice's phone notices that the message is gone, and sends it again
}

// slowDisk makes appends wait while it is stalled. If it is impatient, the append waits
// in the background, and its caller goes on at once.
type slowDisk struct {
	impatient bool
	waiting   chan struct{} // gets a value when an append begins to wait

	mu      sync.Mutex
	stalled chan struct{} // nil: it is not slow now
}

// stall makes the disk slow; the function that it returns ends that.
func (d *slowDisk) stall() (resume func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stalled := make(chan struct{})
	d.stalled = stalled
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stalled = nil
		close(stalled)
	})
}

func (d *slowDisk) wrap(s store.Store) store.Store { return slowStore{s, d} }

type slowStore struct {
	store.Store
	disk *slowDisk
}

func (s slowStore) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s slowStore) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	s.disk.mu.Lock()
	stalled := s.disk.stalled
	s.disk.mu.Unlock()
	if stalled == nil || d == store.Relaxed {
		return store.Commit(ctx, s.Store, writes, d)
	}
	select {
	case s.disk.waiting <- struct{}{}:
	default:
	}
	if !s.disk.impatient {
		<-stalled
		return store.Commit(ctx, s.Store, writes, d)
	}
	var later []*store.Write
	for _, w := range writes {
		records := make([][]byte, len(w.Records))
		for i := range records {
			records[i] = slices.Clone(w.Records[i])
		}
		v := *w
		v.Records, v.Cells = records, slices.Clone(w.Cells)
		later = append(later, &v)
	}
	go func() {
		<-stalled
		_ = store.Commit(context.WithoutCancel(ctx), s.Store, later, d)
	}()
	return nil
}

// The server shows alice that bob has read what she wrote while the disk is still writing that. Then
// the power fails, and bob loses his phone.
func TestMutationReceiptBeforeRead(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		disk := &slowDisk{waiting: make(chan struct{}, 1)}
		o := server.Options{WrapStore: disk.wrap}
		if broken {
			o.WrapStore = func(s store.Store) store.Store { return readsFirst{disk.wrap(s), s} }
		}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: o})
		alice, bob := lab.User("alice"), lab.User("bob")
		alice.Sends(chat, "one")
		bob.Sees("one")
		lab.Settled()
		resume := disk.stall()
		t.Cleanup(resume)
		bob.Reads(chat, "one")
		<-disk.waiting
		alice.Asks(chat)
		bob.Disconnects()
		lab.Crash(resume)
		bob.LosesStorage()
		return lab.Finish()
	}, "receipts")
}

// readsFirst is a store that writes how far users have read before the rest of a write.
type readsFirst struct {
	store.Store
	disk store.Store // below the rest
}

func (s readsFirst) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s readsFirst) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	for _, w := range writes {
		for _, c := range w.Cells {
			if c.Partition == inbox.Reads(chat) {
				if err := store.Commit(ctx, s.disk, []*store.Write{{Cells: []store.CellWrite{c}}}, store.Relaxed); err != nil {
					return err
				}
			}
		}
	}
	return store.Commit(ctx, s.Store, writes, d)
}

// The server does not recognise a message that it has already. Every request comes
// twice, as after an answer that was lost.
func TestMutationNoDeduplication(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		o := server.Options{WrapWriter: func(w gateway.Writer) gateway.Writer { return resends{w} }}
		if broken {
			f := &forgetful{ids: make(map[pim.ClientMessageID]pim.ClientMessageID)}
			o.WrapWriter = func(w gateway.Writer) gateway.Writer { return resends{renamingWriter{w, f}} }
			o.WrapStore = func(s store.Store) store.Store { return renamingStore{s, f} }
			o.WrapOutlet = func(out conv.Outlet) conv.Outlet { return renamingOutlet{out, f} }
		}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: o})
		alice, bob := lab.User("alice"), lab.User("bob")
		alice.Sends(chat, "one")
		bob.Sees("one")
		return lab.Finish()
	}, "I2")
}

// resends submits every request twice.
type resends struct{ gateway.Writer }

func (w resends) Submit(requests []*conv.Request) {
	var twice []*conv.Request
	for _, r := range requests {
		again := *r
		twice = append(twice, r, &again)
	}
	w.Writer.Submit(twice)
}

// forgetful hides from the writer that a message came before: the writer sees a new ID
// in each request, everybody else sees the ID that the message was sent with.
type forgetful struct {
	mu  sync.Mutex
	n   byte
	ids map[pim.ClientMessageID]pim.ClientMessageID // new → sent with
}

type renamingWriter struct {
	gateway.Writer
	*forgetful
}

func (w renamingWriter) Submit(requests []*conv.Request) {
	w.mu.Lock()
	for _, r := range requests {
		w.n++
		id := r.ClientID
		id[15] ^= w.n
		w.ids[id] = r.ClientID
		r.ClientID = id
	}
	w.mu.Unlock()
	w.Writer.Submit(requests)
}

type renamingStore struct {
	store.Store
	*forgetful
}

func (s renamingStore) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

// commit puts the IDs back into the records, which are also what is pushed.
func (s renamingStore) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	s.mu.Lock()
	for _, w := range writes {
		for _, record := range w.Records {
			for id, sent := range s.ids {
				if i := bytes.Index(record, id[:]); i >= 0 {
					copy(record[i:], sent[:])
					break
				}
			}
		}
	}
	s.mu.Unlock()
	return store.Commit(ctx, s.Store, writes, d)
}

type renamingOutlet struct {
	conv.Outlet
	*forgetful
}

func (o renamingOutlet) Deliver(answers []conv.Answer, pushes []conv.Published) {
	o.mu.Lock()
	for _, a := range answers {
		if sent, ok := o.ids[a.Request.ClientID]; ok {
			a.Request.ClientID = sent
		}
	}
	o.mu.Unlock()
	o.Outlet.Deliver(answers, pushes)
}

// The server leaves out a seq: after 1 comes 3.
func TestMutationSkippedSeq(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		o := imtest.LabOptions{NoLog: true, DropPushes: 1}
		if broken {
			o.Break.WrapOutlet = func(out conv.Outlet) conv.Outlet { return skippingOutlet{out} }
			o.Break.WrapReader = func(r gateway.Reader) gateway.Reader { return skippingReader{r} }
		}
		lab := imtest.NewLab(t, o)
		alice := lab.User("alice")
		for _, text := range []string{"one", "two", "three"} {
			alice.Sends(chat, text)
		}
		lab.Settled()
		lab.User("bob").Sees("three")
		return lab.Finish()
	}, "I3", "I1", "receipts") // the offline lists are not told of it
}

// skipped returns the seq that the broken server shows for the entry that it stores at
// seq; stored is the reverse.
func skipped(seq pim.Seq) pim.Seq {
	if seq >= 2 {
		seq++
	}
	return seq
}

func stored(seq pim.Seq) pim.Seq {
	if seq >= 2 {
		seq--
	}
	return seq
}

type skippingOutlet struct{ conv.Outlet }

// Deliver changes the answers. The pushes need no change, because all are dropped.
func (o skippingOutlet) Deliver(answers []conv.Answer, pushes []conv.Published) {
	for i := range answers {
		answers[i].Seq, answers[i].Anchor = skipped(answers[i].Seq), skipped(answers[i].Anchor)
	}
	o.Outlet.Deliver(answers, pushes)
}

type skippingReader struct{ gateway.Reader }

func (r skippingReader) Sync(ctx context.Context, req inbox.SyncRequest) (inbox.SyncPage, error) {
	page, err := r.Reader.Sync(ctx, req)
	for i := range page.Summaries {
		s := &page.Summaries[i]
		s.Newest, s.Last = skipped(s.Newest), nil
	}
	return page, err
}

func (r skippingReader) Pull(ctx context.Context, u pim.UserID, req inbox.PullRequest) (inbox.Page, error) {
	req.From, req.To = stored(req.From), stored(req.To)
	page, err := r.Reader.Pull(ctx, u, req)
	page.From, page.To, page.Newest = skipped(page.From), skipped(page.To), skipped(page.Newest)
	for i := range page.Entries {
		e, err := wire.ParseEntry(req.Conversation, page.Entries[i].Data)
		if err != nil {
			return page, err
		}
		e.Seq, e.Anchor = skipped(e.Seq), skipped(e.Anchor)
		page.Entries[i] = inbox.Encoded{Seq: e.Seq, Data: wire.AppendEntry(nil, &e)}
	}
	return page, err
}

// The server tells no fronts but those of what a list names.
func TestMutationFrontsAreNotTold(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		var o server.Options
		if broken {
			o.WrapReader = func(r gateway.Reader) gateway.Reader { return frontless{r} }
		}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: o})
		alice, bob := lab.User("alice"), lab.User("bob")
		for i := range 4 {
			alice.Sends(chat, fmt.Sprint("old ", i))
		}
		bob.Sees("old 3")
		lab.Settled()
		lab.Trims(chat, 2)
		return lab.Finish()
	}, "trim")
}

type frontless struct{ gateway.Reader }

func (r frontless) Sync(ctx context.Context, req inbox.SyncRequest) (inbox.SyncPage, error) {
	page, err := r.Reader.Sync(ctx, req)
	page.Fronts = nil
	return page, err
}

// Bob is connected and misses two mentions of him, which are trimmed before his phone finds the gap.
// The server does not say what was in it.
func TestMutationTrimmedGapTellsNothing(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		var lost atomic.Bool // pushes are, while it is set
		o := server.Options{WrapOutlet: func(out conv.Outlet) conv.Outlet { return pushless{out, &lost} }}
		if broken {
			o.WrapReader = func(r gateway.Reader) gateway.Reader { return lineless{r} }
		}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: o})
		alice, bob := lab.User("alice"), lab.User("bob")
		alice.Mentions(chat, "one", "bob")
		bob.Sees("one")
		lost.Store(true)
		alice.Mentions(chat, "two", "bob")
		alice.Mentions(chat, "three", "bob")
		lab.Trims(chat, 3)
		lost.Store(false)
		alice.Sends(chat, "four")
		bob.Sees("four")
		return lab.Finish()
	}, "mentions")
}

type pushless struct {
	conv.Outlet
	lost *atomic.Bool
}

func (o pushless) Deliver(answers []conv.Answer, pushes []conv.Published) {
	if o.lost.Load() {
		pushes = nil
	}
	o.Outlet.Deliver(answers, pushes)
}

type lineless struct{ gateway.Reader }

func (r lineless) Pull(ctx context.Context, u pim.UserID, req inbox.PullRequest) (inbox.Page, error) {
	page, err := r.Reader.Pull(ctx, u, req)
	page.Line = inbox.Line{}
	return page, err
}

// The server counts from the front of a log that was trimmed.
func TestMutationTrimShiftsCounts(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		var o server.Options
		if broken {
			o.WrapReader = func(r gateway.Reader) gateway.Reader { return fromFront{r} }
		}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: o})
		alice := lab.User("alice")
		for range 4 {
			alice.Sends(chat, "old")
		}
		lab.Trims(chat, 2)
		alice.Sends(chat, "new")
		lab.Settled()
		lab.User("bob").Sees("new")
		return lab.Finish()
	}, "unread", "I3")
}

type fromFront struct{ gateway.Reader }

func (r fromFront) Sync(ctx context.Context, req inbox.SyncRequest) (inbox.SyncPage, error) {
	page, err := r.Reader.Sync(ctx, req)
	for i := range page.Summaries {
		if s := &page.Summaries[i]; s.Front > 1 {
			s.Count -= uint64(s.Front - 1)
		}
	}
	return page, err
}

func (r fromFront) Pull(ctx context.Context, u pim.UserID, req inbox.PullRequest) (inbox.Page, error) {
	page, err := r.Reader.Pull(ctx, u, req)
	for i := range page.Entries {
		e, err := wire.ParseEntry(req.Conversation, page.Entries[i].Data)
		if err != nil {
			return page, err
		}
		if page.Front > 1 {
			e.Count -= uint64(page.Front - 1)
		}
		page.Entries[i].Data = wire.AppendEntry(nil, &e)
	}
	return page, err
}

// The server acknowledges without having written bob's offline list.
func TestMutationLostOfflineList(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		var o server.Options
		if broken {
			o.WrapStore = func(s store.Store) store.Store { return losing{s, inbox.Fresh("bob")} }
		}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: o})
		alice, bob := lab.User("alice"), lab.User("bob")
		bob.CatchesUp()
		alice.Sends(chat, "one") // bob is online: the push hides it
		bob.Sees("one")
		bob.Disconnects()
		alice.Sends(chat, "two") // and now there is no push
		return lab.Finish()
	}, "I1", "I4", "unread")
}

// losing is a store that drops what is written to one partition.
type losing struct {
	store.Store
	lost store.Partition
}

func (s losing) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s losing) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	for _, w := range writes {
		w.Cells = slices.DeleteFunc(w.Cells, func(c store.CellWrite) bool { return c.Partition == s.lost })
	}
	return store.Commit(ctx, s.Store, writes, d)
}

// The server assumes that everything it pushed has arrived, and answers pulls with no
// entries. But the pushes were lost, and no summary in its sync says that a pull is not
// needed.
func TestMutationPushInPlaceOfPull(t *testing.T) {
	soundAndBroken(t, func(t *testing.T, broken bool) *imtest.History {
		o := imtest.LabOptions{DropPushes: 1}
		if broken {
			o.Break.WrapReader = func(r gateway.Reader) gateway.Reader { return trusting{r} }
		}
		lab := imtest.NewLab(t, o)
		alice, bob := lab.User("alice"), lab.User("bob")
		alice.CatchesUp()
		bob.CatchesUp()
		alice.Sends(chat, "one")
		return lab.Finish()
	}, "I5", "I4", "I1")
}

type trusting struct{ gateway.Reader }

func (r trusting) Sync(ctx context.Context, req inbox.SyncRequest) (inbox.SyncPage, error) {
	page, err := r.Reader.Sync(ctx, req)
	for i := range page.Summaries {
		page.Summaries[i].Whole = false
	}
	return page, err
}

func (r trusting) Pull(ctx context.Context, u pim.UserID, req inbox.PullRequest) (inbox.Page, error) {
	page, err := r.Reader.Pull(ctx, u, req)
	page.Entries = nil
	return page, err
}
