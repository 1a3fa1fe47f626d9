package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
)

// chatView shows what happens in a chat.
type chatView interface {
	entry(e shownEntry) error
	queued(id pim.ClientMessageID, text string) error // typed while there is no connection
	sent(id pim.ClientMessageID, text string, sent client.Sent) error
	failed(id pim.ClientMessageID, text string, err *pim.Error) error
	refused(line int, err error) error // the line has become no message
	state(e client.StateEvent) error
	notice(text string) error // the answer to a command
}

// textView shows a chat to people. A message's mark is … while it waits for a
// connection, ✓ when it is stored, ✗ when the server refused it.
type textView struct{ printer }

func (v *textView) entry(e shownEntry) error {
	v.printf("%s%s\n", chat.Line(e.Entry), e.refersTo())
	return v.err
}

func (v *textView) queued(_ pim.ClientMessageID, text string) error {
	v.printf("… %s\n", chat.Printable(text))
	return v.err
}

func (v *textView) sent(_ pim.ClientMessageID, text string, _ client.Sent) error {
	v.printf("✓ %s\n", chat.Printable(text))
	return v.err
}

func (v *textView) failed(_ pim.ClientMessageID, text string, err *pim.Error) error {
	v.printf("✗ %s — %s\n", chat.Printable(text), chat.Printable(err.Text))
	return v.err
}

func (v *textView) refused(line int, err error) error {
	v.printf("✗ line %d — %s\n", line, chat.Printable(chat.Plain(err)))
	return v.err
}

func (v *textView) state(e client.StateEvent) error {
	v.printf("%s\n", stateLine(e))
	return v.err
}

func (v *textView) notice(text string) error {
	v.printf("* %s\n", chat.Printable(text))
	return v.err
}

// rewoundLine tells people that the server's store went back to an earlier state.
func rewoundLine(e client.RewoundEvent) string {
	return fmt.Sprintf("the server has lost what came after seq %d; what devices still have of it comes again", e.After)
}

// trimmedLine tells people that retention has removed the beginning of the conversation.
func trimmedLine(e client.TrimmedEvent) string {
	return fmt.Sprintf("what came before seq %d was removed by retention", e.Front)
}

// stateLine tells people about the connection.
func stateLine(e client.StateEvent) string {
	switch {
	case e.State == client.Connected:
		return "* connected again"
	case e.State != client.Waiting:
		return "* " + e.State.String()
	}
	why := chat.Lost(e.Err)
	if why != "" {
		why = " (" + why + ")"
	}
	if pim.KindOf(e.Err) == pim.KindOverloaded {
		return fmt.Sprintf("* the server is busy%s; trying again in %d s", why, (e.RetryIn+time.Second-1)/time.Second)
	}
	return fmt.Sprintf("* not connected%s; trying again", why)
}

// jsonView prints one object an event; its "event" says which. The names are
// stable.
type jsonView struct{ out io.Writer }

func (v *jsonView) print(x any) error { return json.NewEncoder(v.out).Encode(x) }

func (v *jsonView) entry(e shownEntry) error {
	return v.print(struct {
		Event string `json:"event"`
		entryJSON
	}{"entry", e.json()})
}

func (v *jsonView) queued(id pim.ClientMessageID, text string) error {
	return v.print(struct {
		Event string `json:"event"`
		ID    string `json:"client_message_id"`
		contentJSON
	}{"queued", id.String(), contentOf([]byte(text))})
}

func (v *jsonView) sent(id pim.ClientMessageID, text string, sent client.Sent) error {
	return v.print(struct {
		Event string `json:"event"`
		sentJSON
		contentJSON
	}{"sent", sentOf(id, sent), contentOf([]byte(text))})
}

func (v *jsonView) failed(id pim.ClientMessageID, text string, err *pim.Error) error {
	return v.print(struct {
		Event string `json:"event"`
		ID    string `json:"client_message_id"`
		contentJSON
		Kind  string `json:"error_kind"`
		Error string `json:"error"`
	}{"failed", id.String(), contentOf([]byte(text)), err.Kind.String(), err.Text})
}

func (v *jsonView) refused(line int, err error) error {
	return v.print(struct {
		Event string `json:"event"`
		refusedJSON
	}{"refused", refusedOf(line, err)})
}

func (v *jsonView) state(e client.StateEvent) error {
	why := ""
	if e.Err != nil {
		why = e.Err.Error()
	}
	return v.print(struct {
		Event   string `json:"event"`
		State   string `json:"state"`
		RetryMS int64  `json:"retry_in_ms,omitempty"`
		Error   string `json:"error,omitempty"`
	}{"state", e.State.String(), e.RetryIn.Milliseconds(), why})
}

func (v *jsonView) notice(text string) error {
	return v.print(struct {
		Event string `json:"event"`
		Text  string `json:"text"`
	}{"notice", text})
}
