package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// syncsAgain has the phone sync, and returns the request.
func (s *script) syncsAgain() *wirepb.PIMSyncReq {
	s.t.Helper()
	s.gets(&wirepb.PIMPong{Behind: true})
	return s.syncReq()
}

// syncReq returns the only PIMSyncReq since the last look, nil if there was none.
func (s *script) syncReq() (req *wirepb.PIMSyncReq) {
	s.t.Helper()
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSyncReq); ok {
			if req != nil {
				s.t.Fatal("two syncs")
			}
			req = m
		}
	}
	return req
}

// frontsAcked returns the fronts that were acknowledged since the last look, as "g:x 5".
func (s *script) frontsAcked() (acked []string) {
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMPushAck); ok {
			for _, f := range m.Fronts {
				acked = append(acked, fmt.Sprint(f.Conversation, " ", f.Front))
			}
		}
	}
	s.up = nil
	return acked
}

func front(c string, seq uint64) *wirepb.Front { return &wirepb.Front{Conversation: c, Front: seq} }

// A phone that has all of a conversation hears of a trim: it drops what is gone, and then acknowledges
// it. Told again, it acknowledges again. What it does not know it acknowledges, and no more.
func TestFrontsOfTheList(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.gets(push(1, 2, 3, 4))
	s.lives(time.Second)
	s.quiets()
	for _, test := range []struct {
		tells  []*wirepb.Front
		acked  []string
		front  pim.Seq
		stored int
		events []string
	}{
		{[]*wirepb.Front{front(string(chat), 3), front("g:strange", 9), front("nonsense", 9), front("g:"+strings.Repeat("x", 300), 2)}, []string{"d:alice:bob 3", "g:strange 9"}, 3, 2, []string{"d:alice:bob 3"}},
		{[]*wirepb.Front{front(string(chat), 3)}, []string{"d:alice:bob 3"}, 3, 2, nil},
		{[]*wirepb.Front{front(string(chat), 2)}, []string{"d:alice:bob 2"}, 3, 2, nil},
		{nil, nil, 3, 2, nil},
		{[]*wirepb.Front{front(string(chat), 9)}, []string{"d:alice:bob 9"}, 5, 0, []string{"d:alice:bob 5"}}, // cut to what the phone knows
	} {
		s.events = nil
		req := s.syncsAgain()
		if !req.Fronts {
			t.Fatal("it does not ask for fronts")
		}
		s.quiets()
		s.gets(&wirepb.PIMSyncResp{RequestId: req.RequestId, Fronts: test.tells})
		s.lives(time.Second)
		if got := s.frontsAcked(); !slices.Equal(got, test.acked) {
			t.Errorf("told %v: acknowledged are %q, want %q", test.tells, got, test.acked)
		}
		if c := s.store.conversations[chat]; c.Front != test.front || len(s.store.entries[chat]) != test.stored || c.Known != 4 || c.Count != 4 {
			t.Errorf("told %v: it has %+v, and %d entries", test.tells, c, len(s.store.entries[chat]))
		}
		if got := s.trims(); !slices.Equal(got, test.events) {
			t.Errorf("told %v: the app was told %q, want %q", test.tells, got, test.events)
		}
	}
	if n := len(s.store.conversations); n > 2 { // the chat and the own log
		t.Errorf("%d conversations", n)
	}
	s.gets(push(5))
	s.sees("5")
}

// A lot of fronts is acknowledged, and the phone asks for the next one at once. A server that tells
// the same lot again is not asked without end.
func TestLotsOfFronts(t *testing.T) {
	s := newScript(t)
	lot := func(from, to int) (fronts []*wirepb.Front) {
		for i := from; i < to; i++ {
			fronts = append(fronts, front(fmt.Sprintf("g:%03d", i), 2))
		}
		return fronts
	}
	for name, test := range map[string]struct {
		lots [][]*wirepb.Front
		asks []bool // again, after the lot
	}{
		"three":              {[][]*wirepb.Front{lot(0, 100), lot(100, 200), lot(200, 220)}, []bool{true, true, false}},
		"the same":           {[][]*wirepb.Front{lot(0, 100), lot(0, 100)}, []bool{true, false}},
		"the same once more": {[][]*wirepb.Front{lot(0, 100), lot(0, 100)}, []bool{true, false}},
		"too many":           {[][]*wirepb.Front{lot(0, 300), lot(300, 301)}, []bool{true, false}},
	} {
		s.quiets()
		req := s.syncsAgain()
		for i, fronts := range test.lots {
			s.quiets()
			s.gets(&wirepb.PIMSyncResp{RequestId: req.RequestId, Fronts: fronts})
			req = s.syncReq()
			if (req != nil) != test.asks[i] {
				t.Fatalf("%s: after lot %d it asks again: %v", name, i, req != nil)
			}
			if req != nil {
				if _, ok := s.up[0].(*wirepb.PIMPushAck); !ok || !req.Fronts {
					t.Errorf("%s: it asks before it acknowledges: %v", name, s.up)
				}
			}
			s.lives(time.Second)
			if n := len(s.frontsAcked()); n != min(len(fronts), 100) {
				t.Errorf("%s: %d of lot %d are acknowledged", name, n, i)
			}
		}
	}
}

