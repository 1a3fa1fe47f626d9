package chat

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

const (
	screenful  = 50   // seqs of a group that the server is asked about at once
	maxReaders = 2000 // listed of one message
)

// seen is what others have got and read of the open conversation.
type seen struct {
	delivered, read pim.Seq // of a direct one, see client.Receipts
	readAt          pim.Millis
	counts          map[pim.Seq]client.Receipt // of a group
	asked           map[pim.Seq]bool           // of a group: the server was
	notes           map[pim.Seq]string         // what messages of the user's say about that
}

// What the Model wants to know of that, and the answers.
type (
	// askSeen asks how far others have read a conversation.
	askSeen struct {
		conversation pim.ConversationID
		from, to     pim.Seq
	}
	told struct {
		conversation pim.ConversationID
		receipts     client.Receipts
	}

	// askReaders asks who has read a message of a group.
	askReaders struct {
		conversation pim.ConversationID
		seq          pim.Seq
	}
	readBy struct {
		askReaders
		readers []client.Reader
		more    bool
		err     error
	}
)

func (askSeen) effect()    {}
func (askReaders) effect() {}

// asks asks about the messages on the screen. Unless all is set, it does so only of a group, if there
// are messages of the user's that it has not asked about.
func (m *Model) asks(all bool) []Effect {
	if m.link.State != client.Connected || m.open == "" {
		return nil
	}
	first, last := m.inPane()
	to := pim.Seq(0)
	for i := first; i < last; i++ {
		e := &m.items[i].Entry
		to = max(to, e.Seq)
		all = all || m.open.IsGroup() && m.own(&m.items[i]) && !m.seen.asked[e.Seq]
	}
	if to == 0 || !all {
		return nil
	}
	from := to - min(to, screenful) + 1
	if m.seen.asked == nil {
		m.seen.asked = make(map[pim.Seq]bool)
	}
	for seq := from; seq <= to; seq++ {
		m.seen.asked[seq] = true
	}
	return []Effect{askSeen{m.open, from, to}}
}

// switched is for the user's switches of receipts and presence: what is known of others is gone, or
// looked at again.
func (m *Model) switched(ev client.SettingEvent) []Effect {
	receipts := pim.Command{Kind: pim.CommandNoReceipts, Subject: string(m.me)}
	presence := pim.Command{Kind: pim.CommandNoPresence, Subject: string(m.me)}
	off := ev.Setting.InForce(0)
	switch {
	case m.open == "":
		return nil
	case ev.Entity == receipts.Entity() && off:
		m.seen = seen{}
	case ev.Entity == presence.Entity() && off:
		m.live = live{}
	case (ev.Entity == receipts.Entity() || ev.Entity == presence.Entity()) && !ev.Pending:
		return append(m.watch(), m.asks(true)...)
	}
	return nil
}

// told takes how far others have read a conversation. An answer may come after a newer event.
func (m *Model) told(t told) {
	if t.conversation != m.open {
		return
	}
	s, r := &m.seen, &t.receipts
	s.delivered = max(s.delivered, r.Delivered)
	if r.Read > s.read {
		s.read, s.readAt = r.Read, r.ReadAt
	}
	if s.counts == nil {
		s.counts = make(map[pim.Seq]client.Receipt)
	}
	for _, receipt := range r.Messages {
		s.counts[receipt.Seq] = receipt
	}
	m.annotate()
}

// own reports whether others may have read a message of the user's.
func (m *Model) own(item *client.Message) bool {
	return item.State == client.Delivered && item.Entry.Kind == pim.EntryMessage && item.Entry.Sender == m.me && !item.Entry.Erased
}

