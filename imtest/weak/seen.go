package weak

import (
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// seen is what was measured.
type seen struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when a message is through
	messages map[pim.ClientMessageID]*message
	open     int // messages that somebody lacks
	outages  []time.Duration
	failures int
}

// message is one, and who has it since when. What is heard of it before it is
// known to be sent is kept.
type message struct {
	sender        pim.UserID
	sent, acked   time.Time
	readers       int
	handed        map[pim.UserID]time.Time
	transmissions int
	through       bool
}

func newSeen() *seen {
	return &seen{changed: make(chan struct{}), messages: make(map[pim.ClientMessageID]*message)}
}

// at calls f for a message, and notes if it is through after that.
func (s *seen) at(id pim.ClientMessageID, f func(*message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		m = &message{handed: make(map[pim.UserID]time.Time)}
		s.messages[id] = m
	}
	f(m)
	if m.through || m.sent.IsZero() || m.acked.IsZero() || len(m.handed) <= m.readers { // the sender has it too
		return
	}
	m.through = true
	s.open--
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *seen) sent(by pim.UserID, id pim.ClientMessageID, at time.Time, readers int) {
	s.at(id, func(m *message) {
		m.sender, m.sent, m.readers = by, at, readers
		s.open++
	})
}

func (s *seen) transmitted(id pim.ClientMessageID) {
	s.at(id, func(m *message) { m.transmissions++ })
}

func (s *seen) acked(id pim.ClientMessageID, at time.Time) {
	s.at(id, func(m *message) { m.acked = at })
}

// handed notes the first time that user was handed the message; the checker of
// the invariants counts the others.
func (s *seen) handed(user pim.UserID, id pim.ClientMessageID, at time.Time) {
	s.at(id, func(m *message) {
		if _, again := m.handed[user]; !again {
			m.handed[user] = at
		}
	})
}

func (s *seen) connected(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outages = append(s.outages, after)
}

func (s *seen) failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures++
}

// waiting returns how many messages are not through, and what is closed when one
// more is.
func (s *seen) waiting() (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.changed
}

// measure fills in r.
func (s *seen) measure(r *Report, users int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var acks, deliveries []time.Duration
	for _, m := range s.messages {
		if m.sent.IsZero() {
			continue // of the preparations
		}
		r.Messages++
		r.Deliveries += m.readers
		r.Resent += max(0, m.transmissions-1)
		if !m.acked.IsZero() {
			acks = append(acks, m.acked.Sub(m.sent))
		}
		got := 0
		for user, at := range m.handed {
			if user == m.sender {
				continue
			}
			got++
			took := at.Sub(m.sent)
			deliveries = append(deliveries, took)
			if took > r.within {
				r.Late++
			}
		}
		r.Late += m.readers - got // of which the run has not seen the end
	}
	r.SendToAck, r.SendToDelivery = percentiles(acks), percentiles(deliveries)
	r.Failed = s.failures
	r.Reconnects = len(s.outages) - users // the first is no reconnect
	for _, d := range s.outages {
		r.LongestOutage = max(r.LongestOutage, d.Seconds())
	}
}
