package chat

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// standing is what is known of an answered message that is not loaded.
type standing int

const (
	unknown standing = iota // also of what the user can't read
	there
	gone // recalled or erased
)

// quoted is what is known of the messages that the loaded ones answer and that are not loaded. The
// excerpt in an answer is shown only of one that is there: it stays in the answer when its message
// is recalled or erased.
type quoted struct {
	of    map[pim.Seq]standing // those that were asked about
	since int                  // how often all was forgotten; answers from before do not count
}

// What the Model wants to know of them, and the answer.
type (
	askQuoted struct {
		conversation pim.ConversationID
		since        int
		seqs         []pim.Seq
	}
	quotedAre struct {
		askQuoted
		of map[pim.Seq]standing
	}
)

func (askQuoted) effect() {}

// forget forgets all: messages were erased, or it is another conversation.
func (q *quoted) forget() { *q = quoted{since: q.since + 1} }

// asksQuoted asks about the answered messages that are not loaded and that it has not asked about.
func (m *Model) asksQuoted() []Effect {
	ask := askQuoted{conversation: m.open, since: m.quoted.since}
	for i := range m.items {
		r := contentOf(&m.items[i].Entry).Reply
		if r == nil || m.held(r.Seq) != nil {
			continue
		}
		if _, asked := m.quoted.of[r.Seq]; asked {
			continue
		}
		if m.quoted.of == nil {
			m.quoted.of = make(map[pim.Seq]standing)
		}
		m.quoted.of[r.Seq] = unknown
		ask.seqs = append(ask.seqs, r.Seq)
	}
	if len(ask.seqs) == 0 {
		return nil
	}
	return []Effect{ask}
}

// quotedAre takes the answer.
func (m *Model) quotedAre(a quotedAre) {
	if a.since != m.quoted.since {
		return
	}
	for seq, s := range a.of {
		m.quoted.of[seq] = s
	}
}

// changed is for the fold of a message that may have changed: it may have been recalled.
func (m *Model) changed(seq pim.Seq) {
	if _, asked := m.quoted.of[seq]; asked {
		m.quoted.forget()
	}
}

// quotes finds out how the messages that e names stand, as far as it is told in time.
func (d *Driver) quotes(ctx context.Context, e askQuoted) any {
	ctx, cancel := context.WithTimeout(ctx, olderWithin)
	defer cancel()
	are := quotedAre{e, make(map[pim.Seq]standing)}
	for _, seq := range e.seqs {
		// An error says that nobody tells now: no excerpt is shown then.
		if message, err := d.Backend.Answered(ctx, e.conversation, seq); err == nil {
			are.of[seq] = there
			if message.Recalled() || message.Entry.Erased {
				are.of[seq] = gone
			}
		}
	}
	return are
}

// Answered returns the message at seq from the local store or, if that does not hold it, as the
// server has it.
func (s *sdk) Answered(ctx context.Context, id pim.ConversationID, seq pim.Seq) (client.Message, error) {
	message, err := s.Message(ctx, id, seq)
	if pim.KindOf(err) != pim.KindNotFound {
		return message, err
	}
	page, err := s.Pull(ctx, id, seq, seq, 1, false)
	if err != nil {
		return client.Message{}, err
	}
	if len(page.Entries) == 0 || page.Entries[0].Kind != pim.EntryMessage {
		return client.Message{}, pim.Errorf(pim.KindNotFound, "no message at %d", seq)
	}
	return client.Message{Entry: page.Entries[0]}, nil
}
