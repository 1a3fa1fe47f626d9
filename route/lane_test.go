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
	"github.com/pim-im/pim/placement"
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
	for _, c := range []struct {
		first, again pim.Sending
		wait         int64
	}{
		{pim.Sending{Attempt: 1}, pim.Sending{Attempt: 2, Age: 2000}, 700},
		{pim.Sending{Attempt: 3, Age: 500}, pim.Sending{Attempt: 4, Age: 2500}, 700},
		{pim.Sending{}, pim.Sending{}, 2700}, // the client does not say
		{pim.Sending{Attempt: 2}, pim.Sending{Attempt: 2}, 2700},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &wiretap{sent: make(chan string, 100)}
			r := New(Options{Bus: b, Gateway: told{make(chan conv.Answer, 100)}, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
			defer r.Close()
			b.see(r, viewOf(1, "b"))
			chat := chatOf(t, "b", viewOf(1, "b"))
			r.Submit([]*conv.Request{{
				Conversation: chat, Sender: "alice", Kind: pim.EntryMessage, ClientID: pim.ClientMessageID{1}, Attempt: c.first.Attempt, Age: c.first.Age,
				Came: time.Now().Add(-700 * time.Millisecond),
			}})
			expect(t, b, "b false")
			if m := b.last.Requests[0]; m.Attempt != c.first.Attempt || m.AgeMs != int64(c.first.Age) || m.WaitMs != 700 {
				t.Errorf("sent first as attempt %d, %d ms old, and not %+v", m.Attempt, m.AgeMs, c.first)
			}
			b.see(r, viewOf(2, "b")) // its process has been started again
			time.Sleep(answerWithin + time.Millisecond)
			expect(t, b, "b false")
			if m := b.last.Requests[0]; m.Attempt != c.again.Attempt || m.AgeMs != int64(c.again.Age) || m.AgeMs+m.WaitMs != int64(c.again.Age)+c.wait {
				t.Errorf("sent again as attempt %d, %d ms old, and not %+v", m.Attempt, m.AgeMs, c.again)
			}
		})
	}
}

// What another node says of how long a request has waited there counts for the writers here, within bounds.
func TestHowLongARequestWaitedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := &slowWriter{goOn: make(chan struct{}), took: make(chan *conv.Request, 10)}
		close(here.goOn)
		r := New(Options{Bus: nowhere{}, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return here }})
		defer r.Close()
		for i, said := range []int64{0, 1500, -7, 1 << 62} {
			m := routepb.Submit{Life: 1, Place: uint64(i), Requests: []*routepb.Request{{Number: uint64(i) + 1, Conversation: "d:alice:bob", WaitMs: said}}}
			body, err := m.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			r.receiveSubmit("b", body)
			want := min(max(said, 0), maxWait)
			if got := time.Since((<-here.took).Came).Milliseconds(); got != want {
				t.Errorf("%d ms are said, and it has waited %d ms, want %d", said, got, want)
			}
		}
	})
}

// refusing is a writer that refuses everything.
type refusing struct {
	out conv.Outlet
	err error
}

func (w refusing) Submit(requests []*conv.Request) {
	for _, r := range requests {
		if r.Kind == pim.EntryCreate {
			r.Conversation = pim.NewGroup(r.Sender, r.ClientID)
		}
		w.out.Deliver([]conv.Answer{{Request: r, Err: w.err}}, nil)
	}
}

