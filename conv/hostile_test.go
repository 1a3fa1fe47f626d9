package conv_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Whatever users do, the conversations in memory stay within their bound, by the counted
// weight and by the size of the heap. The users write in large groups with clocks that
// differ, in bursts, with client message IDs of any time, change settings, and begin very
// many conversations of few messages. Conversations that were evicted from memory are still
// in order, and no message occurs twice in a log.
func TestMemoryIsBoundedWhateverComes(t *testing.T) {
	const bound = 4 << 20
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	st := storetest.NewMemory() // which does nothing by itself: what compactions take up would be in the heap, too
	defer st.Close()
	var clock atomic.Int64
	clock.Store(1_795_000_000_000)
	rec, registry := newRecorder(), prometheus.NewRegistry()
	w := conv.New(st, conv.Options{
		Outlet: rec, Memory: bound, Metrics: conv.NewMetrics(registry), Logger: quiet(),
		Now: func() time.Time { return time.UnixMilli(clock.Load()) },
	})

	groups := make([]pim.ConversationID, 30)
	crowd := make([]pim.UserID, 300)
	for i := range crowd {
		crowd[i] = pim.UserID(fmt.Sprint("member", i))
	}
	for i := range groups {
		create := &conv.Request{Kind: pim.EntryCreate, Sender: crowd[0], ClientID: pim.ClientMessageID{1, byte(i)}, Members: crowd[1:]}
		if _, err := persist(w, rec, create); err != nil {
			t.Fatal(err)
		}
		groups[i] = pim.NewGroup(create.Sender, create.ClientID)
	}
	var sent []*conv.Request
	n := uint64(0)
	next := func(c pim.ConversationID, from pim.UserID) *conv.Request {
		n++
		r := message(c, from, "x")
		// A device's clock is wrong by up to a minute, always by as much.
		r.Local = pim.Millis(clock.Load() + int64(from[len(from)-1])*9_973%60_000 - 30_000)
		at := clock.Load() - rng.Int64N(2_000)
		if rng.IntN(20) == 0 {
			at -= rng.Int64N(10 * 24 * 3_600_000) // no clock made this ID
		}
		r.ClientID = pim.NewClientMessageID(time.UnixMilli(at))
		if rng.IntN(50) == 0 {
			sent = append(sent, r)
		}
		return r
	}
	chats := append([]pim.ConversationID(nil), groups[:3]...)
	rounds := 60
	if testing.Short() {
		rounds = 15 // fill the memory several times
	}
	for round := range rounds {
		clock.Add(rng.Int64N(3_000))
		var batch []*conv.Request
		add := func(r *conv.Request) { batch = append(batch, rec.track(r)) }
		for range 100 {
			add(next(groups[rng.IntN(len(groups))], crowd[rng.IntN(len(crowd))]))
		}
		for i := range 100 {
			add(next(pim.Direct("a", pim.UserID(fmt.Sprint("b", round*100+i))), "a"))
		}
		burst := pim.Direct("c", pim.UserID(fmt.Sprint("d", round%5)))
		for range 100 {
			add(next(burst, "c"))
		}
		if round < 5 {
			chats = append(chats, burst)
		}
		user := pim.UserID(fmt.Sprint("e", round))
		for i := range 10 {
			r := next(pim.Own(user), user)
			r.Kind = pim.EntryCommand
			r.Payload = wire.AppendCommand(nil, &pim.Command{Kind: pim.CommandContact, Subject: fmt.Sprint("f", i), Value: make([]byte, 4096)})
			add(r)
		}
		w.Submit(batch)
		for _, r := range batch {
			if a := rec.wait(r); a.Err != nil {
				if _, err := persist(w, rec, r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	counted := gauge(t, registry, "pim_conversations_live_bytes")
	for range 3_000 { // the driver shrinks after it has answered
		if counted <= bound {
			break
		}
		time.Sleep(10 * time.Millisecond)
		counted = gauge(t, registry, "pim_conversations_live_bytes")
	}
	if counted > bound || counted < bound/2 {
		t.Errorf("%.0f bytes are counted, of %d", counted, bound)
	}
	with := heap()
	for _, r := range sent { // loads the evicted conversations
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
	}
	checkLogs(t, st, chats, rec.of(chats))
	w.Close()
	w, registry = nil, nil
	took := with - heap()
	t.Logf("%d bytes of the heap, %.0f counted, %d are allowed", took, counted, bound)
	if took > bound*3/2 { // what a conversation weighs is counted roughly
		t.Error("the heap has more than that")
	}
	runtime.KeepAlive(sent)
	runtime.KeepAlive(rec)
	runtime.KeepAlive(chats)
}

// heap returns the bytes of the heap that are in use.
func heap() int {
	runtime.GC()
	runtime.GC() // a pool's contents survive one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
