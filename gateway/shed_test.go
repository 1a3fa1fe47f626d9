package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// raise has o shed everything up to c.
func raise(o *limit.Overload, c limit.Class) {
	for i := 0; o.Level() < c; i++ {
		o.Waited(limit.Tasks, 21*time.Millisecond)
		o.Tick(time.Duration(i) * limit.OverloadInterval)
	}
}

// shedding is what a gateway serves at a level, of what a device that is there asks for, and of what it sends.
type shedding struct {
	level  limit.Class
	served []string
}

// sheds has a device do everything at the level c.
func (x *lab) sheds(o *limit.Overload, c limit.Class) shedding {
	x.t.Helper()
	user := fmt.Sprint("bob", int(c))
	bob := x.connect(false, user, "phone")
	raise(o, c)
	s := shedding{level: c}
	note := func(what string, served bool) {
		if served {
			s.served = append(s.served, what)
		}
	}
	// asks sends m and reports whether it was answered, or nothing was said against it.
	asks := func(m wire.Message) bool {
		bob.send(m)
		if _, answers := m.(*wirepb.PIMTyping); answers {
			bob.send(&wirepb.PIMTimeReq{}) // whose answer comes behind a refusal
		}
		got := bob.next()
		e, refused := got.(*wirepb.PIMError)
		if !refused {
			return true
		}
		if e.Kind != wirepb.ErrorKind_ERROR_KIND_OVERLOADED || !e.Retryable || e.RetryAfterMs < 250 || e.RetryAfterMs > 10_000 {
			x.t.Errorf("level %v: %T is refused with %v", c, m, e)
		}
		if _, answers := m.(*wirepb.PIMTyping); answers {
			expect[*wirepb.PIMTimeResp](bob)
		}
		return false
	}
	note("typing", asks(&wirepb.PIMTyping{Conversation: "d:" + user + ":carol", RequestId: 1}))
	note("receipts", asks(&wirepb.PIMReceiptReq{Conversation: "g:x", RequestId: 2}))
	note("members", asks(&wirepb.PIMMembersReq{Conversation: "g:x", RequestId: 3}))
	note("pull", asks(&wirepb.PIMPullReq{Conversation: "g:x", RequestId: 4}))
	note("sync", asks(&wirepb.PIMSyncReq{RequestId: 5}))
	note("send", asks(sendReq(byte(c), "hi")))

	x.lists(inbox.Summary{Conversation: "g:x"})
	asks(&wirepb.PIMSyncReq{RequestId: 6})
	note("pull of what is new", asks(&wirepb.PIMPullReq{Conversation: "g:x", RequestId: 7}))
	x.lists()
	asks(&wirepb.PIMSyncReq{RequestId: 8})
	note("pull again", asks(&wirepb.PIMPullReq{Conversation: "g:x", RequestId: 9}))

	before := len(x.noted())
	bob.send(&wirepb.PIMPushAck{Acks: []*wirepb.Ack{{Conversation: "g:x", Seq: 7}}}, &wirepb.PIMTimeReq{})
	expect[*wirepb.PIMTimeResp](bob)
	note("ack", len(x.noted()) > before)
	x.push(pim.UserID(user), 1, 10)
	_, pushed := bob.next().(*wirepb.PIMPush)
	note("push", pushed)

	dave := x.dial(false)
	dave.send(&wirepb.Hello{Version: wire.Version, Token: "dave", Device: fmt.Sprint("phone", int(c))})
	switch m := dave.next().(type) {
	case *wirepb.Welcome:
		note("login", true)
	case *wirepb.PIMError:
		if m.Kind != wirepb.ErrorKind_ERROR_KIND_OVERLOADED || m.RetryAfterMs == 0 {
			x.t.Errorf("level %v: a login is refused with %v", c, m)
		}
		dave.closedWith(wire.CodeOverloaded)
	default:
		x.t.Errorf("level %v: a login is answered with %v", c, m)
	}
	return s
}

// lists has each sync list all.
func (x *lab) lists(all ...inbox.Summary) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list.Summaries = all
}

// noted returns the acknowledgements that were noted.
func (x *lab) noted() []inbox.Ack {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.acks)
}

