package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// lists answers the sync under way: the conversations have entries up to these
// seqs.
func (s *script) lists(newest map[pim.ConversationID]uint64) {
	s.t.Helper()
	for i := len(s.up) - 1; i >= 0; i-- {
		if m, ok := s.up[i].(*wirepb.PIMSyncReq); ok {
			resp := &wirepb.PIMSyncResp{RequestId: m.RequestId}
			for _, c := range sortedKeys(newest) {
				resp.Conversations = append(resp.Conversations, &wirepb.Summary{
					Conversation: string(c), Newest: newest[c], Count: newest[c],
					Last: &wirepb.Entry{Sender: "bob", Kind: 1, ServerMs: int64(newest[c]), Payload: []byte("last")},
				})
			}
			s.up = nil
			s.gets(resp)
			return
		}
	}
	s.t.Fatal("no sync is under way")
}

func sortedKeys(m map[pim.ConversationID]uint64) (keys []pim.ConversationID) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// pulls lists the pulls since the last call: conversation, range, direction.
func (s *script) pulls() (requests []*wirepb.PIMPullReq, told []string) {
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMPullReq); ok {
			requests = append(requests, m)
			way := "up"
			switch {
			case m.NewestFirst:
				way = "down"
			case m.Changes:
				told = append(told, fmt.Sprintf("%s %d..%d changes", m.Conversation, m.From, m.To))
				continue
			}
			told = append(told, fmt.Sprintf("%s %d..%d %s %d", m.Conversation, m.From, m.To, way, m.Limit))
		}
	}
	s.up = nil
	return requests, told
}

func (s *script) hasPulled(want ...string) []*wirepb.PIMPullReq {
	s.t.Helper()
	requests, got := s.pulls()
	if !slices.Equal(got, want) {
		s.t.Fatalf("pulled %q, want %q", got, want)
	}
	return requests
}

// Entries that the server can't read at present stay a hole, for a person who scrolls
// there; entries that the user may not read are no hole.
func TestRefusedHole(t *testing.T) {
	for kind, want := range map[wirepb.ErrorKind][]engine.Hole{
		wirepb.ErrorKind_ERROR_KIND_CORRUPT:    {{From: 1, To: 900, Lazy: true}},
		wirepb.ErrorKind_ERROR_KIND_NOT_MEMBER: nil,
	} {
		s := newScript(t)
		s.gets(&wirepb.PIMPong{Behind: true})
		s.lists(map[pim.ConversationID]uint64{chat: 1000})
		req := s.hasPulled("d:alice:bob 1..0 down 100")[0]
		s.gets(frame(req, 901, 1000, 1000, true))
		req = s.hasPulled("d:alice:bob 1..900 down 100")[0]
		s.gets(&wirepb.PIMError{RequestId: req.RequestId, Kind: kind})
		if holes := s.store.conversations[chat].Holes; !slices.Equal(holes, want) {
			t.Errorf("%v: holes %v, want %v", kind, holes, want)
		}
		if !s.engine.Synced() {
			t.Errorf("%v: not synced", kind)
		}
	}
}

// frame is one frame of the answer to a pull.
func frame(req *wirepb.PIMPullReq, from, to, newest uint64, done bool) *wirepb.PIMPullResp {
	m := &wirepb.PIMPullResp{RequestId: req.RequestId, From: from, To: to, Newest: newest, Done: done}
	for seq := from; seq <= to; seq++ {
		m.Entries = append(m.Entries, bobs(seq)...)
	}
	return m
}

// stored checks the position and what is missing below it.
func (s *script) stored(known pim.Seq, holes ...engine.Hole) {
	s.t.Helper()
	row := s.store.conversations[chat]
	if row.Known != known || !slices.Equal(row.Holes, holes) {
		s.t.Fatalf("stored up to %d with the holes %v, want %d with %v", row.Known, row.Holes, known, holes)
	}
	if got, want := pim.Seq(len(s.store.entries[chat])), known-width(holes); got != want {
		s.t.Fatalf("%d entries are stored, want %d", got, want)
	}
}

func width(holes []engine.Hole) (n pim.Seq) {
	for _, h := range holes {
		n += h.To - h.From + 1
	}
	return n
}

// A gap of up to a page is read upwards.
func TestShortGap(t *testing.T) {
	s := newScript(t)
	s.step(engine.Frame{Message: &wirepb.PIMPong{Behind: true}})
	s.lists(map[pim.ConversationID]uint64{chat: 100})
	req := s.hasPulled("d:alice:bob 1..0 up 100")[0]
	s.gets(frame(req, 1, 60, 100, false))
	s.gets(frame(req, 61, 100, 100, true))
	s.stored(100)
}

