package chat

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
)

// The screen:
//
//	alice        │ bob                    heads
//	▸ bob      2 │ 12:00   bob: hello     the conversations, and the open one
//	    hello    │ 12:01 ✓ alice: hi
//	─────────────┴─ /help · ↑ edit ──     or a notice, or the chosen message
//	> the line being typed
//	connected · outbox 1 · alice@server
const (
	frame     = 4 // lines besides the body: head, rule, input, status
	minWidth  = 20
	minHeight = frame + 1
	prompt    = "> "
)

// body returns how many lines lie between head and rule.
func (m *Model) body() int { return max(1, m.height-frame) }

// columns returns the widths of the list and of the messages.
func (m *Model) columns() (list, messages int) {
	list = min(max(m.width/3, 12), 28)
	return list, max(1, m.width-list-3) // " │ "
}

// View draws the screen. cursor is the column of the cursor, in the line before the last.
func (m *Model) View() (screen string, cursor int) {
	if m.width < minWidth || m.height < minHeight {
		return ansi.Truncate("too small", m.width, ""), 0
	}
	left, right := m.columns()
	rows := []string{bold.Styled(m.fit(" "+Printable(string(m.me)), left)) + " │ " + bold.Styled(m.fit(m.head(), right))}
	list, pane := m.roomLines(left), m.pane()
	hints := []string{"/help", "↑ edit", "^R reply", "^L react", "^X recall", "^O readers", "^T unread", "^P pin"}
	if m.sheet != nil {
		pages := pagesOf(m.measure(), m.sheet, right, m.body())
		at := m.page % len(pages)
		pane, hints = pages[at], []string{"Esc back"}
		if len(pages) > 1 {
			hints = []string{fmt.Sprintf("%d of %d, PgDn", at+1, len(pages)), "Esc back"}
		}
	}
	for i := range m.body() {
		rows = append(rows, m.row(list, i, left)+" │ "+m.row(pane, i, right))
	}
	rule := strings.Repeat("─", left+1) + "┴" + m.hints(hints, right+1)
	if m.aim != nil {
		rule = bold.Styled(m.fit(" "+m.aimed(), m.width))
	}
	if m.notice != "" {
		rule = alarm.Styled(m.fit(" "+m.notice, m.width))
	}
	text, cursor := m.input.window(m.width - len(prompt))
	status := inward.Styled(m.fit(" "+m.status(), m.width))
	screen = strings.Join(append(rows, rule, prompt+text, status), "\n")
	if m.measure() == ansi.WcWidth {
		// Terminals disagree on the width of a character with this selector behind it.
		screen = strings.ReplaceAll(screen, "\ufe0f", "")
	}
	return screen, len(prompt) + cursor
}

// hints fills the rule below the messages with what there is room for.
func (m *Model) hints(hints []string, width int) string {
	text := ""
	for _, hint := range hints {
		if text != "" {
			hint = text + " · " + hint
		}
		if m.measure().StringWidth(hint)+3 > width {
			break
		}
		text = hint
	}
	text = "─ " + text + " "
	return text + strings.Repeat("─", max(0, width-m.measure().StringWidth(text)))
}

// measure returns how the terminal counts columns. A terminal that does not say that it
// knows grapheme clusters gives each code point a width of its own: it shows an emoji
// joined from three as three.
func (m *Model) measure() ansi.Method { return m.input.measure }

// row returns line i, padded to width columns.
func (m *Model) row(lines []string, i, width int) string {
	if i >= len(lines) {
		return strings.Repeat(" ", width)
	}
	return m.fit(lines[i], width)
}

// fit cuts or pads s to width columns.
func (m *Model) fit(s string, width int) string {
	s = m.measure().Truncate(s, width, "…")
	return s + strings.Repeat(" ", max(0, width-m.measure().StringWidth(s)))
}

// head names the open conversation.
func (m *Model) head() string {
	if m.open == "" {
		return "/to USER opens a conversation, /help lists the rest"
	}
	title := m.title(m.open)
	if user, ok := peer(m.open, m.me); ok && title != Printable(string(user)) {
		title += " (" + Printable(string(user)) + ")"
	}
	title += m.doing()
	for _, c := range m.rooms() {
		if c.ID == m.open {
			for _, state := range m.states(&c) {
				title += " · " + state.name
			}
		}
	}
	if m.scroll > 0 {
		title += " · newer below: PgDn"
	}
	return title
}

type state struct{ mark, name string }

// states returns what is special about a conversation.
func (m *Model) states(c *client.Info) []state {
	var all []state
	for _, s := range []struct {
		is bool
		state
	}{
		{c.Pinned, state{"▲", "pinned"}},
		{c.Muted, state{"▽", "muted"}},
		{m.blocked(c.ID), state{"⊘", "blocked"}},
		{c.Left, state{"×", "left"}},
		{c.Invited, state{"?", "an invitation: /accept or /decline"}},
		{m.failed(c.ID) > 0, state{"✗", "not all is sent"}},
	} {
		if s.is {
			all = append(all, s.state)
		}
	}
	return all
}

