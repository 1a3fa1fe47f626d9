package client_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/sqlite"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

const chat = pim.ConversationID("d:alice:bob")

// world is a server on loopback ports.
type world struct {
	t      *testing.T
	server *clienttest.Server
	on     *clienttest.Listener
	tcp    bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := clienttest.NewServer(func() pim.Millis { return pim.MillisOf(time.Now()) })
	l, err := clienttest.Listen(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return &world{t: t, server: s, on: l}
}

// device is a client of user.
type device struct {
	*client.Client
	t    *testing.T
	user pim.UserID
}

func (w *world) options(user pim.UserID, name pim.DeviceID) client.Options {
	server := w.on.URL
	if w.tcp {
		server = w.on.TCP
	}
	return client.Options{
		Server: server, User: user, Device: name,
		Token:      func(context.Context) (string, error) { return string(user), nil },
		BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
	}
}

func (w *world) opens(o client.Options) *device {
	w.t.Helper()
	c, err := client.Open(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return &device{Client: c, t: w.t, user: o.User}
}

func (w *world) device(user pim.UserID) *device {
	w.t.Helper()
	return w.opens(w.options(user, "phone"))
}

// next waits for the next event of type E and skips others.
func next[E client.Event](d *device) E {
	d.t.Helper()
	limit := time.After(5 * time.Minute) // ends a hanging test; decides nothing
	for {
		select {
		case ev, ok := <-d.Events():
			if e, is := ev.(E); is {
				return e
			}
			if !ok {
				d.t.Fatalf("%s: events closed", d.user)
			}
		case <-limit:
			d.t.Fatalf("%s waits for %T in vain", d.user, *new(E))
		}
	}
}

func (d *device) sees(texts ...string) {
	d.t.Helper()
	for _, want := range texts {
		if e := next[client.EntryEvent](d).Entry; string(e.Payload) != want {
			d.t.Fatalf("%s sees %q at %s/%d, want %q", d.user, e.Payload, e.Conversation, e.Seq, want)
		}
	}
}

func (d *device) sends(c pim.ConversationID, text string) *client.Sending {
	d.t.Helper()
	s, err := d.Send(d.t.Context(), c, []byte(text))
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *device) sent(s *client.Sending, err error) client.Sent {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	sent, err := s.Wait(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return sent
}

func (d *device) synced() {
	d.t.Helper()
	if err := d.Synced(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

func TestTwoPeopleChat(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		t.Run(fmt.Sprintf("tcp=%v", tcp), func(t *testing.T) {
			w := newWorld(t)
			w.tcp = tcp
			alice, bob := w.device("alice"), w.device("bob")
			bob.synced()
			if got := alice.sent(alice.sends(chat, "hi"), nil); got.Seq != 1 || got.Conversation != chat || got.Duplicate {
				t.Errorf("sent: %+v", got)
			}
			bob.sees("hi")
			bob.sends(chat, "hello")
			alice.sees("hi", "hello")
			bob.sees("hello")
			for range 20 {
				alice.sends(chat, "more")
			}
			for range 20 {
				bob.sees("more")
			}
			if err := alice.Close(); err != nil || alice.State() != client.Stopped {
				t.Errorf("close: %v, state %s", err, alice.State())
			}
		})
	}
}

func TestGroup(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice"), w.device("bob")
	group := alice.sent(alice.CreateGroup(t.Context(), []pim.UserID{"bob"})).Conversation
	if e := next[client.EntryEvent](bob).Entry; e.Kind != pim.EntryCreate || e.Conversation != group {
		t.Fatalf("bob sees %+v", e)
	}
	alice.sent(alice.Join(t.Context(), group, "carol"))
	bob.sent(bob.Leave(t.Context(), group, "bob"))
	alice.sends(group, "he has left")
	carol := w.device("carol")
	carol.sees("", "", "he has left") // joins, bob leaves
	carol.synced()
	bob.sees("", "")
	bob.synced()
	list, err := bob.Conversations(t.Context())
	if err != nil || len(list) != 1 || !list[0].Left || list[0].Newest != 3 {
		t.Errorf("bob's list: %+v, %v", list, err)
	}
	var rejected *client.Sending
	if rejected, err = bob.Send(t.Context(), group, []byte("too late")); err != nil {
		t.Fatal(err)
	}
	if _, err := rejected.Wait(t.Context()); pim.KindOf(err) != pim.KindNotMember {
		t.Errorf("bob sends after leaving: %v", err)
	}
	for ev := next[client.SendEvent](bob); ev.State != client.Failed; ev = next[client.SendEvent](bob) {
		if ev.ID != rejected.ID() {
			t.Errorf("failed: %+v", ev)
		}
	}
}

// A group that could not be created is found again after a restart.
func TestOutbox(t *testing.T) {
	w := newWorld(t)
	w.server.Reject = func(m *wirepb.PIMSendReq) *pim.Error { return pim.Errorf(pim.KindForbidden, "not today") }
	o := w.options("alice", "phone")
	o.Store = client.NewMemory(client.MemoryOptions{})
	alice := w.opens(o)
	group, err := alice.CreateGroup(t.Context(), []pim.UserID{"bob"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := group.Wait(t.Context()); pim.KindOf(err) != pim.KindForbidden {
		t.Fatalf("created: %v", err)
	}
	alice.Close()
	w.server.Reject = nil
	alice = w.opens(o)
	list, err := alice.Outbox(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != group.ID() || list[0].State != client.Failed || pim.KindOf(list[0].Err) != pim.KindForbidden {
		t.Fatalf("outbox %+v, %v", list, err)
	}
	if sent := alice.sent(alice.Resend(t.Context(), list[0].ID)); sent.Conversation == "" {
		t.Errorf("created as %+v", sent)
	}
	if list, err := alice.Outbox(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("outbox %+v, %v", list, err)
	}
}

// Messages that are queued without a connection, even by a process that has ended, are
// sent as soon as there is a connection: in order, and each once.
func TestOutboxOutlivesProcess(t *testing.T) {
	w := newWorld(t)
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "alice.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	o := w.options("alice", "phone")
	o.Store = store
	w.on.Refuse(true)
	alice := w.opens(o)
	var last *client.Sending
	for _, text := range []string{"one", "two", "three"} {
		last = alice.sends(chat, text)
	}
	alice.Close()
	if _, err := last.Wait(t.Context()); pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("wait on a closed client: %v", err)
	}
	w.on.Refuse(false)
	alice = w.opens(o)
	alice.sees("one", "two", "three")
	alice.Close()
	alice = w.opens(o)
	alice.synced()
	alice.sends(chat, "four")
	alice.sees("four") // and none of the others again
}

func TestReconnects(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice"), w.device("bob")
	var want, got []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for len(got) < 100 {
			if ev, ok := (<-bob.Events()).(client.EntryEvent); ok {
				got = append(got, string(ev.Entry.Payload))
			}
		}
	}()
	for i := range 100 {
		text := fmt.Sprint(i)
		want = append(want, text)
		alice.sends(chat, text)
		if i%20 == 10 {
			w.on.Cut()
		}
	}
	<-done
	if !slices.Equal(got, want) {
		t.Errorf("bob sees %v", got)
	}
	if log := w.server.Log(chat); len(log) != 100 {
		t.Errorf("the log has %d entries", len(log))
	}
}

// An app that does not read its events loses nothing, and keeps memory bounded.
func TestSlowApp(t *testing.T) {
	w := newWorld(t)
	o := w.options("bob", "phone")
	o.EventBuffer = 1
	bob := w.opens(o)
	for i := range 500 {
		if err := w.server.Append(chat, "alice", pim.ClientMessageID{1, byte(i), byte(i >> 8)}, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	bob.sends(chat, "meanwhile, the outbox takes messages")
	seen := make(map[string]bool) // a gap of this length comes newest page first
	for len(seen) < 500 {
		e := next[client.EntryEvent](bob).Entry
		if e.Sender == "alice" && seen[string(e.Payload)] {
			t.Fatalf("%q comes twice", e.Payload)
		}
		seen[string(e.Payload)] = e.Sender == "alice"
		if e.Sender == "bob" {
			delete(seen, string(e.Payload))
		}
	}
}

func TestWatch(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		if err := w.server.Append(chat, "alice", pim.ClientMessageID{1, byte(i)}, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	o := w.options("bob", "tail")
	o.Watch = true
	bob := w.opens(o)
	if err := bob.Watch(t.Context(), chat, 3); err != nil {
		t.Fatal(err)
	}
	if err := bob.Watch(t.Context(), "g:unknown", 0); err != nil {
		t.Fatal(err)
	}
	bob.synced()
	bob.sees("3", "4")
	alice := w.device("alice")
	alice.sends("d:alice:alice", "not for bob")
	alice.sends(chat, "new")
	w.on.Cut()
	bob.sees("new")
	if w.server.Acked("bob", "tail", chat) != 0 {
		t.Error("a watching client acknowledged")
	}
	page, err := bob.Pull(t.Context(), chat, 0, 0, 2, true)
	if err != nil || len(page.Entries) != 2 || page.From != 5 || page.To != 6 || page.Newest != 6 {
		t.Errorf("pull: %+v, %v", page, err)
	}
	if _, err := bob.Pull(t.Context(), "g:unknown", 0, 0, 0, false); pim.KindOf(err) != pim.KindNotMember {
		t.Errorf("pull of another's group: %v", err)
	}
	if err := alice.Watch(t.Context(), chat, 0); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("watch without Options.Watch: %v", err)
	}
}

func TestGoAway(t *testing.T) {
	w := newWorld(t)
	alice := w.device("alice")
	alice.synced()
	w.on.Tell(&wirepb.PIMGoAway{Code: uint32(wire.CodeShutdown), Reconnect: true, WindowMs: 5})
	comesBack := func() {
		for next[client.StateEvent](alice).State != client.Waiting {
		}
		for next[client.StateEvent](alice).State != client.Connected {
		}
		alice.synced()
	}
	comesBack()
	replaced := &wirepb.PIMGoAway{Code: uint32(wire.CodeReplaced), Text: "another connection"}
	w.on.Tell(replaced) // perhaps by a late Hello of the process before: the client tries again
	comesBack()
	w.on.Tell(replaced)
	for {
		if ev := next[client.StateEvent](alice); ev.State == client.Stopped {
			if pim.KindOf(ev.Err) != pim.KindReplaced {
				t.Errorf("stopped: %v", ev.Err)
			}
			break
		}
	}
	if err := alice.Synced(t.Context()); pim.KindOf(err) != pim.KindReplaced {
		t.Errorf("synced after the stop: %v", err)
	}
}

func TestOpenChecksOptions(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*client.Options){
		"no token":    func(o *client.Options) { o.Token = nil },
		"no device":   func(o *client.Options) { o.Device = "" },
		"bad user":    func(o *client.Options) { o.User = "a/b" },
		"no host":     func(o *client.Options) { o.Server = "localhost" },
		"bad scheme":  func(o *client.Options) { o.Server = "ftp://localhost:1" },
		"no port":     func(o *client.Options) { o.Server = "tcp://localhost" },
		"long agent":  func(o *client.Options) { o.Agent = string(make([]byte, 129)) },
		"negative":    func(o *client.Options) { o.EventBuffer = -1 },
		"wrong store": func(o *client.Options) { o.Store = otherDevice(t) },
		"in clear":    func(o *client.Options) { o.Server = "ws://chat.example" },
		"tcp":         func(o *client.Options) { o.Server = "tcp://192.0.2.1:7401" },
		"one of two":  func(o *client.Options) { o.Servers = []string{"https://chat.example", "http://chat.example"} },
	} {
		o := w.options("alice", "phone")
		change(&o)
		want := pim.KindInvalid
		if name == "wrong store" {
			want = pim.KindConflict
		}
		if c, err := client.Open(t.Context(), o); pim.KindOf(err) != want {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

func otherDevice(t *testing.T) client.Store {
	m := client.NewMemory(client.MemoryOptions{})
	if err := m.Apply(t.Context(), &client.Batch{Meta: &client.Meta{User: "alice", Device: "laptop"}}); err != nil {
		t.Fatal(err)
	}
	return m
}

// full is a store that has no room for any change.
type full struct{ client.Store }

func (full) Apply(context.Context, *client.Batch) error {
	return pim.Errorf(pim.KindDiskFull, "no room")
}

func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	o := w.options("alice", "phone")
	o.Store = full{client.NewMemory(client.MemoryOptions{})}
	alice := w.opens(o)
	if _, err := alice.Send(t.Context(), chat, []byte("hi")); pim.KindOf(err) != pim.KindDiskFull {
		t.Errorf("send: %v", err)
	}
	for next[client.StateEvent](alice).State != client.Stopped {
	}
	if _, err := alice.Pull(t.Context(), chat, 0, 0, 0, false); pim.KindOf(err) != pim.KindDiskFull {
		t.Errorf("pull: %v", err)
	}
	if n := len(w.server.Log(chat)); n != 0 {
		t.Errorf("%d entries sent that were not stored", n)
	}
}

// A conversation that is marked as unread is so on all devices, until one of them reads it.
func TestMarkUnread(t *testing.T) {
	w := newWorld(t)
	bob := w.device("bob")
	phone, laptop := w.opens(w.options("alice", "phone")), w.opens(w.options("alice", "laptop"))
	bob.sent(bob.sends(chat, "to alice"), nil)
	marked := func(want bool, unread uint64) {
		t.Helper()
		for _, d := range []*device{phone, laptop} {
			until(t, func() bool {
				info, err := d.Conversation(chat).Info(t.Context())
				return err == nil && info.Newest == 1 && info.Marked == want && info.Unread == unread
			})
		}
	}
	marked(false, 1)
	done := func(s *client.Sending, err error) {
		t.Helper()
		if err == nil {
			_, err = s.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	done(phone.Conversation(chat).MarkRead(t.Context()))
	marked(false, 0)
	done(phone.Conversation(chat).MarkUnread(t.Context()))
	marked(true, 0)
	if _, err := laptop.Conversation(chat).MarkRead(t.Context()); err != nil { // there is nothing more to read
		t.Fatal(err)
	}
	marked(false, 0)
}

// A user's own messages count as unread on none of the user's devices, whichever device
// sent them, and however the other devices hear of them.
func TestOwnMessagesAreNotUnread(t *testing.T) {
	w := newWorld(t)
	bob := w.device("bob")
	phone, laptop := w.opens(w.options("alice", "phone")), w.opens(w.options("alice", "laptop"))
	o := w.options("alice", "tablet")
	o.LazyGap = 20 // the tablet comes later, to a gap that is left to scrolling
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "tablet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	o.Store = store
	unread := func(d *device, want uint64) {
		t.Helper()
		until(t, func() bool {
			info, err := d.Conversation(chat).Info(t.Context())
			return err == nil && info.Unread == want
		})
	}
	for i := range 3 {
		bob.sent(bob.sends(chat, fmt.Sprint("to alice ", i)), nil)
	}
	unread(phone, 3)
	unread(laptop, 3)
	phone.sent(phone.sends(chat, "from the phone"), nil)
	unread(phone, 0)
	unread(laptop, 0)
	bob.sent(bob.sends(chat, "one more"), nil)
	for _, d := range []*device{phone, laptop} {
		unread(d, 1)
	}
	for i := range 150 {
		laptop.sent(laptop.sends(chat, fmt.Sprint("from the laptop ", i)), nil)
	}
	bob.sent(bob.sends(chat, "the last"), nil)
	tablet := w.opens(o)
	tablet.synced()
	for _, d := range []*device{phone, laptop, tablet} {
		unread(d, 1)
	}
	if n := len(w.server.Log(pim.Own("alice"))); n != 0 {
		t.Errorf("%d commands were sent for it", n)
	}
	if _, err := tablet.MarkRead(t.Context(), nil); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("without an entry: %v", err)
	}
	for _, seq := range []pim.Seq{1 << 40, 1000} {
		if _, err := tablet.MarkRead(t.Context(), &pim.Entry{Conversation: chat, Seq: seq, Count: uint64(seq)}); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("marked as read up to %d: %v", seq, err)
		}
	}
	tablet.Close()
	again := w.opens(o) // from its store alone
	again.SetOnline(false)
	unread(again, 1)
}

// until waits until ok says so.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) { // ends a hanging test; decides nothing
			t.Fatal("it does not come")
		}
	}
}

// A client that peeks has the list and the settings, and leaves no trace.
func TestPeek(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		if err := w.server.Append(chat, "alice", pim.ClientMessageID{1, byte(i)}, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	phone := w.device("bob")
	if _, err := phone.Pin(t.Context(), chat, true); err != nil {
		t.Fatal(err)
	}
	phone.synced()
	for m, err := phone.Outbox(t.Context()); len(m) > 0 || err != nil; m, err = phone.Outbox(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	o := w.options("bob", "peek")
	o.Peek = true
	bob := w.opens(o)
	bob.synced()
	list, err := bob.Conversations(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != chat || list[0].Unread != 3 || !list[0].Pinned || list[0].Text() != "2" {
		t.Errorf("the list is %+v, %v", list, err)
	}
	if got := bob.Settings(); len(got) != 1 || got[0].Entity() != "pin/"+string(chat) {
		t.Errorf("the settings are %+v", got)
	}
	if entries, err := bob.Messages(t.Context(), chat, 10); err != nil || len(entries) > 0 {
		t.Errorf("it has pulled %v, %v", entries, err)
	}
	m, err := bob.Pin(t.Context(), chat, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	bob.Close() // what waits to be acknowledged is transmitted first
	for _, conv := range []pim.ConversationID{chat, pim.Own("bob")} {
		if got := w.server.Acked("bob", "peek", conv); got != 0 {
			t.Errorf("it has acknowledged %d of %s", got, conv)
		}
	}
}
