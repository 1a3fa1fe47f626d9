package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const mine = pim.ConversationID("u:alice")

func (s *script) does(c pim.Command) pim.ClientMessageID {
	s.t.Helper()
	id := s.w.id()
	s.must(engine.Do{ID: id, Command: c})
	return id
}

func rename(user, name string) pim.Command {
	return pim.Command{Kind: pim.CommandContact, Subject: user, Value: []byte(name)}
}

func remove(user string) pim.Command {
	return pim.Command{Kind: pim.CommandContact, Subject: user, Removed: true}
}

func reads(seq pim.Seq) pim.Command {
	return pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: seq, Count: uint64(seq)}
}

// logged is a command as an entry of alice's own log.
func logged(seq uint64, device string, id pim.ClientMessageID, c pim.Command) *wirepb.PIMPush {
	return &wirepb.PIMPush{Conversation: string(mine), Entries: []*wirepb.Entry{{
		Seq: seq, Kind: wirepb.EntryKind_ENTRY_KIND_COMMAND, Sender: "alice", Device: device,
		ClientMessageId: id[:], Payload: wire.AppendCommand(nil, &c),
	}}}
}

// commands lists the transmissions of commands since the last call.
func (s *script) commands() []string {
	var got []string
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSendReq); ok && m.Conversation == string(mine) {
			c, err := wire.ParseCommand(m.Payload)
			if err != nil {
				s.t.Fatal(err)
			}
			got = append(got, tell(c))
		}
	}
	s.up = nil
	return got
}

func tell(c pim.Command) string {
	line := c.Entity()
	if c.Removed {
		line += " removed"
	}
	if c.Seq != 0 {
		line += fmt.Sprint(" ", c.Seq)
	}
	if len(c.Value) > 0 {
		line += " " + string(c.Value)
	}
	return line
}

func (s *script) commanded(want ...string) {
	s.t.Helper()
	if got := s.commands(); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Fatalf("transmitted %q, want %q", got, want)
	}
}

// shows checks what the app was last told of the entity.
func (s *script) shows(want string, pending bool) {
	s.t.Helper()
	var last engine.SettingEvent
	for _, ev := range s.events {
		if ev, ok := ev.(engine.SettingEvent); ok {
			last = ev
		}
	}
	if got := tell(last.Setting.Command); got != want || last.Pending != pending {
		s.t.Fatalf("shows %q, pending %v; want %q, %v", got, last.Pending, want, pending)
	}
}

// Offline, three read commands of the same conversation become one, and so do two
// names of one contact; different entities do not wait for each other.
func TestCommandsCoalesce(t *testing.T) {
	s := newScript(t)
	s.gets(push(1, 2, 3, 4, 5, 6, 7, 8, 9))
	s.events = nil
	s.loses()
	first := s.does(reads(3))
	s.does(reads(7))
	s.does(reads(5)) // below what is read already
	s.does(rename("bob", "Bob"))
	s.does(rename("bob", "Robert"))
	s.does(rename("carol", "Carol"))
	s.shows("contact/carol Carol", true)
	if n := len(s.store.outbox); n != 3 {
		t.Errorf("%d commands in the outbox", n)
	}
	if _, kept := s.store.outbox[first]; kept {
		t.Error("the first mark is still there")
	}
	s.fared("1 queued, 1 superseded, 2 queued, 3 superseded, 4 queued, 4 superseded, 5 queued, 6 queued")
	s.w.passes(time.Minute)
	s.opens(nil)
	s.commanded("read/d:alice:bob 7", "contact/bob Robert", "contact/carol Carol")
}

