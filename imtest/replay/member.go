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

	mu      sync.Mutex
	handed  []pim.Entry // of the group, in the order of hand-over
	latency []time.Duration
	failed  error
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
			now := time.Now()
			// The creation may come before the owner's acknowledgement has named
			// the group; what is not of the group is left out by the check.
			if g := r.conversation(); g != "" && ev.Entry.Conversation != g {
				continue // of an earlier run on the same server
			}
			sent, ok := r.sentAt(ev.Entry.ClientID)
			m.mu.Lock()
			m.handed = append(m.handed, ev.Entry)
			if ok && ev.Entry.Sender != m.user {
				m.latency = append(m.latency, now.Sub(sent))
			}
			m.mu.Unlock()
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

// count returns how many entries were handed over so far.
func (m *member) count() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.handed), m.failed
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
