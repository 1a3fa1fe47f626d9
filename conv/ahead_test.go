package conv_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// appendCounter counts the appends to a store, and the reads of entries.
type appendCounter struct {
	store.Store
	appends, records int // one driver at a time
}

func (c *appendCounter) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if len(w.Records) > 0 {
			c.appends++
		}
	}
	c.Store.Begin(ctx, writes, d, done)
}

func (c *appendCounter) Read(ctx context.Context, reads []store.Read) error {
	err := c.Store.Read(ctx, reads)
	for i := range reads {
		c.records += len(reads[i].Records)
	}
	return err
}

// Messages that have waited for long need look-ups, since an entry may have their IDs that is not
// remembered. They are looked up together and appended together, and what was sent before is found
// among them, once more in the log or once more in the queue.
func TestMessagesThatWaitedAreAppendedTogether(t *testing.T) {
	const old, waiting = 12_000, 200
	st, rec := &appendCounter{Store: storetest.NewMemory()}, newRecorder()
	now := time.UnixMilli(1_795_000_000_000)
	options := conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return now }}
	w := conv.New(st, options)
	send := func(n int, what func(i int) *conv.Request) (sent []*conv.Request, answers []conv.Answer) {
		for i := range n {
			sent = append(sent, rec.track(what(i)))
		}
		w.Submit(sent)
		for _, r := range sent {
			a := rec.wait(r)
			if a.Err != nil {
				t.Fatal(a.Err)
			}
			answers = append(answers, a)
		}
		return sent, answers
	}
	fresh := func(int) *conv.Request {
		r := message("d:alice:bob", "alice", "x")
		r.ClientID, r.Local = pim.NewClientMessageID(now), pim.MillisOf(now)
		return r
	}
	var first *conv.Request
	for range old / 500 {
		sent, _ := send(500, fresh)
		if first == nil {
			first = sent[0]
		}
	}
	w.Close()
	w = conv.New(st, options)
	defer w.Close()

	appends, records := st.appends, st.records
	twice := fresh(0)
	again := func(r *conv.Request) *conv.Request {
		return &conv.Request{
			Conversation: r.Conversation, Kind: r.Kind, Sender: r.Sender, Device: r.Device, ClientID: r.ClientID, Local: r.Local, Payload: r.Payload,
		}
	}
	_, answers := send(waiting, func(i int) *conv.Request {
		switch i {
		case 10, 150:
			return again(twice)
		case 100:
			return again(first)
		}
		return fresh(i)
	})
	seq := pim.Seq(old)
	for i, a := range answers {
		switch i {
		case 100:
			if !a.Duplicate || a.Seq != 1 {
				t.Errorf("the log's first message is answered with %+v", a)
			}
		case 150:
			if !a.Duplicate || a.Seq != old+11 {
				t.Errorf("what is in the queue twice is answered with %+v", a)
			}
		default:
			if seq++; a.Duplicate || a.Seq != seq {
				t.Fatalf("message %d is answered with %+v, want seq %d", i, a, seq)
			}
		}
	}
	if n := st.appends - appends; n > 5 {
		t.Errorf("%d messages were appended in %d batches", waiting, n)
	}
	if n := st.records - records; n > 3*old {
		t.Errorf("%d entries were read for %d messages", n, waiting)
	}
}

// delayed is a store each of whose calls takes a while, whatever it is asked for.
type delayed struct {
	store.Store
	each atomic.Int64 // a time.Duration
}

func (s *delayed) wait() { time.Sleep(time.Duration(s.each.Load())) }

func (s *delayed) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	writes = slices.Clone(writes) // the caller's
	go func() {
		s.wait()
		s.Store.Begin(context.WithoutCancel(ctx), writes, d, done)
	}()
}

func (s *delayed) Read(ctx context.Context, reads []store.Read) error {
	s.wait()
	return s.Store.Read(ctx, reads)
}

func (s *delayed) Get(ctx context.Context, gets []store.Get) error {
	s.wait()
	return s.Store.Get(ctx, gets)
}

// While the store is slow, devices send again what has no answer yet, some of which stands in the log. A conversation with
// hundreds of such requests comes through them before those who asked give up (15 s, see package route), however many calls of the store there would
// be if each was looked up by itself. Otherwise all answers would come too late, for as long as devices send again.
func TestWhatIsSentAgainIsAnsweredInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages, copies, within = 80, 3, 15 * time.Second
		st, rec := &delayed{Store: storetest.NewMemory()}, newRecorder()
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		defer w.Close()
		written := func(n int, waited time.Duration) (all []*conv.Request) {
			for range n {
				made := time.Now().Add(-waited)
				r := message("d:alice:bob", "alice", "x")
				r.ClientID, r.Local, r.Attempt, r.Age = pim.NewClientMessageID(made), pim.MillisOf(made), 2, pim.Millis(waited.Milliseconds())
				all = append(all, r)
			}
			return all
		}
		send := func(all []*conv.Request) (sent []*conv.Request) {
			for _, r := range all {
				sent = append(sent, rec.track(r))
			}
			w.Submit(sent)
			return sent
		}
		fresh, late := written(messages, 0), written(messages, time.Minute) // the latter are found by cells of their own
		seqs := make(map[pim.ClientMessageID]pim.Seq)
		for _, r := range send(slices.Concat(late, fresh)) {
			a := rec.wait(r)
			if a.Err != nil {
				t.Fatal(a.Err)
			}
			seqs[r.ClientID] = a.Seq
		}
		time.Sleep(time.Minute)
		for _, r := range send(written(messages, 0)) { // now the others are no longer remembered
			rec.wait(r)
		}

		st.each.Store(int64(300 * time.Millisecond))
		begun := time.Now()
		all := slices.Concat(late, fresh, written(messages, 40*time.Second))
		var sent []*conv.Request
		for range copies {
			sent = append(sent, send(all)...)
		}
		again := 0
		for _, r := range sent {
			a := rec.wait(r)
			seq, before := seqs[r.ClientID]
			if a.Err != nil || a.Duplicate != before || before && a.Seq != seq {
				t.Fatalf("%v is answered with %+v, and stands at seq %d", r.ClientID, a, seq)
			}
			seqs[r.ClientID] = a.Seq
			if before {
				again++
			}
		}
		if took := time.Since(begun); took > within {
			t.Errorf("%d requests, of which %d were sent again, took %v, want %v at most", len(sent), again, took, within)
		}
		if len(seqs) != 3*messages {
			t.Errorf("%d messages, want %d", len(seqs), 3*messages)
		}
	})
}
