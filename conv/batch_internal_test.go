package conv

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/pim-im/pim"
)

// A request takes one of Go's size classes of 352 bytes. There may be 65,536 of them waiting
// for each driver.
func TestRequestIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Request{}); n > 352 {
		t.Errorf("%d bytes", n)
	}
}

// use takes n batches out of the pool, fills each with 64 entries, and puts them back.
func (p *batchPool) use(n int) {
	var used []*batch
	for range n {
		b := p.get()
		for len(b.entries) < 64 {
			b.entries = append(b.entries, pim.Entry{})
		}
		used = append(used, b)
	}
	for _, b := range used {
		p.put(b)
	}
}

// A busy driver has nothing under way many times a second. It keeps the batches that it has
// needed, so that it allocates none for the next messages. A driver that is busy no more keeps few.
func TestBusyDriversKeepTheirBatches(t *testing.T) {
	var p batchPool
	p.use(16)
	p.shrink()
	if n := testing.AllocsPerRun(100, func() {
		p.use(16)
		p.shrink()
	}); n > 5 { // those of use
		t.Errorf("%v allocations for 16 batches", n)
	}
	for range 2 {
		p.use(1)
		p.shrink()
	}
	if p.room > idleBytes {
		t.Errorf("an idle driver keeps %d bytes", p.room)
	}
}

// longest is an Outlet that notes how much is pushed at a time.
type longest struct {
	accepting
	group                pim.ConversationID
	entries, pushes, all int // in one batch, at most; and the entries of all batches
}

func (o *longest) Deliver(answers []Answer, pushes []Published) {
	o.accepting.Deliver(answers, pushes)
	for _, p := range pushes {
		o.group = p.Conversation
		o.entries = max(o.entries, len(p.Entries))
		o.pushes = max(o.pushes, len(p.Entries)*len(p.Members))
		o.all += len(p.Entries)
	}
}

// However many messages wait for a group, its members are pushed few of them at a time. The
// messages of two people, who wait as long, are written together.
func TestBatchesOfLargeGroupsAreShort(t *testing.T) {
	for _, x := range []struct{ members, entries int }{{2, batchRequests}, {200, batchPushes / 200}, {500, batchLeast}} {
		st := benchStore(t, t.TempDir())
		out := &longest{accepting: accepting{t}}
		w := New(st, Options{Outlet: out, Shards: 1})
		var members []pim.UserID
		for i := range x.members {
			members = append(members, pim.UserID(fmt.Sprint("u", i)))
		}
		create := message("", members[0], 1, 1)
		create.Kind, create.Members, create.Payload = pim.EntryCreate, members[1:], nil
		w.Submit([]*Request{create})
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		const n = 2*batchRequests + 1
		var messages []*Request
		for i := range n {
			messages = append(messages, message(out.group, members[i%x.members], uint64(i+2), pim.Millis(i+2)))
		}
		w.Submit(messages)
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Close()
		st.Close()
		if out.all != n+1 || out.entries != x.entries || out.pushes > max(batchPushes, batchLeast*x.members) {
			t.Errorf("%d members: %d entries at a time, want %d; %d pushes; %d entries in all", x.members, out.entries, x.entries, out.pushes, out.all)
		}
	}
}
