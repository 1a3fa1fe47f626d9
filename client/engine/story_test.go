package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const chat = pim.ConversationID("d:alice:bob")

// A script is one engine with the test as its server: it sees every frame.
type script struct {
	*phone
	t *testing.T
}

// newScript returns alice's phone, connected and synced, its login frames read.
func newScript(t *testing.T, set ...func(*phone)) *script {
	w := newWorld(t, func() float64 { return 0.5 })
	s := &script{phone: w.device("alice", "phone"), t: t}
	for _, f := range set {
		f(s.phone)
	}
	s.starts()
	s.opens(&wirepb.Limits{InFlight: 4, IdleMs: 60_000})
	return s
}

// newOffline returns alice's phone, not started yet.
func newOffline(t *testing.T) *script {
	w := newWorld(t, func() float64 { return 0.5 })
	return &script{phone: w.device("alice", "phone"), t: t}
}

// opens answers the dial with a Welcome and an empty list.
func (s *script) opens(l *wirepb.Limits) {
	s.t.Helper()
	for s.engine.State() != engine.Connecting {
		s.w.passes(time.Second)
	}
	s.session = s.w.server.Connect(nil)
	s.step(engine.Dialled{Token: "alice"})
	s.transmits("Hello")
	s.gets(&wirepb.Welcome{User: "alice", ServerMs: int64(s.w.server.Now()), Limits: l})
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSyncReq); ok {
			s.gets(&wirepb.PIMSyncResp{RequestId: m.RequestId})
		}
	}
	s.events = nil
}

// quiets forgets the frames of the login.
func (s *script) quiets() { s.up = nil }

func (s *script) gets(m wire.Message) { s.step(engine.Frame{Message: m}) }

// transmits checks the frames since the last call, time samples left out.
func (s *script) transmits(want ...string) {
	s.t.Helper()
	var got []string
	for _, m := range s.up {
		if _, ok := m.(*wirepb.PIMTimeReq); !ok {
			got = append(got, show(m))
		}
	}
	s.up = nil
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		s.t.Fatalf("transmits\n%s\nwant\n%s", g, w)
	}
}

// show is a frame as a story tells it.
func show(m wire.Message) string {
	switch m := m.(type) {
	case *wirepb.PIMSendReq:
		return fmt.Sprintf("send %s attempt %d", m.Payload, m.Attempt)
	case *wirepb.PIMPullReq:
		return fmt.Sprintf("pull %d..%d", m.From, m.To)
	case *wirepb.PIMPushAck:
		var acks []string
		for _, a := range m.Acks {
			acks = append(acks, fmt.Sprintf("%s %d", a.Conversation, a.Seq))
		}
		return fmt.Sprintf("ack %d: %s", m.Serial, strings.Join(acks, ", "))
	case *wirepb.PIMSyncReq:
		return fmt.Sprintf("sync full=%v after=%s", m.Full, m.After)
	}
	return wire.TypeOf(m).String()
}

func (s *script) lastPull() uint64 {
	s.t.Helper()
	for i := len(s.up) - 1; i >= 0; i-- {
		if m, ok := s.up[i].(*wirepb.PIMPullReq); ok {
			return m.RequestId
		}
	}
	s.t.Fatal("no pull")
	return 0
}

func bobs(seqs ...uint64) []*wirepb.Entry {
	var list []*wirepb.Entry
	for _, seq := range seqs {
		list = append(list, &wirepb.Entry{
			Seq: seq, Count: seq, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "bob", Device: "phone",
			ClientMessageId: fmt.Appendf(nil, "%016d", 1000+seq), Payload: fmt.Append(nil, seq),
		})
	}
	return list
}

func push(seqs ...uint64) *wirepb.PIMPush {
	return &wirepb.PIMPush{Conversation: string(chat), Entries: bobs(seqs...)}
}

func ackFor(id pim.ClientMessageID, seq uint64) *wirepb.PIMSendAck {
	return &wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(chat), Seq: seq, Count: seq}
}

func TestGapIsPulled(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	s.gets(push(1))
	s.gets(push(4))
	s.gets(push(4, 5)) // a push doubled
	s.sees("1")
	request := s.lastPull()
	s.transmits("pull 2..3", "ack 1: d:alice:bob 1") // 4 and 5 are kept
	s.gets(&wirepb.PIMPullResp{RequestId: request, Entries: bobs(2), From: 2, To: 2, Newest: 5})
	s.sees("2")
	s.gets(&wirepb.PIMPullResp{RequestId: request, Entries: bobs(3), From: 3, To: 3, Newest: 5, Done: true})
	s.sees("3", "4", "5")
	s.gets(push(3, 5))
	s.sees()
	s.w.passes(time.Second)
	s.transmits("ack 2: d:alice:bob 5")
}

