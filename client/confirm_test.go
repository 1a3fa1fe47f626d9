package client_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// says lets bob write n messages to alice.
func (p *piped) says(t *testing.T, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if err := p.server.Append(chat, "bob", pim.ClientMessageID{2, byte(i), byte(i >> 8)}, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
}

// entry takes the next EntryEvent.
func entry(t *testing.T, c *client.Client) client.EntryEvent {
	t.Helper()
	for ev := range c.Events() {
		if e, ok := ev.(client.EntryEvent); ok {
			return e
		}
	}
	t.Fatal("the client was closed")
	return client.EntryEvent{}
}

func confirms(t *testing.T, c *client.Client, e client.EntryEvent, answers ...client.Answer) []*client.Sending {
	t.Helper()
	s, err := c.Confirm(t.Context(), e, answers...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The next client hands over again the entries that the app has not confirmed, in the
// order in which they were stored, and none that it has confirmed.
func TestUnconfirmedEntriesComeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		o.Store, o.Confirm, o.EventBuffer = client.NewMemory(client.MemoryOptions{}), true, 7
		p.says(t, 0, 450) // of which the newest page comes first
		var handed []client.EntryEvent
		confirmed := 0
		for life := 0; confirmed < 450; life++ {
			c, err := client.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 60 {
				if confirmed+i >= 450 {
					break
				}
				e := entry(t, c)
				if at := confirmed + i; at < len(handed) {
					if was := handed[at]; was.Number != e.Number || was.Entry.Seq != e.Entry.Seq || was.Late != e.Late {
						t.Fatalf("life %d: handed number %d, seq %d, late %v; before it was %d, %d, %v",
							life, e.Number, e.Entry.Seq, e.Late, was.Number, was.Entry.Seq, was.Late)
					}
				} else {
					handed = append(handed, e)
				}
				if i == 49 || confirmed+i == 449 { // one confirmation for all entries before it
					confirms(t, c, e)
				}
			}
			confirmed = min(confirmed+50, 450)
			if life%2 == 0 {
				time.Sleep(time.Minute) // more comes meanwhile
			}
			c.Close()
		}
		seen, late := make(map[pim.Seq]bool), 0
		for _, e := range handed {
			seen[e.Entry.Seq] = true
			if e.Late {
				late++
			}
		}
		if len(seen) != 450 || late == 0 {
			t.Errorf("%d entries, %d of them late; want 450, and some that filled a hole", len(seen), late)
		}
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p.says(t, 450, 1)
		if e := entry(t, c); e.Entry.Seq != 451 {
			t.Errorf("after everything was confirmed seq %d comes", e.Entry.Seq)
		}
	})
}

// An app takes no entry for 40 minutes. Meanwhile the client goes on reading from the
// network, without keeping the entries in memory; then it hands over all of them.
func TestSlowAppReadsFromItsStore(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		m := client.NewMemory(client.MemoryOptions{})
		o.Store, o.Confirm, o.EventBuffer = m, true, 500
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range 40 {
			p.says(t, 100*i, 100)
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if row, err := m.Conversation(t.Context(), chat); err != nil || row.Known != 4000 || len(row.Holes) > 0 {
			t.Errorf("the store is at %+v, %v", row, err)
		}
		if n := client.InMemory(c); n > 600 {
			t.Errorf("%d entries wait in memory", n)
		}
		seen := make(map[pim.Seq]bool)
		for number := uint64(1); number <= 4000; number++ {
			e := entry(t, c)
			if seen[e.Entry.Seq] || e.Number != number {
				t.Fatalf("number %d, seq %d comes, want number %d", e.Number, e.Entry.Seq, number)
			}
			seen[e.Entry.Seq] = true
		}
		if err := c.Synced(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// No gap is too long for an app that confirms, whatever LazyGap says.
func TestConfirmingLeavesNoGap(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		o.Store, o.Confirm, o.LazyGap = client.NewMemory(client.MemoryOptions{}), true, 150
		p.says(t, 0, 900)
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Synced(t.Context()); err != nil {
			t.Fatal(err)
		}
		if list, err := c.Messages(t.Context(), chat, 1000); err != nil || len(list) != 900 {
			t.Fatalf("%d entries of 900, %v", len(list), err)
		}
		seen := make(map[pim.Seq]bool)
		for range 900 {
			seen[entry(t, c).Entry.Seq] = true
		}
		if len(seen) != 900 {
			t.Errorf("%d entries of 900", len(seen))
		}
	})
}

// broken is a store whose Apply fails, while failing is set, if it is to store messages
// of the outbox.
type broken struct {
	client.Store
	failing bool
}

func (b *broken) Apply(ctx context.Context, batch *client.Batch) error {
	if b.failing && len(batch.Outbox) > 0 {
		return pim.Errorf(pim.KindDiskFull, "no room")
	}
	return b.Store.Apply(ctx, batch)
}

// Answers and the confirmation are one transaction: the next process finds either all of
// them, or none.
func TestAnswersAreQueuedWithTheConfirmation(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		m := client.NewMemory(client.MemoryOptions{})
		store := &broken{Store: m, failing: true}
		o.Store, o.Confirm = store, true
		p.says(t, 0, 1)
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Confirm(t.Context(), entry(t, c), client.Answer{Payload: []byte("lost")}); pim.KindOf(err) != pim.KindDiskFull {
			t.Errorf("a confirmation that is not stored: %v", err)
		}
		c.Close()
		store.failing = false
		if c, err = client.Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		e := entry(t, c)
		if e.Entry.Seq != 1 {
			t.Fatalf("seq %d comes, want 1 again", e.Entry.Seq)
		}
		id := pim.ClientMessageID{7}
		if err := c.SetOnline(false); err != nil {
			t.Fatal(err)
		}
		answers := []client.Answer{{Payload: []byte("one"), ID: id}, {Payload: []byte("two"), Conversation: "d:alice:carol"}}
		sendings := confirms(t, c, e, answers...)
		again := confirms(t, c, e, answers[0]) // as an app does that handles the entry twice
		if len(sendings) != 2 || sendings[0].ID() != id || again[0].ID() != id {
			t.Fatalf("sendings: %v, %v", sendings, again)
		}
		c.Close()
		if c, err = client.Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, want := range []string{"one", "two"} {
			if e := entry(t, c); string(e.Entry.Payload) != want {
				t.Errorf("%q comes, want the answer %q", e.Entry.Payload, want)
			}
		}
		if n := len(p.server.Log(chat)) + len(p.server.Log("d:alice:carol")); n != 3 {
			t.Errorf("%d entries on the server, want the question and two answers", n)
		}
	})
}

