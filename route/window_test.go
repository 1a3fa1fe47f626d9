package route

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
)

// smallBus is a bus to node b. It holds what it is sent until take takes it, up to 16 MiB, and loses what is beyond that.
type smallBus struct {
	nowhere
	mu     sync.Mutex
	bodies [][]byte
	bytes  int
	most   int // bytes at a time
	lost   int // messages
}

func (*smallBus) View() *bus.View {
	return &bus.View{Nodes: []bus.Node{
		{Name: "a", Run: 1, Weight: 1, Roles: bus.RoleGateway}, {Name: "b", Run: 1, Weight: 1, Roles: bus.RoleWriter},
	}}
}

func (s *smallBus) Send(_ string, _ bus.Kind, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+len(body) > 16<<20 {
		s.lost++
		return pim.Errorf(pim.KindUnavailable, "the bus is full")
	}
	s.bytes += len(body)
	s.most = max(s.most, s.bytes)
	s.bodies = append(s.bodies, append([]byte(nil), body...))
	return nil
}

func (s *smallBus) take() (all []*routepb.Submit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, body := range s.bodies {
		m := new(routepb.Submit)
		if err := m.UnmarshalVT(body); err != nil {
			panic(err)
		}
		all = append(all, m)
	}
	s.bodies, s.bytes = nil, 0
	return all
}

// counting is an Outlet that counts the answers by their errors.
type counting struct {
	mu      sync.Mutex
	answers map[string]int
}

func (c *counting) Deliver(answers []conv.Answer, _ []conv.Published) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		c.answers[fmt.Sprint(a.Err)]++
	}
}

// with returns how many answers with an error there were, and how many in all.
func (c *counting) with(err error) (some, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.answers {
		all += n
	}
	return c.answers[fmt.Sprint(err)], all
}

// 60 MiB wait for a node. Never more than 8 MiB of them are under way, also after a gap, so the bus, which takes 16 MiB,
// loses nothing. What each user has sent goes in its order, and all of it is answered.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, outlet := new(smallBus), &counting{answers: make(map[string]int)}
		r := New(Options{Bus: b, Gateway: outlet, Home: discard{}})
		defer r.Close()
		r.changed(b.View())
		const users, each = 200, 10
		for i := range users * each {
			u := pim.UserID(fmt.Sprint("user", i%users))
			r.Submit([]*conv.Request{{
				Conversation: pim.Direct(u, "bob"), Sender: u, Kind: pim.EntryMessage, Payload: make([]byte, 30<<10),
				ClientID: pim.ClientMessageID{byte(i / users)},
			}})
		}
		held := r.waiting.Load()
		if held != users*each || r.bytes.Load() < 58<<20 {
			t.Fatalf("%d wait, of %d bytes", held, r.bytes.Load())
		}
		check := func(what string) {
			if b.most > 8<<20 || b.lost > 0 {
				t.Fatalf("%s: %d bytes under way, %d messages lost", what, b.most, b.lost)
			}
		}
		check("at first")
		if b.most < 7<<20 {
			t.Fatalf("the window is not used: %d bytes", b.most)
		}
		for range 3 { // all that is under way is lost
			b.take()
			time.Sleep(tickEvery)
			r.gap("b")
			check("after a gap")
		}
		next := make(map[string]byte) // of each user
		for answered := 0; answered < users*each; {
			all := b.take()
			if len(all) == 0 {
				t.Fatalf("%d of %d were sent and answered, and nothing more comes", answered, users*each)
			}
			for _, m := range all {
				a := routepb.Answers{Life: m.Life}
				for _, q := range m.Requests {
					if q.ClientId[0] != next[q.Sender] {
						t.Fatalf("of %s came the message %d where %d belongs", q.Sender, q.ClientId[0], next[q.Sender])
					}
					next[q.Sender]++
					a.Answers = append(a.Answers, &routepb.Answer{Number: q.Number, Seq: 1})
				}
				body, err := a.MarshalVT()
				if err != nil {
					t.Fatal(err)
				}
				r.receiveAnswers("b", body)
				answered += len(m.Requests)
			}
			check("while answers come")
		}
		if n, all := outlet.with(nil); n != users*each || all != n || r.waiting.Load() != 0 {
			t.Errorf("of %d answers %d are good, and %d wait", all, n, r.waiting.Load())
		}
		for _, l := range r.lanes {
			for _, n := range l.nodes {
				if n.flying != 0 || n.held != 0 {
					t.Errorf("%d bytes are under way at the end, %d requests wait", n.flying, n.held)
				}
			}
		}
	})
}

// What waits for a window goes elsewhere if its node is silent, and is given up in time.
func TestWindowOfASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, outlet := new(smallBus), &counting{answers: make(map[string]int)}
		r := New(Options{Bus: b, Gateway: outlet, Home: discard{}})
		defer r.Close()
		r.changed(b.View())
		for i := range 100 {
			r.Submit([]*conv.Request{{
				Conversation: pim.Direct("alice", "bob"), Sender: "alice", Kind: pim.EntryMessage, Attempt: uint32(i), Payload: make([]byte, 30<<10),
			}})
		}
		time.Sleep(giveUp - time.Second)
		synctest.Wait()
		if _, all := outlet.with(nil); all > 0 {
			t.Errorf("%d were answered too early", all)
		}
		if b.lost > 0 {
			t.Errorf("%d messages were too much for the bus", b.lost)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n, all := outlet.with(errNoAnswer); n != 100 || all != n || r.waiting.Load() != 0 {
			t.Errorf("of %d answers %d were given up, and %d wait", all, n, r.waiting.Load())
		}
	})
}
