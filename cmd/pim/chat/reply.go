package chat

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// hold takes what the open conversation shows.
func (m *Model) hold(items []client.Message) {
	m.items, m.places = items, make(map[pim.Seq]int, len(items))
	for i := range items {
		m.places[items[i].Entry.Seq] = i
	}
	if m.chosen != nil {
		// A server that has gone back may have given the seq to another message.
		if e := m.held(m.chosen.Seq); e != nil && e.ClientID != m.chosen.ClientID {
			m.chosen = nil
		}
	}
}

// held returns the entry of the open conversation at seq; nil if it is not loaded.
func (m *Model) held(seq pim.Seq) *pim.Entry {
	if i, ok := m.places[seq]; ok && seq > 0 {
		return &m.items[i].Entry
	}
	return nil
}

// choose chooses the next message up (step -1) or down (1) from the chosen one, to be
// answered. With none chosen, or one that is not loaded, the last is the next one up. Down from the last, none is
// chosen.
func (m *Model) choose(step int) {
	at := len(m.items)
	if m.chosen != nil && m.held(m.chosen.Seq) != nil {
		at = m.places[m.chosen.Seq]
	}
	for at += step; ; at += step {
		if at >= len(m.items) {
			m.chosen = nil
			return
		}
		if at < 0 {
			return
		}
		if answerable(&m.items[at]) {
			break
		}
	}
	chosen := m.items[at].Entry
	m.chosen = &chosen
	// It is on the screen: not below the pane, and not above it.
	m.scroll = min(m.scroll, m.linesOf(m.items, at+1))
	m.scroll = max(m.scroll, m.linesOf(m.items, at)-m.body())
}

// answerable reports whether a message is in the log, where others see it.
func answerable(item *client.Message) bool {
	return item.State == client.Delivered && item.Entry.Kind == pim.EntryMessage
}

// quote says what e answers or forwards; "" if it does neither. A message that is loaded
// is shown as it is: the excerpt is only what the sender of e says.
func (m *Model) quote(e *pim.Entry) string {
	c := contentOf(e)
	if r := c.Reply; r != nil {
		if to := m.held(r.Seq); to != nil {
			return line(to, m.name)
		}
		return m.name(r.Sender) + ": " + Printable(r.Excerpt)
	}
	return forwarded(&c, m.name)
}