// A Confirm that is not valid is refused, and then nothing is queued or confirmed.
func TestConfirmErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		for _, wrong := range []func(*client.Options){
			func(o *client.Options) { o.Store = nil },
			func(o *client.Options) { o.Watch = true },
		} {
			o := o
			o.Store, o.Confirm = client.NewMemory(client.MemoryOptions{}), true
			wrong(&o)
			if c, err := client.Open(t.Context(), o); pim.KindOf(err) != pim.KindInvalid {
				t.Errorf("opened: %v, %v", c, err)
			}
		}
		p.says(t, 0, 2)
		plain, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plain.Confirm(t.Context(), client.EntryEvent{}); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("confirmed without Options.Confirm: %v", err)
		}
		plain.Close()

		o.Store, o.Confirm, o.EventBuffer = client.NewMemory(client.MemoryOptions{}), true, 1
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		e := entry(t, c)
		ok, id := client.Answer{Payload: []byte("ok")}, pim.ClientMessageID{1}
		for name, answers := range map[string][]client.Answer{
			"too large":       {ok, {Payload: make([]byte, pim.MaxPayload+1)}},
			"no conversation": {ok, {Conversation: "nobody", Payload: []byte("?")}},
			"the own log":     {ok, {Conversation: pim.Own("alice"), Payload: []byte("?")}},
			"one ID twice":    {{ID: id}, {ID: id}},
		} {
			if _, err := c.Confirm(t.Context(), e, answers...); pim.KindOf(err) != pim.KindInvalid && pim.KindOf(err) != pim.KindTooLarge {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.Confirm(t.Context(), client.EntryEvent{Number: 99}); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("confirmed what was not handed over: %v", err)
		}
		if list, err := c.Outbox(t.Context()); err != nil || len(list) > 0 {
			t.Errorf("queued in spite of errors: %v, %v", list, err)
		}
		c.Close()
		again, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if e := entry(t, again); e.Number != 1 {
			t.Errorf("number %d comes, and nothing was confirmed", e.Number)
		}
	})
}

// When an app begins to confirm with a store that it has used for long, it is not handed
// the entries that it has had before.
func TestConfirmingBeginsWithWhatComes(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		o.Store = client.NewMemory(client.MemoryOptions{})
		p.says(t, 0, 3)
		for _, confirm := range []bool{false, true, true} {
			o.Confirm = confirm
			c, err := client.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if !confirm {
				for range 3 {
					entry(t, c)
				}
			} else {
				if err := c.Synced(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := len(p.server.Log(chat)); n == 3 {
					p.says(t, 3, 1)
				}
				if e := entry(t, c); e.Entry.Seq != 4 {
					t.Errorf("seq %d comes, want 4", e.Entry.Seq)
				}
			}
			c.Close()
		}
	})
}

