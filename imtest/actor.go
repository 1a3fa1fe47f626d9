package imtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// disk is the store of an Actor. It records which commands the device means to send, because the
// SDK itself sends some, and completes the others.
type disk struct {
	*client.Memory
	actor *Actor
}

// Apply implements client.Store.
func (d disk) Apply(ctx context.Context, b *client.Batch) error {
	for i := range b.Outbox {
		if m := &b.Outbox[i]; m.Kind == pim.EntryCommand {
			d.actor.lab.history.Sent(Send{
				Conversation: m.Conversation, Sender: d.actor.id.User, Device: d.actor.id.Device, ClientID: m.ID,
				Kind: m.Kind, Payload: SentSum(m.Kind, m.Payload),
			})
		}
	}
	return d.Memory.Apply(ctx, b)
}

// Actor is one device of a user in a Lab, with the Go SDK on it. An Actor
// belongs to the goroutine of the script.
type Actor struct {
	lab     *Lab
	id      Device
	memory  *client.Memory               // the device's store; it outlives the connection
	number  int                          // the number of the store, see History.Opened
	client  *client.Client               // nil: not connected
	drained chan struct{}                // closed when all events of client have been taken
	texts   map[string]int               // how often the store was handed each text; guarded by lab.mu
	session map[pim.ClientMessageID]bool // messages sent since the SDK was opened; guarded by lab.mu
}

// User returns user's first device, connected.
func (l *Lab) User(user pim.UserID) *Actor {
	l.t.Helper()
	return l.Device(user, "phone")
}

// Device returns another device of user, connected, with an empty store.
func (l *Lab) Device(user pim.UserID, device pim.DeviceID) *Actor {
	l.t.Helper()
	a := &Actor{lab: l, id: Device{user, device}}
	a.newStorage()
	l.actors = append(l.actors, a)
	a.Connects()
	return a
}

// User returns the user whose device this is.
func (a *Actor) User() pim.UserID { return a.id.User }

func (a *Actor) newStorage() {
	a.memory = client.NewMemory(client.MemoryOptions{})
	a.texts = make(map[string]int)
	a.lab.history.Opened(a.id, a.number)
}

// Connects opens the SDK, if it is closed, and waits until the server has answered it.
// The device uses raw TCP if the lengths of its user ID and device ID add up to an odd
// number, else WebSocket.
func (a *Actor) Connects() {
	a.lab.t.Helper()
	if a.client != nil {
		return
	}
	servers := a.lab.servers(len(a.id.User+pim.UserID(a.id.Device))%2 == 1)
	c, err := client.Open(context.Background(), client.Options{
		Servers: servers, Direct: true, User: a.id.User, Device: a.id.Device, Store: disk{a.memory, a},
		Token: func(context.Context) (string, error) {
			return a.lab.keys.Issue(a.id.User, time.Hour, time.Now())
		},
		BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond, RequestTimeout: 5 * time.Second,
		EventBuffer: 1 << 16, // never full: at Close all events are in it
	})
	if err != nil {
		a.lab.t.Fatal(err)
	}
	a.client, a.drained = c, make(chan struct{})
	a.session = make(map[pim.ClientMessageID]bool)
	go a.listen(c, a.number, a.texts, a.session, a.drained)
	a.online()
}

// online waits until the server that runs now has answered the device. Without this
// wait, a device that disconnects and connects again at once may have two connections
// under way, and the one that the server greets last replaces the other.
func (a *Actor) online() {
	a.lab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := a.client.Pull(ctx, pim.Direct(a.id.User, a.id.User), 1, 0, 1, false); err != nil {
		a.lab.t.Fatalf("%s's %s does not get online: %v", a.id.User, a.id.Device, err)
	}
}

// Disconnects closes the SDK. Its store stays.
func (a *Actor) Disconnects() {
	if a.client == nil {
		return
	}
	a.client.Close()
	<-a.drained
	a.client = nil
}

