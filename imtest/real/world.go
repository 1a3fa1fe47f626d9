package real

import (
	"errors"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
)

// world is what the phones of a schedule have in common.
type world struct {
	history *imtest.History

	// Guarded by mu.
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when a phone has noted a report
	newest  map[pim.ConversationID]pim.Seq
	members map[pim.ConversationID][]pim.UserID
	groups  []pim.ConversationID // those that any device has seen
	failed  []resend
	err     error
}

// resend is a message that an app gave up.
type resend struct {
	phone *phone
	id    pim.ClientMessageID
}

func newWorld(h *imtest.History) *world {
	return &world{
		history: h, changed: make(chan struct{}),
		newest: make(map[pim.ConversationID]pim.Seq), members: make(map[pim.ConversationID][]pim.UserID),
	}
}

// poke wakes those who wait for changed.
func (w *world) poke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// direct makes the conversation of two users known.
func (w *world) direct(a, b pim.UserID) pim.ConversationID {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := pim.Direct(a, b)
	w.members[c] = []pim.UserID{a, b}
	return c
}

// saw notes that a device has e.
func (w *world) saw(e pim.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.newest[e.Conversation] = max(w.newest[e.Conversation], e.Seq)
	if e.Kind == pim.EntryCreate && w.members[e.Conversation] == nil {
		w.members[e.Conversation] = append(slices.Clone(e.Members), e.Sender)
		w.groups = append(w.groups, e.Conversation)
	}
}

func (w *world) member(c pim.ConversationID, u pim.UserID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.members[c], u)
}

// open returns, sorted, the conversations that u can write to.
func (w *world) open(u pim.UserID) (list []pim.ConversationID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, members := range w.members {
		if slices.Contains(members, u) {
			list = append(list, c)
		}
	}
	slices.Sort(list)
	return list
}

func (w *world) resend(p *phone, id pim.ClientMessageID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, resend{p, id})
}

// takeFailed returns the messages that have failed since its last call. Their users are
// to send them again.
func (w *world) takeFailed() []resend {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.failed
	w.failed = nil
	return f
}

// state returns the newest seq of each conversation that any device has, a channel that
// is closed when a phone has noted a report, and what has gone wrong.
func (w *world) state() (map[pim.ConversationID]pim.Seq, <-chan struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	newest := make(map[pim.ConversationID]pim.Seq, len(w.newest))
	for c, seq := range w.newest {
		newest[c] = seq
	}
	return newest, w.changed, w.err
}