// A longer gap is jumped: the newest page first, then the hole from its top, page
// by page; late entries say so. After a crash between two frames it goes on where it
// was.
func TestLongGap(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{chat: 250})
	req := s.hasPulled("d:alice:bob 1..0 down 100")[0]
	s.gets(frame(req, 151, 200, 250, false))
	s.stored(200, engine.Hole{From: 1, To: 150})
	s.dies()
	s.starts()
	s.opens(nil) // the list is empty: nothing is new
	req = s.hasPulled("d:alice:bob 201..0 up 100")[0]
	s.gets(frame(req, 201, 250, 250, true))
	s.stored(250, engine.Hole{From: 1, To: 150})
	if s.engine.Synced() {
		t.Error("synced with a hole to be filled")
	}
	req = s.hasPulled("d:alice:bob 1..150 down 100")[0]
	s.events = nil
	s.gets(frame(req, 51, 80, 250, false))
	s.stored(250, engine.Hole{From: 1, To: 50}, engine.Hole{From: 81, To: 150})
	if ev, ok := s.events[0].(engine.EntryEvent); !ok || !ev.Late || ev.Entry.Seq != 51 {
		t.Errorf("handed over: %+v", s.events[0])
	}
	s.gets(frame(req, 81, 150, 250, true))
	req = s.hasPulled("d:alice:bob 1..50 down 100")[0]
	s.gets(frame(req, 1, 50, 250, true))
	s.stored(250)
	if !s.engine.Synced() {
		t.Error("not synced")
	}
}

// Acknowledgements reach up to the first hole that is filled by itself, not further.
func TestAcksWithHoles(t *testing.T) {
	s := newScript(t)
	acks := func(want ...uint64) {
		t.Helper()
		s.w.passes(time.Second)
		var got []uint64
		for _, m := range s.up {
			if m, ok := m.(*wirepb.PIMPushAck); ok {
				got = append(got, m.Acks[0].Seq)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("acknowledged %v, want %v", got, want)
		}
	}
	s.gets(push(1))
	acks(1)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{chat: 251})
	req := s.hasPulled("d:alice:bob 2..0 down 100")[0]
	s.gets(frame(req, 152, 251, 251, true))
	acks()
	req = s.hasPulled("d:alice:bob 2..151 down 100")[0]
	s.gets(frame(req, 52, 151, 251, true))
	acks()
	req = s.hasPulled("d:alice:bob 2..51 down 100")[0]
	s.gets(frame(req, 2, 51, 251, true))
	acks(251)
}

// A gap of more than 10,000 stays a hole until somebody asks, and is acknowledged
// all the same. Pages are filled below what is on the screen.
func TestVeryLongGap(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{chat: 10_101})
	req := s.hasPulled("d:alice:bob 1..0 down 100")[0]
	s.gets(frame(req, 10_002, 10_101, 10_101, true))
	s.stored(10_101, engine.Hole{From: 1, To: 10_001, Lazy: true})
	s.hasPulled()
	if !s.engine.Synced() {
		t.Error("not synced")
	}
	s.must(engine.Fill{ID: 1, Conversation: chat, Before: 10_002, Limit: 50})
	req = s.hasPulled("d:alice:bob 1..10001 down 50")[0]
	s.gets(frame(req, 9_952, 10_001, 10_101, true))
	s.stored(10_101, engine.Hole{From: 1, To: 9_951, Lazy: true})
	if want := []engine.Filled{{ID: 1, More: true}}; !slices.Equal(s.filled, want) {
		t.Errorf("answered %+v", s.filled)
	}
	s.must(engine.Fill{ID: 2, Conversation: chat, Before: 101}) // far up
	s.loses()
	s.filled = nil
	s.opens(nil) // it goes on over a reconnect
	req = s.hasPulled("d:alice:bob 1..100 down 100")[0]
	s.gets(frame(req, 1, 100, 10_101, true))
	s.stored(10_101, engine.Hole{From: 101, To: 9_951, Lazy: true})
	s.must(engine.Fill{ID: 3, Conversation: chat, Before: 50})
	if want := []engine.Filled{{ID: 2}, {ID: 3}}; !slices.Equal(s.filled, want) {
		t.Errorf("answered %+v, want %+v", s.filled, want)
	}
	s.hasPulled()
}

