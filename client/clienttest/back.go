package clienttest

import (
	"maps"
	"slices"

	"github.com/pim-im/pim"
)

// Backup is what a Server had at some time.
type Backup struct {
	store   string
	logs    map[pim.ConversationID]*log
	devices map[deviceKey]*device
}

// Backup returns a copy of what the server has.
func (s *Server) Backup() *Backup {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (&Backup{s.Store, s.logs, s.devices}).clone()
}

// Restore puts the server back to b; nil stands for an empty server. If store is not
// empty, it is the store's identity from now on, as after pim restore; otherwise that of
// the backup is. All sessions end, but their devices are not told: the caller must do so.
func (s *Server) Restore(b *Backup, store string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b == nil {
		b = new(Backup)
	}
	b = b.clone()
	s.Store, s.logs, s.devices = b.store, b.logs, b.devices
	if store != "" {
		s.Store = store
	}
	for _, x := range s.sessions {
		x.open = false
	}
	clear(s.sessions)
}

func (b *Backup) clone() *Backup {
	c := &Backup{store: b.store, logs: make(map[pim.ConversationID]*log), devices: make(map[deviceKey]*device)}
	for id, l := range b.logs {
		c.logs[id] = l.clone()
	}
	for key, d := range b.devices {
		c.devices[key] = &device{serial: d.serial, acked: maps.Clone(d.acked), fronts: maps.Clone(d.fronts)}
	}
	return c
}

func (l *log) clone() *log {
	c := &log{
		entries: slices.Clone(l.entries), times: l.times, ids: maps.Clone(l.ids), count: l.count, folds: maps.Clone(l.folds), front: l.front,
		periods: make(map[pim.UserID][]period), order: make(map[pim.UserID]*pim.Anchors),
	}
	for u, p := range l.periods {
		c.periods[u] = slices.Clone(p)
	}
	for i := range c.entries { // c.order follows from the log, as for a writer
		e := &c.entries[i]
		if c.order[e.Sender] == nil {
			c.order[e.Sender] = new(pim.Anchors)
		}
		c.order[e.Sender].Next(e.Seq, e.OrderTime(), e.Server)
	}
	return c
}

// Forget forgets all client message IDs, as a server may after 7 days.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logs {
		clear(l.ids)
	}
}
