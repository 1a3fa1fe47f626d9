package sim

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// bot is an app that confirms every entry and answers questions. A question is a
// message of another user that begins as the messages of World.someMessage do. The bot
// takes its time.
type bot struct {
	inbox   []engine.Stored // entries that the process has not looked at yet
	looked  map[pim.ConversationID]map[pim.Seq]bool
	answers map[pim.ClientMessageID]string // by the ID of each answer that it has given: the question
	owed    map[string]bool                // the questions that it looked at; each must have one answer
	broken  botBreakage
}

// botBreakage is how a bot is broken on purpose. The zero botBreakage is sound.
type botBreakage struct {
	confirmsFirst bool // confirms an entry, and then answers in a transaction of its own
	forgets       bool // takes only what the engine hands over, and nothing from the store
}

// makeBot makes a bot of d, which must not run yet.
func (d *Device) makeBot() {
	d.config.Confirms = true
	d.bot = &bot{
		looked:  make(map[pim.ConversationID]map[pim.Seq]bool),
		answers: make(map[pim.ClientMessageID]string), owed: make(map[string]bool),
	}
}

// begins is called for a new process: the bot goes on after the last entry that its
// store has as confirmed.
func (b *bot) begins(d *Device) {
	b.inbox = nil
	if d.disk.meta.Confirms && !b.broken.forgets {
		b.inbox = d.disk.since(d.disk.meta.Confirmed)
	}
	b.later(d)
}

// restored is called before the store goes back to the backup: the bot looks anew at what it has looked at since. A
// question that was erased meanwhile is none any more, and has no answer if that was lost with the store.
func (b *bot) restored(d *Device) {
	for _, e := range d.disk.since(d.backup.meta.Confirmed) {
		delete(b.looked[e.Conversation], e.Seq)
		delete(b.owed, questionOf(&e.Entry))
	}
}

// hears takes an entry that the engine hands over.
func (b *bot) hears(d *Device, ev engine.EntryEvent) {
	if b.inbox = append(b.inbox, engine.Stored{Entry: ev.Entry, Number: ev.Number}); len(b.inbox) == 1 {
		b.later(d)
	}
}

// later looks at the next entry when the bot has time.
func (b *bot) later(d *Device) {
	e := d.engine
	d.w.After(time.Duration(d.w.rng.IntN(400))*time.Millisecond, func() {
		switch {
		case d.engine != e || len(b.inbox) == 0:
		case d.asleep:
			b.later(d)
		default:
			b.look(d)
		}
	})
}

// look looks at the next entry: it answers a question, and confirms the entry.
func (b *bot) look(d *Device) {
	next := b.inbox[0]
	in := engine.Confirm{Number: next.Number}
	question := questionOf(&next.Entry)
	if next.Kind == pim.EntryMessage && next.Sender != d.User && strings.HasPrefix(string(next.Payload), "message") {
		in.Answers = []engine.Outgoing{{
			ID: answerID(d, question), Conversation: next.Conversation, Kind: pim.EntryMessage, Payload: []byte("an answer to " + question),
		}}
	}
	before := d.engine
	if b.broken.confirmsFirst && len(in.Answers) > 0 {
		d.Step(engine.Confirm{Number: in.Number})
	}
	err := d.Step(in)
	if d.disk.meta.Confirmed >= next.Number {
		b.has(next.Entry)
		for _, out := range in.Answers {
			b.owed[question] = true
			b.answers[out.ID] = question
			d.note(out, err)
		}
	}
	if d.engine == before && err == nil {
		b.inbox = b.inbox[1:]
	}
	if d.engine != nil && len(b.inbox) > 0 {
		b.later(d) // if the outbox is full, the same entry is tried again
	}
}

// questionOf returns how the bot calls the question that e may be.
func questionOf(e *pim.Entry) string { return fmt.Sprintf("%s of %s", e.ClientID, e.Conversation) }

// answerID derives the client message ID of the answer to a question, so that a bot
// whose store comes back from a backup answers under the same ID.
func answerID(d *Device, question string) (id pim.ClientMessageID) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s %s", d.User, d.ID, question))
	copy(id[:], sum[:])
	return id
}

func (b *bot) has(e pim.Entry) {
	if b.looked[e.Conversation] == nil {
		b.looked[e.Conversation] = make(map[pim.Seq]bool)
	}
	b.looked[e.Conversation][e.Seq] = true
}

// missed names the entries that the bot has not looked at, and the questions that do
// not have exactly one answer.
func (b *bot) missed(d *Device) (broken []string) {
	times := make(map[string]int)
	for _, c := range d.w.Server.Conversations(d.User) {
		if _, own := c.OwnUser(); own {
			continue // a device need not get commands that later ones have superseded
		}
		for _, e := range d.w.Server.Readable(c, d.User) {
			if !b.looked[c][e.Seq] {
				broken = append(broken, fmt.Sprintf("missed: the bot %s/%s has not looked at seq %d of %s", d.User, d.ID, e.Seq, c))
			}
			if question, ok := b.answers[e.ClientID]; ok {
				times[question]++
			}
		}
	}
	for id, question := range b.answers {
		if d.w.refused[id] { // as when the bot has left the group
			times[question]++
		}
	}
	for question := range b.owed {
		if times[question] != 1 {
			broken = append(broken, fmt.Sprintf("missed: the bot %s/%s has answered %s %d times", d.User, d.ID, question, times[question]))
		}
	}
	slices.Sort(broken)
	return broken
}