// Reconnects closes the SDK and opens it again.
func (a *Actor) Reconnects() {
	a.lab.t.Helper()
	a.Disconnects()
	a.Connects()
}

// LosesStorage deletes the device's store and connects the device again with an empty
// one. Messages in the outbox are lost with the store: those of this session are not waited
// for, and there must be none of an earlier one.
func (a *Actor) LosesStorage() {
	a.lab.t.Helper()
	a.Disconnects()
	a.lab.change(func() {
		for id := range a.session {
			if _, ok := a.lab.answered[id]; !ok {
				a.lab.answered[id] = answered{}
			}
		}
	})
	a.number++
	a.newStorage()
	a.Connects()
}

// listen takes the events of c until c is closed.
func (a *Actor) listen(c *client.Client, number int, texts map[string]int, session map[pim.ClientMessageID]bool, drained chan struct{}) {
	defer close(drained)
	l := a.lab
	for ev := range c.Events() {
		switch ev := ev.(type) {
		case client.EntryEvent:
			l.history.Handed(a.id, number, ev.Entry, ev.Late)
			l.change(func() { texts[string(ev.Entry.Payload)]++ })
		case client.SendEvent:
			a.reached(ev, session)
		}
	}
}

// reached records what became of a message.
func (a *Actor) reached(ev client.SendEvent, session map[pim.ClientMessageID]bool) {
	l := a.lab
	switch s := ev.Sent; ev.State {
	case client.Delivered:
		l.history.Acked(Ack{
			User: a.id.User, Device: a.id.Device, ClientID: ev.ID, Conversation: s.Conversation,
			Seq: s.Seq, Anchor: s.Anchor, Server: s.Server, Count: s.Count, Duplicate: s.Duplicate,
		})
		l.change(func() { l.answered[ev.ID], l.known[s.Conversation] = answered{sent: s}, true })
	case client.Superseded:
		l.change(func() { l.answered[ev.ID] = answered{} })
	case client.Failed:
		l.change(func() {
			l.answered[ev.ID] = answered{err: ev.Err}
			// A message of an earlier session is not recorded as refused: the closed
			// SDK may have left a copy of it in a connection that the server has not
			// read to its end. The server can still accept that copy, once the sender
			// is a member again.
			if session[ev.ID] {
				l.history.Refused(a.id.User, ev.ID)
			}
		})
	}
}

// Sends sends text. It does not wait for the answer.
func (a *Actor) Sends(c pim.ConversationID, text string) {
	a.lab.t.Helper()
	s, err := a.client.Send(context.Background(), c, []byte(text))
	a.sent(s, err, Send{Conversation: c, Kind: pim.EntryMessage, Payload: PayloadSum([]byte(text))})
}

// Mentions sends text to c, which names users; with none it mentions all. It does not wait for the
// answer.
func (a *Actor) Mentions(c pim.ConversationID, text string, users ...pim.UserID) {
	a.lab.t.Helper()
	option := client.Mention(users...)
	if len(users) == 0 {
		option = client.MentionAll()
	}
	s, err := a.client.Send(context.Background(), c, []byte(text), option)
	a.sent(s, err, Send{
		Conversation: c, Kind: pim.EntryMessage, Payload: PayloadSum([]byte(text)), Mentions: users, MentionAll: len(users) == 0,
	})
}

// Edits gives the message of c with the text was another text. It does not wait for the answer.
func (a *Actor) Edits(c pim.ConversationID, was, text string) {
	a.lab.t.Helper()
	seq := a.find(c, was).Seq
	s, err := a.client.Edit(context.Background(), c, seq, []byte(text))
	a.sent(s, err, Send{Conversation: c, Kind: pim.EntryEdit, Refers: seq, Payload: PayloadSum([]byte(text))})
}

// Recalls takes the message of c with text back. It does not wait for the answer.
func (a *Actor) Recalls(c pim.ConversationID, text string) {
	a.lab.t.Helper()
	seq := a.find(c, text).Seq
	s, err := a.client.Recall(context.Background(), c, seq)
	a.sent(s, err, Send{Conversation: c, Kind: pim.EntryRecall, Refers: seq, Payload: PayloadSum(nil)})
}

