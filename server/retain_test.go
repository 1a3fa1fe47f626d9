package server_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

const day = 24 * time.Hour

// keeper is a server that keeps messages for 30 days, on disk, with a clock that only the test moves.
type keeper struct {
	*node
	t           *testing.T
	clock       *handSet
	config      server.Config
	passed      atomic.Int64 // passes
	store.Store              // of the running server
}

func startKeeper(t *testing.T) *keeper {
	k := &keeper{t: t, clock: &handSet{wall: time.Now(), mono: time.Hour}, config: config(t)}
	k.config.Retain = 30 * day
	k.starts()
	return k
}

func (k *keeper) starts() {
	k.node = start(k.t, k.config, server.Options{
		Clock: k.clock.source(), SweepEvery: 20 * time.Millisecond,
		WrapStore: func(s store.Store) store.Store {
			k.Store = s
			return k
		},
	})
}

// front returns the first seq of c that is left.
func (k *keeper) front(c pim.ConversationID) pim.Seq {
	k.t.Helper()
	reads := []store.Read{{Log: inbox.Entries(c), WithLast: true}}
	if err := k.Store.Read(k.t.Context(), reads); err != nil {
		k.t.Fatal(err)
	}
	return reads[0].Front
}

// trims waits until c begins at front.
func (k *keeper) trims(c pim.ConversationID, front pim.Seq) {
	k.t.Helper()
	for patience := time.Now().Add(5 * time.Minute); k.front(c) != front; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(patience) {
			k.t.Fatalf("%s begins at %d, want %d", c, k.front(c), front)
		}
	}
}

// keeps fails the test if c does not begin at front when a pass that begins from now on is over.
func (k *keeper) keeps(c pim.ConversationID, front pim.Seq) {
	k.t.Helper()
	until := k.passed.Load() + 2
	for patience := time.Now().Add(5 * time.Minute); k.passed.Load() < until; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(patience) {
			k.t.Fatal("no pass ends")
		}
	}
	if got := k.front(c); got != front {
		k.t.Fatalf("%s begins at %d, want %d", c, got, front)
	}
}

// Begin counts the passes that end: each moves the place of the next one to the start.
func (k *keeper) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		for _, c := range w.Cells {
			if c.Partition == "sweeper" && c.Key == "place" && string(c.Value) == "\x00" {
				k.passed.Add(1)
			}
		}
	}
	k.Store.Begin(ctx, writes, d, done)
}

// A server with --retain, its store on disk, over 32 days and a restart: messages that are older
// leave, and what others have made of them; younger ones, counts and what is unread stay. A device
// that pulls hears where the chat begins. What Retention says is what happens, also when a
// conversation says a shorter time and waits for its notice.
func TestMessagesLeaveAServer(t *testing.T) {
	k := startKeeper(t)
	chat := pim.Direct("alice", "bob")
	alice := k.connect("alice", "phone", "http")
	group := alice.done(must(alice.CreateGroup(t.Context(), []pim.UserID{"bob"})))
	for i := range 4 {
		alice.says(chat, "old "+strconv.Itoa(i))
	}
	alice.done(must(alice.Edit(t.Context(), chat, 1, []byte("old, edited"))))
	alice.done(must(alice.React(t.Context(), chat, 2, "+1", true)))
	alice.says(group.Conversation, "old")
	bob := k.connect("bob", "phone", "tcp")
	if p, err := bob.Pull(t.Context(), chat, 1, 6, 10, false); err != nil || len(p.Folds) != 2 {
		t.Fatalf("bob pulls %+v, %v", p, err)
	}
	alice.Close()
	bob.Close()

	k.clock.runs(20 * day)
	alice = k.connect("alice", "laptop", "http")
	alice.says(chat, "young 1")
	alice.says(group.Conversation, "young")
	k.keeps(chat, 1) // and the time that a pass has gone by is stored
	alice.Close()
	k.stop()
	k.starts()
	alice = k.connect("alice", "laptop", "tcp")
	alice.says(chat, "young 2")
	r, err := alice.Retention(t.Context(), group.Conversation)
	if err != nil || r.InForce != 30*day || r.Server != 30*day || r.Said != 0 || !r.From.IsZero() {
		t.Errorf("before anybody says more: %+v, %v", r, err)
	}
	alice.done(must(alice.Retain(t.Context(), group.Conversation, 8*day)))
	if r, err = alice.Retention(t.Context(), group.Conversation); err != nil || r.InForce != 30*day || r.Next != 8*day || r.Said != 8*day ||
		r.From.Sub(k.clock.now()).Abs() > day || r.From.Before(k.clock.now()) {
		t.Errorf("within the notice: %+v, %v", r, err)
	}
	k.keeps(group.Conversation, 1)
	alice.Close()
	k.clock.runs(day)
	k.trims(group.Conversation, 3) // the create and the old message are 21 days old
	alice = k.connect("alice", "laptop", "http")
	if r, err = alice.Retention(t.Context(), group.Conversation); err != nil || r.InForce != 8*day || !r.From.IsZero() {
		t.Errorf("after the notice: %+v, %v", r, err)
	}
	alice.Close()

	k.clock.runs(11 * day)
	k.trims(chat, 7)
	bob = k.connect("bob", "new", "http")
	if err := bob.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := bob.Conversations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.ID == chat && c.Unread != 6 { // four of them are gone, and count until they are read
			t.Errorf("%d messages are unread", c.Unread)
		}
	}
	p, err := bob.Pull(t.Context(), chat, 1, 8, 10, false)
	if err != nil || p.From != 1 || p.To != 8 || len(p.Entries) != 2 || string(p.Entries[0].Payload) != "young 1" || p.Entries[0].Seq != 7 || len(p.Folds) != 0 {
		t.Errorf("bob pulls %+v, %v", p, err)
	}
	if sent := bob.says(chat, "new"); sent.Seq != 9 || sent.Count != 7 {
		t.Errorf("the next message has the seq %d and the count %d", sent.Seq, sent.Count)
	}
	folds, err := k.Store.List(t.Context(), inbox.Folds(chat), "", 10)
	if err != nil || len(folds) != 0 {
		t.Errorf("%d folds of messages that are gone are stored, %v", len(folds), err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
