package route

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
)

// badBus is node a's bus to b, with which something is wrong.
type badBus struct {
	nowhere
	send func(*routepb.Submit) error
}

func (b *badBus) Send(_ string, k bus.Kind, body []byte) error {
	m := new(routepb.Submit)
	if k != bus.KindSubmit || m.UnmarshalVT(body) != nil {
		return nil
	}
	return b.send(m)
}

// oneOfTwo returns the Router of a, whose only other node is b, and what a writes itself.
func oneOfTwo(b bus.Bus) (*Router, *slowWriter) {
	here := &slowWriter{goOn: make(chan struct{}), took: make(chan *conv.Request, 1000)}
	close(here.goOn)
	r := New(Options{Bus: b, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return here }})
	r.changed(viewOf(1, "b"))
	return r, here
}

func message(i int) *conv.Request {
	return &conv.Request{
		Conversation: pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), Sender: "alice", Kind: pim.EntryMessage,
		ClientID: pim.ClientMessageID{1, byte(i)},
	}
}

func receive(t *testing.T, r *Router, m *routepb.Answers) {
	m.Life = r.life
	body, err := m.MarshalVT()
	if err != nil {
		t.Error(err)
	}
	r.receiveAnswers("b", body)
}

// A node that takes nothing and says so each time, since what comes first never arrives, is given up like one that
// is silent. And it is not asked as fast as it answers.
func TestANodeThatMissesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *Router
		var asked atomic.Int64
		r, here := oneOfTwo(&badBus{send: func(m *routepb.Submit) error {
			asked.Add(1)
			missed := &routepb.Missed{Lane: m.Lane, Round: m.Round}
			time.AfterFunc(time.Millisecond, func() { receive(t, r, &routepb.Answers{Missed: missed}) })
			return nil
		}})
		defer r.Close()
		r.Submit([]*conv.Request{message(1)})
		time.Sleep(2*answerWithin + time.Second)
		if len(here.took) != 1 {
			t.Errorf("written here %d times", len(here.took))
		}
		if n := asked.Load(); n > 60 {
			t.Errorf("asked %d times", n)
		}
	})
}

// That the bus takes no more for a moment says nothing of the node: it is not distrusted.
func TestAFullBusIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		var came atomic.Int64
		r, here := oneOfTwo(&badBus{send: func(m *routepb.Submit) error {
			if full.Load() {
				return errors.New("full")
			}
			came.Add(int64(len(m.Requests)))
			return nil
		}})
		defer r.Close()
		for i := range 3 {
			r.Submit([]*conv.Request{message(i)})
		}
		time.Sleep(time.Second)
		full.Store(false)
		time.Sleep(2 * tickEvery)
		if came.Load() != 3 || len(here.took) > 0 {
			t.Errorf("%d requests came to b, %d were written here", came.Load(), len(here.took))
		}
	})
}

// A node that was out of the view at one side only remembers the rounds that it has heard. So they go on when it
// is back, whatever anybody says of rounds that never were.
func TestRoundsNeverBeginAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last routepb.Submit
		r, _ := oneOfTwo(&badBus{send: func(m *routepb.Submit) error {
			last = routepb.Submit{Round: m.Round, Place: m.Place, Lane: m.Lane}
			return nil
		}})
		defer r.Close()
		r.Submit([]*conv.Request{message(1)})
		r.gap("b")
		time.Sleep(time.Second)
		r.gap("b")
		heard := last.Round
		for i, far := range []uint64{0, 1<<64 - 1} {
			receive(t, r, &routepb.Answers{Missed: &routepb.Missed{Lane: last.Lane, Round: far}})
			time.Sleep(tickEvery)
			r.changed(viewOf(1))
			r.changed(viewOf(1, "b"))
			r.Submit([]*conv.Request{message(2 + i)})
			if last.Round <= heard {
				t.Errorf("round %d after %d", last.Round, heard)
			}
			heard = last.Round
		}
	})
}

// What is sent again is no first transmission any more, and older than its client said: a writer whose clock was set
// puts a first transmission behind all that its sender has written.
func TestWhatIsSentAgainSaysSo(t *testing.T) {
	for _, c := range []struct{ first, again pim.Sending }{
		{pim.Sending{Attempt: 1}, pim.Sending{Attempt: 2, Age: 2000}},
		{pim.Sending{Attempt: 3, Age: 500}, pim.Sending{Attempt: 4, Age: 2500}},
		{pim.Sending{}, pim.Sending{}}, // the client does not say
		{pim.Sending{Attempt: 2}, pim.Sending{Attempt: 2}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &wiretap{sent: make(chan string, 100)}
			r := New(Options{Bus: b, Gateway: told{make(chan conv.Answer, 100)}, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
			defer r.Close()
			b.see(r, viewOf(1, "b"))
			chat := chatOf(t, "b", viewOf(1, "b"))
			r.Submit([]*conv.Request{{
				Conversation: chat, Sender: "alice", Kind: pim.EntryMessage, ClientID: pim.ClientMessageID{1}, Attempt: c.first.Attempt, Age: c.first.Age,
			}})
			expect(t, b, "b false")
			if m := b.last.Requests[0]; m.Attempt != c.first.Attempt || m.AgeMs != int64(c.first.Age) {
				t.Errorf("sent first as attempt %d, %d ms old, and not %+v", m.Attempt, m.AgeMs, c.first)
			}
			b.see(r, viewOf(2, "b")) // its process has been started again
			time.Sleep(answerWithin + time.Millisecond)
			expect(t, b, "b false")
			if m := b.last.Requests[0]; m.Attempt != c.again.Attempt || m.AgeMs != int64(c.again.Age) {
				t.Errorf("sent again as attempt %d, %d ms old, and not %+v", m.Attempt, m.AgeMs, c.again)
			}
		})
	}
}
