package replay

import (
	"context"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// member is one user of the group with one device, and what its app was handed.
type member struct {
	user   pim.UserID
	client *client.Client

	mu     sync.Mutex
	group  pim.ConversationID // empty until it is known
	handed []pim.Entry        // in the order of hand-over; once the group is known, of the group only
	at     []time.Time        // when, for each of handed
	failed error
}

func (r *run) open(ctx context.Context, user pim.UserID) (*member, error) {
	m := &member{user: user}
	c, err := client.Open(ctx, client.Options{
		Server: r.config.Server, User: user, Device: r.device,
		Token:      func(context.Context) (string, error) { return r.config.Token(user) },
		Store:      client.NewMemory(client.MemoryOptions{PositionsOnly: true}),
		Agent:      "pim-replay",
		BackoffMin: 50 * time.Millisecond, BackoffMax: 2 * time.Second,
		EventBuffer: 64,
		Logger:      r.config.Logger.With("user", string(user)),
	})
	if err != nil {
		return nil, err
	}
	m.client = c
	r.readers.Go(func() { m.read(r) })
	return m, nil
}

// read takes what the client hands over until it is closed.
func (m *member) read(r *run) {
	for ev := range m.client.Events() {
		switch ev := ev.(type) {
		case client.EntryEvent:
			m.take(ev.Entry, time.Now())
			r.progress.Add(1)
		case client.StateEvent:
			if ev.State == client.Stopped {
				m.mu.Lock()
				m.failed = ev.Err
				m.mu.Unlock()
			}
		}
	}
}

// take keeps an entry of the group. A server that was there before has others;
// until the group is known, all are kept.
func (m *member) take(e pim.Entry, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.group == "" || e.Conversation == m.group {
		m.handed, m.at = append(m.handed, e), append(m.at, at)
	}
}

// follow names the group.
func (m *member) follow(group pim.ConversationID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	handed, at := m.handed, m.at
	m.group, m.handed, m.at = group, nil, nil
	for i := range handed {
		if handed[i].Conversation == group {
			m.handed, m.at = append(m.handed, handed[i]), append(m.at, at[i])
		}
	}
}

// count returns how many entries were handed over so far.
func (m *member) count() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.handed), m.failed
}

// delivered returns what was handed over so far, and when.
func (m *member) delivered() ([]pim.Entry, []time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.handed)
	return m.handed[:n:n], m.at[:n:n]
}

// pull returns the whole of what the member may read, straight from the server.
func (m *member) pull(ctx context.Context, c pim.ConversationID) ([]pim.Entry, error) {
	var all []pim.Entry
	for next := pim.Seq(1); ; {
		page, err := m.client.Pull(ctx, c, next, 0, pim.MaxPageEntries, false)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Entries...)
		if page.To >= page.Newest || page.To < next {
			return all, nil
		}
		next = page.To + 1
	}
}
