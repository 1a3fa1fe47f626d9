package chat

import (
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
)

const (
	firstPage = 200  // messages that are loaded when a conversation is opened
	olderPage = 200  // and when somebody scrolls beyond them
	maxOpened = 100  // conversations in Model.opened, which may have nothing in them
	maxItems  = 5000 // messages held; with more, the conversation is loaded anew
)

// Start is what a Model begins with.
type Start struct {
	User     pim.UserID
	Server   string // as the status line shows it
	Open     pim.ConversationID
	Zone     *time.Location
	Settings []client.Setting  // of the local store
	Outbox   []client.Outgoing // of the local store
}

// Model is the state of the screen. It does nothing by itself and knows no time
// but that of its events.
type Model struct {
	me            pim.UserID
	server        string
	zone          *time.Location
	now           time.Time
	width, height int

	list     []client.Info
	about    map[pim.ConversationID]about // where the last entry refers to a message that is held
	settings map[string]pim.Setting       // contacts and blocks, by entity
	outbox   map[pim.ClientMessageID]*outgoing

	open   pim.ConversationID   // empty: none
	opened []pim.ConversationID // by hand or at the beginning; at most maxOpened, the last first
	items  []client.Message     // of the open conversation
	places map[pim.Seq]int      // of the entries in items
	aim    *aim                 // the chosen message; nil: none
	more   bool                 // there may be older ones
	asked  bool                 // older ones were asked for
	quoted quoted               // messages that they answer and that are not among them
	seen   seen                 // what others have read of them
	live   live                 // and what they do at the moment
	reads  reads                // whether the user reads it
	scroll int                  // lines below the pane; 0: the newest message is in it
	drafts map[pim.ConversationID]string
	input  editor

	link    client.StateEvent
	retryAt time.Time // in state Waiting
	notice  string
	sheet   []string // shown in place of the messages: the help, who has read a message; nil: none
	page    int      // of sheet
}

// Answers to the Model's wishes.
type (
	listed struct {
		list  []client.Info
		about map[pim.ConversationID]about
	}
	about struct {
		last    pim.Seq        // of the conversation's last entry, which refers to
		message client.Message // this one
	}
	shown struct {
		conversation pim.ConversationID
		items        []client.Message
	}
	olderCame struct {
		conversation pim.ConversationID
		more         bool
		err          error
	}
	done struct {
		effect Effect
		id     pim.ClientMessageID
		err    error
	}
)

// New returns a Model, and what it wishes first.
func New(s Start) (*Model, []Effect) {
	m := &Model{
		me: s.User, server: s.Server, zone: s.Zone, width: 80, height: 24,
		settings: make(map[string]pim.Setting), outbox: make(map[pim.ClientMessageID]*outgoing),
		drafts: make(map[pim.ConversationID]string), link: client.StateEvent{State: client.Connecting},
	}
	for _, set := range s.Settings {
		m.set(set.Entity, set.Setting)
	}
	for _, o := range s.Outbox {
		state := client.Delayed
		switch {
		case o.Failed != nil:
			state = client.Failed
		case o.Local == 0:
			state = client.Queued
		}
		m.outbox[o.ID] = &outgoing{conversation: o.Conversation, state: state, refers: o.Refers != 0}
	}
	effects := []Effect{Look{On: true}, relist{}}
	if s.Open != "" {
		effects = append(effects, m.show(s.Open)...)
	}
	return m, append(effects, m.reading()...)
}

// Handle takes an event, and returns what is to be done about it. Events are
// those of the terminal, []client.Event, and the answers to earlier wishes.
func (m *Model) Handle(now time.Time, ev any) []Effect {
	m.now = now
	effects := m.handle(ev)
	return append(effects, m.reading()...)
}

