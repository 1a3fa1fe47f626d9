package chat

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// The styles of what is not plain.
var (
	bold   = ansi.Style{}.Bold()
	faint  = ansi.Style{}.Faint()
	alarm  = ansi.Style{}.ForegroundColor(ansi.Red)
	inward = ansi.Style{}.Reverse(true)
)

// narrow is the width below which a pane shows no times.
const narrow = 30

// pane returns the lines of the open conversation that are on the screen, at most
// m.body().
func (m *Model) pane() []string {
	want := m.body() + m.scroll
	var lines []string // from the last up
	for i := len(m.items) - 1; i >= 0 && len(lines) < want; i-- {
		part := m.draw(m.items, i)
		slices.Reverse(part)
		lines = append(lines, part...)
	}
	lines = lines[min(m.scroll, len(lines)):min(want, len(lines))]
	slices.Reverse(lines)
	return lines
}

// inPane returns which items are on the screen, if only in part: those from first, up to but not
// last.
func (m *Model) inPane() (first, last int) {
	below := 0
	first, last = len(m.items), len(m.items)
	for first > 0 && below < m.scroll+m.body() {
		first--
		below += len(m.draw(m.items, first))
		if below <= m.scroll {
			last = first
		}
	}
	return first, last
}

// linesOf returns how many lines the items from i on take.
func (m *Model) linesOf(items []client.Message, i int) int {
	n := 0
	for ; i < len(items); i++ {
		n += len(m.draw(items, i))
	}
	return n
}

// linesAfter returns how many lines of items come after the message id.
func (m *Model) linesAfter(items []client.Message, id pim.ClientMessageID) int {
	at := slices.IndexFunc(items, func(i client.Message) bool { return i.Entry.ClientID == id })
	if at < 0 {
		return 0
	}
	return m.linesOf(items, at+1)
}

// draw returns the lines of items[i]: its day, if it is the first of one, what it answers
// or forwards, the message, and the reactions to it. How many they are does not depend on other items.
func (m *Model) draw(items []client.Message, i int) []string {
	_, width := m.columns()
	item, at := &items[i], m.at(&items[i])
	var lines []string
	const day = "Mon 2 Jan 2006"
	if date := at.Format(day); i == 0 || date != m.at(&items[i-1]).Format(day) {
		lines = append(lines, faint.Styled("— "+date+" —"))
	}
	mark := m.mark(item)
	if m.aim != nil && item.State == client.Delivered && item.Entry.Seq == m.aim.to.Entry.Seq {
		mark = "▸"
	}
	head := strings.Repeat(" ", 2-m.measure().StringWidth(mark)) + mark + " " // "✓✓" is the widest
	if width >= narrow {
		head = at.Format("15:04") + " " + head
	}
	indent := strings.Repeat(" ", m.measure().StringWidth(head))
	if about := m.quote(&item.Entry); about != "" {
		lines = append(lines, faint.Styled(m.measure().Truncate(indent+"┌ "+about, width, "…")))
	}
	text, begin := m.text(item), 0
	named := placesIn(item, m.name(item.Entry.Sender)+": ")
	for _, part := range wrap(m.measure(), text, width-len(indent)) {
		begin += max(0, strings.Index(text[begin:], part)) // a line that was wrapped has lost its last spaces
		lines = append(lines, styleOf(item).Styled(head+embolden(part, begin, named)))
		begin += len(part)
		head = indent
	}
	if given := m.reactions(item); given != "" {
		lines = append(lines, faint.Styled(m.measure().Truncate(indent+"└ "+given, width, "…")))
	}
	return lines
}

// reactions lists the reactions to a message with their numbers, and marks the user's own.
func (m *Model) reactions(item *client.Message) string {
	var given []string
	for _, r := range item.Reactions() {
		text := fmt.Sprintf("%s %d", Printable(r.Text), len(r.Users))
		if slices.Contains(r.Users, m.me) {
			text += "*"
		}
		given = append(given, text)
	}
	return strings.Join(given, "  ")
}

// at returns when a message was stored, or queued.
func (m *Model) at(item *client.Message) time.Time {
	if item.Entry.Server != 0 {
		return item.Entry.Time().Time().In(m.zone)
	}
	return item.Entry.Local.Time().In(m.zone)
}

// mark tells how far a message of the user's has come.
func (m *Model) mark(item *client.Message) string {
	switch item.State {
	case client.Queued:
		return "…"
	case client.InFlight:
		return "↑"
	case client.Delayed:
		return "↻"
	case client.Failed:
		return "✗"
	}
	switch {
	case item.Entry.Sender != m.me:
		return ""
	case m.own(item) && m.received(item.Entry.Seq):
		return "✓✓"
	}
	return "✓"
}

func (m *Model) text(item *client.Message) string {
	text := m.line(item)
	if item.Edited() {
		text += " (edited)"
	}
	if item.Pinned() {
		text += " (pinned)"
	}
	switch item.State {
	case client.Delayed:
		if o := m.outbox[item.Entry.ClientID]; o != nil && !o.retryAt.IsZero() {
			return fmt.Sprintf("%s (again in %d s)", text, m.seconds(o.retryAt))
		}
		return text + " (again with a connection)"
	case client.Failed:
		if item.Err != nil {
			return text + " — " + Printable(item.Err.Text)
		}
	}
	return text + m.seen.notes[item.Entry.Seq]
}

func styleOf(item *client.Message) ansi.Style {
	switch item.State {
	case client.Delivered:
		return ansi.Style{}
	case client.Failed:
		return alarm
	}
	return faint
}

// seconds returns how long it is until t, rounded up.
func (m *Model) seconds(t time.Time) int {
	return int(max(0, t.Sub(m.now)+time.Second-1) / time.Second)
}