// Newest and Count of a stored Conversation are of one entry: a read command takes over
// both, for good, and unread is a subtraction of such counts.
func TestNewestAndItsCount(t *testing.T) {
	answers := func(s *script, newest uint64) {
		s.gets(&wirepb.PIMPullResp{RequestId: s.lastPull(), Entries: bobs(2), From: 2, To: 2, Newest: newest})
	}
	for name, test := range map[string]struct {
		hears             func(s *script)
		newest, withCount uint64
	}{
		"of a push ahead of a gap":    {func(s *script) { s.gets(push(3)) }, 3, 3},
		"of an answer ahead of a gap": {func(s *script) { s.gets(ackFor(s.sends(chat, "a"), 5)) }, 5, 5},
		"of a duplicate, which is no entry": {func(s *script) {
			ack := ackFor(s.sends(chat, "a"), 5)
			ack.Duplicate = true
			s.gets(ack)
		}, 5, 5},
		"from a pull, which does not count": {func(s *script) { s.gets(push(3)); answers(s, 9) }, 3, 3},
		"from a list": {func(s *script) {
			s.gets(&wirepb.PIMPong{Behind: true})
			s.lists(map[pim.ConversationID]uint64{chat: 7})
		}, 7, 7},
	} {
		s := newScript(t)
		s.gets(push(1))
		test.hears(s)
		if row := s.store.conversations[chat]; row.Newest != pim.Seq(test.newest) || row.Count != test.withCount {
			t.Errorf("%s: newest %d, count %d; want %d, %d", name, row.Newest, row.Count, test.newest, test.withCount)
		}
	}
}

func TestSeqsThatAreNotForThisUserAreSettled(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	s.gets(push(9)) // joined at 9
	request := s.lastPull()
	s.gets(&wirepb.PIMPullResp{RequestId: request, From: 1, To: 8, Newest: 9, Done: true})
	s.sees("9")
	s.transmits("pull 1..8")
}

// The answers of a commit come before its pushes; that is no gap.
func TestOwnEntryWaitsForPushes(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	id := s.sends(chat, "mine")
	s.transmits("send mine attempt 1")
	s.gets(ackFor(id, 2))
	s.sees()
	s.gets(push(1))
	s.sees("1", "mine")
	s.transmits()

	id = s.sends(chat, "again")
	s.gets(ackFor(id, 4)) // and the push of 3 is lost
	s.w.passes(250 * time.Millisecond)
	request := s.lastPull()
	s.gets(&wirepb.PIMPullResp{RequestId: request, Entries: bobs(3), From: 3, To: 3, Newest: 4, Done: true})
	s.sees("3", "again")
}

// Messages go out in order, at most in_flight at once; and on a new connection again in
// order, with the same IDs and local times. An answer that was lost is found by a pull.
func TestResendAfterDisconnect(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	var ids []pim.ClientMessageID
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		ids = append(ids, s.sends(chat, text))
	}
	first := s.up[0].(*wirepb.PIMSendReq)
	s.transmits("send a attempt 1", "send b attempt 1", "send c attempt 1", "send d attempt 1")
	s.gets(ackFor(ids[0], 1))
	s.transmits("send e attempt 1", "ack 1: d:alice:bob 1")
	s.loses()
	s.w.passes(time.Second)
	s.opens(&wirepb.Limits{InFlight: 4})
	if again := s.up[len(s.up)-1].(*wirepb.PIMSendReq); string(again.Payload) != "e" || again.LocalMs <= first.LocalMs {
		t.Errorf("sent last: %v", again)
	}
	s.transmits("sync full=false after=", "send b attempt 2", "send c attempt 2", "send d attempt 2", "send e attempt 2")
	dup := ackFor(ids[1], 2)
	dup.Duplicate = true
	s.gets(dup)
	request := s.lastPull()
	s.gets(&wirepb.PIMPullResp{RequestId: request, From: 2, To: 3, Newest: 3, Done: true, Entries: []*wirepb.Entry{
		{Seq: 2, Sender: "alice", Device: "phone", ClientMessageId: ids[1][:], Payload: []byte("b"), Kind: 1},
		{Seq: 3, Sender: "alice", Device: "phone", ClientMessageId: ids[2][:], Payload: []byte("c"), Kind: 1},
	}})
	if s.sent[ids[2]].Seq != 3 || len(s.store.outbox) != 2 {
		t.Errorf("sent %v, %d in the outbox", s.sent, len(s.store.outbox))
	}
}

// Frames that were to be transmitted on a connection that broke are not for the next one.
func TestFramesDieWithTheirConnection(t *testing.T) {
	s := newScript(t)
	out := engine.Outgoing{ID: s.w.id(), Conversation: chat, Kind: pim.EntryMessage}
	for _, in := range []engine.Input{engine.Send{Message: out}, engine.Lost{Attempt: s.attempt, Err: errors.New("cut")}} {
		if err := s.engine.Step(s.time(), in); err != nil {
			t.Fatal(err)
		}
	}
	if out := s.engine.Take(); len(out.Frames) != 0 || len(out.Store.Outbox) != 1 {
		t.Errorf("%d frames, %d messages to store", len(out.Frames), len(out.Store.Outbox))
	}
}