// annotate notes by whom the user's messages were read: each that says the same as the one after it
// says nothing.
func (m *Model) annotate() {
	m.seen.notes = make(map[pim.Seq]string)
	after := ""
	for _, item := range slices.Backward(m.items) {
		if !m.own(&item) {
			continue
		}
		note := ""
		if r := m.seen.counts[item.Entry.Seq]; r.Read > 0 {
			note = fmt.Sprintf(" · read by %d of %d", r.Read, r.Members)
		} else if item.Entry.Seq <= m.seen.read {
			note = " · read " + m.moment(m.seen.readAt, m.at(&item))
		}
		if note != after {
			m.seen.notes[item.Entry.Seq] = note
		}
		after = note
	}
}

// moment returns the time of day of t; with the day, if that is not the day of about.
func (m *Model) moment(t pim.Millis, about time.Time) string {
	at := t.Time().In(m.zone)
	if at.YearDay() == about.YearDay() && at.Year() == about.Year() {
		return at.Format("15:04")
	}
	return at.Format("2 Jan 15:04")
}

// received reports whether a device of somebody else has a message, as far as is known.
func (m *Model) received(seq pim.Seq) bool {
	return seq <= max(m.seen.delivered, m.seen.read) || m.seen.counts[seq].Read > 0
}

// askWho is for the key that tells who has read the chosen message, or the user's last.
func (m *Model) askWho() []Effect {
	var about *client.Message
	if m.aim != nil {
		about = &m.aim.to
	} else if at := lastOf(m.items, m.own); at >= 0 {
		about = &m.items[at]
	}
	switch {
	case about == nil:
		m.say("no message is chosen: Ctrl-R chooses one")
	case m.open.IsGroup():
		return []Effect{askReaders{m.open, about.Entry.Seq}}
	case about.Entry.Sender != m.me:
		m.say("that is told of messages of your own")
	case about.Entry.Seq <= m.seen.read:
		m.say("read by " + m.moment(m.seen.readAt, m.at(about)))
	case m.received(about.Entry.Seq):
		m.say("delivered, and not read as far as is known")
	default:
		m.say("stored, and not delivered as far as is known")
	}
	return nil
}

// lastOf returns the place of the last of items that is one; -1 if none is.
func lastOf(items []client.Message, is func(*client.Message) bool) int {
	for i := len(items) - 1; i >= 0; i-- {
		if is(&items[i]) {
			return i
		}
	}
	return -1
}

// listReaders shows who has read a message, and who has not.
func (m *Model) listReaders(r readBy) {
	item := m.held(r.seq)
	switch {
	case r.conversation != m.open || item == nil:
		return
	case r.err != nil:
		m.say(Plain(r.err))
		return
	}
	slices.SortStableFunc(r.readers, func(a, b client.Reader) int {
		if a.Read != b.Read {
			if a.Read {
				return -1
			}
			return 1
		}
		return 0
	})
	lines := []string{m.line(item)}
	for _, reader := range r.readers {
		if reader.Read {
			lines = append(lines, "✓ "+m.name(reader.User)+" has read it by "+m.moment(reader.At, m.at(item)))
		} else {
			lines = append(lines, "  "+m.name(reader.User)+" has not read it")
		}
	}
	if r.more {
		lines = append(lines, "  and more: pim receipts lists all")
	}
	m.sheet, m.page = lines, 0
}

// ask waits for the answer to an askSeen or askReaders.
func (d *Driver) ask(ctx context.Context, e Effect) any {
	ctx, cancel := context.WithTimeout(ctx, olderWithin)
	defer cancel()
	if e, ok := e.(askSeen); ok {
		// An error says that the user gives no receipts or is no member, or that they come after
		// the next connect: nothing is shown then.
		r, _ := d.Backend.Receipts(ctx, e.conversation, e.from, e.to)
		return told{e.conversation, r}
	}
	who, _ := e.(askReaders)
	by := readBy{askReaders: who}
	for after := pim.UserID(""); ; {
		page, next, err := d.Backend.Readers(ctx, who.conversation, who.seq, after)
		by.readers, by.err, by.more = append(by.readers, page...), err, next != ""
		if after = next; next == "" || len(by.readers) >= maxReaders {
			return by
		}
	}
}
