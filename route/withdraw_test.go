package route

import (
	"context"
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

// wiretap is node a's bus in a cluster of a, b and c. The test is b and c.
type wiretap struct {
	nowhere
	sent chan string // to whom which number, and whether it is withdrawn
	last routepb.Submit
	view *bus.View
}

func (b *wiretap) View() *bus.View { return b.view }

// see has the bus and then the router see a view.
func (b *wiretap) see(r *Router, v *bus.View) {
	b.view = v
	r.changed(v)
}

func (b *wiretap) Send(to string, k bus.Kind, body []byte) error {
	if k != bus.KindSubmit {
		return nil
	}
	b.last = routepb.Submit{}
	if err := b.last.UnmarshalVT(body); err != nil {
		return err
	}
	for _, r := range b.last.Requests {
		b.sent <- fmt.Sprint(to, " ", r.Withdraw > 0)
	}
	return nil
}

// told is an outlet that keeps the answers.
type told struct{ answers chan conv.Answer }

func (o told) Deliver(answers []conv.Answer, _ []conv.Published) {
	for _, a := range answers {
		o.answers <- a
	}
}

// A request has been sent to b, and then to c, since the view has changed. c refuses it for good. The connection is told
// only when b has none: b may write what still waits there, when the user is a member again.
func TestARefusalIsHeldWhileThereAreCopies(t *testing.T) {
	refused := &routepb.Answer{Failure: notMember()}
	for _, c := range []struct {
		name string
		then func(see func(*bus.View), say func(from string, a *routepb.Answer))
		err  pim.Kind // 0: it is accepted
	}{
		{"b has none", func(_ func(*bus.View), say func(string, *routepb.Answer)) {
			say("b", &routepb.Answer{Withdrawn: 1})
		}, pim.KindNotMember},
		{"b has written it", func(_ func(*bus.View), say func(string, *routepb.Answer)) {
			say("b", &routepb.Answer{Seq: 7})
		}, 0},
		{"b has said so late", func(_ func(*bus.View), say func(string, *routepb.Answer)) {
			say("b", &routepb.Answer{Withdrawn: 9}) // to an earlier question
			say("b", &routepb.Answer{Withdrawn: 1})
		}, pim.KindNotMember},
		{"b has refused it", func(_ func(*bus.View), say func(string, *routepb.Answer)) {
			say("b", refused)
		}, pim.KindNotMember},
		{"b is stopping, and has none", func(_ func(*bus.View), say func(string, *routepb.Answer)) {
			say("b", &routepb.Answer{Failure: &routepb.Failure{Kind: uint32(pim.KindUnavailable)}})
			say("b", &routepb.Answer{Withdrawn: 1})
		}, pim.KindNotMember},
		{"b has been started again", func(see func(*bus.View), _ func(string, *routepb.Answer)) {
			v := viewOf(1, "b", "c")
			v.Nodes[1].Run = 2
			see(v)
		}, pim.KindNotMember},
		{"b does not say", func(func(*bus.View), func(string, *routepb.Answer)) {}, pim.KindUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &wiretap{sent: make(chan string, 100)}
				out := told{make(chan conv.Answer, 100)}
				r := New(Options{Bus: b, Gateway: out, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
				defer r.Close()
				b.see(r, viewOf(1, "b", "c"))
				chat := chatOf(t, "b", viewOf(1, "b", "c"))
				began := time.Now()
				r.Submit([]*conv.Request{{Conversation: chat, Sender: "alice", Kind: pim.EntryMessage, ClientID: pim.ClientMessageID{1}}})
				expect(t, b, "b false")
				number := b.last.Requests[0].Number
				say := func(from string, a *routepb.Answer) {
					t.Helper()
					select {
					case a := <-out.answers:
						t.Fatalf("told too early: %+v", a)
					default:
					}
					a.Number = number
					hear(t, r, from, a)
				}
				b.see(r, viewOf(1, "c"))
				expect(t, b, "c false")
				b.see(r, viewOf(1, "b", "c"))
				expect(t, b, "b false")
				b.see(r, viewOf(1, "c"))
				expect(t, b, "c false")
				say("c", refused) // c was sent it twice
				expect(t, b, "b true")
				if c.name != "b does not say" && c.name != "b has been started again" {
					c.then(func(v *bus.View) { b.see(r, v) }, say)
					if c.err == 0 {
						if a := <-out.answers; a.Err != nil || a.Seq != 7 {
							t.Fatalf("the answer is %+v", a)
						}
						return
					}
					if c.name == "b has refused it" { // it was sent to b twice
						expect(t, b, "b true")
						say("b", &routepb.Answer{Withdrawn: 1})
					}
				} else {
					c.then(func(v *bus.View) { b.see(r, v) }, say)
				}
				if c.err == pim.KindNotMember {
					expect(t, b, "c true")
					say("c", &routepb.Answer{Withdrawn: 1})
					once := "c" // more, and only there
					if c.name == "b has been started again" {
						once = "b"
					}
					expect(t, b, once+" false")
					say(once, refused)
				}
				a := <-out.answers
				if pim.KindOf(a.Err) != c.err {
					t.Errorf("the answer is %+v", a)
				}
				if took := time.Since(began); took > giveUp+time.Second {
					t.Errorf("the answer came after %v", took)
				}
			})
		})
	}
}