// EntriesAfter pages through a conversation by seq, and does not pass a stretch that is
// still being pulled.
func TestEntriesAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		m := client.NewMemory(client.MemoryOptions{})
		o.Store = m
		var stored []client.Stored
		p.says(t, 0, 30)
		for _, e := range p.server.Log(chat) {
			if e.Seq <= 8 || e.Seq > 12 && e.Seq <= 15 || e.Seq > 20 {
				stored = append(stored, client.Stored{Entry: e, Number: uint64(e.Seq)})
			}
		}
		err := m.Apply(t.Context(), &client.Batch{
			Meta: &client.Meta{User: "alice", Device: "phone", Stored: 30},
			Conversations: []client.ConversationRow{{
				ID: chat, Known: 30, Newest: 30, Count: 30, Holes: []client.Hole{{From: 9, To: 12, Lazy: true}, {From: 16, To: 20}},
			}},
			Entries: stored,
		})
		if err != nil {
			t.Fatal(err)
		}
		online, dial := make(chan struct{}), o.Dial // until then the hole stays
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case <-online:
				return dial(ctx, network, address)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all := func() (seqs []pim.Seq) {
			after := pim.Seq(0)
			for {
				page, err := c.EntriesAfter(t.Context(), chat, after, 3)
				if err != nil || len(page) > 3 {
					t.Fatalf("%d entries, %v", len(page), err)
				}
				if len(page) == 0 {
					return seqs
				}
				for _, e := range page {
					seqs = append(seqs, e.Seq)
				}
				after = page[len(page)-1].Seq
			}
		}
		want := []pim.Seq{1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15}
		if got := all(); !slices.Equal(got, want) {
			t.Errorf("with a hole at 16: %v, want %v", got, want)
		}
		if page, err := c.EntriesAfter(t.Context(), chat, 25, 0); err != nil || len(page) != 5 {
			t.Errorf("beyond the hole: %d entries, %v", len(page), err)
		}
		close(online)
		if err := c.Synced(t.Context()); err != nil {
			t.Fatal(err)
		}
		for seq := pim.Seq(16); seq <= 30; seq++ {
			want = append(want, seq)
		}
		if got := all(); !slices.Equal(got, want) {
			t.Errorf("when the hole is filled: %v, want %v", got, want)
		}
		for _, wrong := range []int{-1, pim.MaxPageEntries + 1} {
			if _, err := c.EntriesAfter(t.Context(), chat, 0, wrong); pim.KindOf(err) != pim.KindInvalid {
				t.Errorf("a page of %d: %v", wrong, err)
			}
		}
		if page, err := c.EntriesAfter(t.Context(), "d:alice:zoe", 0, 0); err != nil || len(page) > 0 {
			t.Errorf("of a conversation that is not known: %v, %v", page, err)
		}
	})
}

// Each answer to an entry has an ID of its own. The ID is the same whenever the entry
// comes, and another one with another store.
func TestAnswerIDs(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		p.says(t, 0, 2)
		var all []pim.ClientMessageID
		for range 2 {
			o.Store, o.Confirm = client.NewMemory(client.MemoryOptions{}), true
			for range 2 {
				c, err := client.Open(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.SetOnline(false); err != nil {
					t.Fatal(err)
				}
				e := client.EntryEvent{Entry: p.server.Log(chat)[0]}
				for _, s := range confirms(t, c, e, client.Answer{}, client.Answer{}) {
					all = append(all, s.ID())
				}
				c.Close()
			}
		}
		if all[0] != all[2] || all[1] != all[3] || all[4] != all[6] || all[5] != all[7] {
			t.Errorf("not the same again: %v", all)
		}
		for i, a := range []pim.ClientMessageID{all[0], all[1], all[4], all[5]} {
			for _, b := range []pim.ClientMessageID{all[0], all[1], all[4], all[5]}[:i] {
				if a == b {
					t.Errorf("not told apart: %v", all)
				}
			}
		}
		q := p.server.Log(chat)[0]
		id := client.AnswerID([]byte("secret"), &q, 0)
		if id != client.AnswerID([]byte("secret"), &q, 0) || id == client.AnswerID([]byte("other"), &q, 0) {
			t.Errorf("of a secret: %s", id)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 || !slices.Equal(id[:6], q.ClientID[:6]) {
			t.Errorf("%s is no UUIDv7 of the time of %s", id, q.ClientID)
		}
	})
}

// overtaken is a store in which the newest page of a long gap comes between two
// reads of EntriesAfter.
type overtaken struct {
	client.Store
	t *testing.T
}

func (o overtaken) Conversation(ctx context.Context, id pim.ConversationID) (client.ConversationRow, error) {
	row, err := o.Store.Conversation(ctx, id)
	page := client.Batch{Conversations: []client.ConversationRow{{
		ID: id, Known: 200, Newest: 200, Count: 200, Holes: []client.Hole{{From: 11, To: 199}},
	}}}
	page.Entries = []client.Stored{{Entry: pim.Entry{Conversation: id, Seq: 200, Anchor: 200}, Number: 1}}
	if err := o.Apply(ctx, &page); err != nil {
		o.t.Error(err)
	}
	return row, err
}

func TestEntriesAfterIsOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T, p *piped, o client.Options) {
		m := client.NewMemory(client.MemoryOptions{})
		o.Store = overtaken{m, t}
		err := m.Apply(t.Context(), &client.Batch{Conversations: []client.ConversationRow{{ID: chat, Known: 10, Newest: 200, Count: 200}}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if list, err := c.EntriesAfter(t.Context(), chat, 10, 0); err != nil || len(list) > 0 {
			t.Errorf("a gap was passed: %v, %v", list, err)
		}
	})
}