// A read position that this device has not heard of, or with more messages than
// there are, is refused: it would hide all that is to come.
func TestReadPositionsBeyondTheLog(t *testing.T) {
	s := newScript(t)
	refused := func(c pim.Command) {
		t.Helper()
		if err := s.step(engine.Do{ID: s.w.id(), Command: c}); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
	refused(reads(1))
	s.gets(push(1, 2, 3))
	for _, seq := range []pim.Seq{4, 1 << 40, 1<<64 - 1} {
		refused(reads(seq))
	}
	wrong := reads(2)
	for _, wrong.Count = range []uint64{3, 4, 1 << 40} {
		refused(wrong)
	}
	if len(s.store.outbox) > 0 || len(s.store.settings) > 0 {
		t.Errorf("queued: %v, %v", s.store.outbox, s.store.settings)
	}
	wrong.Seq = 3 // of the newest entry this device knows the count itself
	s.does(wrong)
	for _, m := range s.store.outbox {
		if c, err := wire.ParseCommand(m.Payload); err != nil || c.Count != 3 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	s.gets(push(9)) // announced, and still to be pulled
	s.does(reads(8))
}

// A user who writes has read what came before, on whatever device, and however this one
// has heard of the message: by a push, ahead of a gap, by an answer, from the sync list.
func TestOwnMessagesAreRead(t *testing.T) {
	unread := func(s *script, want uint64) {
		t.Helper()
		row := s.store.conversations[chat]
		if got := row.Count - row.OwnCount; got != want {
			t.Errorf("%d unread, want %d: %+v", got, want, row)
		}
	}
	mineAt := func(seq uint64) *wirepb.Entry {
		e := bobs(seq)[0]
		e.Sender, e.Device = "alice", "laptop"
		return e
	}
	t.Run("pushed", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2, 3))
		unread(s, 3)
		s.gets(&wirepb.PIMPush{Conversation: string(chat), Entries: []*wirepb.Entry{mineAt(4)}})
		unread(s, 0)
		s.gets(push(5, 6))
		unread(s, 2)
		s.dies()
		s.starts()
		s.opens(nil)
		unread(s, 2)
	})
	t.Run("ahead of a gap", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1))
		s.gets(&wirepb.PIMPush{Conversation: string(chat), Entries: []*wirepb.Entry{mineAt(4)}})
		unread(s, 0)
	})
	t.Run("answered", func(t *testing.T) {
		s := newScript(t)
		s.gets(push(1, 2))
		id := s.sends(chat, "hi")
		unread(s, 2)
		s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(chat), Seq: 3, Count: 3, Duplicate: true})
		unread(s, 0)
	})
	t.Run("listed", func(t *testing.T) {
		s := newScript(t)
		last := mineAt(90)
		last.Seq, last.Count = 0, 0 // a brief Summary leaves them out
		s.gets(&wirepb.PIMPong{Behind: true})
		for _, m := range s.up {
			if m, ok := m.(*wirepb.PIMSyncReq); ok {
				s.gets(&wirepb.PIMSyncResp{RequestId: m.RequestId, Conversations: []*wirepb.Summary{
					{Conversation: string(chat), Newest: 90, Count: 80, Last: last},
				}})
			}
		}
		if row := s.store.conversations[chat]; row.Newest != 90 || row.Own != 90 {
			t.Errorf("%+v", row)
		}
		unread(s, 0)
	})
}

// What was written before the user joined a group, or while the user was not in it, is
// not for the user: it is not unread.
func TestWhatIsAboveOnesJoiningIsRead(t *testing.T) {
	const team = pim.ConversationID("g:team")
	entry := func(seq, count uint64, kind wirepb.EntryKind, members ...string) *wirepb.Entry {
		e := bobs(seq)[0]
		e.Count, e.Kind, e.Members = count, kind, members
		return e
	}
	const message, join, leave = wirepb.EntryKind_ENTRY_KIND_MESSAGE, wirepb.EntryKind_ENTRY_KIND_JOIN, wirepb.EntryKind_ENTRY_KIND_LEAVE
	pushed := func(s *script, entries ...*wirepb.Entry) {
		s.gets(&wirepb.PIMPush{Conversation: string(team), Entries: entries})
	}
	pulled := func(s *script, from, to uint64, entries ...*wirepb.Entry) {
		s.gets(&wirepb.PIMPullResp{
			RequestId: s.lastPull(), Conversation: string(team), Entries: entries, From: from, To: to, Newest: to, Done: true,
		})
	}
	unread := func(s *script, want uint64) {
		t.Helper()
		if row := s.store.conversations[team]; row.Count-row.OwnCount != want {
			t.Errorf("%d unread, want %d: %+v", row.Count-row.OwnCount, want, row)
		}
	}
	s := newScript(t)
	s.quiets()
	pushed(s, entry(7, 5, join, "alice", "carol"))
	unread(s, 0)
	s.w.passes(time.Second)
	pulled(s, 1, 7, entry(7, 5, join, "alice", "carol"))
	pushed(s, entry(8, 6, message), entry(9, 6, join, "dave"), entry(10, 7, message))
	unread(s, 2)
	pushed(s, entry(11, 7, leave, "alice"))
	unread(s, 2)
	s.quiets()
	pushed(s, entry(20, 15, join, "alice"))
	s.w.passes(time.Second)
	pulled(s, 12, 20, entry(20, 15, join, "alice"))
	unread(s, 0)
	s.dies()
	s.starts()
	s.opens(nil)
	unread(s, 0)
}

