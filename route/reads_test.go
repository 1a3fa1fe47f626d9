package route

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
)

// readingWriter takes 5 ms for each command, as writers do that read from a store.
type readingWriter struct {
	mu    sync.Mutex
	began time.Time
	took  map[pim.UserID][]byte // the client message IDs' first bytes, in order
	last  map[pim.EntryKind]time.Duration
}

func (w *readingWriter) Submit(requests []*conv.Request) {
	for _, r := range requests {
		if r.Kind == pim.EntryCommand {
			time.Sleep(5 * time.Millisecond)
		}
		w.mu.Lock()
		w.took[r.Sender] = append(w.took[r.Sender], r.ClientID[0])
		w.last[r.Kind] = time.Since(w.began)
		w.mu.Unlock()
	}
}

// A thousand users of another node each send a message, a read command and a message. Nobody waits for the reads of
// all the others, and what each one sends stays in order.
func TestReadCommandsOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &readingWriter{began: time.Now(), took: make(map[pim.UserID][]byte), last: make(map[pim.EntryKind]time.Duration)}
		r := New(Options{Bus: &answers{said: make(chan *routepb.Answers, 100)}, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return w }})
		defer r.Close()
		const users = 1000
		submit := func(place uint64, kind pim.EntryKind) {
			m := routepb.Submit{Life: 1, Place: place}
			for i := range uint64(users) {
				u := fmt.Sprint("u", i)
				q := &routepb.Request{Number: place*users + i, Sender: u, Kind: uint32(kind), Conversation: "u:" + u, ClientId: make([]byte, 16)}
				q.ClientId[0] = byte(place)
				m.Requests = append(m.Requests, q)
			}
			body, err := m.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			r.receiveSubmit("b", body)
		}
		submit(0, pim.EntryMessage)
		submit(1, pim.EntryCommand)
		submit(2, pim.EntryMessage)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i := range users {
			u := pim.UserID(fmt.Sprint("u", i))
			if got := w.took[u]; !slices.Equal(got, []byte{0, 1, 2}) {
				t.Fatalf("of %s came %v", u, got)
			}
		}
		if took := w.last[pim.EntryMessage]; took > 300*time.Millisecond {
			t.Errorf("the last message came after %v", took)
		}
		for i := range r.slow {
			if q := &r.slow[i]; q.busy || len(q.senders) > 0 {
				t.Errorf("left in a queue: %v", q.senders)
			}
		}
		if left := r.peers["b"].slow.Load(); left != 0 {
			t.Errorf("%d bytes are left over", left)
		}
	})
}

// Four thousand users of this node send the same, and after four seconds it is written here in place of a node that says nothing.
// Nobody waits for the reads of all the others of the lane: that would take more than a second.
func TestReadCommandsInPlaceOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &readingWriter{began: time.Now(), took: make(map[pim.UserID][]byte), last: make(map[pim.EntryKind]time.Duration)}
		b := new(smallBus)
		r := New(Options{Bus: b, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return w }})
		defer r.Close()
		r.changed(b.View())
		const users = 4000
		for place, kind := range []pim.EntryKind{pim.EntryMessage, pim.EntryCommand, pim.EntryMessage} {
			for i := range users {
				u := pim.UserID(fmt.Sprint("u", i))
				r.Submit([]*conv.Request{{Sender: u, Kind: kind, Conversation: pim.Own(u), ClientID: pim.ClientMessageID{byte(place)}}})
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i := range users {
			u := pim.UserID(fmt.Sprint("u", i))
			if got := w.took[u]; !slices.Equal(got, []byte{0, 1, 2}) {
				t.Fatalf("of %s came %v", u, got)
			}
		}
		if took := w.last[pim.EntryMessage]; took < 4*time.Second || took > 5*time.Second {
			t.Errorf("the last message came after %v", took)
		}
		for _, l := range r.lanes {
			if n := l.queued.Load(); n != 0 {
				t.Errorf("%d are still to be written", n)
			}
		}
	})
}

// What waits for the reads of a node's users is bounded, in bytes and in time, and what is not taken is refused.
func TestReadCommandsAreBounded(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes int           // of each
		takes time.Duration // the first one
		kind  pim.Kind      // of the second one's refusal
	}{
		{"in bytes", peerBytes / 2, time.Second, pim.KindOverloaded},
		{"in time", 1, stale + time.Second, pim.KindUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := &slowWriter{goOn: make(chan struct{}), took: make(chan *conv.Request, 10)}
				b := &answers{said: make(chan *routepb.Answers, 10)}
				r := New(Options{Bus: b, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return slow }})
				defer r.Close()
				for i := range uint64(2) {
					q := &routepb.Request{Number: i + 1, Sender: "alice", Conversation: "u:alice", Kind: uint32(pim.EntryCommand)}
					q.Payload = make([]byte, c.bytes)
					body, err := (&routepb.Submit{Life: 1, Place: i, Requests: []*routepb.Request{q}}).MarshalVT()
					if err != nil {
						t.Fatal(err)
					}
					r.receiveSubmit("b", body)
					synctest.Wait()
				}
				time.Sleep(c.takes)
				close(slow.goOn)
				a := <-b.said
				if len(a.Answers) != 1 || a.Answers[0].Number != 2 || a.Answers[0].Failure.GetKind() != uint32(c.kind) {
					t.Errorf("said %v", a.Answers)
				}
				synctest.Wait()
				if len(slow.took) != 1 || r.peers["b"].slow.Load() != 0 {
					t.Errorf("%d were written, and %d bytes are left", len(slow.took), r.peers["b"].slow.Load())
				}
				if _, there := r.peers["b"].underWay[2]; there {
					t.Error("what was refused is under way")
				}
			})
		})
	}
}
