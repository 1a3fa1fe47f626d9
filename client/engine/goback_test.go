package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// backWorld is a server with two devices of alice's and one of bob's, connected.
type backWorld struct {
	*world
	phone, laptop, bob *phone
}

func newBackWorld(t *testing.T) *backWorld {
	w := newWorld(t, func() float64 { return 0.5 })
	w.server.Store = "store 0"
	b := &backWorld{w, w.device("alice", "phone"), w.device("alice", "laptop"), w.device("bob", "phone")}
	for _, p := range w.devices {
		p.starts()
	}
	w.settles()
	return b
}

// goesBack restores the server; devices that run lose their connections.
func (w *backWorld) goesBack(b *clienttest.Backup, store string) {
	w.passes(time.Second)
	w.server.Restore(b, store)
	for _, p := range w.devices {
		p.loses()
	}
}

// log returns the texts of c on the server.
func (w *backWorld) log(c pim.ConversationID) (texts []string) {
	for _, e := range w.server.Log(c) {
		texts = append(texts, string(e.Payload))
	}
	return texts
}

func (w *backWorld) logs(c pim.ConversationID, want ...string) {
	w.t.Helper()
	if got := w.log(c); !slices.Equal(got, want) {
		w.t.Fatalf("the log of %s is %q, want %q", c, got, want)
	}
}

// rewound returns what the app was told of conversations that were taken back.
func (p *phone) rewound() (told []string) {
	for _, ev := range p.events {
		if ev, ok := ev.(engine.RewoundEvent); ok {
			told = append(told, fmt.Sprint(ev.Conversation, " ", ev.After))
		}
	}
	return told
}

// A server's store that has another identity, and all that the devices know, changes
// nothing.
func TestSameStoreUnderAnotherName(t *testing.T) {
	w := newBackWorld(t)
	w.phone.sends(chat, "one")
	w.bob.sends(chat, "two")
	w.phone.step(engine.Do{ID: w.id(), Command: rename("carol", "Carol")})
	w.settles()
	for _, p := range w.devices {
		p.events = nil
	}
	w.goesBack(w.server.Backup(), "store 1")
	w.settles()
	for _, p := range w.devices {
		if told := p.rewound(); told != nil {
			t.Errorf("%s/%s was told %q", p.user, p.name, told)
		}
		p.sees()
		if p.store.meta.Doubt || p.store.meta.Store != "store 1" {
			t.Errorf("%s/%s has %+v", p.user, p.name, p.store.meta)
		}
	}
	w.logs(chat, "one", "two")
}

// Each of these signs is enough by itself, without another identity.
func TestSignsOfAServerThatWentBack(t *testing.T) {
	for name, sign := range map[string]func(*backWorld) (told string){
		"fewer acknowledgements": func(w *backWorld) string {
			w.passes(time.Second) // until they are acknowledged
			w.settles()
			w.phone.loses() // to hear how many there are
			w.settles()
			w.goesBack(nil, "")
			w.server.Store = "store 0"
			for i := range 5 { // it has caught up
				w.server.Append(chat, "bob", w.id(), fmt.Appendf(nil, "new %d", i))
			}
			return "d:alice:bob 0"
		},
		"a shorter conversation in the list": func(w *backWorld) string {
			w.goesBack(nil, "")
			w.server.Store = "store 0"
			w.phone.store.meta.Heard = 0
			w.phone.dies()
			w.phone.starts()
			w.server.Append(chat, "bob", w.id(), []byte("new"))
			return "d:alice:bob 0"
		},
		"an answer at a seq that is known": func(w *backWorld) string {
			w.laptop.dies()
			w.bob.dies()
			w.goesBack(nil, "")
			w.server.Store = "store 0"
			w.phone.store.meta.Heard = 0
			w.phone.dies()
			w.phone.starts()
			w.phone.sends(chat, "mine")
			return "d:alice:bob 0"
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newBackWorld(t)
			for i := range 3 {
				w.phone.sends(chat, fmt.Sprint("old ", i))
			}
			w.settles()
			w.phone.events = nil
			want := sign(w)
			w.settles()
			if told := w.phone.rewound(); !slices.Contains(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
			got := w.log(chat)
			for i := range 3 {
				if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s != fmt.Sprint("old ", i) })); n != 1 {
					t.Errorf("old %d is %d times in %q", i, n, got)
				}
			}
			w.phone.verify()
		})
	}
}

