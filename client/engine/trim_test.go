package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// trims returns what the app was told of retention.
func (p *phone) trims() (told []string) {
	for _, ev := range p.events {
		if ev, ok := ev.(engine.TrimmedEvent); ok {
			told = append(told, fmt.Sprint(ev.Conversation, " ", ev.Front))
		}
	}
	return told
}

// Retention has trimmed a conversation, wholly or in part, and then something makes the devices
// doubt the server's store. Nothing was lost: nothing is taken back, and nothing is sent again,
// although the server has forgotten the IDs. The devices drop what is gone.
func TestDoubtsAboutATrimmedConversation(t *testing.T) {
	for _, upTo := range []pim.Seq{1, 3, 5, 6} {
		for _, restarted := range []bool{false, true} {
			w := newBackWorld(t)
			for i := range 3 {
				w.phone.sends(chat, fmt.Sprint("mine ", i))
				w.bob.sends(chat, fmt.Sprint("his ", i))
				w.settles()
			}
			before := w.log(chat)
			for _, p := range w.devices {
				p.events = nil
			}
			w.server.Trim(chat, upTo)
			w.server.Forget()
			if restarted {
				w.phone.dies()
			}
			w.goesBack(w.server.Backup(), "store 1")
			if restarted {
				w.phone.starts()
			}
			w.settles()
			w.logs(chat, before...)
			for _, p := range w.devices {
				if told := p.rewound(); told != nil {
					t.Errorf("up to %d: %s/%s was told %q", upTo, p.user, p.name, told)
				}
				if told, want := p.trims(), []string{fmt.Sprint(chat, " ", upTo+1)}; !slices.Equal(told, want) {
					t.Errorf("up to %d: %s/%s was told of %q, want %q", upTo, p.user, p.name, told, want)
				}
				p.verify()
				if c := p.store.conversations[chat]; c.Known != 6 || c.Newest != 6 || c.Count != 6 || c.Front != upTo+1 {
					t.Errorf("up to %d: %s/%s has %+v", upTo, p.user, p.name, c)
				}
			}
			// And once more, now that the devices have dropped it.
			w.goesBack(w.server.Backup(), "store 2")
			w.settles()
			w.logs(chat, before...)
			w.phone.verify()
			if c := w.phone.store.conversations[chat]; c.Known != 6 || c.Count != 6 {
				t.Errorf("up to %d: after another doubt the phone has %+v", upTo, c)
			}
			w.bob.sends(chat, "and on")
			w.settles()
			w.phone.verify()
		}
	}
}

// A server that was trimmed and then went back has lost only what came after: that is sent again,
// and not what was trimmed.
func TestATrimmedServerThatWentBack(t *testing.T) {
	w := newBackWorld(t)
	for i := range 4 {
		w.phone.sends(chat, fmt.Sprint("old ", i))
		w.settles()
	}
	for _, upTo := range []pim.Seq{2, 4} {
		w.server.Trim(chat, upTo)
		w.server.Forget()
		before := w.server.Backup()
		w.phone.sends(chat, fmt.Sprint("lost after ", upTo))
		w.settles()
		want := w.log(chat)
		w.goesBack(before, fmt.Sprint("store after ", upTo))
		w.settles()
		w.logs(chat, want...)
		w.phone.verify()
		if f := w.phone.store.snapshot().Former; len(f) > 0 {
			t.Errorf("%v have entries kept aside", f)
		}
	}
}

// A message was acknowledged, and its entry is not stored, for so long that retention has taken
// it and the server has forgotten its ID. It is not sent again.
func TestTrimmedBeforeItsEntryIsStored(t *testing.T) {
	for name, send := range unseenSends {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", name, restarted), func(t *testing.T) {
				w, c, _ := newUnseenWorld(t, send)
				if restarted {
					w.phone.dies()
				}
				before := w.log(c)
				w.server.Trim(c, pim.Seq(len(before)))
				w.server.Forget()
				w.server.DropPush = nil
				w.phone.loses()
				if restarted {
					w.phone.starts()
				}
				w.settles()
				w.logs(c, before...)
				w.phone.verify()
				if f := w.phone.store.snapshot().Former; len(f) > 0 {
					t.Errorf("%v have entries kept aside", f)
				}
			})
		}
	}
}

