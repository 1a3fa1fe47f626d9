package chat

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// noon is when every test begins.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// desk is a screen without a terminal, on a Backend that a test fills. Its user is alice.
type desk struct {
	t *testing.T
	Driver
	now    time.Time
	beside []func() any
	ended  bool

	list  []client.Info
	items map[pim.ConversationID][]client.Message
	open  pim.ConversationID
	more  bool
	did   []Effect
	err   error // answer to the next effect
	next  byte  // of client message IDs
	wrote int   // how often it was said that alice writes

	reading pim.ConversationID // what alice reads; empty: nothing
	away    bool               // she does not look at the screen

	unloaded map[pim.Seq]client.Message // what the server has besides items

	receipts client.Receipts
	asked    [][2]pim.Seq // of receipts
	readers  []client.Reader
}

func newDesk(t *testing.T, width, height int, s Start) *desk {
	d := &desk{t: t, now: noon, items: make(map[pim.ConversationID][]client.Message)}
	s.User, s.Server, s.Zone = "alice", "127.0.0.1:7400", time.UTC
	model, wishes := New(s)
	d.Driver = Driver{Model: model, Backend: d}
	d.is(tea.WindowSizeMsg{Width: width, Height: height})
	d.carryOut(t.Context(), d.now, wishes)
	d.did = nil
	return d
}

func (d *desk) Do(_ context.Context, e Effect) (pim.ClientMessageID, error) {
	switch e := e.(type) {
	case Typing:
		d.wrote++
		return pim.ClientMessageID{}, nil
	case Reading:
		if e.On == (d.reading != "") || !e.On && d.reading != e.Conversation {
			d.t.Errorf("%+v, while %q is read", e, d.reading)
		}
		d.reading = ""
		if e.On {
			d.reading = e.Conversation
		}
		return pim.ClientMessageID{}, nil
	case Look:
		d.away = !e.On
	}
	d.did = append(d.did, e)
	err := d.err
	d.err = nil
	d.next++
	return id(d.next), err
}

func (d *desk) List(context.Context) ([]client.Info, error) { return d.list, nil }

func (d *desk) Receipts(_ context.Context, _ pim.ConversationID, from, to pim.Seq) (client.Receipts, error) {
	d.asked = append(d.asked, [2]pim.Seq{from, to})
	return d.receipts, nil
}

// Readers gives two at a time.
func (d *desk) Readers(_ context.Context, _ pim.ConversationID, _ pim.Seq, after pim.UserID) ([]client.Reader, pim.UserID, error) {
	at := slices.IndexFunc(d.readers, func(r client.Reader) bool { return r.User == after }) + 1
	page := d.readers[at:min(at+2, len(d.readers))]
	if at+2 < len(d.readers) {
		return page, page[1].User, nil
	}
	return page, "", nil
}

func (d *desk) Message(_ context.Context, id pim.ConversationID, seq pim.Seq) (client.Message, error) {
	for _, m := range d.items[id] {
		if m.Entry.Seq == seq {
			return m, nil
		}
	}
	return client.Message{}, pim.Errorf(pim.KindNotFound, "no message at %d", seq)
}

func (d *desk) Answered(_ context.Context, _ pim.ConversationID, seq pim.Seq) (client.Message, error) {
	if m, ok := d.unloaded[seq]; ok {
		return m, nil
	}
	return client.Message{}, pim.Errorf(pim.KindNotFound, "no message at %d", seq)
}

func (d *desk) Open(_ context.Context, id pim.ConversationID, _ int) error {
	d.open = id
	return nil
}
func (d *desk) Items() []client.Message                  { return d.items[d.open] }
func (d *desk) Older(context.Context, int) (bool, error) { return d.more, nil }
func (d *desk) Events() <-chan client.Event              { return nil }
func id(n byte) pim.ClientMessageID                      { return pim.ClientMessageID{n} }

// is tells the screen of an event.
func (d *desk) is(ev any) {
	d.t.Helper()
	beside, quit := d.Handle(d.t.Context(), d.now, ev)
	d.beside, d.ended = append(d.beside, beside...), d.ended || quit
}

func (d *desk) happens(events ...client.Event) { d.is(events) }

func (d *desk) types(line string) {
	for _, r := range line {
		d.is(tea.KeyPressMsg{Text: string(r), Code: r})
	}
}

func (d *desk) press(keys ...rune) {
	for _, k := range keys {
		d.is(tea.KeyPressMsg{Code: k})
	}
}

func (d *desk) enters(line string) {
	d.types(line)
	d.press(tea.KeyEnter)
}