// What a node refuses to its own connections because of its clock goes to another node, and is refused if that one refuses it as
// well. What it refuses for another reason is refused.
func TestANodeWhoseClockIsOffGivesItsRequestsAway(t *testing.T) {
	for _, kind := range []pim.EntryKind{pim.EntryMessage, pim.EntryCreate} {
		b := &wiretap{sent: make(chan string, 100)}
		out := told{make(chan conv.Answer, 100)}
		off := pim.Errorf(pim.KindClockUnhealthy, "the clock is off")
		w := &refusing{err: off}
		r := New(Options{Bus: b, Gateway: out, Home: discard{}, Writers: func(to conv.Outlet) Writer { w.out = to; return w }})
		defer r.Close()
		view := viewOf(1, "b")
		view.Nodes[0].Roles = bus.AllRoles
		b.see(r, view)
		send := func() {
			q := &conv.Request{Kind: kind, Sender: "alice", ClientID: pim.ClientMessageID{1}}
			for q.Conversation = chatOf(t, "a", view); kind == pim.EntryCreate; q.ClientID[0]++ {
				q.Conversation = ""
				if to, _ := placement.Of(view, bus.RoleWriter, placed(q)); to == "a" {
					break
				}
			}
			r.Submit([]*conv.Request{q})
		}
		send()
		expect(t, b, "b false")
		m := b.last.Requests[0]
		if kind == pim.EntryCreate && m.Conversation != "" {
			t.Error("the other node is told which ID the group gets, and would refuse that")
		}
		hear(t, r, "b", &routepb.Answer{Number: m.Number, Failure: encodeFailure(off)})
		if a := <-out.answers; pim.KindOf(a.Err) != pim.KindClockUnhealthy {
			t.Errorf("told %v", a.Err)
		}
		send()
		expect(t, b, "b false")
		hear(t, r, "b", &routepb.Answer{Number: b.last.Requests[0].Number, Seq: 7})
		if a := <-out.answers; a.Err != nil || a.Seq != 7 {
			t.Errorf("told %+v", a)
		}
		w.err = pim.Errorf(pim.KindNotMember, "not a member")
		send()
		if a := <-out.answers; pim.KindOf(a.Err) != pim.KindNotMember || len(b.sent) > 0 {
			t.Errorf("told %+v", a)
		}
	}
}

// refusals counts what a Router refuses, by user.
type refusals struct {
	discard
	of map[pim.UserID]int
}

func (r *refusals) Deliver(answers []conv.Answer, _ []conv.Published) {
	for _, a := range answers {
		if errors.Is(a.Err, errShare) {
			r.of[a.Request.Sender]++
		}
	}
}

// A user whose requests wait for a node that says nothing gets a fifth of the table, and then no more; others still get in. When the
// node has answered, the user gets in again.
func TestAUserHasAShareOfTheTable(t *testing.T) {
	const share = maxWaiting / (userShare + 1)
	for _, test := range []struct {
		name    string
		payload int
		fit     int
	}{
		{"requests", 0, share + 1},
		{"bytes", 64 << 10, int(maxBytes / (userShare + 1) / sizeOf(&conv.Request{Payload: make([]byte, 64<<10)}))},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refused := &refusals{of: make(map[pim.UserID]int)}
				var came []*routepb.Answer // what the node will answer
				silent := &badBus{send: func(m *routepb.Submit) error {
					for _, q := range m.Requests {
						came = append(came, &routepb.Answer{Number: q.Number, Seq: 1})
					}
					return nil
				}}
				r := New(Options{Bus: silent, Gateway: refused, Home: discard{}})
				defer r.Close()
				r.changed(viewOf(1, "b"))
				payload := make([]byte, test.payload)
				of := func(user pim.UserID, n int) *conv.Request {
					m := &conv.Request{Conversation: pim.Direct(user, "zoe"), Sender: user, Kind: pim.EntryMessage, Payload: payload}
					m.ClientID[0], m.ClientID[1], m.ClientID[2] = byte(n), byte(n>>8), byte(n>>16)
					return m
				}
				const more = 100
				for n := range test.fit + more {
					r.Submit([]*conv.Request{of("alice", n)})
				}
				if got := refused.of["alice"]; got < more-1 || got > more+1 {
					t.Errorf("of %d requests %d were refused, want %d", test.fit+more, got, more)
				}
				r.Submit([]*conv.Request{of("bob", 0)})
				if refused.of["bob"] > 0 {
					t.Error("another user is refused")
				}
				for len(came) > 0 {
					all := came
					came = nil
					receive(t, r, &routepb.Answers{Answers: all})
				}
				before := refused.of["alice"]
				r.Submit([]*conv.Request{of("alice", test.fit+more)})
				if refused.of["alice"] > before {
					t.Error("the user is refused although nothing waits")
				}
			})
		})
	}
}
