package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// changeFlags are common to the commands that write one entry.
type changeFlags struct {
	waitFlags
	JSON bool `name:"json" help:"Print JSON, one object a line."`
}

// change opens a session, sends what do queues, and prints the answer: for people as say has it.
func (f *changeFlags) change(ctx context.Context, s streams, open opener,
	do func(context.Context, *session) (*client.Sending, error), say func(client.Sent) string,
) error {
	return f.with(ctx, open, func(ctx context.Context, ses *session) error {
		m, err := do(ctx, ses)
		if err != nil {
			return err
		}
		sent, err := ses.waitFor(ctx, m)
		switch {
		case err != nil:
			return err
		case f.JSON:
			return json.NewEncoder(s.out).Encode(sentOf(m.ID(), sent))
		}
		_, err = fmt.Fprintln(s.out, say(sent))
		return err
	})
}

// set is change for what the user keeps on all devices. It waits until this new device knows what the
// others have set: who sets something again without knowing that it was taken back would lose to that.
func (f *changeFlags) set(ctx context.Context, s streams, do func(context.Context, *session) (*client.Sending, error)) error {
	return f.change(ctx, s, f.peek, func(ctx context.Context, ses *session) (*client.Sending, error) {
		if err := ses.Synced(ctx); err != nil {
			return nil, err
		}
		return do(ctx, ses)
	}, storedAt)
}

// print prints v for scripts, or a line for people.
func (f *changeFlags) print(w io.Writer, v any, format string, args ...any) error {
	if f.JSON {
		return json.NewEncoder(w).Encode(v)
	}
	_, err := fmt.Fprintf(w, format+"\n", args...)
	return err
}

// storedAt says where an entry is.
func storedAt(sent client.Sent) string {
	return fmt.Sprintf("stored: %s #%d", sent.Conversation, sent.Seq)
}

// settingFlags are common to the commands about a conversation that write into the user's own log.
type settingFlags struct {
	changeFlags
	target
	Remove bool `name:"remove" help:"End that."`
}

type muteCmd struct {
	settingFlags
	For time.Duration `name:"for" placeholder:"DURATION" help:"How long; without it, until the end of time."`
}

type pinCmd struct{ settingFlags }

// userFlags are common to the commands about another user.
type userFlags struct {
	changeFlags
	Remove bool       `name:"remove" help:"End that."`
	User   pim.UserID `arg:"" help:"The other user."`
}

type blockCmd struct{ userFlags }

type contactCmd struct {
	userFlags
	Name []string `arg:"" optional:"" sep:"none" help:"What you call them."`
}

// Run mutes a conversation, or ends that.
func (c *muteCmd) Run(ctx context.Context, s streams) error {
	if c.For < 0 {
		return pim.Errorf(pim.KindInvalid, "--for %s lies in the past", c.For)
	}
	return c.about(ctx, s, func(ctx context.Context, ses *session, conv pim.ConversationID) (*client.Sending, error) {
		var until time.Time
		if c.For > 0 {
			until = time.Now().Add(c.For)
		}
		if c.Remove {
			return ses.Unmute(ctx, conv)
		}
		return ses.Mute(ctx, conv, until)
	})
}

// Run pins a conversation, or ends that.
func (c *pinCmd) Run(ctx context.Context, s streams) error {
	return c.about(ctx, s, func(ctx context.Context, ses *session, conv pim.ConversationID) (*client.Sending, error) {
		return ses.Pin(ctx, conv, !c.Remove)
	})
}

// about writes a setting of a conversation.
func (f *settingFlags) about(ctx context.Context, s streams, do func(context.Context, *session, pim.ConversationID) (*client.Sending, error)) error {
	return f.set(ctx, s, func(ctx context.Context, ses *session) (*client.Sending, error) {
		conv, err := f.resolve(ses.user)
		if err != nil {
			return nil, err
		}
		info, err := ses.Conversation(conv).Info(ctx)
		if err != nil {
			return nil, err
		}
		if info.Newest == 0 && conv.IsGroup() && !f.Remove {
			return nil, notMember(ses.user, conv)
		}
		return do(ctx, ses, conv)
	})
}

// notMember returns the error of a command about a group that is not the user's.
func notMember(user pim.UserID, conv pim.ConversationID) error {
	return pim.Errorf(pim.KindNotMember, "user %s is not a member of %s", user, conv)
}

// Run blocks a user, or ends that.
func (c *blockCmd) Run(ctx context.Context, s streams) error {
	return c.about(ctx, s, func(ctx context.Context, ses *session) (*client.Sending, error) {
		if c.User == ses.user && !c.Remove {
			return nil, pim.Errorf(pim.KindInvalid, "nobody blocks themselves")
		}
		return ses.Block(ctx, c.User, !c.Remove)
	})
}

// Run names a contact, or removes one.
func (c *contactCmd) Run(ctx context.Context, s streams) error {
	return c.about(ctx, s, func(ctx context.Context, ses *session) (*client.Sending, error) {
		if c.Remove {
			return ses.RemoveContact(ctx, c.User)
		}
		return ses.SetContact(ctx, c.User, []byte(strings.Join(c.Name, " ")))
	})
}

// about writes a setting of another user.
func (f *userFlags) about(ctx context.Context, s streams, do func(context.Context, *session) (*client.Sending, error)) error {
	if err := f.User.Validate(); err != nil {
		return err
	}
	return f.set(ctx, s, do)
}