// A hole may go without a page while a Fill waits for it. The Fill is answered then: its pulls would
// have no end, and keep whatever else the conversation needs from being pulled.
func TestAFillWhoseHoleIsGone(t *testing.T) {
	for name, goes := range map[string]func(s *clienttest.Server, early *clienttest.Backup){
		"with what the server has lost": func(s *clienttest.Server, early *clienttest.Backup) { s.Restore(early, "store 1") },
		"by retention, which a comparison tells": func(s *clienttest.Server, _ *clienttest.Backup) {
			s.Trim(chat, 10)
			s.Restore(s.Backup(), "store 1")
		},
	} {
		w := newWorld(t, func() float64 { return 0.5 })
		w.server.Store = "store 0"
		alice, bob := w.device("alice", "phone"), w.device("bob", "phone")
		alice.page, alice.lazy = 2, 4
		alice.starts()
		bob.starts()
		bob.sends(chat, "one")
		bob.sends(chat, "two")
		w.settles()
		early := w.server.Backup()
		alice.dies()
		for range 10 {
			bob.sends(chat, "more")
		}
		for bob.toServer() || bob.fromServer() {
		}
		alice.starts()
		w.settles()
		if holes := alice.store.conversations[chat].Holes; !slices.Equal(holes, []engine.Hole{{From: 3, To: 10, Lazy: true}}) {
			t.Fatalf("%s: holes %v", name, holes)
		}
		bob.dies()
		alice.loses()
		alice.step(engine.Fill{ID: 1, Conversation: chat})
		if len(alice.filled) != 0 {
			t.Fatalf("%s: answered offline: %+v", name, alice.filled)
		}
		goes(w.server, early)
		w.settles()
		if want := []engine.Filled{{ID: 1}}; !slices.Equal(alice.filled, want) {
			t.Errorf("%s: answered %+v, want %+v", name, alice.filled, want)
		}
		alice.verify()
	}
}

// A Fill for which nothing is missing waits for those before it, and for nothing once they are
// given up.
func TestAFillBehindOneThatIsGivenUp(t *testing.T) {
	s := newScript(t, func(p *phone) {
		p.store.conversations[chat] = engine.Conversation{ID: chat, Known: 10, Newest: 10, Holes: []engine.Hole{{From: 2, To: 3, Lazy: true}}}
	})
	s.must(engine.Fill{ID: 1, Conversation: chat})
	s.must(engine.Fill{ID: 2, Conversation: chat, Before: 2})
	if len(s.filled) != 0 {
		t.Fatalf("answered %+v", s.filled)
	}
	s.must(engine.Unask{ID: 1})
	if want := []engine.Filled{{ID: 2}}; !slices.Equal(s.filled, want) {
		t.Errorf("answered %+v, want %+v", s.filled, want)
	}
}

// An erase may lie in a gap that nobody ever reads. The device asks what has changed below the gap
// and hears of the erasure: what is stored loses its payload, and so does what comes later.
func TestAnEraseInALazyGap(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{chat: 10})
	s.gets(frame(s.hasPulled("d:alice:bob 1..0 up 100")[0], 1, 10, 10, true))
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{chat: 20_010})
	s.gets(frame(s.hasPulled("d:alice:bob 11..0 down 100")[0], 19_911, 20_010, 20_010, true))
	s.stored(20_010, engine.Hole{From: 11, To: 19_910, Lazy: true})
	req := s.hasPulled("d:alice:bob 1..10 changes")[0]
	s.gets(&wirepb.PIMPullResp{
		RequestId: req.RequestId, From: 1, To: 0, Newest: 20_010, Erasures: []*wirepb.Erasure{{By: "bob", Upto: 15_000}, {By: "alice", Upto: 3}},
	})
	s.gets(&wirepb.PIMPullResp{RequestId: req.RequestId, From: 1, To: 10, Newest: 20_010, Done: true})
	s.must(engine.Fill{ID: 1, Conversation: chat, Before: 15_051})
	s.gets(frame(s.hasPulled("d:alice:bob 11..15050 down 100")[0], 14_951, 15_050, 20_010, true))
	for _, e := range s.store.messages(chat) {
		if e.Erased != (e.Seq <= 15_000) || e.Erased != (len(e.Payload) == 0) {
			t.Errorf("seq %d: erased %t, payload %q", e.Seq, e.Erased, e.Payload)
		}
	}
	var told []pim.Erasure
	for _, ev := range s.events {
		switch ev := ev.(type) {
		case engine.ErasedEvent:
			told = append(told, ev.Erasure)
		case engine.EntryEvent:
			if ev.Late && ev.Entry.Erased != (ev.Entry.Seq <= 15_000) {
				t.Errorf("seq %d was handed over, erased %t", ev.Entry.Seq, ev.Entry.Erased)
			}
		}
	}
	if want := []pim.Erasure{{By: "bob", UpTo: 15_000}, {By: "alice", UpTo: 3}}; !slices.Equal(told, want) {
		t.Errorf("told %v", told)
	}
	if !s.engine.Synced() {
		t.Error("not synced")
	}
}