// roomLines draws the part of the list around the open conversation.
func (m *Model) roomLines(width int) []string {
	tall := 2
	if m.body() < 10 {
		tall = 1
	}
	rooms, n := m.rooms(), max(1, m.body()/tall)
	first := 0
	for i := range rooms {
		if rooms[i].ID == m.open {
			first = min(max(0, i-n/2), max(0, len(rooms)-n))
		}
	}
	var lines []string
	for _, c := range rooms[first:min(first+n, len(rooms))] {
		lines = append(lines, m.roomLine(&c, width))
		if tall == 2 {
			lines = append(lines, faint.Styled(m.measure().Truncate("    "+m.lastLine(&c), width, "…")))
		}
	}
	return lines
}

func (m *Model) roomLine(c *client.Info, width int) string {
	head, tail := "  ", ""
	if c.ID == m.open {
		head = "▸ "
	}
	for _, s := range m.states(c) {
		tail += s.mark
	}
	if c.Mentions > 0 {
		tail += fmt.Sprintf(" @%d", c.Mentions)
	}
	switch {
	case c.Unread > 999:
		tail += " 999+"
	case c.Unread > 0:
		tail += fmt.Sprintf(" %d", c.Unread)
	case c.Marked:
		tail += " ●"
	}
	text := m.fit(head+m.title(c.ID), width-m.measure().StringWidth(tail)) + tail
	if c.Unread > 0 || c.Marked || c.ID == m.open {
		return bold.Styled(text)
	}
	return text
}

// lastLine is about the last entry of a conversation. What was done to a message is told with the
// beginning of that.
func (m *Model) lastLine(c *client.Info) string {
	if c.Last.Kind == 0 {
		return ""
	}
	last, end := c.Last, ""
	if c.LastCut {
		text, whole := content.Preview(last.Payload, true)
		if text != "" {
			last.Payload = []byte(text)
		}
		if !whole {
			end = "…"
		}
	}
	if last.Kind < pim.EntryEdit || last.Kind > pim.EntryPin {
		return line(&last, m.name) + end
	}
	to := "a message"
	if a, ok := m.about[c.ID]; ok && !a.message.Entry.Erased {
		e := a.message.Entry
		e.Payload = a.message.Payload()
		to = said(&e)
	}
	return m.change(&last, to) + end
}

// change says what e does to the message with the text to.
func (m *Model) change(e *pim.Entry, to string) string {
	who := m.name(e.Sender)
	switch {
	case e.Kind == pim.EntryEdit && e.Erased, e.Kind == pim.EntryRecall:
		return "* " + who + " recalled a message"
	case e.Kind == pim.EntryEdit:
		return fmt.Sprintf("%s, edited: %s", who, said(e))
	case e.Kind == pim.EntryReaction && e.Removed:
		return fmt.Sprintf("* %s took %s back from: %s", who, Printable(e.Reaction), to)
	case e.Kind == pim.EntryReaction:
		return fmt.Sprintf("%s: %s to: %s", who, Printable(e.Reaction), to)
	case e.Removed:
		return fmt.Sprintf("* %s unpinned: %s", who, to)
	}
	return fmt.Sprintf("* %s pinned: %s", who, to)
}

// keyHelp lists the keys.
var keyHelp = []string{
	"Tab Shift-Tab, Alt-↓ Alt-↑ — another conversation",
	"PgUp PgDn — older and newer messages, more help",
	"Ctrl-R Ctrl-N — choose a message: the next one up, down",
	"Enter — send the line, as a reply to the chosen message",
	"Esc — give the choice up",
	"↑ in an empty line — edit the chosen message, or your last",
	"Ctrl-L — react to it, or to the last of others; with the same again: no longer",
	"Ctrl-X — recall it, or your last",
	"Ctrl-O — who has read it, or your last",
	"Ctrl-P — pin it for all, or your last; again: no longer",
	"Ctrl-T — mark the conversation as unread; again: no longer",
	"Ctrl-C — end",
	"… queued, ↑ sending, ↻ waits, ✗ failed, ✓ stored, ✓✓ delivered",
}

// pagesOf breaks lines to a width, and returns them in pages of n lines.
func pagesOf(m ansi.Method, lines []string, width, n int) [][]string {
	var all []string
	for _, s := range lines {
		part := wrap(m, s, width-2)
		all = append(all, part[0])
		for _, rest := range part[1:] {
			all = append(all, "  "+rest)
		}
	}
	return slices.Collect(slices.Chunk(all, n))
}

// status returns the last line: whether there is a connection, what has not been sent,
// the user and the server.
func (m *Model) status() string {
	parts := []string{m.connection()}
	failed, waiting := m.failed(""), 0
	for _, o := range m.outbox {
		// A command is not counted while there is a connection: it is sent in a moment.
		if _, command := o.conversation.OwnUser(); !command || m.link.State != client.Connected {
			waiting++
		}
	}
	if waiting -= failed; waiting > 0 {
		parts = append(parts, fmt.Sprintf("outbox %d", waiting))
	}
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	return strings.Join(append(parts, Printable(string(m.me)+"@"+m.server)), " · ")
}

func (m *Model) connection() string {
	switch m.link.State {
	case client.Waiting:
		text := fmt.Sprintf("waiting %d s", m.seconds(m.retryAt))
		if why := Lost(m.link.Err); why != "" {
			text += " (" + why + ")"
		}
		return text
	case client.Stopped:
		return "stopped: " + Lost(m.link.Err)
	}
	return m.link.State.String()
}