// The answer to a pull may be older than a push that came before it.
func TestPullOlderThanPush(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	s.gets(push(3)) // 1 and 2 are not for alice any more, it seems
	request := s.lastPull()
	s.transmits("pull 1..2")
	s.gets(push(5))
	s.gets(&wirepb.PIMPullResp{RequestId: request, From: 1, Newest: 0, Done: true})
	s.transmits("pull 1..2")
	s.sees()
}

func TestBehindMeansSync(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	s.gets(push(1))
	s.gets(&wirepb.PIMPong{Behind: true})
	sync := s.up[len(s.up)-1].(*wirepb.PIMSyncReq)
	s.gets(&wirepb.PIMPush{Behind: true}) // meanwhile: the list is read once more
	s.transmits("ack 1: d:alice:bob 1", "sync full=false after=")
	s.gets(&wirepb.PIMSyncResp{RequestId: sync.RequestId, NextAfter: "d:alice:bob", Conversations: []*wirepb.Summary{
		{Conversation: string(chat), Newest: 3, Acked: 1, Count: 3, Last: bobs(3)[0]},
	}})
	if c := s.store.conversations[chat]; c.Newest != 3 || string(c.Last.Payload) != "3" || s.engine.Synced() {
		t.Errorf("after the summary: %+v, synced %v", c, s.engine.Synced())
	}
	request := s.lastPull()
	sync = s.up[0].(*wirepb.PIMSyncReq)
	s.transmits("sync full=false after=d:alice:bob", "pull 2..0")
	s.gets(&wirepb.PIMSyncResp{RequestId: sync.RequestId})
	s.transmits("sync full=false after=")
	s.gets(&wirepb.PIMPullResp{RequestId: request, Entries: bobs(2, 3), From: 2, To: 3, Newest: 3, Done: true})
	s.sees("1", "2", "3")
}

// The need for a full sync is remembered until the sync is complete.
// The sync list shows an edit without the message that it is about. Somebody else has erased
// something: that says nothing of the edit.
func TestListedEditOfSomebodyWhoErasedNothing(t *testing.T) {
	s := newScript(t, func(p *phone) { p.store.erasures[erased{chat, "alice"}] = 3 })
	last := &wirepb.Entry{Kind: wirepb.EntryKind_ENTRY_KIND_EDIT, Sender: "bob", ServerMs: 1000, Payload: []byte("two")}
	s.gets(&wirepb.PIMPong{Behind: true})
	sync := s.up[len(s.up)-1].(*wirepb.PIMSyncReq)
	s.gets(&wirepb.PIMSyncResp{RequestId: sync.RequestId, Conversations: []*wirepb.Summary{
		{Conversation: string(chat), Newest: 6, Count: 5, Last: last},
	}})
	if got := s.store.conversations[chat].Last; string(got.Payload) != "two" || got.Erased {
		t.Errorf("the list shows %q, erased: %v", got.Payload, got.Erased)
	}
}

func TestStorageBehind(t *testing.T) {
	s := newScript(t)
	s.loses()
	s.w.passes(time.Second)
	welcome := func() {
		s.session = s.w.server.Connect(nil)
		s.step(engine.Dialled{Token: "alice"})
		s.up = nil
	}
	welcome()
	s.gets(&wirepb.Welcome{User: "alice", StorageBehind: true, AckSerial: 41})
	s.transmits("sync full=true after=")
	s.dies()
	if s.store.meta.AckSerial != 41 || !s.store.meta.FullSync {
		t.Fatalf("stored: %+v", s.store.meta)
	}
	s.starts()
	welcome()
	s.gets(&wirepb.Welcome{User: "alice", AckSerial: 41})
	sync := s.up[len(s.up)-1].(*wirepb.PIMSyncReq)
	s.transmits("sync full=true after=")
	s.gets(&wirepb.PIMSyncResp{RequestId: sync.RequestId})
	if s.store.meta.FullSync || !s.engine.Synced() {
		t.Errorf("the full sync is complete, stored: %+v", s.store.meta)
	}
}

func TestAcksAreCoalesced(t *testing.T) {
	s := newScript(t)
	s.transmits("sync full=true after=")
	for seq := range uint64(100) {
		s.gets(push(seq + 1))
		s.w.passes(10 * time.Millisecond)
	}
	if n := s.store.meta.AckSerial; n < 4 || n > 6 {
		t.Errorf("%d acknowledgements in a second", n)
	}
	s.gets(push(101))
	s.step(engine.Close{})
	if a, ok := s.up[len(s.up)-1].(*wirepb.PIMPushAck); !ok || a.Acks[0].Seq != 101 || a.Serial != s.store.meta.AckSerial {
		t.Errorf("at close: %v", s.up)
	}
}