// A hole of 10,000 entries is still filled by itself.
func TestLongestGapThatIsFilled(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{chat: 10_100})
	req := s.hasPulled("d:alice:bob 1..0 down 100")[0]
	s.gets(frame(req, 10_001, 10_100, 10_100, true))
	s.stored(10_100, engine.Hole{From: 1, To: 10_000})
	s.hasPulled("d:alice:bob 1..10000 down 100")
}

// A new gap above a hole is one more hole; after fifteen, gaps are read upwards.
func TestManyGaps(t *testing.T) {
	s := newScript(t)
	newest := uint64(0)
	for i := range 16 {
		s.gets(&wirepb.PIMPong{Behind: true})
		newest += 20_000
		s.lists(map[pim.ConversationID]uint64{chat: newest})
		if i < 15 {
			req := s.hasPulled(fmt.Sprintf("d:alice:bob %d..0 down 100", newest-20_000+1))[0]
			s.gets(frame(req, newest-99, newest, newest, true))
			if i > 0 { // what the gap says about the messages below
				req := s.hasPulled(fmt.Sprintf("d:alice:bob 1..%d changes", newest-20_000))[0]
				s.gets(&wirepb.PIMPullResp{RequestId: req.RequestId, From: 1, To: req.To, Newest: newest, Done: true})
			}
		}
	}
	if n := len(s.store.conversations[chat].Holes); n != 15 {
		t.Errorf("%d holes", n)
	}
	s.hasPulled("d:alice:bob 300001..0 up 100")
}

// What a person looks at comes first, then the user's own log, then what is
// newest; the pages behind them last.
func TestPullOrder(t *testing.T) {
	s := newScript(t)
	s.must(engine.Open{Conversation: "g:3"})
	s.gets(&wirepb.PIMPong{Behind: true})
	newest := map[pim.ConversationID]uint64{mine: 5}
	for i := range uint64(20) {
		newest[pim.ConversationID(fmt.Sprint("g:", i))] = 1000 + i
	}
	s.lists(newest)
	first := s.hasPulled(
		"g:3 1..0 down 100", "u:alice 1..0 up 100", "g:19 1..0 down 100", "g:18 1..0 down 100",
		"g:17 1..0 down 100", "g:16 1..0 down 100", "g:15 1..0 down 100", "g:14 1..0 down 100")
	s.must(engine.Open{Conversation: "g:0"})
	s.gets(&wirepb.PIMPullResp{RequestId: first[2].RequestId, From: 920, To: 1019, Newest: 1019, Done: true})
	s.hasPulled("g:0 1..0 down 100")
	s.gets(&wirepb.PIMPullResp{RequestId: first[3].RequestId, From: 919, To: 1018, Newest: 1018, Done: true})
	s.hasPulled("g:13 1..0 down 100")
}

// The user's own log is read upwards, however long the gap is: commands are
// obeyed in their order.
func TestOwnLogHasNoHoles(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{mine: 50_000})
	s.hasPulled("u:alice 1..0 up 100")
}

// Each page of the list is one event, before anything is pulled.
func TestListComesFirst(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.events = nil
	s.lists(map[pim.ConversationID]uint64{chat: 5000, "g:x": 3})
	ev, ok := s.events[0].(engine.ListEvent)
	if !ok || !slices.Equal(ev.Conversations, []pim.ConversationID{chat, "g:x"}) {
		t.Errorf("told %+v", s.events)
	}
	row := s.store.conversations[chat]
	if row.Newest != 5000 || row.Last.Seq != 5000 || row.Last.Sender != "bob" || string(row.Last.Payload) != "last" {
		t.Errorf("stored %+v", row)
	}
}