// A command that was transmitted may have been taken: what follows it about the
// same entity waits for its answer.
func TestCommandsKeepTheirOrder(t *testing.T) {
	s := newScript(t)
	a := s.does(rename("bob", "Bob"))
	s.does(remove("bob"))
	s.does(rename("carol", "Carol"))
	s.commanded("contact/bob Bob", "contact/carol Carol")
	s.gets(&wirepb.PIMSendAck{ClientMessageId: a[:], Conversation: string(mine), Seq: 1})
	s.commanded("contact/bob removed")
	s.shows("contact/bob removed", true)
}

// The answer to a command was lost, and another device has replaced it since: a pull
// leaves it out. When it is answered, the app hears what the contact has come to.
func TestReplacedBeforeItWasAnswered(t *testing.T) {
	s := newScript(t)
	id := s.does(rename("bob", "Bob"))
	s.loses()
	s.opens(nil)
	s.quiets()
	bobby := logged(2, "laptop", pim.ClientMessageID{2}, rename("bob", "Bobby"))
	s.gets(bobby)
	s.gets(&wirepb.PIMPullResp{RequestId: s.lastPull(), From: 1, To: 1, Newest: 2, Done: true})
	s.shows("contact/bob Bob", true)
	s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(mine), Seq: 1, Duplicate: true})
	s.shows("contact/bob Bobby", false)
}

// The article's case, as one device sees it: a contact is deleted in airplane
// mode, while another device gives it a new name. The deletion wins.
func TestDeletedInAirplaneMode(t *testing.T) {
	s := newScript(t)
	s.gets(logged(1, "laptop", pim.ClientMessageID{1}, rename("bob", "Bob")))
	s.loses()
	id := s.does(remove("bob"))
	s.shows("contact/bob removed", true)
	s.w.passes(time.Hour)
	s.dies()
	s.events = nil
	s.starts()
	s.shows("contact/bob removed", true)
	s.opens(nil)
	s.commanded("contact/bob removed")
	bobby := rename("bob", "Bobby")
	bobby.Known = 1
	s.gets(logged(2, "laptop", pim.ClientMessageID{2}, bobby))
	s.shows("contact/bob removed", true) // still on its way, and shown all the same
	s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(mine), Seq: 3})
	s.shows("contact/bob removed", false)
	late := rename("bob", "Rob")
	late.Known = 2 // given without knowing of the deletion
	s.gets(logged(4, "laptop", pim.ClientMessageID{4}, late))
	s.shows("contact/bob removed", false)
	again := rename("bob", "Robert")
	again.Known = 4 // given knowing of it
	s.gets(logged(5, "laptop", pim.ClientMessageID{5}, again))
	s.shows("contact/bob Robert", false)
	if got := tell(s.store.settings["contact/bob"].Command); got != "contact/bob Robert" {
		t.Errorf("stored: %s", got)
	}
}

// After a week a command has expired; it is not sent any more, and the app hears
// of it.
func TestCommandsExpire(t *testing.T) {
	s := newScript(t)
	s.loses()
	s.does(rename("bob", "Bob"))
	s.fared("1 queued")
	s.w.passes(6 * 24 * time.Hour)
	s.fared("") // patient, if need be for days
	s.dies()
	s.w.passes(25 * time.Hour)
	s.starts()
	s.session = s.w.server.Connect(nil)
	s.step(engine.Dialled{Token: "alice"})
	s.gets(&wirepb.Welcome{User: "alice", ServerMs: int64(s.w.server.Now())})
	s.commanded()
	s.fared("1 failed (timeout)")
	if len(s.store.outbox) != 0 {
		t.Errorf("stored: %v", s.store.outbox)
	}
}

// A connected device is no less patient: a command that gets no answer is sent
// again and again.
func TestCommandsArePatient(t *testing.T) {
	s := newScript(t)
	id := s.does(rename("bob", "Bob"))
	s.lives(10 * time.Minute)
	if n := len(s.commands()); n < 12 || n > 16 {
		t.Errorf("transmitted %d times in ten minutes", n)
	}
	if s.store.outbox[id].Failed != nil {
		t.Error("it has failed")
	}
}