// The answer to a message comes so late that its entry is gone: it was delivered, its place is all
// that is known, and the counts stay.
func TestAnAnswerAboutATrimmedMessage(t *testing.T) {
	w := newBackWorld(t)
	id := w.phone.sends(chat, "mine")
	for w.phone.toServer() {
	}
	w.phone.dies() // the answer is lost
	w.server.Append(chat, "bob", w.id(), []byte("his"))
	w.server.Trim(chat, 1)
	w.phone.starts()
	w.settles()
	if s, ok := w.phone.sent[id]; !ok || s.Seq != 1 {
		t.Errorf("the answer is %+v, %v", s, ok)
	}
	w.phone.verify()
	if c := w.phone.store.conversations[chat]; c.Known != 2 || c.Count != 2 || c.Front != 2 {
		t.Errorf("the phone has %+v", c)
	}
}

// Bob edits a message, and retention takes it and not the edit. A phone that was away is told of the
// front first. It takes the edit, and keeps nothing of the message.
func TestAnEditOfATrimmedMessage(t *testing.T) {
	w := newBackWorld(t)
	for i := range 3 {
		w.bob.sends(chat, fmt.Sprint("his ", i))
		w.settles()
	}
	w.phone.dies()
	w.bob.queues(engine.Outgoing{Conversation: chat, Kind: pim.EntryEdit, Refers: 1, Payload: []byte("edited")})
	w.settles()
	w.bob.sends(chat, "and on")
	w.settles()
	w.server.Trim(chat, 3)
	w.phone.starts()
	w.settles()
	w.phone.verify()
	if f, ok := w.phone.store.folds[chat][1]; ok {
		t.Errorf("the phone keeps %+v", f)
	}
	if c := w.phone.store.conversations[chat]; c.Front != 4 || c.Known != 5 {
		t.Errorf("the phone has %+v", c)
	}
}

// Holes below the front are closed, and the newest entry of the list goes if it is gone.
func TestHolesBelowTheFront(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.gets(push(1))
	s.w.passes(0)
	row := s.store.conversations[chat]
	if row.Front != 0 {
		t.Fatal(row)
	}
	s.gets(push(4)) // a gap
	request := s.lastPull()
	s.gets(&wirepb.PIMPullResp{RequestId: request, From: 2, To: 3, Newest: 4, Front: 4, Done: true})
	if row = s.store.conversations[chat]; row.Known != 4 || row.Front != 4 {
		t.Errorf("%+v", row)
	}
	if n := len(s.store.entries[chat]); n != 1 {
		t.Errorf("%d entries are stored", n)
	}
}

// A server has lost a message, and the device knows. Before the device sends it again, others have
// written on, and retention has taken what stands at the message's old seq. It is sent again.
func TestLostAndThenTrimmed(t *testing.T) {
	w := newBackWorld(t)
	w.phone.sends(chat, "old")
	w.settles()
	w.laptop.dies()
	before := w.server.Backup()
	w.phone.sends(chat, "lost")
	w.settles()
	w.goesBack(before, "store 1")
	w.server.Append(chat, "bob", w.id(), []byte("his")) // to be pulled first
	for i := 0; w.phone.rewound() == nil; i++ {
		if i > 1000 {
			t.Fatal("the phone does not notice")
		}
		w.phone.connects()
		w.phone.toServer()
		if !w.phone.fromServer() && w.phone.session == nil {
			w.passes(time.Second)
		}
	}
	w.phone.dies()
	for i := range 3 {
		w.server.Append(chat, "bob", w.id(), fmt.Append(nil, i))
	}
	w.server.Trim(chat, 4)
	w.phone.starts()
	w.settles()
	w.logs(chat, "old", "his", "0", "1", "2", "lost")
}

