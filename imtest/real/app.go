package real

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// spec says what an app is to run. A process gets it as JSON.
type spec struct {
	Server, Token string
	User          pim.UserID
	Device        pim.DeviceID
	File          string // of the store; "": in memory
	Confirm       bool   // a bot: it confirms each entry that it is handed
	Look          bool   // report what the store has, and end
}

// options are the SDK's, with waits that suit a network in one machine.
func (s *spec) options(store client.Store) client.Options {
	return client.Options{
		Server: s.Server, User: s.User, Device: s.Device, Store: store,
		Token:      func(context.Context) (string, error) { return s.Token, nil },
		BackoffMin: 10 * time.Millisecond, BackoffMax: 200 * time.Millisecond, RequestTimeout: 700 * time.Millisecond,
		EventBuffer: 64, Confirm: s.Confirm, Direct: true,
	}
}

// command is one thing that the user does in the app.
type command struct {
	Number       int // chosen by the caller; the answer repeats it
	Conversation pim.ConversationID
	Text         string
	Create       []pim.UserID        // if not nil: create a group with them
	Resend       pim.ClientMessageID // if not zero: send this message again
	Network      bool                // the system says that the network has changed
}

// report is one thing that happened in an app: exactly one field is set.
type report struct {
	Begun  *begun             `json:",omitempty"`
	Answer *answer            `json:",omitempty"`
	Entry  *client.EntryEvent `json:",omitempty"`
	Sent   *client.SendEvent  `json:",omitempty"` // Delivered or Failed
	Broken string             `json:",omitempty"` // the app cannot go on
}

// begun is what an app reads from its store before it opens the SDK.
type begun struct {
	Entries []pim.Entry // of each conversation in display order
	Pending []pending
}

// pending is a message of the outbox.
type pending struct {
	ID      pim.ClientMessageID
	Payload string
	Failed  bool
}

// answer says what became of a command.
type answer struct {
	Number int
	ID     pim.ClientMessageID
	Err    string
}

// runApp is the app. It reports what its store has, opens the SDK, does what the user
// says and reports everything that happens, until commands is closed or ctx ends.
func runApp(ctx context.Context, s *spec, store client.Store, commands <-chan command, tell func(report)) {
	b, err := read(ctx, store)
	if err != nil {
		tell(report{Broken: err.Error()})
		return
	}
	tell(report{Begun: b})
	if s.Look {
		return
	}
	c, err := client.Open(ctx, s.options(store))
	if err != nil {
		tell(report{Broken: err.Error()})
		return
	}
	defer c.Close()
	for {
		select {
		case ev := <-c.Events(): // open until Close
			tellEvent(ev, tell)
			if e, ok := ev.(client.EntryEvent); ok && s.Confirm {
				if _, err := c.Confirm(ctx, e); err != nil && ctx.Err() == nil {
					tell(report{Broken: err.Error()})
				}
			}
		case cmd, ok := <-commands:
			if !ok {
				return
			}
			tell(report{Answer: perform(ctx, c, cmd)})
		case <-ctx.Done():
			return
		}
	}
}

func read(ctx context.Context, store client.Store) (*begun, error) {
	snapshot, err := store.Load(ctx)
	if err != nil {
		return nil, err
	}
	b := new(begun)
	slices.SortFunc(snapshot.Outbox, func(a, b client.Outgoing) int { return cmp.Compare(a.Number, b.Number) })
	for _, m := range snapshot.Outbox {
		b.Pending = append(b.Pending, pending{m.ID, string(m.Payload), m.Failed != nil})
	}
	for _, c := range snapshot.Conversations {
		entries, err := store.Entries(ctx, c.ID, nil, math.MaxInt32)
		if err != nil {
			return nil, err
		}
		b.Entries = append(b.Entries, entries...)
	}
	return b, nil
}

func perform(ctx context.Context, c *client.Client, cmd command) *answer {
	var s *client.Sending
	var err error
	switch {
	case cmd.Create != nil:
		s, err = c.CreateGroup(ctx, cmd.Create)
	case !cmd.Resend.IsZero():
		s, err = c.Resend(ctx, cmd.Resend)
	case cmd.Network:
		if err := c.NetworkChanged(""); err != nil {
			return &answer{Number: cmd.Number, Err: err.Error()}
		}
		return &answer{Number: cmd.Number}
	default:
		s, err = c.Send(ctx, cmd.Conversation, []byte(cmd.Text))
	}
	if err != nil {
		return &answer{Number: cmd.Number, Err: err.Error()}
	}
	return &answer{Number: cmd.Number, ID: s.ID()}
}

func tellEvent(ev client.Event, tell func(report)) {
	switch ev := ev.(type) {
	case client.EntryEvent:
		tell(report{Entry: &ev})
	case client.SendEvent:
		if ev.State == client.Delivered || ev.State == client.Failed {
			if ev.Err != nil {
				flat := *ev.Err
				flat.Err = nil // it may be of a type that JSON has no form for; Text says the same
				ev.Err = &flat
			}
			tell(report{Sent: &ev})
		}
	case client.StateEvent:
		if ev.State == client.Stopped {
			tell(report{Broken: "the SDK stopped: " + ev.Err.Error()})
		}
	}
}