// Erases erases what the user has written in c up to the newest entry that the device has heard of,
// if any. It does not wait for the answer.
func (a *Actor) Erases(c pim.ConversationID) {
	a.lab.t.Helper()
	info, err := a.client.Conversation(c).Info(context.Background())
	if err != nil {
		a.lab.t.Fatal(err)
	}
	if info.Newest == 0 {
		return
	}
	s, err := a.client.Erase(context.Background(), c, info.Newest)
	a.sent(s, err, Send{Conversation: c, Kind: pim.EntryErase, Refers: info.Newest, Payload: PayloadSum(nil)})
}

// Reads marks c as read up to the message with text. It does not wait for the answer.
func (a *Actor) Reads(c pim.ConversationID, text string) {
	a.lab.t.Helper()
	e := a.find(c, text)
	a.commands(a.client.MarkRead(context.Background(), &e))
}

// ReadsAll marks c as read up to the newest entry that the device has, if any. It does not wait for
// the answer.
func (a *Actor) ReadsAll(c pim.ConversationID) {
	a.lab.t.Helper()
	entries, err := a.client.Messages(context.Background(), c, 1)
	if err != nil {
		a.lab.t.Fatal(err)
	}
	if len(entries) > 0 {
		a.commands(a.client.MarkRead(context.Background(), &entries[0]))
	}
}

// GivesReceipts sets whether others see how far the user has read. It does not wait for the answer.
func (a *Actor) GivesReceipts(on bool) {
	a.lab.t.Helper()
	a.commands(a.client.SetReceipts(context.Background(), on))
}

// Asks asks how far others have read c.
func (a *Actor) Asks(c pim.ConversationID) {
	a.lab.t.Helper()
	a.ask(c, false)
}

// ask asks how far others have read c; end says that nobody reads any more.
func (a *Actor) ask(c pim.ConversationID, end bool) {
	a.lab.t.Helper()
	const screen = 50
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	info, err := a.client.Conversation(c).Info(ctx)
	if err != nil {
		a.lab.t.Fatal(err)
	}
	for from := pim.Seq(1); from <= info.Newest; from += screen {
		to := min(from+screen-1, info.Newest)
		r, err := a.client.Receipts(ctx, c, from, to)
		switch pim.KindOf(err) {
		case pim.KindNotMember, pim.KindForbidden:
			return
		}
		if err != nil {
			a.lab.t.Fatal(err)
		}
		a.lab.history.Receipts(a.id.User, c, from, to, r, end)
	}
}

// find waits until the device has a message of c with text, and returns it.
func (a *Actor) find(c pim.ConversationID, text string) pim.Entry {
	a.lab.t.Helper()
	a.Sees(text)
	entries, err := a.client.Messages(context.Background(), c, 1<<20)
	if err != nil {
		a.lab.t.Fatal(err)
	}
	i := slices.IndexFunc(entries, func(e pim.Entry) bool { return e.Kind == pim.EntryMessage && string(e.Payload) == text })
	if i < 0 {
		a.lab.t.Fatalf("%s's %s has no message %q any more", a.id.User, a.id.Device, text)
	}
	return entries[i]
}

// Adds lets users join c. It does not wait for the answer.
func (a *Actor) Adds(c pim.ConversationID, users ...pim.UserID) {
	a.lab.t.Helper()
	s, err := a.client.Join(context.Background(), c, users...)
	a.sent(s, err, Send{Conversation: c, Kind: pim.EntryJoin, Members: users, Payload: PayloadSum(nil)})
}

// Leaves leaves c. It does not wait for the answer.
func (a *Actor) Leaves(c pim.ConversationID) {
	a.lab.t.Helper()
	s, err := a.client.Leave(context.Background(), c)
	a.sent(s, err, Send{Conversation: c, Kind: pim.EntryLeave, Payload: PayloadSum(nil)})
}