// A message to a group that is gone is kept, with the reason, and goes out when the
// device that made the group has brought it back.
func TestGroupThatIsGone(t *testing.T) {
	w := newBackWorld(t)
	id := w.phone.queues(engine.Outgoing{Kind: pim.EntryCreate, Members: []pim.UserID{"bob"}})
	w.settles()
	group := pim.NewGroup("alice", id)
	var sent []pim.ClientMessageID
	for i := range 40 {
		sent = append(sent, w.bob.sends(group, fmt.Sprint(i)))
	}
	w.settles()
	w.phone.dies()
	w.laptop.dies()
	w.goesBack(nil, "store 1")
	w.settles()
	m, ok := w.bob.store.outbox[sent[0]]
	if !ok || m.Failed == nil || m.Failed.Kind != pim.KindNotMember || string(m.Payload) != "0" {
		t.Fatalf("the first message is %+v", m)
	}
	if n := len(w.bob.store.outbox) + len(w.bob.store.former[group]); n != len(sent) {
		t.Fatalf("%d of %d messages are kept", n, len(sent))
	}
	w.bob.dies() // nothing of it is lost with the process
	w.bob.starts()
	w.settles()
	w.phone.starts()
	w.settles()
	want := []string{""}
	for i := range sent {
		want = append(want, fmt.Sprint(i))
	}
	w.logs(group, want...)
	w.bob.verify()
	w.phone.verify()
}

// Another device has brought the entries back, so long ago that the server has forgotten
// their client message IDs. A device that comes back then pulls before it sends.
func TestBroughtBackLongAgo(t *testing.T) {
	w := newBackWorld(t)
	for i := range 50 {
		w.phone.sends(chat, fmt.Sprint(i))
	}
	w.settles()
	want := w.log(chat)
	w.phone.dies()
	w.goesBack(nil, "store 1")
	w.settles()
	w.logs(chat, want...)
	w.laptop.dies()
	w.bob.dies()
	w.now += 8 * 24 * time.Hour
	w.server.Forget()
	for _, p := range w.devices {
		p.starts()
	}
	w.settles()
	w.logs(chat, want...)
	for _, p := range w.devices {
		p.verify()
	}
}

// The last command of each entity comes back, unless the user has given a later one. A
// read position is cut to what is left of its conversation.
func TestCommandsComeBack(t *testing.T) {
	w := newBackWorld(t)
	for i := range 3 {
		w.bob.sends(chat, fmt.Sprint(i))
	}
	w.settles()
	before := w.server.Backup()
	for i := range 3 {
		w.bob.sends(chat, fmt.Sprint("lost ", i))
	}
	w.settles()
	w.bob.dies() // and never comes back
	commands := []pim.Command{rename("carol", "C."), rename("carol", "Carol"), rename("dave", "Dave"), rename("erin", "Erin"), remove("erin"), reads(6)}
	for _, c := range commands {
		w.phone.step(engine.Do{ID: w.id(), Command: c})
		w.settles()
	}
	w.laptop.dies()
	w.phone.dies()
	w.goesBack(before, "store 1")
	tablet := w.device("alice", "tablet") // knows nothing of all that
	tablet.starts()
	w.settles()
	tablet.step(engine.Do{ID: w.id(), Command: rename("dave", "David")})
	w.settles()
	w.phone.starts()
	w.laptop.starts()
	w.settles()
	settings := w.server.Settings("alice")
	for entity, want := range map[string]string{"contact/carol": "Carol", "contact/dave": "David"} {
		if s := settings[entity]; string(s.Value) != want {
			t.Errorf("%s is %+v, want %s", entity, s, want)
		}
	}
	if s := settings["contact/erin"]; s.InForce(0) {
		t.Errorf("erin is %+v", s)
	}
	if s := settings["read/"+string(chat)]; s.Seq != 3 || s.Count != 3 {
		t.Errorf("read up to %d, count %d; want 3, 3", s.Seq, s.Count)
	}
	for _, p := range []*phone{w.phone, w.laptop, tablet} {
		p.verify()
	}
}

