package replay

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// member is one device of a user of the group, and what its app was handed.
type member struct {
	user   pim.UserID
	device pim.DeviceID
	client *client.Client
	lost   context.Context         // ends when an attempt to connect fails, with its error
	lose   context.CancelCauseFunc // ends lost

	// Guarded by mu.
	mu     sync.Mutex
	group  pim.ConversationID // empty until it is known
	handed handedOver         // in the order of hand-over; once the group is known, of the group only
	late   handedOver         // entries that fill holes; delivered puts them at their places among handed
	failed error
}

// handedOver is entries and when each was handed over.
type handedOver struct {
	entries []pim.Entry
	at      []time.Time
}

func (h *handedOver) add(e pim.Entry, at time.Time) {
	h.entries, h.at = append(h.entries, e), append(h.at, at)
}

// of returns the entries of h that are of c.
func (h *handedOver) of(c pim.ConversationID) (rest handedOver) {
	for i, e := range h.entries {
		if e.Conversation == c {
			rest.add(e, h.at[i])
		}
	}
	return rest
}

// with returns h with the late entries among its own, each before the first entry that
// has a greater seq.
func (h *handedOver) with(late handedOver) (all handedOver) {
	order := make([]int, len(late.entries))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(late.entries[a].Seq, late.entries[b].Seq) })
	for i, e := range h.entries {
		for len(order) > 0 && late.entries[order[0]].Seq < e.Seq {
			all.add(late.entries[order[0]], late.at[order[0]])
			order = order[1:]
		}
		all.add(e, h.at[i])
	}
	for _, i := range order {
		all.add(late.entries[i], late.at[i])
	}
	return all
}

// open opens a device of user. If it keeps nothing, its store has no entries.
func (r *run) open(ctx context.Context, user pim.UserID, device pim.DeviceID, keepsNothing bool) (*member, error) {
	m := &member{user: user, device: device}
	m.lost, m.lose = context.WithCancelCause(context.Background())
	c, err := client.Open(ctx, client.Options{
		Server: r.config.Server, Direct: true, Insecure: r.config.Insecure, User: user, Device: device,
		Token:      func(context.Context) (string, error) { return r.config.Token(user) },
		Store:      client.NewMemory(client.MemoryOptions{PositionsOnly: keepsNothing}),
		Agent:      "pim-replay",
		BackoffMin: 50 * time.Millisecond, BackoffMax: 2 * time.Second,
		EventBuffer: 64,
		Logger:      r.config.Logger.With("user", string(user)),
	})
	if err != nil {
		return nil, err
	}
	m.client = c
	r.events.Go(func() { m.read(r) })
	return m, nil
}

// read takes the client's events until the client is closed.
func (m *member) read(r *run) {
	for ev := range m.client.Events() {
		switch ev := ev.(type) {
		case client.EntryEvent:
			m.take(ev.Entry, ev.Late, time.Now())
			r.progress.Add(1)
		case client.StateEvent:
			if ev.Err != nil {
				m.lose(ev.Err)
			}
			if ev.State == client.Stopped {
				m.mu.Lock()
				m.failed = ev.Err
				m.mu.Unlock()
			}
		}
	}
}

// take keeps an entry of the group. A server that ran before may have entries of other
// conversations; until the group is known, take keeps these too.
func (m *member) take(e pim.Entry, late bool, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.group != "" && e.Conversation != m.group:
	case late:
		m.late.add(e, at)
	default:
		m.handed.add(e, at)
	}
}

// follow sets the group, and drops the entries of other conversations.
func (m *member) follow(group pim.ConversationID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.group, m.handed, m.late = group, m.handed.of(group), m.late.of(group)
}

// count returns how many entries were handed over so far.
func (m *member) count() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.handed.entries) + len(m.late.entries), m.failed
}

// delivered returns the entries that were handed over so far, and when, in the order of
// hand-over; but late entries are at their places by seq.
func (m *member) delivered() ([]pim.Entry, []time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.handed.with(m.late)
	return all.entries, all.at
}

// has returns the entry with the client message ID id, if it was handed over.
func (m *member) has(id pim.ClientMessageID) (e pim.Entry, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range []*handedOver{&m.handed, &m.late} {
		if i := slices.IndexFunc(h.entries, func(e pim.Entry) bool { return e.ClientID == id }); i >= 0 {
			return h.entries[i], true
		}
	}
	return pim.Entry{}, false
}