// A command that the server refuses leaves no trace.
func TestRefusedCommand(t *testing.T) {
	s := newScript(t)
	s.gets(logged(1, "laptop", pim.ClientMessageID{1}, rename("bob", "Bob")))
	id := s.does(rename("bob", "Bobby"))
	s.shows("contact/bob Bobby", true)
	s.gets(&wirepb.PIMError{ClientMessageId: id[:], Kind: wirepb.ErrorKind_ERROR_KIND_TOO_LARGE})
	s.shows("contact/bob Bob", false)
	if len(s.store.outbox) != 0 {
		t.Errorf("stored: %v", s.store.outbox)
	}
}

// A command for which there is no room supersedes nothing.
func TestCommandWithoutRoom(t *testing.T) {
	s := newOffline(t)
	for i := range 100_000 {
		c := rename(fmt.Sprint(i), "")
		s.store.settings[c.Entity()] = pim.Setting{Command: c, At: 1}
	}
	id, bob := s.w.id(), rename("bob", "Bob")
	s.store.outbox[id] = engine.Outgoing{ID: id, Number: 1, Conversation: mine, Kind: pim.EntryCommand, Payload: wire.AppendCommand(nil, &bob)}
	s.store.meta.Number = 1
	s.starts()
	s.refuses(pim.KindOverloaded, engine.Do{ID: s.w.id(), Command: rename("bob", "Robert")})
	s.shows("contact/bob Bob", true)
	if _, kept := s.store.outbox[id]; !kept {
		t.Error("the command before it is gone")
	}
}

// The week of a command that was given before the time was known is counted from
// when it was given, whatever the wall clock said.
func TestExpiryWithAWrongClock(t *testing.T) {
	for name, skew := range map[string]pim.Millis{"a month behind": -30 * day, "a year ahead": 365 * day} {
		t.Run(name, func(t *testing.T) {
			s := newOffline(t)
			s.skew = skew
			s.starts()
			id := s.does(rename("bob", "Bob"))
			s.w.passes(time.Hour)
			s.opens(nil)
			s.commanded("contact/bob Bob")
			if got, want := s.store.outbox[id].Queued, s.w.server.Now()-3_600_000; max(got-want, want-got) > 60_000 {
				t.Errorf("queued at %d, want %d", got, want)
			}
			s.dies()
			s.w.passes(8 * 24 * time.Hour)
			s.starts()
			s.opens(nil)
			s.commanded()
			if len(s.store.outbox) != 0 {
				t.Errorf("eight days later stored: %v", s.store.outbox)
			}
		})
	}
}

// A wall clock that begins at 1970 again makes no command a week old, even if the
// process ends before a connection tells the time: the command counts as younger than
// the last message that was sent.
func TestExpiryAfterAnEarlierProcessWithAWrongClock(t *testing.T) {
	s := newScript(t)
	s.sends(chat, "a")
	s.dies()
	s.w.passes(24 * time.Hour)
	s.skew = -epoch
	s.starts()
	s.does(rename("bob", "Bob"))
	s.dies()
	s.starts()
	s.opens(nil)
	s.commanded("contact/bob Bob")
}

// The week of a create that an earlier process dated in the future, or not at all, as
// version 1 of the store did, counts from the first connection.
func TestExpiryWithoutADate(t *testing.T) {
	for name, queued := range map[string]pim.Millis{"no date": 0, "in the future": epoch + 365*day} {
		s := newOffline(t)
		id := s.w.id()
		s.store.outbox[id] = engine.Outgoing{ID: id, Number: 1, Kind: pim.EntryCreate, Members: []pim.UserID{"bob"}, Queued: queued}
		s.starts()
		s.opens(nil)
		if got := s.transmitted(); len(got) != 1 {
			t.Errorf("%s: transmitted %q", name, got)
		}
		if got, now := s.store.outbox[id].Queued, s.w.server.Now(); max(got-now, now-got) > 60_000 {
			t.Errorf("%s: queued at %d, want %d", name, got, now)
		}
	}
}

func TestBadCommands(t *testing.T) {
	s := newScript(t)
	for _, test := range []struct {
		name string
		c    pim.Command
		want pim.Kind
	}{
		{"no kind", pim.Command{Subject: "bob"}, pim.KindUnsupported},
		{"no user", pim.Command{Kind: pim.CommandContact}, pim.KindInvalid},
		{"no conversation", pim.Command{Kind: pim.CommandPin, Subject: "bob"}, pim.KindInvalid},
		{"too much", pim.Command{Kind: pim.CommandContact, Subject: "bob", Value: make([]byte, pim.MaxCommandValue+1)}, pim.KindTooLarge},
		{"reads nothing", reads(0), pim.KindInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.t = t
			s.refuses(test.want, engine.Do{ID: s.w.id(), Command: test.c})
		})
	}
	s.t = t
	s.refuses(pim.KindInvalid, engine.Send{Message: engine.Outgoing{ID: s.w.id(), Conversation: mine, Kind: pim.EntryMessage}})
	if len(s.store.outbox) != 0 {
		t.Errorf("stored: %v", s.store.outbox)
	}
}