// Nothing of a conversation in doubt is acknowledged, and what is pushed of it
// meanwhile is there in the end.
func TestNothingIsAcknowledgedInDoubt(t *testing.T) {
	w := newBackWorld(t)
	for i := range 3 {
		w.bob.sends(chat, fmt.Sprint(i))
	}
	w.settles()
	w.bob.dies()
	w.laptop.dies()
	// At once, so that an acknowledgement is still due.
	w.server.Restore(nil, "store 1")
	w.phone.loses()
	w.phone.events = nil
	for w.phone.session == nil { // Welcome, and no answer to the comparison yet
		w.passes(time.Second)
		w.phone.connects()
	}
	w.phone.toServer()
	w.phone.fromServer()
	w.server.Append(chat, "bob", w.id(), []byte("new"))
	w.phone.down = append(w.phone.down, w.phone.session.Pushes()...)
	for w.phone.fromServer() {
	}
	w.passes(time.Second)
	for _, m := range w.phone.up {
		if ack, ok := m.(*wirepb.PIMPushAck); ok {
			t.Errorf("acknowledged %v", ack)
		}
	}
	if w.phone.sees(); w.server.Acked("alice", "phone", chat) != 0 {
		t.Error("the new entry is acknowledged")
	}
	w.settles()
	w.passes(time.Second)
	w.settles()
	w.phone.verify()
	if acked := w.server.Acked("alice", "phone", chat); acked != 1 {
		t.Errorf("acknowledged up to %d, want 1", acked)
	}
}