func (m *Model) handle(ev any) []Effect {
	switch ev := ev.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = ev.Width, ev.Height
		m.scrollBy(0)
	case tea.ModeReportMsg:
		if ev.Mode == ansi.ModeUnicodeCore && !ev.Value.IsNotRecognized() && !ev.Value.IsPermanentlyReset() {
			m.input.measure = ansi.GraphemeWidth // package tea and the terminal do the same from now on
		}
	case tea.KeyPressMsg:
		return m.key(ev)
	case tea.PasteMsg:
		m.notice = ""
		m.insert(ev.Content)
		return m.writes()
	case tea.FocusMsg:
		return []Effect{Look{On: true}}
	case tea.BlurMsg:
		return []Effect{Look{On: false}}
	case []client.Event:
		return m.events(ev)
	case listed:
		m.list, m.about = ev.list, ev.about
		if m.open == "" && len(m.list) > 0 {
			return m.show(m.list[0].ID)
		}
	case shown:
		return m.shown(ev)
	case olderCame:
		return m.olderCame(ev)
	case quotedAre:
		m.quotedAre(ev)
	case told:
		m.told(ev)
	case readBy:
		m.listReaders(ev)
	case done:
		return m.done(ev)
	}
	return nil
}

// Err returns why the client has stopped, or why the server does not let it in; otherwise
// nil.
func (m *Model) Err() error {
	if m.link.State == client.Stopped || pim.KindOf(m.link.Err) == pim.KindUnauthorized {
		return m.link.Err
	}
	return nil
}

// events takes what happened in the SDK.
func (m *Model) events(events []client.Event) []Effect {
	var list, items bool
	var effects []Effect
	for _, ev := range events {
		switch ev := ev.(type) {
		case client.StateEvent:
			m.link, m.retryAt = ev, m.now.Add(ev.RetryIn)
			if ev.State == client.Connected {
				effects = append(effects, m.asks(true)...)
				m.quoted.forget() // what was asked without a connection got no answer
				effects = append(effects, m.asksQuoted()...)
			} else {
				m.live = live{}
			}
		case client.ReceiptEvent:
			m.told(told{ev.Conversation, ev.Receipts})
		case client.TypingEvent:
			m.types(ev)
		case client.PresenceEvent:
			m.comes(ev)
		case client.SendEvent:
			effects = append(effects, m.sending(ev)...)
			items = items || ev.Conversation == m.open
		case client.EntryEvent:
			list = true
			if ev.Entry.Conversation == m.open {
				items = true
				effects = append(effects, m.wrote(&ev.Entry)...)
			}
		case client.ChangedEvent:
			items = items || ev.Conversation == m.open
			if ev.Conversation == m.open {
				m.changed(ev.Seq)
			}
		case client.ErasedEvent:
			list, items = true, items || ev.Conversation == m.open
			if ev.Conversation == m.open {
				m.quoted.forget()
			}
		case client.RewoundEvent:
			list, items = true, items || ev.Conversation == m.open
			if ev.Conversation == m.open {
				m.seen = seen{}
				m.quoted.forget()
			}
		case client.TrimmedEvent:
			list, items = true, items || ev.Conversation == m.open
		case client.ListEvent:
			list = true
		case client.SettingEvent:
			m.set(ev.Entity, ev.Setting)
			m.keepUnread(ev)
			list = true
			effects = append(effects, m.switched(ev)...)
		}
	}
	if list {
		effects = append(effects, relist{})
	}
	if items && m.open != "" {
		effects = append(effects, refresh{})
	}
	return effects
}

// set notes a setting if it is a contact or a block. The list holds the other settings.
func (m *Model) set(entity string, s pim.Setting) {
	if strings.HasPrefix(entity, pim.CommandContact.String()+"/") || strings.HasPrefix(entity, pim.CommandBlock.String()+"/") {
		m.settings[entity] = s
	}
}

