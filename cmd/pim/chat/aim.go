package chat

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// purpose is what Enter does to a message.
type purpose int

const (
	answer purpose = iota // the line is a reply to it
	edit                  // the line is its text from now on
	react                 // the line is a reaction to it
	recall                // whatever the line is
	pinAll                // pin it for all, or no longer; whatever the line is
)

// takesLine reports whether the line is not that of a message to send.
func (p purpose) takesLine() bool { return p == edit || p == react }

// aim is a message that was chosen, and what Enter does to it.
type aim struct {
	do    purpose
	to    client.Message // as it was last shown
	draft string         // takesLine: what was in the line before
}

// usual are the reactions that have a number.
var usual = []string{"👍", "❤️", "😂", "😮", "😢", "🙏"}

// hold takes what the open conversation shows.
func (m *Model) hold(items []client.Message) {
	m.items, m.places = items, make(map[pim.Seq]int, len(items))
	for i := range items {
		m.places[items[i].Entry.Seq] = i
	}
	m.annotate()
	if m.aim == nil {
		return
	}
	now := m.held(m.aim.to.Entry.Seq)
	switch {
	case now == nil:
	case now.Entry.ClientID != m.aim.to.Entry.ClientID: // a server that has gone back may give the seq to another message
		m.leave()
	case now.Recalled():
		m.leave()
		m.say("the message was recalled")
	case now.Entry.Erased:
		m.leave()
		m.say("the message was erased")
	default:
		m.aim.to = *now
	}
}

// held returns the message of the open conversation at seq; nil if it is not loaded.
func (m *Model) held(seq pim.Seq) *client.Message {
	if i, ok := m.places[seq]; ok && seq > 0 {
		return &m.items[i]
	}
	return nil
}

// leave gives the chosen message up. What was in the line before comes back.
func (m *Model) leave() {
	if m.aim != nil && m.aim.do.takesLine() {
		m.input.set(m.aim.draft)
	}
	m.aim = nil
}

// choose chooses the next message up (step -1) or down (1) from the chosen one. With none chosen, or
// one that is not loaded, the last is the next one up, to be answered. Down from the last, none is
// chosen.
func (m *Model) choose(step int) {
	do, at := answer, len(m.items)
	if m.aim != nil {
		do = m.aim.do
		if do == edit && m.input.text() != textOf(&m.aim.to) {
			m.say("Enter ends this edit, Esc leaves it")
			return
		}
		if m.held(m.aim.to.Entry.Seq) != nil {
			at = m.places[m.aim.to.Entry.Seq]
		}
	}
	for at += step; at >= 0 && at < len(m.items); at += step {
		if m.fits(do, &m.items[at]) {
			m.take(do, at)
			return
		}
	}
	if step > 0 {
		m.leave()
	}
}

// begin is for the key that does something to a message: the chosen one, or else the last of the
// user's own; a reaction is to the last of somebody else's.
func (m *Model) begin(do purpose) {
	if m.aim != nil && m.held(m.aim.to.Entry.Seq) != nil {
		at := m.places[m.aim.to.Entry.Seq]
		if m.fits(do, &m.items[at]) {
			m.take(do, at)
		} else {
			m.say("that cannot be done to this message")
		}
		return
	}
	for at, item := range slices.Backward(m.items) {
		if m.fits(do, &item) && (item.Entry.Sender == m.me) == (do != react) {
			m.take(do, at)
			return
		}
	}
	m.say("no message is chosen: Ctrl-R chooses one")
}

// take chooses items[at].
func (m *Model) take(do purpose, at int) {
	m.leave()
	m.aim = &aim{do: do, to: m.items[at], draft: m.input.text()}
	switch do {
	case edit:
		m.input.set(textOf(&m.aim.to))
	case react:
		m.input.set("")
	}
	// It is on the screen: not below the pane, and not above it.
	m.scroll = min(m.scroll, m.linesOf(m.items, at+1))
	m.scroll = max(m.scroll, m.linesOf(m.items, at)-m.body())
}

