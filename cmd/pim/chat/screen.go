package chat

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Screen is where Run draws and reads keys.
type Screen struct {
	In, Out *os.File           // a terminal
	Server  string             // as the status line shows it
	Open    pim.ConversationID // opened at first; empty: the first of the list
	Hint    func(error) error  // adds to an error what to do about it
}

// Run chats on the screen until the user ends it, ctx ends, or Out is gone. It
// opens a client with o, whose Store and User must be set, and closes it. Run returns
// ctx's error if ctx has ended. Otherwise an error says why the client could not be
// opened, why the terminal failed, or, at the end, why the client has stopped or the
// server does not let it in.
func Run(ctx context.Context, s Screen, o client.Options) error {
	was, err := o.Store.Load(ctx)
	if err != nil {
		return err
	}
	c, err := client.Open(ctx, o)
	if err != nil {
		return err
	}
	defer c.Close()
	model, wishes := New(Start{
		User: o.User, Server: s.Server, Open: s.Open, Zone: time.Local,
		Settings: was.Settings, Outbox: was.Outbox,
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what runs beside
	sh := &shell{ctx: ctx, Driver: Driver{Model: model, Backend: &sdk{Client: c}}, wishes: wishes}
	_, err = tea.NewProgram(sh, tea.WithContext(ctx), tea.WithInput(s.In), tea.WithOutput(s.Out), tea.WithoutSignalHandler()).Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.Is(err, io.EOF):
		return pim.Errorf(pim.KindUnavailable, "the terminal: %w", err)
	case model.Err() != nil:
		return s.Hint(model.Err())
	}
	return nil
}

// shell is a Driver as package tea wants it.
type shell struct {
	Driver
	ctx    context.Context
	wishes []Effect
}

// tick is an event that only says that time has passed.
type tick struct{}

func (s *shell) Init() tea.Cmd {
	beside, _ := s.carryOut(s.ctx, time.Now(), s.wishes)
	return tea.Batch(append(commands(beside), s.listen)...)
}

func (s *shell) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	beside, quit := s.Handle(s.ctx, time.Now(), msg)
	if quit {
		return s, tea.Quit
	}
	cmds := commands(beside)
	switch msg.(type) {
	case tick, []client.Event:
		cmds = append(cmds, s.listen)
	}
	return s, tea.Batch(cmds...)
}

func (s *shell) View() tea.View {
	text, cursor := s.Model.View()
	v := tea.NewView(text)
	v.AltScreen, v.ReportFocus = true, true
	v.Cursor = tea.NewCursor(cursor, max(0, s.Model.height-2))
	return v
}

func commands(beside []func() any) []tea.Cmd {
	var cmds []tea.Cmd
	for _, f := range beside {
		cmds = append(cmds, func() tea.Msg { return f() })
	}
	return cmds
}

// listen waits for events of the SDK, or for a second, since the screen shows
// seconds.
func (s *shell) listen() tea.Msg {
	second := time.NewTimer(time.Second)
	defer second.Stop()
	var events []client.Event
	select {
	case <-s.ctx.Done():
		return nil
	case <-second.C:
		return tick{}
	case ev, ok := <-s.Backend.Events():
		if !ok {
			return nil
		}
		events = append(events, ev)
	}
	for range maxEvents - 1 {
		select {
		case ev, ok := <-s.Backend.Events():
			if ok {
				events = append(events, ev)
				continue
			}
		default:
		}
		break
	}
	return events
}

// maxEvents is how many events are handled before the screen is drawn.
const maxEvents = 1024
