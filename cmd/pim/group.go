package main

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

type groupCmd struct {
	Create groupCreateCmd `cmd:"" help:"Create a group; its ID is printed."`
	Join   groupJoinCmd   `cmd:"" help:"Add users to a group."`
	Leave  groupLeaveCmd  `cmd:"" help:"Remove users from a group, or leave it."`

	Members groupMembersCmd `cmd:"" help:"Print who is in a group."`

	Invitations groupInvitationsCmd `cmd:"" help:"Print the groups that you are invited into."`
	Accept      groupAcceptCmd      `cmd:"" help:"Take an invitation."`
	Decline     groupDeclineCmd     `cmd:"" help:"Decline an invitation."`
	Adders      groupAddersCmd      `cmd:"" help:"Say who adds you to groups without asking; others invite you."`
}

type groupCreateCmd struct {
	changeFlags
	Members []pim.UserID `arg:"" optional:"" sep:"none" help:"Members besides yourself; who does not know you is invited."`
}

type groupJoinCmd struct {
	changeFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
	Members      []pim.UserID       `arg:"" sep:"none" help:"Whom to add; who does not know you is invited."`
}

type groupLeaveCmd struct {
	changeFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
	Members      []pim.UserID       `arg:"" optional:"" sep:"none" help:"Whom to remove (default yourself)."`
}

type groupInvitationsCmd struct{ listFlags }

type groupAcceptCmd struct {
	changeFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
}

type groupDeclineCmd struct {
	changeFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
}

type groupAddersCmd struct {
	changeFlags
	Who string `arg:"" enum:"known,all,none" help:"known: your contacts, and those to whom you have written; all; or none."`
}

type groupMembersCmd struct {
	listFlags
	Conversation pim.ConversationID `arg:"" help:"The group's ID."`
}

// memberJSON is one who is in a group, for scripts. The names are stable.
type memberJSON struct {
	User    pim.UserID `json:"user"`
	Owner   bool       `json:"owner,omitempty"`
	Since   pim.Seq    `json:"since"`
	SinceMS pim.Millis `json:"since_ms,omitempty"` // 0: not known any more
}

// String says it for people.
func (m *memberJSON) String() string {
	line := string(m.User)
	if m.Owner {
		line += ", owner"
	}
	if m.SinceMS != 0 {
		line += ", since " + m.SinceMS.Time().Local().Format(time.DateTime)
	}
	return line
}

// Run prints who is in a group.
func (c *groupMembersCmd) Run(ctx context.Context, s streams) error {
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		for after := pim.UserID(""); ; {
			page, err := ses.Members(ctx, c.Conversation, after)
			if err != nil {
				return err
			}
			err = ses.printing(func() (err error) {
				for i := 0; i < len(page.Members) && err == nil; i++ {
					m := &page.Members[i]
					one := memberJSON{m.User, m.User == page.Owner, m.Since, m.At}
					err = c.print(s.out, one, chat.Printable(one.String()))
				}
				return err
			})
			if err != nil {
				return err
			}
			if after = page.Next; after == "" {
				return nil
			}
		}
	})
}

// invitationJSON is an invitation, for scripts. The names are stable.
type invitationJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	By           pim.UserID         `json:"by"`
	TimeMS       pim.Millis         `json:"time_ms"`
}

// String says it for people.
func (i *invitationJSON) String() string {
	return string(i.Conversation) + ", by " + string(i.By) + ", " + i.TimeMS.Time().Local().Format(time.DateTime)
}

// Run prints the invitations of the user, the newest first.
func (c *groupInvitationsCmd) Run(ctx context.Context, s streams) error {
	return c.run(ctx, func(ctx context.Context, ses *session) error {
		list, err := ses.Invitations(ctx)
		for i := 0; i < len(list) && err == nil; i++ {
			one := invitationJSON{list[i].ID, list[i].Last.Sender, list[i].Last.Time()}
			err = c.print(s.out, one, chat.Printable(one.String()))
		}
		return err
	})
}

// Run takes an invitation.
func (c *groupAcceptCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, nil, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.Conversation(c.Conversation).Accept(ctx)
	})
}

// Run declines an invitation.
func (c *groupDeclineCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, nil, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.Conversation(c.Conversation).Decline(ctx)
	})
}

// addersOf are the names of who adds a user without asking.
var addersOf = map[string]pim.Adders{"known": pim.AddersKnown, "all": pim.AddersAll, "none": pim.AddersNone}

// Run says who adds the user without asking.
func (c *groupAddersCmd) Run(ctx context.Context, s streams) error {
	return c.set(ctx, s, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.SetAdders(ctx, addersOf[c.Who])
	})
}

// Run creates a group.
func (c *groupCreateCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, c.Members, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.CreateGroup(ctx, c.Members)
	})
}

// Run adds members.
func (c *groupJoinCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, c.Members, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.Join(ctx, c.Conversation, c.Members...)
	})
}

// Run removes members.
func (c *groupLeaveCmd) Run(ctx context.Context, s streams) error {
	return changeGroup(ctx, s, &c.changeFlags, c.Members, func(ctx context.Context, ses *session) (*client.Sending, error) {
		return ses.Leave(ctx, c.Conversation, c.Members...)
	})
}

// changeGroup carries out a change that names members, and prints the group's ID.
func changeGroup(ctx context.Context, s streams, f *changeFlags, members []pim.UserID, do func(context.Context, *session) (*client.Sending, error)) error {
	for _, m := range members {
		if err := m.Validate(); err != nil {
			return err
		}
	}
	return f.change(ctx, s, f.connect, do, func(sent client.Sent) string { return string(sent.Conversation) })
}