// again chooses the message at seq after what was to be done to it has failed.
func (m *Model) again(do purpose, seq pim.Seq) {
	if item := m.held(seq); item != nil && m.fits(do, item) {
		m.take(do, m.places[seq])
	}
}

// fits reports whether a message is in the log, where others see it, and the user may do something
// to it as far as this device knows. The server may know better.
func (m *Model) fits(do purpose, item *client.Message) bool {
	e := &item.Entry
	if item.State != client.Delivered || e.Kind != pim.EntryMessage || e.Erased {
		return false
	}
	switch do {
	case edit:
		_, err := item.Content()
		return e.Sender == m.me && err == nil
	case recall: // the owner of a group may recall all messages
		return e.Sender == m.me || m.open.IsGroup()
	}
	return true
}

// textOf returns the text that an edit of a message begins with.
func textOf(item *client.Message) string {
	c, _ := item.Content()
	return c.Text
}

// carry does what the line and the chosen message ask for.
func (m *Model) carry() []Effect {
	to, text := m.aim.to, m.input.text()
	refer := Refer{Conversation: m.open, To: to.Entry.Seq}
	switch m.aim.do {
	case edit:
		if text == "" {
			m.say("nothing would be left of the message: Ctrl-X recalls it")
			return nil
		}
		if text == textOf(&to) {
			m.leave()
			return nil
		}
		c, err := to.Content()
		if err == nil {
			c.Text = text
			refer.Payload, err = sayIn(m.open, c)
		}
		if err != nil {
			m.say(Plain(err))
			return nil
		}
		refer.Kind = pim.EntryEdit
	case react:
		refer.Kind, refer.Reaction = pim.EntryReaction, reactionOf(text)
		if err := pim.ValidateReaction(refer.Reaction); err != nil {
			m.say(Plain(err))
			return nil
		}
		refer.Removed = slices.ContainsFunc(to.Reactions(), func(r client.Reactions) bool {
			return r.Text == refer.Reaction && slices.Contains(r.Users, m.me)
		})
	case recall:
		refer.Kind = pim.EntryRecall
	case pinAll:
		refer.Kind, refer.Removed = pim.EntryPin, to.Pinned()
	}
	m.leave()
	return []Effect{refer}
}

// reactionOf returns what the typed text of a reaction stands for: a number for a usual one, and
// nothing for the first of these.
func reactionOf(text string) string {
	text = strings.TrimSpace(text)
	for i, r := range usual {
		if text == fmt.Sprint(i+1) || text == "" {
			return r
		}
	}
	return text
}

// aimed says what Enter does.
func (m *Model) aimed() string {
	to := m.line(&m.aim.to)
	switch m.aim.do {
	case edit:
		return "edit, Esc leaves it as it was · " + to
	case react:
		picks := "react"
		for i, r := range usual {
			picks += fmt.Sprintf(" %d %s", i+1, r)
		}
		return picks + " or a text · " + to
	case recall:
		return "Enter recalls it, Esc does not · " + to
	case pinAll:
		what := "pins"
		if m.aim.to.Pinned() {
			what = "unpins"
		}
		return "Enter " + what + " it for all, Esc does not · " + to
	}
	return "reply to " + to
}

// quote says what a message answers or forwards; "" if it does neither. A message that is loaded
// is shown as it is now: the excerpt is only what the sender says, and is shown of one that is there.
func (m *Model) quote(e *pim.Entry) string {
	c := contentOf(e)
	if r := c.Reply; r != nil {
		if to := m.held(r.Seq); to != nil {
			return m.line(to)
		}
		switch m.quoted.of[r.Seq] {
		case there:
			return m.name(r.Sender) + ": " + Printable(r.Excerpt)
		case gone:
			return m.name(r.Sender) + ": (erased)"
		}
		return m.name(r.Sender)
	}
	return forwarded(&c, m.name)
}

// line returns a message as it is now, for people.
func (m *Model) line(item *client.Message) string {
	e := item.Entry
	e.Payload = item.Payload()
	if item.Recalled() {
		return m.name(e.Sender) + ": (recalled)"
	}
	return line(&e, m.name)
}