// done takes the answer to an effect that was for the SDK.
func (m *Model) done(d done) []Effect {
	if d.err != nil {
		m.say(Plain(d.err))
		switch e := d.effect.(type) {
		case Send:
			m.restore(e)
		case Reply:
			if m.restore(e.Send) {
				m.again(answer, e.To.Seq)
			}
		case Refer:
			if e.Kind == pim.EntryEdit && e.Conversation == m.open && m.input.text() == "" {
				c, _ := content.Parse(e.Payload)
				m.again(edit, e.To)
				m.input.set(c.Text)
			}
		}
		return nil
	}
	switch e := d.effect.(type) {
	case Send, Reply, Leave:
		m.scroll = 0
	case Refer:
		m.outbox[d.id] = &outgoing{conversation: e.Conversation, state: client.Queued, refers: true}
	case Group:
		m.outbox[d.id] = &outgoing{state: client.Queued, followed: true}
		m.say("the group is opened when the server has created it")
	case Change:
		m.say(e.Said())
	}
	return nil
}

// restore puts a text that could not be queued into the line again, so that it is not
// lost. It reports whether there was room.
func (m *Model) restore(s Send) bool {
	if s.Conversation != m.open || m.input.text() != "" {
		return false
	}
	m.input.set(typed(s.Text))
	return true
}

// typed returns the line that sends text.
func typed(text string) string {
	if strings.HasPrefix(text, "/") {
		return "/" + text
	}
	return text
}

// say shows a notice until the next key.
func (m *Model) say(text string) {
	if text != "" {
		m.notice = Printable(text)
	}
}

// rooms returns the conversations to show in the list: first those that were opened but
// are not in list, since nothing is in them yet; then list.
func (m *Model) rooms() []client.Info {
	var rooms []client.Info
	for _, id := range m.opened {
		if !slices.ContainsFunc(m.list, func(c client.Info) bool { return c.ID == id }) {
			rooms = append(rooms, client.Info{ID: id})
		}
	}
	return append(rooms, m.list...)
}

// show opens a conversation.
func (m *Model) show(id pim.ConversationID) []Effect {
	if id == m.open {
		m.scroll, m.reads.marked = 0, false
		return nil
	}
	m.leave()
	if draft := m.input.text(); draft != "" {
		m.drafts[m.open] = draft
	} else {
		delete(m.drafts, m.open)
	}
	if !slices.Contains(m.opened, id) {
		m.opened = slices.Insert(m.opened, 0, id)
		m.opened = m.opened[:min(len(m.opened), maxOpened)]
	}
	m.open, m.more, m.asked, m.scroll = id, true, false, 0
	m.seen, m.live, m.reads = seen{}, live{}, reads{told: m.reads.told}
	m.quoted.forget()
	m.hold(nil)
	m.input.set(m.drafts[id])
	return append(m.watch(), load{id})
}

// shown takes what the open conversation shows now.
func (m *Model) shown(s shown) []Effect {
	if s.conversation != m.open {
		return nil
	}
	if m.scroll > 0 { // the lines on the screen stay where they are
		m.scroll += m.linesAfter(s.items, m.last())
	}
	if len(m.items) > 0 && len(s.items) > 0 && s.items[0].Entry.Seq > m.items[0].Entry.Seq {
		m.more = true // the view has begun anew, behind a gap
	}
	first := len(m.items) == 0
	m.hold(s.items)
	m.sees()
	m.scrollBy(0)
	if n := len(m.items); n > maxItems && m.scroll == 0 || n > 2*maxItems {
		m.more, m.scroll = true, 0
		m.hold(nil)
		return []Effect{load{m.open}}
	}
	effects := m.asksQuoted()
	if first {
		effects = append(effects, m.asks(true)...)
	}
	return effects
}

// last returns the ID of the last message of the open conversation; zero if there is none.
func (m *Model) last() pim.ClientMessageID {
	if len(m.items) == 0 {
		return pim.ClientMessageID{}
	}
	return m.items[len(m.items)-1].Entry.ClientID
}

func (m *Model) olderCame(o olderCame) []Effect {
	if o.conversation != m.open {
		return nil
	}
	m.asked = false
	if o.err != nil {
		m.say("older messages: " + Plain(o.err))
		return nil
	}
	m.more = o.more
	return []Effect{refresh{}}
}
