package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

type lookCmd struct {
	changeFlags
	To           []pim.UserID         `name:"to" aliases:"with" placeholder:"USER" help:"Look at this user, and at the direct conversation with the user."`
	Conversation []pim.ConversationID `name:"conversation" placeholder:"ID" help:"Look at the conversation with this ID."`
	Switch       string               `name:"switch" enum:"on,off," default:"" placeholder:"on|off" help:"Show others when you are connected and write, and see when they are, or neither: on or off."`
}

// Run prints what others read and write, and who is connected, as it comes; or switches presence.
func (c *lookCmd) Run(ctx context.Context, s streams) error {
	named := len(c.To)+len(c.Conversation) > 0
	switch {
	case c.Switch != "" && named:
		return errSwitchAll
	case c.Switch != "":
		return c.set(ctx, s, func(ctx context.Context, ses *session) (*client.Sending, error) {
			return ses.SetPresence(ctx, c.Switch == "on")
		})
	case !named:
		return pim.Errorf(pim.KindInvalid, "name what to look at: --to USER or --conversation ID")
	}
	ses, err := c.reach(ctx, c.connect)
	if err != nil {
		return err
	}
	defer ses.Close()
	conversations, err := c.conversations(ctx, ses)
	if err != nil {
		return err
	}
	if err := ses.Look(ctx, conversations, c.To...); err != nil {
		return err
	}
	return ses.follow(ctx, s.err, func(e client.Event) error { return c.handle(e, s) })
}

// conversations returns the conversations to look at. Of one that is not the user's it returns the
// server's error: the server says nothing to a look at it.
func (c *lookCmd) conversations(ctx context.Context, ses *session) ([]pim.ConversationID, error) {
	all := slices.Clone(c.Conversation)
	for _, u := range c.To {
		if err := u.Validate(); err != nil {
			return nil, err
		}
		if u == ses.user {
			return nil, pim.Errorf(pim.KindInvalid, "%s is who looks", u)
		}
		all = append(all, pim.Direct(ses.user, u))
	}
	for _, id := range all {
		if err := id.Validate(); err != nil {
			return nil, err
		}
		if _, own := id.OwnUser(); own {
			return nil, pim.Errorf(pim.KindInvalid, "nobody else reads %s", id)
		}
		if _, err := ses.pullFirst(ctx, id, 0, 0, 1, true); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// handle prints what an event tells.
func (c *lookCmd) handle(e client.Event, s streams) error {
	switch e := e.(type) {
	case client.ReceiptEvent:
		return c.receipts(s.out, e)
	case client.TypingEvent:
		names := make([]string, len(e.Users))
		for i, u := range e.Users {
			names[i] = string(u)
		}
		return c.print(s.out, typingJSON{e.Conversation, e.Users}, "%s: %s", e.Conversation, strings.Join(names, ", ")+" typing")
	case client.PresenceEvent:
		said := "unknown"
		switch {
		case e.Online:
			said = "connected"
		case e.Seen != 0:
			said = "last connected " + e.Seen.Time().Local().Format(time.DateTime)
		}
		return c.print(s.out, presenceJSON{e.User, e.Online, e.Seen, !e.Online && e.Seen == 0}, "%s: %s", e.User, said)
	case client.LookEvent:
		return e.Err
	}
	return nil
}

// receipts prints how far others have read a conversation.
func (c *lookCmd) receipts(w io.Writer, e client.ReceiptEvent) error {
	r := e.Receipts
	if _, _, direct := e.Conversation.DirectUsers(); direct {
		v := lookDirectJSON{e.Conversation, directReceipt{r.Delivered, r.Read, r.ReadAt}}
		return c.print(w, v, "%s: delivered %s, read %s", e.Conversation, upTo(r.Delivered, 0), upTo(r.Read, r.ReadAt))
	}
	for _, m := range r.Messages {
		if err := c.print(w, lookGroupJSON{e.Conversation, groupReceipt(m)}, "%s: #%d read by %d of %d", e.Conversation, m.Seq, m.Read, m.Members); err != nil {
			return err
		}
	}
	return nil
}

type lookDirectJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	directReceipt
}

type lookGroupJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	groupReceipt
}

type typingJSON struct {
	Conversation pim.ConversationID `json:"conversation"`
	Typing       []pim.UserID       `json:"typing"`
}

type presenceJSON struct {
	User    pim.UserID `json:"user"`
	Online  bool       `json:"online"`
	Seen    pim.Millis `json:"seen_ms,omitempty"`
	Unknown bool       `json:"unknown,omitempty"` // whether the user is connected, and when
}