// The bus has met a new process of b, and has sent the request to this one, before the Router heard of it. When the
// Router does, that process may have a copy.
func TestACopyInAProcessThatIsNewerThanTheView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &wiretap{sent: make(chan string, 100)}
		out := told{make(chan conv.Answer, 100)}
		r := New(Options{Bus: b, Gateway: out, Home: discard{}})
		defer r.Close()
		b.see(r, viewOf(1, "b", "c"))
		b.view = viewOf(2, "b", "c")
		chat := chatOf(t, "b", b.view)
		r.Submit([]*conv.Request{{Conversation: chat, Sender: "alice", Kind: pim.EntryMessage}})
		expect(t, b, "b false")
		moved := viewOf(2, "b", "c")
		moved.Nodes[1].Weight = 0
		b.see(r, moved)
		expect(t, b, "c false")
		hear(t, r, "c", &routepb.Answer{Number: b.last.Requests[0].Number, Failure: notMember()})
		expect(t, b, "b true")
	})
}

func notMember() *routepb.Failure {
	return &routepb.Failure{Kind: uint32(pim.KindNotMember), Text: "no"}
}

// hear has r hear what a node says.
func hear(t *testing.T, r *Router, from string, a *routepb.Answer) {
	t.Helper()
	body, err := (&routepb.Answers{Life: r.life, Answers: []*routepb.Answer{a}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	r.receiveAnswers(from, body)
}

func expect(t *testing.T, b *wiretap, want string) {
	t.Helper()
	select {
	case got := <-b.sent:
		if got != want {
			t.Fatalf("sent to %s, want %s", got, want)
		}
	default:
		t.Fatalf("nothing is sent, want %s", want)
	}
}

// viewOf returns a view of a, which is this node and writes nothing, and of others in that run.
func viewOf(run uint64, others ...string) *bus.View {
	v := &bus.View{Nodes: []bus.Node{{Name: "a", Roles: bus.RoleGateway, Weight: 1}}}
	for _, name := range others {
		v.Nodes = append(v.Nodes, bus.Node{Name: name, Run: run, Roles: bus.AllRoles, Weight: 1})
	}
	return v
}

// chatOf returns a conversation of alice that a node writes.
func chatOf(t *testing.T, node string, v *bus.View) pim.ConversationID {
	for i := range 1000 {
		c := pim.Direct("alice", pim.UserID(fmt.Sprint("u", i)))
		if to, _ := placement.Of(v, bus.RoleWriter, string(c)); to == node {
			return c
		}
	}
	t.Fatal("no conversation is at " + node)
	return ""
}

// What has waited too long for the writers of a node is not written any more.
func TestStaleRequestsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowWriter{goOn: make(chan struct{}), took: make(chan *conv.Request, 10)}
		b := &answers{said: make(chan *routepb.Answers, 10)}
		r := New(Options{Bus: b, Gateway: discard{}, Home: discard{}, Writers: func(conv.Outlet) Writer { return slow }})
		defer r.Close()
		for i := range uint64(2) {
			m := routepb.Submit{Life: 1, Place: i, Requests: []*routepb.Request{{Number: i + 1, Conversation: "u:alice"}}}
			body, err := m.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			r.receiveSubmit("b", body)
		}
		time.Sleep(stale + time.Second)
		close(slow.goOn)
		a := <-b.said
		if len(a.Answers) != 1 || a.Answers[0].Number != 2 || a.Answers[0].Failure.GetKind() != uint32(pim.KindUnavailable) {
			t.Errorf("said %v", a)
		}
		if len(slow.took) != 1 {
			t.Errorf("%d requests were written", len(slow.took))
		}
	})
}

