package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
	"github.com/pim-im/pim/wire/wirepb"
)

// reads drains the events of a device whose test looks at views only.
func (d *device) reads() *device {
	var wg sync.WaitGroup
	wg.Go(func() {
		for range d.Events() {
		}
	})
	d.t.Cleanup(wg.Wait)
	d.t.Cleanup(func() { d.Close() }) // before the Wait
	return d
}

func (d *device) views(c pim.ConversationID, n int) *client.View {
	d.t.Helper()
	v, err := d.Conversation(c).Messages(d.t.Context(), n)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(v.Close)
	return v
}

// comesToShow waits until v shows these lines: texts, with their states unless
// they are delivered.
func comesToShow(t *testing.T, v *client.View, want ...string) {
	t.Helper()
	limit := time.After(5 * time.Minute)
	for {
		var got []string
		for _, m := range v.Items() {
			line := m.Text()
			if m.Pending() {
				line += " " + m.State.String()
			}
			got = append(got, line)
		}
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-v.Changes():
		case <-limit:
			t.Fatalf("shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// A view follows its conversation: entries that come in, messages that go out, and the
// states of these.
func TestViewIsLive(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice").reads(), w.device("bob").reads()
	for i := range 5 {
		alice.sent(alice.sends(chat, fmt.Sprint(i)), nil)
	}
	v := alice.views(chat, 3)
	comesToShow(t, v, "2", "3", "4")
	bob.sent(bob.sends(chat, "hi"), nil)
	comesToShow(t, v, "2", "3", "4", "hi")
	if err := alice.SetOnline(false); err != nil {
		t.Fatal(err)
	}
	alice.sends(chat, "from the tunnel")
	comesToShow(t, v, "2", "3", "4", "hi", "from the tunnel queued")
	bob.sent(bob.sends(chat, "meanwhile"), nil)
	if err := alice.SetOnline(true); err != nil {
		t.Fatal(err)
	}
	comesToShow(t, v, "2", "3", "4", "hi", "meanwhile", "from the tunnel")
}

// A message that has failed is still there after a restart, until it is sent again or
// given up.
func TestViewKeepsWhatFailed(t *testing.T) {
	w := newWorld(t)
	w.server.Reject = func(m *wirepb.PIMSendReq) *pim.Error {
		if strings.HasPrefix(string(m.Payload), "bad") {
			return pim.Errorf(pim.KindForbidden, "not this")
		}
		return nil
	}
	path := filepath.Join(t.TempDir(), "alice.db")
	open := func() (*device, *client.View, func()) {
		store, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		o := w.options("alice", "phone")
		o.Store = store
		d := w.opens(o).reads()
		return d, d.views(chat, 10), func() {
			d.Close()
			store.Close()
		}
	}
	alice, v, end := open()
	alice.sends(chat, "bad 1")
	alice.sends(chat, "bad 2")
	comesToShow(t, v, "bad 1 failed", "bad 2 failed")
	alice.sent(alice.sends(chat, "good"), nil)
	end()
	alice, v, end = open()
	defer end()
	comesToShow(t, v, "good", "bad 1 failed", "bad 2 failed")
	failed := v.Items()[1:]
	if failed[0].Err == nil || failed[0].Err.Kind != pim.KindForbidden {
		t.Errorf("failed for %v", failed[0].Err)
	}
	if err := alice.Discard(t.Context(), failed[0].Entry.ClientID); err != nil {
		t.Fatal(err)
	}
	w.server.Reject = nil
	alice.sent(alice.Resend(t.Context(), failed[1].Entry.ClientID))
	comesToShow(t, v, "good", "bad 2")
}

// Scrolling up shows all entries, whether they are in the store or in a hole.
func TestViewOlder(t *testing.T) {
	w := newWorld(t)
	const n = 450
	for i := range n {
		if err := w.server.Append(chat, "alice", pim.ClientMessageID{1, byte(i), byte(i >> 8)}, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	o := w.options("bob", "phone")
	o.LazyGap = 200 // what lies below the newest page is left to scrolling
	bob := w.opens(o).reads()
	bob.synced()
	v := bob.views(chat, 50)
	var want []string
	for i := n - 50; i < n; i++ {
		want = append(want, fmt.Sprint(i))
	}
	comesToShow(t, v, want...)
	for len(want) < n {
		more, err := v.Older(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		first := max(0, n-len(want)-60)
		for i := n - len(want) - 1; i >= first; i-- {
			want = slices.Insert(want, 0, fmt.Sprint(i))
		}
		comesToShow(t, v, want...)
		if !more && len(want) < n {
			t.Fatalf("no more after %d", len(want))
		}
	}
	if more, err := v.Older(t.Context(), 60); more || err != nil {
		t.Errorf("more before the first: %v, %v", more, err)
	}
}

// A long gap in a busy conversation is left to scrolling. A view shows no entries from
// below the gap, whether it is open when the gap comes or is opened later, until scrolling
// up from the newest page brings all of them.
func TestViewAfterAVeryLongGap(t *testing.T) {
	w := newWorld(t)
	n := 0
	says := func(until int) {
		for ; n < until; n++ {
			if err := w.server.Append(chat, "alice", pim.ClientMessageID{1, byte(n), byte(n >> 8)}, fmt.Append(nil, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines := func(from, to int) (list []string) {
		for i := from; i < to; i++ {
			list = append(list, fmt.Sprint(i))
		}
		return list
	}
	says(50) // before bob connects, so that Synced waits for them: a view that is opened earlier would show all 50
	o := w.options("bob", "phone")
	o.LazyGap = 200
	bob := w.opens(o).reads()
	online := func(on bool) {
		t.Helper()
		if err := bob.SetOnline(on); err != nil {
			t.Fatal(err)
		}
	}
	bob.synced()
	live := bob.views(chat, 10)
	comesToShow(t, live, lines(40, 50)...)

	online(false)
	bob.sends(chat, "from the tunnel")
	says(400)
	online(true)
	comesToShow(t, live, append(lines(301, 400), "from the tunnel")...)
	bob.synced()
	later := bob.views(chat, 120)
	comesToShow(t, later, append(lines(301, 400), "from the tunnel")...)

	all := append(lines(0, 400), "from the tunnel")
	for _, v := range []*client.View{live, later} {
		for more := true; more; {
			var err error
			if more, err = v.Older(t.Context(), 60); err != nil {
				t.Fatal(err)
			}
		}
		comesToShow(t, v, all...)
	}
	online(false)
	says(800)
	online(true)
	comesToShow(t, live, lines(700, 800)...)
}

// slowStore takes a minute to hand out the first page of older entries.
type slowStore struct {
	client.Store
	reading func() // is called before that minute
	once    sync.Once
}

func (s *slowStore) Entries(ctx context.Context, conv pim.ConversationID, before *pim.Place, limit int) ([]pim.Entry, error) {
	page, err := s.Store.Entries(ctx, conv, before, limit)
	if before != nil {
		s.once.Do(func() {
			s.reading()
			time.Sleep(time.Minute)
		})
	}
	return page, err
}

// A person scrolls up while a hole there is being filled. Entries that come while the page
// is read from the store are shown all the same.
func TestViewOlderWhileAHoleFills(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		const n = 450
		for i := range n {
			if err := p.server.Append(chat, "bob", pim.ClientMessageID{1, byte(i), byte(i >> 8)}, nil); err != nil {
				t.Fatal(err)
			}
		}
		entries, m := p.server.Log(chat), client.NewMemory(client.MemoryOptions{})
		var stored []client.Stored
		for _, e := range slices.Concat(entries[:300], entries[350:]) {
			stored = append(stored, client.Stored{Entry: e})
		}
		err := m.Apply(t.Context(), &client.Batch{
			Meta:          &client.Meta{User: "alice", Device: "phone"},
			Conversations: []client.ConversationRow{{ID: chat, Known: n, Newest: n, Count: n, Holes: []client.Hole{{From: 301, To: 350}}}},
			Entries:       stored,
		})
		if err != nil {
			t.Fatal(err)
		}
		var reachable atomic.Bool
		o.Store = &slowStore{Store: m, reading: func() { reachable.Store(true) }}
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !reachable.Load() {
				return nil, errors.New("no network")
			}
			return p.Dial(ctx, network, address)
		}
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			for range c.Events() {
			}
		}()
		v, err := c.Conversation(chat).Messages(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		for more := true; more; {
			if more, err = v.Older(t.Context(), 60); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Synced(t.Context()); err != nil {
			t.Fatal(err)
		}
		items := v.Items()
		for i, item := range items {
			if item.Entry.Seq != pim.Seq(i+1) {
				t.Fatalf("line %d shows seq %d", i+1, item.Entry.Seq)
			}
		}
		if len(items) != n {
			t.Errorf("shows %d lines, want %d", len(items), n)
		}
	})
}

// A message whose answer was lost has failed, and is sent again by hand with a new local
// time. The log has the message with its first local time, and the view shows it there,
// once.
func TestViewShowsAMessageSentAgainOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		alice := &device{Client: c, t: t, user: "alice"}
		go func() {
			for range c.Events() {
			}
		}()
		alice.synced()
		v, err := alice.Conversation(chat).Messages(t.Context(), 50)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		p.breaks.Store(true)
		s := alice.sends(chat, "hi")
		synctest.Wait()
		if err := alice.SetOnline(false); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Wait(t.Context()); err == nil {
			t.Fatal("sent without an answer")
		}
		s, err = alice.Resend(t.Context(), s.ID())
		if err != nil {
			t.Fatal(err)
		}
		if err := alice.SetOnline(true); err != nil {
			t.Fatal(err)
		}
		alice.sent(s, nil)
		time.Sleep(time.Second) // for the entry itself
		log, items := p.server.Log(chat), v.Items()
		if len(items) != 1 || items[0].Entry.Local != log[0].Local {
			t.Errorf("shows %+v, the log is %+v", items, log)
		}
	})
}

// Unread counts are a subtraction, the same on every device; pins come first.
func TestConversations(t *testing.T) {
	w := newWorld(t)
	var clock atomic.Int64
	w.server.Now = func() pim.Millis { return pim.Millis(clock.Add(1)) }
	alice, laptop := w.device("alice").reads(), w.opens(w.options("alice", "laptop")).reads()
	bob, carol := w.device("bob").reads(), w.device("carol").reads()
	for range 3 {
		bob.sent(bob.sends(chat, "hi"), nil)
	}
	carol.sent(carol.sends("d:alice:carol", "later"), nil)
	comesTrue(t, func() bool { return list(t, alice) == "d:alice:carol 1, d:alice:bob 3" })
	alice.sent(alice.Pin(t.Context(), chat, true))
	s, err := alice.Conversation("d:alice:carol").MarkRead(t.Context())
	alice.sent(s, err)
	comesTrue(t, func() bool { return list(t, laptop) == "d:alice:bob 3 pinned, d:alice:carol 0" })
	alice.sent(alice.SetContact(t.Context(), "bob", []byte("Bob")))
	comesTrue(t, func() bool { return len(laptop.Contacts()) == 1 })
}

func list(t *testing.T, d *device) string {
	t.Helper()
	all, err := d.Conversations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range all {
		line := fmt.Sprint(c.ID, " ", c.Unread)
		if c.Pinned {
			line += " pinned"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, ", ")
}

func comesTrue(t *testing.T, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("waited in vain")
		}
	}
}

// Views are opened, scrolled and closed beside everything else.
func TestViewsConcurrently(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.device("alice").reads(), w.device("bob").reads()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 10 {
				v, err := alice.Conversation(chat).Messages(t.Context(), i)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := v.Older(t.Context(), 3); err != nil {
					t.Error(err)
				}
				v.Items()
				v.Close()
			}
		})
		wg.Go(func() {
			for range 10 {
				if s, err := bob.Send(t.Context(), chat, []byte("x")); err != nil {
					t.Error(err)
				} else if _, err := s.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	v := alice.views(chat, 100)
	comesTrue(t, func() bool { return len(v.Items()) == 40 })
}
