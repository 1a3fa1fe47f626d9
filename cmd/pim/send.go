package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/content"
)

type sendCmd struct {
	waitFlags
	target
	Text    []string     `arg:"" sep:"none" help:"Text; a single - sends each line of standard input that is not empty as a message. A line that is refused is named on standard error, and the rest goes on."`
	Reply   seqArg       `name:"reply" placeholder:"SEQ" help:"Message of the conversation that is answered."`
	Mention []pim.UserID `name:"mention" placeholder:"USER" help:"User whom the message mentions; again, or with commas between them, for more, at most 64."`
	All     bool         `name:"mention-all" help:"The message mentions all members."`
	JSON    bool         `name:"json" help:"Print one JSON object a message."`
}

// Run sends and prints what the server answers.
func (c *sendCmd) Run(ctx context.Context, s streams) error {
	return c.with(ctx, c.connect, func(ctx context.Context, ses *session) error {
		conv, err := c.resolve(ses.user)
		if err != nil {
			return err
		}
		payload, err := c.payloads(ctx, ses, conv)
		if err != nil {
			return err
		}
		if len(c.Text) == 1 && c.Text[0] == "-" {
			if err := ses.waitsNoMore(); err != nil { // the input may take long
				return err
			}
			return (&lineSender{cmd: c, ses: ses, conv: conv, payload: payload, s: s}).run(ctx)
		}
		return c.one(ctx, ses, conv, payload, s)
	})
}

// one sends the text of the command line.
func (c *sendCmd) one(ctx context.Context, ses *session, conv pim.ConversationID, payload func(text string) ([]byte, error), s streams) error {
	text := strings.Join(c.Text, " ")
	if empty(text) {
		return pim.Errorf(pim.KindInvalid, "the text is empty")
	}
	if len(text) > pim.MaxPayload {
		return pim.Errorf(pim.KindTooLarge, "the text has %d bytes, a message holds at most %d", len(text), pim.MaxPayload)
	}
	say, err := payload(text)
	if err != nil {
		return err
	}
	m, err := ses.Send(ctx, conv, say, c.options()...)
	if err != nil {
		return err
	}
	sent, err := ses.waitFor(ctx, m)
	if err != nil {
		return err
	}
	return c.print(s, 0, m, sent)
}

// empty reports whether text shows nothing. The SDK refuses only a text without a byte.
func empty(text string) bool { return strings.TrimSpace(text) == "" }

// options are those of every message.
func (c *sendCmd) options() (options []client.SendOption) {
	if len(c.Mention) > 0 {
		options = append(options, client.Mention(c.Mention...))
	}
	if c.All {
		options = append(options, client.MentionAll())
	}
	return options
}

// payloads returns a function that makes the payload of a text. For a reply it asks the
// server for the message that is answered.
func (c *sendCmd) payloads(ctx context.Context, ses *session, conv pim.ConversationID) (func(text string) ([]byte, error), error) {
	if c.Reply == 0 {
		return func(text string) ([]byte, error) { return []byte(text), nil }, nil
	}
	seq := pim.Seq(c.Reply)
	page, err := ses.Pull(ctx, conv, seq, seq, 1, false)
	if err != nil {
		return nil, err
	}
	if len(page.Entries) == 0 || page.Entries[0].Kind != pim.EntryMessage {
		return nil, pim.Errorf(pim.KindNotFound, "seq %d of %s is no message", seq, conv)
	}
	if page.Entries[0].Erased {
		return nil, pim.Errorf(pim.KindNotFound, "the message at seq %d of %s was recalled or erased", seq, conv)
	}
	to := &page.Entries[0]
	for _, f := range page.Folds {
		if f.Target == seq && f.Edit.Seq != 0 {
			to.Payload = f.Edit.Payload // not the text that its sender has taken out
		}
	}
	reply, thread := content.ReplyTo(to), content.ThreadOf(to)
	return func(text string) ([]byte, error) {
		say := content.Content{Text: text, Reply: reply, Thread: thread}
		return say.Encode()
	}, nil
}

// print prints what became of m. line is the number of the line that m was; 0: none.
func (c *sendCmd) print(s streams, line int, m *client.Sending, sent client.Sent) error {
	if c.JSON {
		return json.NewEncoder(s.out).Encode(sentMessageJSON{sentOf(m.ID(), sent), sent.Strangers, line})
	}
	if len(sent.Strangers) > 0 {
		fmt.Fprintf(s.err, "pim: not in %s, so the mention does not reach them: %s\n", sent.Conversation, chat.Users(sent.Strangers))
	}
	_, err := fmt.Fprintln(s.out, storedAt(sent))
	return err
}