// wrong returns what is wrong with what is served at a level.
func (s shedding) wrong() (wrong []string) {
	for what, class := range map[string]limit.Class{
		"typing": limit.Typing, "receipts": limit.Receipts, "members": limit.History, "pull": limit.History, "pull again": limit.History, "login": limit.NewLogins,
		"pull of what is new": 0, "ack": 0, "push": 0, "sync": 0, "send": 0, // sends are the writers' to shed, and they do so last
	} {
		if served := slices.Contains(s.served, what); served != (class == 0 || s.level < class) {
			wrong = append(wrong, fmt.Sprintf("level %v: %s served %t", s.level, what, served))
		}
	}
	return wrong
}

// As the level rises one class after the other is shed. Acknowledgements, pushes, and syncs of devices that are there, which pull what these list, are served at
// each level. Gateways that shed acknowledgements, or sends before everything else, are caught.
func TestShedsInOrder(t *testing.T) {
	for name, broken := range map[string]func(*lab, *Options){
		"":                  func(*lab, *Options) {},
		"sheds acks":        func(x *lab, o *Options) { o.Acks = acksShed{x, o.Overload} },
		"sheds sends first": func(x *lab, o *Options) { o.Writer = sendsShed{x, o.Overload} },
	} {
		t.Run(name, func(t *testing.T) {
			overload := limit.NewOverload(20*time.Millisecond, func() float64 { return 0.5 })
			x := newLabWith(t, nil, func(x *lab, o *Options) {
				o.Overload = overload
				broken(x, o)
			})
			var wrong []string
			for level := range limit.NewSends + 1 {
				for overload.Level() > 0 { // so that the device can log in
					overload.Tick(0)
				}
				wrong = append(wrong, x.sheds(overload, level).wrong()...)
			}
			if name == "" && len(wrong) > 0 {
				t.Errorf("%q", wrong)
			}
			if name != "" && len(wrong) == 0 {
				t.Error("it is not caught")
			}
			counts := map[limit.Class]uint64{limit.Typing: 5, limit.Receipts: 4, limit.History: 3 * 3, limit.NewLogins: 2, limit.NewSends: 0}
			for c, want := range counts {
				if n := overload.Count(c); n != want {
					t.Errorf("%d of %v are counted, %d were shed", n, c, want)
				}
			}
			if n := x.refused(limit.Busy); n != 2 {
				t.Errorf("%d logins are counted as refused", n)
			}
		})
	}
}

// acksShed drops acknowledgements while anything is shed.
type acksShed struct {
	Acks
	o *limit.Overload
}

func (a acksShed) Note(user pim.UserID, device pim.DeviceID, serial uint64, acks []inbox.Ack) {
	if !a.o.Sheds(limit.Typing) {
		a.Acks.Note(user, device, serial, acks)
	}
}

// sendsShed refuses sends while anything is shed.
type sendsShed struct {
	*lab
	o *limit.Overload
}

func (s sendsShed) Submit(requests []*conv.Request) {
	if !s.o.Sheds(limit.Typing) {
		s.lab.Submit(requests)
		return
	}
	for _, r := range requests {
		err := &pim.Error{Kind: pim.KindOverloaded, Text: "busy", RetryAfter: time.Second}
		s.gw.Sessions.Deliver([]conv.Answer{{Request: r, Err: err}}, nil)
	}
}

// What is on screens is told when the load is gone, and nothing of it is lost: presence waits at the first level, and receipts from the second.
func TestTellingWaits(t *testing.T) {
	o := limit.NewOverload(20*time.Millisecond, func() float64 { return 0.5 })
	l := &looks{overload: o}
	a := conn{user: "ann"}
	now := time.Now()
	l.set(&a, []pim.ConversationID{"d:ann:bob", "g:1", pim.Own("bob")}, 0)
	for _, id := range []pim.ConversationID{"d:ann:bob", "g:1"} {
		l.change(id)
	}
	told := func() string {
		now = now.Add(lookEvery)
		s, wait, done := l.next(now)
		switch {
		case s.subject != nil:
			return string(s.id)
		case done || wait <= 0:
			return "done"
		}
		return ""
	}
	raise(o, limit.Receipts)
	if id := told(); id != "" {
		t.Errorf("with receipts shed: %q", id)
	}
	o.Tick(0) // typing and presence only
	for _, want := range []string{"d:ann:bob", "g:1", ""} {
		if id := told(); id != want {
			t.Errorf("with presence shed: %q, want %q", id, want)
		}
	}
	o.Tick(0)
	if id := told(); id != string(pim.Own("bob")) {
		t.Errorf("with nothing shed: %q", id)
	}
}