// The list says the front of a conversation that it names, and the one entry that is new is not pulled.
func TestTheListSaysTheFront(t *testing.T) {
	s := newScript(t)
	s.quiets()
	s.gets(push(1))
	s.summary(&wirepb.Summary{Newest: 2, Acked: 1, Count: 2, Last: bobs(2)[0], Whole: true, Front: 2})
	s.transmits()
	if c := s.store.conversations[chat]; c.Known != 2 || c.Front != 2 || len(s.store.entries[chat]) != 1 {
		t.Errorf("%+v, %d entries", c, len(s.store.entries[chat]))
	}
}

// What was trimmed was still under way, in a push or in the answer to a pull, when the device was told. It moves the
// position, and is neither stored nor shown.
func TestTrimmedEntriesThatAreUnderWay(t *testing.T) {
	for name, late := range map[string]func(*script){
		"pushes": func(s *script) { s.gets(push(1)); s.gets(push(2)); s.gets(push(3)) },
		"ahead":  func(s *script) { s.gets(push(3)); s.gets(push(2)); s.gets(push(1)) },
		"pull": func(s *script) {
			s.gets(&wirepb.PIMPullResp{RequestId: s.lastPull(), From: 1, To: 3, Newest: 3, Done: true, Entries: bobs(1, 2, 3)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.quiets()
			s.summary(&wirepb.Summary{Newest: 3, Count: 3, Front: 3})
			late(s)
			if c := s.store.conversations[chat]; c.Front != 3 || c.Known != 3 {
				t.Errorf("%+v", c)
			}
			if stored := s.store.entries[chat]; len(stored) != 1 || stored[3].Seq != 3 {
				t.Errorf("%v are stored", stored)
			}
			for _, ev := range s.events {
				if ev, ok := ev.(engine.EntryEvent); ok && ev.Entry.Seq != 3 {
					t.Errorf("seq %d is shown", ev.Entry.Seq)
				}
			}
		})
	}
}

// A message was trimmed, its edit was not. A recall takes the edit's text from the devices, and
// leaves nothing of itself behind.
func TestRecallOfATrimmedMessage(t *testing.T) {
	w := newBackWorld(t)
	w.phone.sends(chat, "mine")
	w.settles()
	w.phone.queues(engine.Outgoing{Conversation: chat, Kind: pim.EntryEdit, Refers: 1, Payload: []byte("edited")})
	w.settles()
	for _, p := range w.devices {
		p.dies()
	}
	w.server.Trim(chat, 1)
	w.server.Append(chat, "bob", w.id(), []byte("his"))
	for _, p := range w.devices {
		p.starts()
	}
	w.settles()
	w.phone.queues(engine.Outgoing{Conversation: chat, Kind: pim.EntryRecall, Refers: 1})
	w.settles()
	for _, p := range w.devices {
		if row := p.store.conversations[chat]; row.Front != 2 || row.Known != 4 {
			t.Errorf("%s/%s has %+v", p.user, p.name, row)
		}
		if e := p.store.entries[chat][2]; len(e.Payload) > 0 || !e.Erased {
			t.Errorf("%s/%s keeps the edit: %+v", p.user, p.name, e)
		}
		if f := p.store.folds[chat]; len(f) > 0 {
			t.Errorf("%s/%s keeps folds: %v", p.user, p.name, f)
		}
	}
}

// The creation of a group was trimmed before this device pulled it. By the answer the device knows
// that the user has read up to there.
func TestACreationThatWasTrimmed(t *testing.T) {
	w := newBackWorld(t)
	id := w.phone.queues(engine.Outgoing{Kind: pim.EntryCreate, Members: []pim.UserID{"bob"}})
	for w.phone.toServer() {
	}
	c := pim.NewGroup("alice", id)
	w.server.Trim(c, 1)
	w.settles()
	if row := w.phone.store.conversations[c]; row.Own != 1 || row.Known != 1 || row.Front != 2 {
		t.Errorf("the phone has %+v", row)
	}
}
