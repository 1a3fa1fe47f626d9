package soak

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/pim-im/pim"
)

// findings counts what is wrong and keeps the first few in words. It may be used
// concurrently.
type findings struct {
	mu                        sync.Mutex
	Lost, Doubled, Misordered int
	words                     []string

	// overtaken says which messages stand in the log behind a later one of their device.
	overtaken []string
}

const maxFindings = 10

func (f *findings) add(counter *int, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*counter++
	if len(f.words) < maxFindings {
		f.words = append(f.words, fmt.Sprintf(format, args...))
	}
}

// logs judges the logs of all conversations against the book. The logs are read from the
// server in the end.
type logs struct {
	b    *book
	f    *findings
	seen [][]bool // by device and number: the message stands in a log
}

// newLogs returns the judge of the messages in b. Nothing may be sent any more.
func newLogs(b *book, f *findings) *logs {
	l := &logs{b: b, f: f}
	for _, of := range b.sent {
		l.seen = append(l.seen, make([]bool, len(of)))
	}
	return l
}

// check judges one conversation's log. Every message in it must have been sent, must
// stand there once, at the seq at which it was acknowledged, and must be displayed behind
// the messages that its device sent before.
func (l *logs) check(conversation int, log []pim.Entry) {
	last := make(map[uint32]uint32)       // lowest number that the next message of a device may have
	sent := make(map[uint32][]*pim.Entry) // a device's messages, by their stamps
	next := pim.Seq(1)
	for i := range log {
		e := &log[i]
		switch {
		case e.Seq < next:
			l.f.add(&l.f.Misordered, "seq %d of %s is read behind seq %d", e.Seq, e.Conversation, next-1)
		case e.Seq > next:
			l.f.add(&l.f.Lost, "%s has no seqs %d to %d", e.Conversation, next, e.Seq-1)
		}
		next = max(next, e.Seq+1)
		if e.Kind != pim.EntryMessage {
			continue
		}
		s, ok := stampOf(e.Payload)
		if !ok || int(s.device) >= len(l.b.sent) || int(s.number) >= len(l.b.sent[s.device]) {
			l.f.add(&l.f.Doubled, "seq %d of %s is a message that nobody sent", e.Seq, e.Conversation)
			continue
		}
		l.message(conversation, e, s)
		if s.number < last[s.device] {
			l.f.overtaken = append(l.f.overtaken, fmt.Sprintf("message %d of device %d, seq %d of %s, stands behind a later one", s.number, s.device, e.Seq, e.Conversation))
		}
		last[s.device] = max(last[s.device], s.number+1)
		sent[s.device] = append(sent[s.device], e)
	}
	for device, messages := range sent {
		l.displayed(device, messages)
	}
}

// displayed judges the display order of a device's messages in one conversation. Messages of the same
// millisecond are displayed in the order of the log.
func (l *logs) displayed(device uint32, messages []*pim.Entry) {
	slices.SortFunc(messages, func(a, b *pim.Entry) int {
		x, _ := stampOf(a.Payload)
		y, _ := stampOf(b.Payload)
		return cmp.Compare(x.number, y.number)
	})
	for i, e := range messages[min(1, len(messages)):] {
		before := messages[i]
		if p, q := before.Place(), e.Place(); p.Local != q.Local && p.Compare(q) >= 0 {
			l.f.add(&l.f.Misordered, "seq %d of %s is displayed behind seq %d, which device %d sent later", before.Seq, e.Conversation, e.Seq, device)
		}
	}
}

// message judges one message of a log.
func (l *logs) message(conversation int, e *pim.Entry, s stamp) {
	m := &l.b.sent[s.device][s.number]
	switch {
	case l.seen[s.device][s.number]:
		l.f.add(&l.f.Doubled, "message %d of device %d stands twice, at seq %d of %s too", s.number, s.device, e.Seq, e.Conversation)
	case m.id != e.ClientID || int(m.conversation) != conversation:
		l.f.add(&l.f.Doubled, "message %d of device %d stands under another ID or in another conversation, at seq %d of %s", s.number, s.device, e.Seq, e.Conversation)
	case m.seq != 0 && m.seq != e.Seq:
		l.f.add(&l.f.Misordered, "message %d of device %d was acknowledged at seq %d and stands at seq %d of %s", s.number, s.device, m.seq, e.Seq, e.Conversation)
	}
	l.seen[s.device][s.number] = true
}

// end counts the messages that stand in no log. A message that was never acknowledged
// counts as lost as well: the server was there long enough to take it.
func (l *logs) end() {
	for device, of := range l.b.sent {
		for number, m := range of {
			switch {
			case m.seq == 0:
				l.f.add(&l.f.Lost, "message %d of device %d was never acknowledged", number, device)
			case !l.seen[device][number]:
				l.f.add(&l.f.Lost, "message %d of device %d was acknowledged at seq %d of conversation %d and is not there", number, device, m.seq, m.conversation)
			}
		}
	}
}
