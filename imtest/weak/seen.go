package weak

import (
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// seen collects what is measured.
type seen struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when a message is through
	messages map[pim.ClientMessageID]*message
	open     int // messages that were sent and are not through
	outages  []time.Duration
	failures int
}

// message is one message, and since when each user has it. Events that come before it
// is known to be sent are kept.
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

// at calls f for a message, and notes if the message is through after that: it was
// acknowledged, and handed to its readers and its sender.
func (s *seen) at(id pim.ClientMessageID, f func(*message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		m = &message{handed: make(map[pim.UserID]time.Time)}
		s.messages[id] = m
	}
	f(m)
	if m.through || m.sent.IsZero() || m.acked.IsZero() || len(m.handed) <= m.readers { // not only the readers, the sender has it too
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

// handed notes the first time that user was handed the message. If there are more
// times, the checker of the invariants counts them.
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

// waiting returns how many messages are not through, and a channel that is closed when
// one more is.
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
		r.Late += m.readers - got // deliveries that have not come by the end of the run
	}
	r.SendToAck, r.SendToDelivery = percentiles(acks), percentiles(deliveries)
	r.Failed = s.failures
	r.Reconnects = len(s.outages) - users // the first connection of a user is no reconnect
	for _, d := range s.outages {
		r.LongestOutage = max(r.LongestOutage, d.Seconds())
	}
}