// A read position beyond the end of the conversation does not hide what is read after
// it: the next read command is sent, and the device takes what the server made of it.
func TestPositionBeyondTheConversation(t *testing.T) {
	s := newScript(t)
	s.gets(logged(1, "laptop", pim.ClientMessageID{1}, reads(1<<40)))
	s.gets(&wirepb.PIMPush{Conversation: string(chat), Entries: []*wirepb.Entry{
		{Seq: 1, Kind: wirepb.EntryKind_ENTRY_KIND_MESSAGE, Sender: "bob", Device: "d", ClientMessageId: make([]byte, 16), Count: 1},
	}})
	id := s.does(reads(1))
	s.commanded("read/d:alice:bob 1")
	written := pim.Command{Kind: pim.CommandRead, Subject: string(chat), Seq: 1, Count: 7, Replaces: true}
	s.gets(&wirepb.PIMSendAck{ClientMessageId: id[:], Conversation: string(mine), Seq: 2, Payload: wire.AppendCommand(nil, &written)})
	s.shows("read/d:alice:bob 1", false)
	if set := s.store.settings["read/d:alice:bob"]; set.Seq != 1 || set.Count != 7 || set.At != 2 {
		t.Errorf("stored %+v", set)
	}
}

// A read position that waits in the outbox is given up if the server has lost what was read, and
// the app is shown the position that is left.
func TestReadOfWhatIsGone(t *testing.T) {
	w := newBackWorld(t)
	w.bob.sends(chat, "one")
	w.settles()
	before := w.server.Backup()
	if err := w.server.Append(chat, "bob", w.id(), []byte("two")); err != nil {
		t.Fatal(err)
	}
	w.settles()
	w.phone.loses()
	if err := w.phone.step(engine.Do{ID: w.id(), Command: reads(2)}); err != nil {
		t.Fatal(err)
	}
	w.server.Reject = func(m *wirepb.PIMSendReq) *pim.Error { // the read does not get as far as being refused
		if pim.EntryKind(m.Kind) != pim.EntryCommand {
			return nil
		}
		return &pim.Error{Kind: pim.KindOverloaded, Text: "busy", RetryAfter: time.Second}
	}
	w.goesBack(before, "store 1")
	w.settles()
	var shown engine.SettingEvent
	for _, ev := range w.phone.events {
		if ev, ok := ev.(engine.SettingEvent); ok && ev.Entity == "read/"+string(chat) {
			shown = ev
		}
	}
	if want := w.server.Settings("alice")[shown.Entity]; shown.Pending || shown.Setting.Seq != want.Seq {
		t.Errorf("the app is shown %+v, the log has come to %+v", shown, want)
	}
}

// A command is acknowledged while the device compares what it has with a server that went back, and
// the server loses it again before its entry has come. The app is shown that it is gone.
func TestAcknowledgedInDoubtAndLost(t *testing.T) {
	w := newBackWorld(t)
	w.laptop.step(engine.Do{ID: w.id(), Command: rename("carol", "Carol")})
	w.settles()
	before := w.server.Backup()
	w.phone.loses()
	id := w.id()
	w.phone.step(engine.Do{ID: id, Command: rename("dave", "Dave")})
	w.goesBack(before, "store 1")
	for acked := false; !acked; {
		w.passes(100 * time.Millisecond)
		w.phone.connects()
		w.phone.toServer()
		for !acked && w.phone.fromServer() {
			_, acked = w.phone.sent[id]
		}
	}
	w.goesBack(before, "store 2")
	w.settles()
	var shown engine.SettingEvent
	for _, ev := range w.phone.events {
		if ev, ok := ev.(engine.SettingEvent); ok && ev.Entity == "contact/dave" {
			shown = ev
		}
	}
	if _, there := w.server.Settings("alice")["contact/dave"]; there || shown.Entity == "" {
		t.Fatalf("the story is another: %v, %+v", there, shown)
	}
	if shown.Pending || shown.Setting.At != 0 {
		t.Errorf("the app is shown %+v, of which the log knows nothing", shown)
	}
}