// An app follows a conversation from a position beyond the end of the server's log. It is
// told so, and gets the entries that come then.
func TestWatchFromBeyondTheEnd(t *testing.T) {
	w := newWorld(t, func() float64 { return 0.5 })
	for i := range 3 {
		if err := w.server.Append(chat, "bob", w.id(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	p := w.device("alice", "bot")
	p.watch = true
	p.starts()
	p.step(engine.Follow{Conversation: chat, After: 7})
	p.handed[chat] = 7
	w.settles()
	if told := p.rewound(); !slices.Equal(told, []string{"d:alice:bob 3"}) {
		t.Fatalf("told %q", told)
	}
	if err := w.server.Append(chat, "bob", w.id(), []byte("new")); err != nil {
		t.Fatal(err)
	}
	p.down = append(p.down, p.session.Pushes()...)
	w.settles()
	p.sees("new")
}

// A message has waited for a connection for longer than the server remembers, and the
// server's store went back meanwhile. The message goes out: it has never gone out before.
func TestQueuedForLongWhenTheServerWentBack(t *testing.T) {
	w := newBackWorld(t)
	w.bob.sends(chat, "old")
	w.settles()
	w.passes(time.Second)
	w.settles() // it is acknowledged
	w.bob.dies()
	w.laptop.dies()
	w.phone.step(engine.Online{On: false})
	w.phone.cutQuietly()
	w.phone.sends(chat, "patient")
	w.now += 8 * 24 * time.Hour
	w.server.Restore(w.server.Backup(), "store 1")
	w.phone.step(engine.Online{On: true})
	w.settles()
	if len(w.phone.failed) > 0 {
		t.Errorf("failed: %v", w.phone.failed)
	}
	w.logs(chat, "old", "patient")
}

// An entry of a kind that this version does not know comes back as it was sent.
func TestEntryOfALaterVersionComesBack(t *testing.T) {
	w := newBackWorld(t)
	w.laptop.dies()
	w.bob.dies()
	const later = pim.EntryKind(99)
	id := w.phone.queues(engine.Outgoing{Conversation: chat, Kind: later, Payload: []byte("\x00")})
	w.settles()
	w.goesBack(nil, "store 1")
	w.settles()
	log := w.server.Log(chat)
	if len(log) != 1 || log[0].Kind != later || log[0].ClientID != id || string(log[0].Payload) != "\x00" {
		t.Errorf("the log is %+v", log)
	}
}

// A pull has left a command out, since a later one had superseded it. When the server's
// store goes back to before the later command, the earlier one is in force again. The
// device's position may have passed it without the device having had the later one.
func TestSupersededByWhatIsGone(t *testing.T) {
	own := pim.Own("alice")
	pin := pim.Command{Kind: pim.CommandPin, Subject: string(chat)}
	for name, at := range map[string]struct {
		store     string // the identity of the store that is restored
		late      bool   // the later command comes when the list has been read
		entry     bool   // something stands below: the list does not settle the pin
		restarted bool
	}{
		"nothing is stored":              {store: "store 1"},
		"something is stored":            {store: "store 1", entry: true},
		"the process dies":               {store: "store 1", restarted: true},
		"only the pull told":             {store: "store 1", late: true, entry: true, restarted: true},
		"the store has no identity":      {},
		"nor has it, with a new process": {late: true, entry: true, restarted: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newBackWorld(t)
			if at.store == "" {
				w.server.Store = ""
			}
			if at.entry {
				w.laptop.step(engine.Do{ID: w.id(), Command: rename("carol", "Carol")})
			}
			w.laptop.step(engine.Do{ID: w.id(), Command: pin})
			w.settles()
			before := w.server.Backup()
			again := func() {
				w.laptop.step(engine.Do{ID: w.id(), Command: pin})
				for w.laptop.toServer() || w.laptop.fromServer() {
				}
			}
			if !at.late {
				again()
				w.settles()
			}
			w.phone.dies()
			tablet := w.device("alice", "tablet")
			tablet.page = 1
			tablet.starts()
			omitted := pim.Seq(1)
			if at.entry {
				omitted++
			}
			w.server.DropPush = func() bool { return true }
			for i := 0; tablet.store.conversations[own].Known < omitted; i++ {
				if i > 1000 {
					t.Fatalf("the tablet has %+v", tablet.store.conversations[own])
				}
				tablet.connects()
				if at.late && tablet.store.conversations[own].Newest == omitted {
					again()
					at.late = false
				}
				tablet.toServer()
				tablet.fromServer()
				if tablet.session == nil {
					w.passes(time.Second)
				}
			}
			if tablet.store.settings["pin/"+string(chat)].At != 0 {
				t.Fatal("the pin that was superseded was pulled")
			}
			w.server.DropPush = nil
			if at.restarted {
				tablet.dies()
			}
			w.laptop.dies() // and brings nothing back
			w.goesBack(before, at.store)
			if tablet.store.meta.Heard = 0; at.restarted {
				tablet.starts()
			}
			w.settles()
			tablet.verify()
		})
	}
}

// A process dies when it has taken the user's own log back, and before it has pulled the
// log again. The settings come back, although the sync list does not name the log.
func TestDeathBetweenForgettingAndPullingSettings(t *testing.T) {
	own := pim.Own("alice")
	for _, sender := range []pim.UserID{"alice", ""} { // with commands that are kept aside, and without
		w := newBackWorld(t)
		w.phone.step(engine.Do{ID: w.id(), Command: rename("carol", "Carol")})
		w.settles()
		w.passes(time.Second)
		w.settles()
		if acked := w.server.Acked("alice", "phone", own); acked != 1 {
			t.Fatalf("acknowledged up to %d", acked)
		}
		w.phone.dies()
		w.phone.store.rewind(engine.Rewind{Conversation: own, Sender: sender})
		w.phone.store.conversations[own] = engine.Conversation{ID: own}
		w.phone.handed[own] = 0
		w.phone.starts()
		w.settles()
		w.phone.verify()
	}
}

// unseenSends are ways in which a message is acknowledged before its entry is stored.
var unseenSends = map[string]func(*backWorld) (pim.ClientMessageID, pim.ConversationID){
	"the create of a group": func(w *backWorld) (pim.ClientMessageID, pim.ConversationID) {
		id := w.phone.queues(engine.Outgoing{Kind: pim.EntryCreate, Members: []pim.UserID{"alice", "bob"}, Payload: []byte("mine")})
		return id, pim.NewGroup("alice", id)
	},
	"a message behind a gap": func(w *backWorld) (pim.ClientMessageID, pim.ConversationID) {
		w.server.DropPush = func() bool { return true }
		w.server.Append(chat, "bob", w.id(), []byte("not pushed"))
		return w.phone.sends(chat, "mine"), chat
	},
	"a message whose answer was lost": func(w *backWorld) (pim.ClientMessageID, pim.ConversationID) {
		id := w.phone.sends(chat, "mine")
		for w.phone.toServer() {
		}
		w.server.Append(chat, "bob", w.id(), []byte("the list shows this one"))
		w.phone.loses()
		return id, chat
	},
	"a message in a hole": func(w *backWorld) (pim.ClientMessageID, pim.ConversationID) {
		w.phone.dies()
		w.phone.page, w.phone.lazy = 1, 1
		w.phone.starts()
		w.settles()
		id := w.phone.sends(chat, "mine")
		for w.phone.toServer() {
		}
		w.server.DropPush = func() bool { return true }
		for i := range 5 {
			w.server.Append(chat, "bob", w.id(), fmt.Append(nil, i))
		}
		w.phone.loses()
		return id, chat
	},
}

// newUnseenWorld returns a world in which the phone has sent a message, and has the answer and not
// the entry. before is the server before that.
func newUnseenWorld(t *testing.T, send func(*backWorld) (pim.ClientMessageID, pim.ConversationID)) (w *backWorld, c pim.ConversationID, before *clienttest.Backup) {
	w = newBackWorld(t)
	w.laptop.dies() // only the phone can bring it back
	w.bob.dies()
	before = w.server.Backup()
	id, c := send(w)
	if len(w.phone.store.entries[c]) > 0 {
		t.Fatal("the phone has an entry")
	}
	for i := 0; ; i++ {
		if _, ok := w.phone.sent[id]; ok {
			break
		}
		if i > 1000 {
			t.Fatal("it is not acknowledged")
		}
		w.phone.connects()
		w.phone.toServer()
		w.phone.down = slices.DeleteFunc(w.phone.down, func(m wire.Message) bool { // entries are slow
			switch m.(type) {
			case *wirepb.PIMPullResp, *wirepb.PIMPush:
				return true
			}
			return false
		})
		if !w.phone.fromServer() && w.phone.session == nil {
			w.passes(time.Second)
		}
	}
	for _, m := range w.phone.store.messages(c) {
		if m.ClientID == id {
			t.Fatal("its entry is stored already")
		}
	}
	return w, c, before
}

// A message leaves the outbox when it is acknowledged, and its entry may come later, or
// not be known well enough to be made up. If the server goes back before it has come,
// nobody has it but this device, and the device brings it back: alive, or when it starts
// again.
func TestAcknowledgedBeforeItsEntryIsStored(t *testing.T) {
	for name, send := range unseenSends {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", name, restarted), func(t *testing.T) {
				w, c, before := newUnseenWorld(t, send)
				if restarted {
					w.phone.dies()
				}
				w.server.DropPush = nil
				w.goesBack(before, "store 1")
				if restarted {
					w.phone.starts()
				}
				w.settles()
				if got := w.log(c); !slices.Contains(got, "mine") {
					t.Errorf("the log of %s is %q", c, got)
				}
				w.phone.verify()
				if f := w.phone.store.snapshot().Former; len(f) > 0 {
					t.Errorf("%v have entries kept aside", f)
				}
			})
		}
	}
}

// Nobody goes back: what was kept aside until its entry came is not sent again. A message
// that the device has passed over is shown without being asked for.
func TestAcknowledgedInAHole(t *testing.T) {
	w := newBackWorld(t)
	w.phone.dies()
	w.phone.page, w.phone.lazy = 1, 1
	w.phone.starts()
	w.settles()
	id := w.phone.sends(chat, "mine")
	for w.phone.toServer() {
	}
	w.server.DropPush = func() bool { return true }
	for i := range 5 {
		w.server.Append(chat, "bob", w.id(), fmt.Append(nil, i))
	}
	w.phone.loses()
	w.settles()
	if !slices.ContainsFunc(w.phone.store.messages(chat), func(e pim.Entry) bool { return e.ClientID == id }) {
		t.Errorf("the phone does not show what it sent: %+v", w.phone.store.conversations[chat])
	}
	w.logs(chat, "mine", "0", "1", "2", "3", "4")
}
