package conv_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// watched is a store that holds commits up until open is closed. It notes the sizes of the
// largest writes.
type watched struct {
	store.Store
	open chan struct{}
	drop bool // of groups nothing is kept, and of other conversations no payloads

	mu             sync.Mutex
	records, cells int // the most bytes and the most cells in one write
}

func (x *watched) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, x.commit, writes, d, done)
}

func (x *watched) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	<-x.open
	x.mu.Lock()
	for _, w := range writes {
		bytes := 0
		for _, r := range w.Records {
			bytes += len(r)
		}
		x.records, x.cells = max(x.records, bytes), max(x.cells, len(w.Cells))
	}
	x.mu.Unlock()
	if x.drop {
		writes = lean(writes)
	}
	return store.Commit(ctx, x.Store, writes, d)
}

// largest returns the most bytes and the most cells in one write. Writes may be under way after all requests are answered.
func (x *watched) largest() (records, cells int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.records, x.cells
}

// lean returns writes without those to groups, and without the payloads of messages. A writer
// may look up old entries of its conversation at any time, so the entries must be there.
func lean(writes []*store.Write) (kept []*store.Write) {
	for _, w := range writes {
		c := pim.ConversationID(w.Log)
		if c.IsGroup() {
			continue
		}
		l := *w
		l.Records = nil
		for _, r := range w.Records {
			e, err := wire.ParseEntry(c, r)
			if err != nil {
				panic(err)
			}
			e.Payload = nil
			l.Records = append(l.Records, wire.AppendEntry(nil, &e))
		}
		kept = append(kept, &l)
	}
	return kept
}

// While the disk is stuck, the bytes of the waiting requests are bounded. Afterwards each
// write is small enough for the writes behind it to wait for.
func TestQueueAndWritesAreBounded(t *testing.T) {
	st, rec := &watched{Store: storetest.NewMemory(), open: make(chan struct{}), drop: true}, newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	payload := make([]byte, pim.MaxPayload) // shared by all requests: with the race detector, copies would take gigabytes
	var crowd []pim.UserID
	for i := range pim.MaxGroupMembers - 1 {
		crowd = append(crowd, pim.UserID(fmt.Sprint("u", i)))
	}
	var sent []*conv.Request
	for i := range 5000 {
		r := rec.track(message(pim.Direct("alice", "bob"), "alice", ""))
		if i%10 == 0 {
			r = rec.track(&conv.Request{Kind: pim.EntryCreate, Sender: "eve", ClientID: pim.NewClientMessageID(time.Now())})
			r.Members = slices.Clone(crowd)
		} else {
			r.Payload = payload
		}
		sent = append(sent, r)
		w.Submit([]*conv.Request{r})
	}
	close(st.open)
	taken, bytes := 0, 0
	for _, r := range sent {
		switch a := rec.wait(r); {
		case a.Err == nil:
			taken++
			bytes += len(r.Payload) + 48*len(r.Members)
		case pim.KindOf(a.Err) != pim.KindOverloaded:
			t.Fatal(a.Err)
		}
	}
	records, cells := st.largest()
	t.Logf("%d of %d requests were taken, %d MiB; the largest write had %d KiB and %d cells", taken, len(sent), bytes>>20, records>>10, cells)
	if taken == len(sent) || bytes > 256<<20 || records > 5<<20 || cells > 40_000 {
		t.Error("that is too much")
	}
	again := rec.track(message(pim.Direct("alice", "bob"), "alice", "there is room"))
	w.Submit([]*conv.Request{again})
	if a := rec.wait(again); a.Err != nil {
		t.Error(a.Err)
	}
}

// outletFunc is an Outlet.
type outletFunc func([]conv.Answer)

func (f outletFunc) Deliver(answers []conv.Answer, _ []conv.Published) { f(answers) }

// A driver that has nothing to do keeps no request that it has answered.
func TestIdleDriverKeepsNoRequests(t *testing.T) {
	answered := make(chan struct{}, 1)
	w := conv.New(storetest.NewMemory(), conv.Options{
		Outlet: outletFunc(func([]conv.Answer) { answered <- struct{}{} }), Shards: 1, Logger: quiet(),
	})
	defer w.Close()
	r := message(pim.Direct("alice", "bob"), "alice", "hi")
	kept := weak.Make(r)
	w.Submit([]*conv.Request{r})
	<-answered
	r = nil
	for range 1000 { // the driver may be about to go idle
		if runtime.GC(); kept.Value() == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("it keeps the request")
}
