package soak

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// book holds every message that was sent and the seq at which it was acknowledged. It is
// the reference of the check.
type book struct {
	mu   sync.Mutex
	sent [][]message // by the device that sent it, in the order of the sends
	open int         // messages that were not acknowledged
	// newest is the highest seq that was acknowledged in each conversation.
	newest  []pim.Seq
	begun   time.Time
	longest time.Duration // from queued to acknowledged
}

// message is one message that was sent.
type message struct {
	id           pim.ClientMessageID
	conversation int32
	seq          pim.Seq       // 0 until it is acknowledged
	at           time.Duration // when it was queued, since the book was begun
}

func newBook(devices, conversations int) *book {
	return &book{sent: make([][]message, devices), newest: make([]pim.Seq, conversations), begun: time.Now()}
}

// stamp names a message at the start of its payload: the device that sent it, and its
// number among that device's messages, from 0. The rest of the payload follows from that.
type stamp struct{ device, number uint32 }

const stampSize = 8

// payload returns the payload of a message, of a length between 8 and 263 bytes.
func (s stamp) payload() []byte {
	b := make([]byte, stampSize+int(s.number%256))
	binary.LittleEndian.PutUint32(b, s.device)
	binary.LittleEndian.PutUint32(b[4:], s.number)
	for i := range b[stampSize:] {
		b[stampSize+i] = byte(int(s.device) + int(s.number) + i)
	}
	return b
}

// stampOf returns the stamp of a payload. ok is false if stamp.payload did not write the
// payload.
func stampOf(payload []byte) (s stamp, ok bool) {
	if len(payload) < stampSize {
		return stamp{}, false
	}
	s = stamp{binary.LittleEndian.Uint32(payload), binary.LittleEndian.Uint32(payload[4:])}
	return s, string(s.payload()) == string(payload)
}

// queued notes that a message is in its device's outbox. The messages of a device are
// noted in the order of their numbers.
func (b *book) queued(s stamp, id pim.ClientMessageID, conversation int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent[s.device] = append(b.sent[s.device], message{id: id, conversation: int32(conversation), at: time.Since(b.begun)})
	b.open++
}

// queuedAt returns when a message was queued, since the book was begun. ok is false if it is not noted.
func (b *book) queuedAt(s stamp) (at time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if int(s.device) >= len(b.sent) || int(s.number) >= len(b.sent[s.device]) {
		return 0, false
	}
	return b.sent[s.device][s.number].at, true
}

// acknowledged notes that the server acknowledged a message at seq.
func (b *book) acknowledged(s stamp, seq pim.Seq) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := &b.sent[s.device][s.number]
	m.seq = seq
	b.longest = max(b.longest, time.Since(b.begun)-m.at)
	b.open--
	b.newest[m.conversation] = max(b.newest[m.conversation], seq)
}

// created notes the seq of a group's creation.
func (b *book) created(conversation int, seq pim.Seq) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.newest[conversation] = max(b.newest[conversation], seq)
}

// unanswered returns how many messages were not acknowledged.
func (b *book) unanswered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// answered returns how many messages were acknowledged.
func (b *book) answered() int { return b.messages() - b.unanswered() }

// messages returns how many were sent.
func (b *book) messages() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, of := range b.sent {
		n += len(of)
	}
	return n
}

// reached returns the highest acknowledged seq of a conversation.
func (b *book) reached(conversation int) pim.Seq {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest[conversation]
}