// A store that was damaged does not bring the engine down.
func TestBadHoles(t *testing.T) {
	s := newScript(t, func(p *phone) {
		p.store.conversations[chat] = engine.Conversation{ID: chat, Known: 10, Newest: 10, Holes: []engine.Hole{
			{From: 0, To: 3}, {From: 5, To: 4}, {From: 2, To: 3, Lazy: true}, {From: 3, To: 5}, {From: 6, To: 10}, {From: 20, To: 30},
		}}
	})
	s.must(engine.Fill{ID: 7, Conversation: chat})
	s.hasPulled("d:alice:bob 2..3 down 100")
}

// What is recalled in a gap that is left to scrolling has left the disk when the device has caught
// up, though nobody scrolls there; and a page from the middle of the gap is as it is now.
func TestChangedInAGapLeftToScrolling(t *testing.T) {
	w := newWorld(t, func() float64 { return 0.5 })
	alice, bob := w.device("alice", "phone"), w.device("bob", "phone")
	alice.page, alice.lazy = 2, 4
	alice.starts()
	bob.starts()
	bob.sends(chat, "one")
	bob.sends(chat, "two")
	w.settles()
	alice.dies()
	for range 10 {
		bob.sends(chat, "more")
	}
	bob.queues(engine.Outgoing{Conversation: chat, Kind: pim.EntryRecall, Refers: 1})
	bob.queues(engine.Outgoing{Conversation: chat, Kind: pim.EntryEdit, Refers: 2, Payload: []byte("2")})
	bob.queues(engine.Outgoing{Conversation: chat, Kind: pim.EntryEdit, Refers: 4, Payload: []byte("4")})
	for range 10 {
		bob.sends(chat, "more")
	}
	for range 100 {
		if !bob.toServer() && !bob.fromServer() {
			break
		}
	}
	alice.starts()
	w.settles()
	if holes := alice.store.conversations[chat].Holes; len(holes) != 1 || !holes[0].Lazy {
		t.Fatalf("holes %v", holes)
	}
	alice.verify()
	alice.step(engine.Fill{ID: 1, Conversation: chat, Before: 5, Limit: 2})
	w.settles()
	if e := alice.store.entries[chat][4]; e.Seq != 4 {
		t.Fatalf("seq 4 was not filled: %v", alice.store.conversations[chat].Holes)
	}
	alice.verify()
}

// The list tells where the user's newest message stands, also while the device compares what it has
// with a server that may have gone back. The gap with that message is then left to scrolling.
func TestMarkThatIsToldInDoubt(t *testing.T) {
	w := newBackWorld(t)
	w.phone.dies()
	w.phone.page, w.phone.lazy = 2, 4
	w.phone.starts()
	w.bob.sends(chat, "one")
	w.settles()
	w.phone.dies()
	w.laptop.sends(chat, "mine")
	w.settles()
	for range 20 {
		w.bob.sends(chat, "more")
	}
	w.settles()
	w.goesBack(w.server.Backup(), "store 1")
	w.phone.starts()
	w.settles()
	row := w.phone.store.conversations[chat]
	if len(row.Holes) != 1 || !row.Holes[0].Lazy || row.Holes[0].From > 2 {
		t.Fatalf("holes %v", row.Holes)
	}
	if row.Own != 2 || row.OwnCount != 2 {
		t.Errorf("the user's newest message stands at %d, with %d messages up to it", row.Own, row.OwnCount)
	}
}

// Who has left a group is not told where their erase stands: the device erases what it has, and pulls
// nothing for it.
func TestAnEraseThatStandsNowhere(t *testing.T) {
	s := newScript(t)
	s.gets(&wirepb.PIMPong{Behind: true})
	s.lists(map[pim.ConversationID]uint64{chat: 10})
	s.gets(frame(s.hasPulled("d:alice:bob 1..0 up 100")[0], 1, 10, 10, true))
	id := s.w.id()
	s.must(engine.Send{Message: engine.Outgoing{ID: id, Conversation: chat, Kind: pim.EntryErase, Refers: 4}})
	s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(chat)})
	s.stored(10)
	s.hasPulled()
	var told []pim.Erasure
	delivered := false
	for _, ev := range s.events {
		switch ev := ev.(type) {
		case engine.ErasedEvent:
			told = append(told, ev.Erasure)
		case engine.SendEvent:
			delivered = delivered || ev.ID == id && ev.State == engine.Delivered
		}
	}
	if want := []pim.Erasure{{By: "alice", UpTo: 4}}; !slices.Equal(told, want) || !delivered || !s.engine.Synced() {
		t.Errorf("told %v, delivered %t, synced %t", told, delivered, s.engine.Synced())
	}
}