// A device that peeks, or watches, acknowledges nothing, so it does not ask.
func TestWhoAcknowledgesNothingAsksForNoFronts(t *testing.T) {
	e := engine.New(engine.Config{
		User: "alice", Device: "phone", Servers: []string{"wss://one"}, Peek: true, RequestTimeout: 10 * time.Second,
		BackoffMin: time.Second, BackoffMax: time.Second, Random: func() float64 { return 0.5 },
	}, engine.Snapshot{})
	now := engine.Time{Mono: time.Hour, Wall: epoch}
	steps := func(in engine.Input) engine.Output {
		if err := e.Step(now, in); err != nil {
			t.Fatal(err)
		}
		return e.Take()
	}
	n := steps(engine.Start{}).Dials[0].Attempt
	steps(engine.Dialled{Attempt: n, Token: "alice"})
	out := steps(engine.Frame{Attempt: n, Message: &wirepb.Welcome{Version: 1, User: "alice"}})
	var req *wirepb.PIMSyncReq
	for _, m := range out.Frames {
		if m, ok := m.(*wirepb.PIMSyncReq); ok {
			req = m
		}
	}
	if req == nil || req.Fronts {
		t.Fatalf("it asks with %v", req)
	}
	steps(engine.Frame{Attempt: n, Message: &wirepb.PIMSyncResp{RequestId: req.RequestId, Fronts: []*wirepb.Front{front("g:x", 2)}}})
	now.Mono += time.Second
	for _, m := range steps(engine.Tick{}).Frames {
		if _, ok := m.(*wirepb.PIMPushAck); ok {
			t.Errorf("it acknowledges %v", m)
		}
	}
}

// What the phone knows of a conversation is in doubt: its front is not acknowledged.
func TestNoFrontIsAcknowledgedInDoubt(t *testing.T) {
	s := newScript(t)
	s.gets(push(1, 2, 3, 4))
	s.lives(time.Second)
	s.quiets()
	req := s.syncsAgain()
	s.gets(&wirepb.PIMSyncResp{
		RequestId: req.RequestId, Fronts: []*wirepb.Front{front(string(chat), 3)},
		Conversations: []*wirepb.Summary{{Conversation: string(chat), Newest: 2, Count: 2}}, // it was longer
	})
	s.lives(time.Second)
	if got := s.frontsAcked(); got != nil {
		t.Errorf("acknowledged are %q", got)
	}
}

// A conversation is in doubt when a trim of it is told. The front is not acknowledged before the
// comparison has ended, and the phone asks for it then.
func TestAFrontOfAConversationInDoubt(t *testing.T) {
	w := newBackWorld(t)
	for i := range 4 {
		w.bob.sends(chat, fmt.Sprint("his ", i))
		w.settles()
	}
	w.server.Trim(chat, 2)
	w.goesBack(w.server.Backup(), "store 1")
	w.settles()
	w.passes(time.Second) // the acknowledgements are on their way
	w.settles()
	for _, p := range w.devices {
		if front := w.server.Untold(p.user, p.name, chat); front != 0 {
			t.Errorf("%s/%s has not acknowledged the front %d", p.user, p.name, front)
		}
		if c := p.store.conversations[chat]; c.Front != 3 || len(p.store.entries[chat]) != 2 {
			t.Errorf("%s/%s has %+v", p.user, p.name, c)
		}
		p.verify()
	}
}