// Creates creates a group with users and returns it when the answer has come.
func (a *Actor) Creates(users ...pim.UserID) pim.ConversationID {
	a.lab.t.Helper()
	s, err := a.client.CreateGroup(context.Background(), users)
	a.sent(s, err, Send{Kind: pim.EntryCreate, Members: users, Payload: PayloadSum(nil)})
	var answer answered
	a.lab.await("a new group", func() (ok bool) {
		answer, ok = a.lab.answered[s.ID()]
		return ok
	})
	if answer.err != nil {
		a.lab.t.Fatal(answer.err)
	}
	return answer.sent.Conversation
}

func (a *Actor) sent(s *client.Sending, err error, m Send) {
	a.lab.t.Helper()
	if err != nil {
		a.lab.t.Fatal(err)
	}
	m.Sender, m.Device, m.ClientID = a.id.User, a.id.Device, s.ID()
	a.lab.history.Sent(m)
	a.awaits(s.ID())
}

// commands notes that a command was given. The device's store has recorded it.
func (a *Actor) commands(s *client.Sending, err error) {
	a.lab.t.Helper()
	if err != nil {
		a.lab.t.Fatal(err)
	}
	a.awaits(s.ID())
}

// awaits notes that the message id has to be answered.
func (a *Actor) awaits(id pim.ClientMessageID) {
	a.lab.change(func() {
		a.lab.sent = append(a.lab.sent, id)
		a.session[id] = true
	})
}

// Sees waits until the device was handed a message with text.
func (a *Actor) Sees(text string) {
	a.lab.t.Helper()
	a.lab.await(fmt.Sprintf("%s's %s to see %q", a.id.User, a.id.Device, text), func() bool { return a.texts[text] > 0 })
}

// CatchesUp waits until the device has received, since its last connect, everything
// that the server has for it.
func (a *Actor) CatchesUp() {
	a.lab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.client.Synced(ctx); err != nil {
		a.lab.t.Fatalf("%s's %s does not catch up: %v", a.id.User, a.id.Device, err)
	}
}

// show records what the device displays.
func (a *Actor) show() {
	a.lab.t.Helper()
	ctx := context.Background()
	for _, c := range a.lab.conversations() {
		entries, err := a.client.Messages(ctx, c, 1<<20)
		if err != nil {
			a.lab.t.Fatal(err)
		}
		seqs := make([]pim.Seq, len(entries))
		for i := range entries {
			seqs[i] = entries[i].Seq
		}
		a.lab.history.Shown(a.id, c, seqs)
		if _, own := c.OwnUser(); own {
			continue
		}
		folds, err := a.memory.Folds(ctx, c, 1, forever)
		if err != nil {
			a.lab.t.Fatal(err)
		}
		of := make(map[pim.Seq]pim.Fold, len(folds))
		for _, f := range folds {
			of[f.Target] = f
		}
		a.lab.history.Kept(a.id, c, entries, of)
		info, err := a.client.Conversation(c).Info(ctx)
		if err != nil {
			a.lab.t.Fatal(err)
		}
		read := pim.Command{Kind: pim.CommandRead, Subject: string(c)}
		a.lab.history.Front(a.id, c, info.Front)
		a.lab.history.Listed(a.id, c, Listed{
			Read: a.client.Setting(read.Entity()).Seq, Unread: info.Unread, Mentions: info.Mentions, Marked: info.Marked,
		})
	}
}

// pullAll records all that the user can pull, and what the user is told of others' reads.
func (a *Actor) pullAll() {
	a.lab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range a.lab.conversations() {
		if _, own := c.OwnUser(); own {
			continue // a pull leaves superseded commands out
		}
		entries, err := ReadAll(ctx, a.client, c, 100)
		if err != nil && !isNotMember(err) {
			a.lab.t.Fatal(err)
		}
		a.lab.history.Final(a.id.User, c, entries)
		a.ask(c, true)
	}
}

func isNotMember(err error) bool {
	var e *pim.Error
	return errors.As(err, &e) && e.Kind == pim.KindNotMember
}
