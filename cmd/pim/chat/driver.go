package chat

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Backend is what a Driver needs of the SDK.
type Backend interface {
	// Do carries out an effect, see the function Do.
	Do(ctx context.Context, e Effect) (pim.ClientMessageID, error)
	// List returns the conversations as they are to be listed.
	List(ctx context.Context) ([]client.Info, error)
	// Message returns the message of a conversation at seq, if this device holds it.
	Message(ctx context.Context, id pim.ConversationID, seq pim.Seq) (client.Message, error)
	// Answered is Message, and waits for the network if this device does not hold it.
	Answered(ctx context.Context, id pim.ConversationID, seq pim.Seq) (client.Message, error)
	// Open follows the last n messages of a conversation. It no longer follows the
	// conversation that was open before.
	Open(ctx context.Context, id pim.ConversationID, n int) error
	// Items returns what there is to show of the open conversation.
	Items() []client.Message
	// Older adds up to n older messages before the first, and reports whether there may
	// be more. It may have to wait for the network.
	Older(ctx context.Context, n int) (more bool, err error)
	// Receipts and Readers are those of client.Client. They wait for the network.
	Receipts(ctx context.Context, id pim.ConversationID, from, to pim.Seq) (client.Receipts, error)
	Readers(ctx context.Context, id pim.ConversationID, seq pim.Seq, after pim.UserID) ([]client.Reader, pim.UserID, error)
	// Events returns what happens; closed at the end.
	Events() <-chan client.Event
}

// olderWithin is how long the network may take to bring older messages.
const olderWithin = 20 * time.Second

// Driver carries out what a Model wishes. It does at once what the local store can
// answer: the screen waits for that.
type Driver struct {
	Model   *Model
	Backend Backend

	about map[pim.ConversationID]about // as of the last list
}

// Handle tells the Model of an event and carries out what it wishes, until it
// wishes no more. The functions in beside may wait for the network: the caller runs
// them in other goroutines, and calls Handle with what they return. quit is set if the
// chat must end.
func (d *Driver) Handle(ctx context.Context, now time.Time, ev any) (beside []func() any, quit bool) {
	return d.carryOut(ctx, now, d.Model.Handle(now, ev))
}

func (d *Driver) carryOut(ctx context.Context, now time.Time, effects []Effect) (beside []func() any, quit bool) {
	for len(effects) > 0 {
		e := effects[0]
		effects = effects[1:]
		var answer any
		switch e := e.(type) {
		case Quit:
			return beside, true
		case older:
			beside = append(beside, func() any { return d.older(ctx, e) })
			continue
		case askSeen, askReaders:
			beside = append(beside, func() any { return d.ask(ctx, e) })
			continue
		case askQuoted:
			beside = append(beside, func() any { return d.quotes(ctx, e) })
			continue
		case relist:
			list, err := d.list(ctx)
			answer = list
			if err != nil {
				answer = done{effect: e, err: err}
			}
		case load:
			answer = shown{conversation: e.conversation}
			if err := d.Backend.Open(ctx, e.conversation, firstPage); err != nil {
				answer = done{effect: e, err: err}
			} else {
				answer = shown{e.conversation, d.Backend.Items()}
			}
		case refresh:
			answer = shown{d.Model.open, d.Backend.Items()}
		default:
			id, err := d.Backend.Do(ctx, e)
			answer = done{e, id, err}
		}
		effects = append(effects, d.Model.Handle(now, answer)...)
	}
	return beside, false
}

// list reads the conversations, and the messages that the last entries of them refer to.
func (d *Driver) list(ctx context.Context) (listed, error) {
	list, err := d.Backend.List(ctx)
	if err != nil {
		return listed{}, err
	}
	known := d.about
	d.about = make(map[pim.ConversationID]about)
	for i := range list {
		id, last := list[i].ID, &list[i].Last
		if last.Refers == 0 || last.Kind > pim.EntryPin {
			continue
		}
		a, ok := known[id]
		if !ok || a.last != last.Seq {
			message, err := d.Backend.Message(ctx, id, last.Refers)
			if err != nil {
				continue // the list does without; the entry may come later
			}
			a = about{last.Seq, message}
		}
		d.about[id] = a
	}
	return listed{list, d.about}, nil
}

func (d *Driver) older(ctx context.Context, e older) any {
	ctx, cancel := context.WithTimeout(ctx, olderWithin)
	defer cancel()
	more, err := d.Backend.Older(ctx, olderPage)
	return olderCame{e.conversation, more, err}
}