type slowWriter struct {
	goOn chan struct{}
	took chan *conv.Request
}

func (w *slowWriter) Submit(requests []*conv.Request) {
	<-w.goOn
	for _, r := range requests {
		w.took <- r
	}
}

// answers is a bus that keeps the answers sent.
type answers struct {
	nowhere
	said chan *routepb.Answers
}

func (b *answers) Send(_ string, k bus.Kind, body []byte) error {
	m := new(routepb.Answers)
	if k == bus.KindAnswer && m.UnmarshalVT(body) == nil {
		b.said <- m
	}
	return nil
}

// goneOrigin is a connection, and whether it has gone.
type goneOrigin struct{ atomic.Bool }

func (o *goneOrigin) Gone() bool { return o.Load() }

func gone() *goneOrigin {
	o := new(goneOrigin)
	o.Store(true)
	return o
}

// What is heard of the requests of a connection that has gone has none of them sent to another node, or once
// more: the client may have sent it again, and may have been told that it is refused for good.
func TestNothingIsSentAnewForAConnectionThatHasGone(t *testing.T) {
	for _, writes := range []bool{true, false} { // this node
		for _, withdrawn := range []bool{true, false} {
			t.Run(fmt.Sprint(writes, withdrawn), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { goneMeanwhile(t, writes, withdrawn) })
			})
		}
	}
}

func goneMeanwhile(t *testing.T, writes, withdrawn bool) {
	b := &wiretap{sent: make(chan string, 100)}
	out := told{make(chan conv.Answer, 100)}
	here := &slowWriter{goOn: make(chan struct{}), took: make(chan *conv.Request, 10)}
	close(here.goOn)
	o := Options{Bus: b, Gateway: out, Home: discard{}}
	if writes {
		o.Writers = func(conv.Outlet) Writer { return here }
	}
	r := New(o)
	defer r.Close()
	b.see(r, viewOf(1, "b", "c"))
	client := new(goneOrigin)
	chat := chatOf(t, "b", viewOf(1, "b", "c"))
	r.Submit([]*conv.Request{{Conversation: chat, Sender: "alice", Kind: pim.EntryMessage, Origin: client}})
	expect(t, b, "b false")
	number := b.last.Requests[0].Number
	say := func(from string, a *routepb.Answer) {
		a.Number = number
		hear(t, r, from, a)
	}
	b.see(r, viewOf(1, "c"))
	expect(t, b, "c false")
	if withdrawn {
		say("c", &routepb.Answer{Failure: notMember()})
		expect(t, b, "b true")
		client.Store(true)
		say("b", &routepb.Answer{Withdrawn: 1})
	} else {
		client.Store(true)
		say("c", &routepb.Answer{Failure: &routepb.Failure{Kind: uint32(pim.KindUnavailable)}})
	}
	if a := <-out.answers; pim.KindOf(a.Err) != pim.KindUnavailable {
		t.Errorf("the answer is %+v", a)
	}
	synctest.Wait()
	if len(b.sent) > 0 || len(here.took) > 0 {
		t.Errorf("sent again to %d nodes, and written here %d times", len(b.sent), len(here.took))
	}
}

// The requests of a connection that has gone are not sent again, and their places become free.
func TestAConnectionThatHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &wiretap{sent: make(chan string, 100)}
		out := told{make(chan conv.Answer, 100)}
		r := New(Options{Bus: b, Gateway: out, Home: discard{}, Writers: func(conv.Outlet) Writer { return discard{} }})
		defer r.Close()
		b.see(r, viewOf(1, "b", "c"))
		chat := chatOf(t, "b", viewOf(1, "b", "c"))
		r.Submit([]*conv.Request{{Conversation: chat, Sender: "alice", Kind: pim.EntryMessage, Origin: gone()}})
		expect(t, b, "b false")
		r.gap("b")
		b.see(r, viewOf(1, "c"))
		if len(b.sent) > 0 {
			t.Errorf("sent again: %s", <-b.sent)
		}
		if a := <-out.answers; pim.KindOf(a.Err) != pim.KindUnavailable {
			t.Errorf("the answer is %+v", a)
		}
		if err := r.Drain(context.Background()); err != nil || r.waiting.Load() != 0 {
			t.Errorf("%d requests wait: %v", r.waiting.Load(), err)
		}
	})
}
