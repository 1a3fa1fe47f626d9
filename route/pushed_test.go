package route

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// kept keeps what writers hand out.
type kept struct {
	answers chan conv.Answer
	entries map[string]conv.Encoded // by conversation and seq
}

func (o *kept) Deliver(answers []conv.Answer, pushes []conv.Published) {
	for i := range pushes {
		for _, e := range pushes[i].Entries {
			e.Data = append([]byte(nil), e.Data...)
			o.entries[fmt.Sprint(pushes[i].Conversation, e.Seq)] = e
		}
	}
	for _, a := range answers {
		o.answers <- a
	}
}

// The answer that a request gets by its entry is the one that the writer gives.
func TestAnEntryAnswersAsTheWriterDoes(t *testing.T) {
	o := &kept{answers: make(chan conv.Answer, 10), entries: make(map[string]conv.Encoded)}
	writers := conv.New(storetest.NewMemory(), conv.Options{Outlet: o, Shards: 1, Logger: slog.New(slog.DiscardHandler)})
	defer writers.Close()
	id := pim.NewClientMessageID(time.Now())
	group := pim.NewGroup("alice", id)
	read := pim.Command{Kind: pim.CommandRead, Subject: string(group), Seq: 3}
	contact := pim.Command{Kind: pim.CommandContact, Subject: "erin", Value: []byte("x")}
	for i, r := range []conv.Request{
		{Kind: pim.EntryCreate, ClientID: id, Members: []pim.UserID{"bob", "carol"}},
		{Conversation: group, Kind: pim.EntryMessage, Payload: []byte("hello"), Mentions: []pim.UserID{"carol", "bob"}},
		{Conversation: group, Kind: pim.EntryMessage, Payload: []byte("all"), MentionAll: true},
		{Conversation: group, Kind: pim.EntryEdit, Payload: []byte("good day"), Refers: 2},
		{Conversation: group, Kind: pim.EntryReaction, Reaction: "+1", Refers: 2},
		{Conversation: group, Kind: pim.EntryJoin, Members: []pim.UserID{"dave"}},
		{Conversation: pim.Own("alice"), Kind: pim.EntryCommand, Payload: wire.AppendCommand(nil, &read)},
		{Conversation: pim.Own("alice"), Kind: pim.EntryCommand, Payload: wire.AppendCommand(nil, &contact)},
	} {
		r.Sender, r.Device, r.Attempt, r.Local = "alice", "phone", 1, pim.MillisOf(time.Now())
		if i > 0 {
			r.ClientID = pim.NewClientMessageID(time.Now())
		}
		asked := r // the gateway's copy, of which Submit knows nothing
		writers.Submit([]*conv.Request{&r})
		want := <-o.answers
		if want.Err != nil {
			t.Fatalf("%s: %v", r.Kind, want.Err)
		}
		e := o.entries[fmt.Sprint(want.Request.Conversation, want.Seq)]
		l := newLane(New(Options{Bus: nowhere{}, Gateway: discard{}}), 0)
		w := l.add(&asked, time.Now())
		got := l.pushed(nil, want.Request.Conversation, &e)
		if len(got) != 1 || got[0].Request != &asked || l.of[w.number] != nil {
			t.Fatalf("%s: %+v", r.Kind, got)
		}
		if got[0].Request.Conversation != want.Request.Conversation {
			t.Errorf("%s: the conversation is %q", r.Kind, got[0].Request.Conversation)
		}
		got[0].Request, want.Request = nil, nil
		if !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: by its entry\n%+v, by the writer\n%+v", r.Kind, got[0], want)
		}
	}
}

// An entry answers the requests that have its client message ID, and nothing else of the user.
func TestAnEntryAnswersItsRequestAlone(t *testing.T) {
	l := newLane(New(Options{Bus: nowhere{}, Gateway: discard{}}), 0)
	c := pim.Direct("alice", "bob")
	request := func(device pim.DeviceID, id pim.ClientMessageID) *conv.Request {
		r := &conv.Request{Conversation: c, Kind: pim.EntryMessage, Sender: "alice", Device: device, ClientID: id}
		l.add(r, time.Now())
		return r
	}
	id := pim.NewClientMessageID(time.Now())
	before := request("phone", pim.NewClientMessageID(time.Now()))
	first, again := request("phone", id), request("phone", id)
	other := request("laptop", id)
	after := request("phone", pim.NewClientMessageID(time.Now()))
	entry := pim.Entry{Seq: 7, Anchor: 7, Sender: "alice", Device: "phone", ClientID: id, Server: 1}
	e := conv.Encoded{Seq: 7, Sender: "alice", Device: "phone", Data: wire.AppendEntry(nil, &entry)}
	again.Attempt = 2
	got := l.pushed(nil, c, &e)
	if len(got) != 2 || got[0].Request != first || got[1].Request != again || got[0].Seq != 7 || got[0].Duplicate || !got[1].Duplicate {
		t.Errorf("%+v", got)
	}
	var left []*conv.Request
	for _, w := range l.users["alice"].requests {
		left = append(left, w.request)
	}
	if !reflect.DeepEqual(left, []*conv.Request{before, other, after}) {
		t.Errorf("%d requests wait", len(left))
	}
	if got := l.pushed(nil, pim.Direct("alice", "carol"), &e); len(got) != 0 {
		t.Errorf("an entry of another conversation answers: %+v", got)
	}
}

// slowly is a gateway that takes some time to hand out an answer.
type slowly struct {
	discard
	began chan struct{}
	done  *atomic.Bool
}

func (g slowly) Deliver([]conv.Answer, []conv.Published) {
	close(g.began)
	time.Sleep(50 * time.Millisecond)
	g.done.Store(true)
}

// An answer that is out of the table but not at the gateway yet is waited for: by Drain, since connections are closed behind it, and by
// what is pushed next.
func TestAnAnswerIsHandedOutBeforeWhatFollows(t *testing.T) {
	c := pim.Direct("alice", "bob")
	for what, follow := range map[string]func(*Router){
		"Drain":  func(r *Router) { _ = r.Drain(context.Background()) },
		"Pushed": func(r *Router) { r.Pushed(c, nil) },
	} {
		gate := slowly{began: make(chan struct{}), done: new(atomic.Bool)}
		number := make(chan uint64, 100)
		bus := &badBus{send: func(m *routepb.Submit) error {
			number <- m.Requests[0].Number
			return nil
		}}
		r := New(Options{Bus: bus, Gateway: gate, Home: discard{}})
		r.changed(viewOf(1, "b"))
		r.Submit([]*conv.Request{{Conversation: c, Kind: pim.EntryMessage, Sender: "alice", Device: "phone", ClientID: pim.NewClientMessageID(time.Now())}})
		answer := &routepb.Answer{Number: <-number, Seq: 7}
		var hearing sync.WaitGroup
		hearing.Go(func() { hear(t, r, "b", answer) })
		<-gate.began
		if follow(r); !gate.done.Load() {
			t.Errorf("%s did not wait for the answer", what)
		}
		hearing.Wait()
		r.Close()
	}
}
