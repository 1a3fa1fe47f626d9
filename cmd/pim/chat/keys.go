package chat

import (
	"slices"

	tea "charm.land/bubbletea/v2"
	"github.com/pim-im/pim/client"
)

// key handles a key press.
func (m *Model) key(k tea.KeyPressMsg) []Effect {
	key, sheet := k.String(), m.sheet
	m.notice, m.sheet = "", nil
	if sheet != nil {
		switch key {
		case "pgdown":
			m.sheet, m.page = sheet, m.page+1
			return nil
		case "pgup":
			m.sheet, m.page = sheet, max(0, m.page-1)
			return nil
		case "esc":
			return nil
		}
	}
	switch key {
	case "ctrl+c":
		return []Effect{Quit{}}
	case "enter":
		return m.enter()
	case "tab", "alt+down":
		return m.step(1)
	case "shift+tab", "alt+up":
		return m.step(-1)
	case "up":
		m.arrow(-1)
	case "down":
		m.arrow(1)
	case "ctrl+r":
		m.choose(-1)
	case "ctrl+n":
		m.choose(1)
	case "ctrl+l":
		m.begin(react)
	case "ctrl+x":
		m.begin(recall)
	case "ctrl+p":
		m.begin(pinAll)
	case "ctrl+o":
		return m.askWho()
	case "ctrl+t":
		return m.toggleUnread()
	case "esc":
		m.leave()
	case "pgup":
		return m.up()
	case "pgdown":
		m.scrollBy(-m.body())
	default:
		if !m.input.press(key) && k.Text != "" {
			m.insert(k.Text)
		}
		return m.writes()
	}
	return nil
}

// insert puts what was typed or pasted at the cursor, or says why it cannot.
func (m *Model) insert(text string) {
	if m.aim != nil && (m.aim.do == recall || m.aim.do == pinAll) {
		m.leave() // the next Enter sends what is being typed
	}
	whole, err := m.input.insert(text)
	if err != nil {
		m.say(Plain(err))
	} else if !whole {
		m.say("control characters were left out")
	}
}

// arrow is for the keys ↑ and ↓. In an empty line, ↑ edits the chosen message or the user's last
// one. From one that is being edited they go to others.
func (m *Model) arrow(step int) {
	switch {
	case m.aim != nil && m.aim.do == edit:
		m.choose(step)
	case step < 0 && m.input.text() == "":
		m.begin(edit)
	}
}

// enter does what the typed line asks for. A line that asks for something that cannot be
// done stays.
func (m *Model) enter() []Effect {
	if m.aim != nil && m.aim.do != answer {
		return m.carry()
	}
	e, err := Read(m.input.text(), m.me, m.open)
	if err != nil {
		m.say(Plain(err))
		return nil
	}
	failed, ok := m.lastFailed()
	switch e.(type) {
	case nil:
		return nil
	case Resend:
		e = Resend{failed}
	case Discard:
		e = Discard{failed}
	default:
		ok = true
	}
	if !ok {
		m.say("no message here has failed")
		return nil
	}
	m.input.set("")
	switch e := e.(type) {
	case Open:
		return m.show(e.Conversation)
	case Help:
		m.sheet, m.page = append(slices.Clone(keyHelp), Commands()...), 0
		return nil
	case Send:
		if m.aim != nil {
			to := m.aim.to.Entry
			to.Payload = m.aim.to.Payload()
			m.leave()
			return []Effect{Reply{e, &to}}
		}
	}
	return []Effect{e}
}

// step opens the conversation that is n further down the list.
func (m *Model) step(n int) []Effect {
	rooms := m.rooms()
	if len(rooms) == 0 {
		return nil
	}
	at := slices.IndexFunc(rooms, func(c client.Info) bool { return c.ID == m.open })
	return m.show(rooms[(at+n+len(rooms))%len(rooms)].ID)
}

// up scrolls up, and wishes for older messages when at most a screenful of the loaded
// ones is left above.
func (m *Model) up() []Effect {
	m.scrollBy(m.body())
	switch {
	case !m.more || m.asked || m.open == "" || m.top() > m.body():
		return m.asks(false)
	case len(m.items) >= maxItems:
		m.say("that is as far as this goes; pim tail prints all of it")
		return nil
	}
	m.asked = true
	return append(m.asks(false), older{m.open})
}

// scrollBy moves the pane up by n lines, as far as there are messages.
func (m *Model) scrollBy(n int) {
	if m.scroll = max(0, m.scroll+n); m.scroll > 0 {
		m.scroll = max(0, m.scroll+min(0, m.top()))
	}
}

// top returns how many lines are above the pane; it is negative if the messages do not
// fill the pane.
func (m *Model) top() int { return m.linesOf(m.items, 0) - m.scroll - m.body() }