// screen returns what is shown, without styles. It checks that every line fits the width.
func (d *desk) screen() string {
	d.t.Helper()
	view, cursor := d.Model.View()
	lines := strings.Split(ansi.Strip(view), "\n")
	if len(lines) != d.Model.height {
		d.t.Errorf("%d lines on %d", len(lines), d.Model.height)
	}
	for i, l := range lines {
		if w := d.Model.measure().StringWidth(l); w > d.Model.width {
			d.t.Errorf("%d columns on %d: %q", w, d.Model.width, l)
		}
		lines[i] = strings.TrimRight(l, " ")
	}
	if cursor >= d.Model.width {
		d.t.Errorf("the cursor is in column %d", cursor)
	}
	return strings.Join(lines, "\n") + "\n"
}

// shows compares the screen with a file; PIM_UPDATE=1 writes it.
func (d *desk) shows(name string) {
	d.t.Helper()
	path := filepath.Join("testdata", name+".txt")
	got := d.screen()
	if os.Getenv("PIM_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			d.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		d.t.Errorf("%s (%v; PIM_UPDATE=1 writes it), shown is:\n%s", path, err, got)
	}
}

// sees checks that the screen holds a text.
func (d *desk) sees(want string) {
	d.t.Helper()
	if got := d.screen(); !strings.Contains(got, want) {
		d.t.Errorf("%q is not in\n%s", want, got)
	}
}

// says is an entry of the log, seq minutes after noon.
func says(conv pim.ConversationID, seq pim.Seq, sender pim.UserID, text string) client.Message {
	at := pim.MillisOf(noon.Add(time.Duration(seq) * time.Minute))
	return client.Message{State: client.Delivered, Entry: pim.Entry{
		Conversation: conv, Seq: seq, Anchor: seq, Count: uint64(seq), Kind: pim.EntryMessage, Sender: sender,
		ClientID: id(byte(100 + seq)), Local: at, Server: at, Payload: []byte(text),
	}}
}

// waits is a message in the outbox.
func waits(conv pim.ConversationID, n byte, state client.SendState, text string, err *pim.Error) client.Message {
	return client.Message{State: state, Err: err, Entry: pim.Entry{
		Conversation: conv, Kind: pim.EntryMessage, ClientID: id(n), Local: pim.MillisOf(noon.Add(time.Hour)), Payload: []byte(text),
	}}
}

const (
	bob   = pim.ConversationID("d:alice:bob")
	wang  = pim.ConversationID("d:alice:王小明")
	group = pim.ConversationID("g:team")
)

// furnish gives the desk the conversations and messages of an ordinary day.
func (d *desk) furnish() {
	refused := pim.Errorf(pim.KindForbidden, "bob takes no messages")
	d.items[bob] = []client.Message{
		says(bob, 1, "bob", "hello"),
		says(bob, 2, "alice", "hi, how are you? This is a line that is far too long for the pane, so it goes on in the next."),
		says(bob, 3, "bob", "\x1b[2J你好，这是一条很长的消息，里面没有空格，所以它必须在任意位置换行才能放得下。"),
		waits(bob, 51, client.InFlight, "on its way", nil),
		waits(bob, 52, client.Delayed, "in six seconds", nil),
		waits(bob, 53, client.Delayed, "sometime", nil),
		waits(bob, 54, client.Failed, "never", refused),
		waits(bob, 55, client.Queued, "next", nil),
	}
	joined := says(group, 4, "carol", "")
	joined.Entry.Kind, joined.Entry.Members = pim.EntryJoin, []pim.UserID{"alice"}
	d.items[group] = []client.Message{joined}
	d.list = []client.Info{
		{ID: group, Newest: 4, Unread: 1204, Last: joined.Entry, Pinned: true, Muted: true},
		{ID: bob, Newest: 3, Unread: 0, Last: d.items[bob][2].Entry},
		{ID: wang, Newest: 9, Unread: 2, Last: says(wang, 9, "王小明", "明天见！明天见！明天见！").Entry},
	}
	d.happens(
		client.ListEvent{Conversations: []pim.ConversationID{bob}},
		client.SettingEvent{Entity: "contact/bob", Setting: pim.Setting{At: 1, Command: pim.Command{Value: []byte("Bob B.")}}},
		client.SettingEvent{Entity: "block/王小明", Setting: pim.Setting{At: 2}},
		client.SendEvent{ID: id(51), Conversation: bob, State: client.InFlight, Attempt: 1},
		client.SendEvent{ID: id(52), Conversation: bob, State: client.Delayed, RetryIn: 6 * time.Second},
		client.SendEvent{ID: id(53), Conversation: bob, State: client.Delayed},
		client.SendEvent{ID: id(54), Conversation: bob, State: client.Failed, Err: refused},
		client.SendEvent{ID: id(55), Conversation: bob, State: client.Queued},
		client.StateEvent{State: client.Connected},
	)
	d.did = nil
}

// opening is a desk that notices when a conversation is loaded.
type opening struct {
	*desk
	opened func()
}

func (o opening) Open(ctx context.Context, id pim.ConversationID, n int) error {
	o.opened()
	return o.desk.Open(ctx, id, n)
}
