package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/content"
)

// listFlags are common to the commands that print what there is and change nothing.
type listFlags struct {
	waitFlags
	JSON bool `name:"json" help:"Print JSON, one object a line."`
}

type listCmd struct{ listFlags }

type settingsCmd struct{ listFlags }

// conversationJSON is a conversation of the list, for scripts. The names are stable.
type conversationJSON struct {
	readJSON
	Pinned bool      `json:"pinned"`
	Muted  bool      `json:"muted"`
	Left   bool      `json:"left"` // the user is no longer a member
	Last   *lastJSON `json:"last,omitempty"`
}

// lastJSON is the newest entry of a conversation, as far as the list has it.
type lastJSON struct {
	Seq    pim.Seq    `json:"seq"`
	Kind   string     `json:"kind"`
	Sender pim.UserID `json:"sender"`
	TimeMS pim.Millis `json:"time_ms"`
	Text   string     `json:"text,omitempty"` // of a message or an edit
	Cut    bool       `json:"cut,omitempty"`  // the text goes on
}

// settingJSON is something that the user keeps on all devices, for scripts. The names are stable.
type settingJSON struct {
	Kind    string     `json:"kind"`
	Subject string     `json:"subject"`
	Name    *string    `json:"name,omitempty"`     // of a contact, if its value is text
	Value   []byte     `json:"value,omitempty"`    // of a contact, if its value is no text, in base64
	UntilMS pim.Millis `json:"until_ms,omitempty"` // of a mute; left out: for ever
	Adders  string     `json:"adders,omitempty"`   // who adds the user to groups without asking
}

// Run prints the user's conversations in the order of an app: pinned ones first, then the
// newest.
func (c *listCmd) Run(ctx context.Context, s streams) error {
	return c.run(ctx, func(ctx context.Context, ses *session) error {
		list, err := ses.Conversations(ctx)
		for i := range list {
			if err == nil {
				err = c.print(s.out, jsonOfInfo(ses, &list[i]), conversationLine(&list[i]))
			}
		}
		return err
	})
}

// Run prints what the user keeps on all devices, but for read positions.
func (c *settingsCmd) Run(ctx context.Context, s streams) error {
	return c.run(ctx, func(_ context.Context, ses *session) error {
		now := pim.MillisOf(time.Now())
		settings := slices.DeleteFunc(ses.Settings(), func(set pim.Setting) bool {
			return set.Kind == pim.CommandRead || !set.InForce(now)
		})
		slices.SortFunc(settings, func(a, b pim.Setting) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject))
		})
		for _, set := range settings {
			j := settingJSON{Kind: set.Kind.String(), Subject: set.Subject, UntilMS: set.Until}
			if set.Kind == pim.CommandAdders {
				j.Adders = set.Adders.String()
			}
			switch name := string(set.Value); {
			case set.Kind != pim.CommandContact:
			case utf8.ValidString(name):
				j.Name = &name
			default:
				j.Value = set.Value
			}
			if err := c.print(s.out, j, settingLine(&j)); err != nil {
				return err
			}
		}
		return nil
	})
}

// run connects, waits for the list and the user's own log, and lets show print.
func (f *listFlags) run(ctx context.Context, show func(context.Context, *session) error) error {
	return f.with(ctx, f.peek, func(ctx context.Context, ses *session) error {
		if err := ses.Synced(ctx); err != nil {
			return err
		}
		return show(ctx, ses)
	})
}

// print prints v for scripts or line for people.
func (f *listFlags) print(w io.Writer, v any, line string) error {
	if f.JSON {
		return json.NewEncoder(w).Encode(v)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

func jsonOfInfo(ses *session, info *client.Info) conversationJSON {
	j := conversationJSON{readJSON: readOf(ses, info), Pinned: info.Pinned, Muted: info.Muted, Left: info.Left}
	if last := &info.Last; last.Kind != 0 {
		j.Last = &lastJSON{Seq: info.Newest, Kind: last.Kind.String(), Sender: last.Sender, TimeMS: last.Time()}
		if last.Kind == pim.EntryMessage || last.Kind == pim.EntryEdit {
			text, whole := content.Preview(last.Payload, info.LastCut)
			j.Last.Text, j.Last.Cut = text, !whole
		}
	}
	return j
}

// conversationLine returns a conversation of the list for people.
func conversationLine(info *client.Info) string {
	line := string(info.ID)
	for _, about := range []struct {
		holds bool
		text  string
	}{
		{info.Unread > 0, counted(info.Unread, info.Mentions)},
		{info.Marked, "marked as unread"},
		{info.Pinned, "pinned"},
		{info.Muted, "muted"},
		{info.Left, "left"},
	} {
		if about.holds {
			line += ", " + about.text
		}
	}
	last := &info.Last
	if last.Kind == 0 {
		return chat.Printable(line)
	}
	line += ": " + last.Time().Time().Local().Format(time.DateTime) + " "
	if last.Kind != pim.EntryMessage {
		return chat.Printable(fmt.Sprintf("%s%s by %s", line, last.Kind, last.Sender))
	}
	text, whole := content.Preview(last.Payload, info.LastCut)
	if !whole {
		text += "…"
	}
	return chat.Printable(fmt.Sprintf("%s%s: %s", line, last.Sender, text))
}

// counted says how many messages are unread, and how many of them mention the user.
func counted(unread, mentions uint64) string {
	switch {
	case mentions == 0:
		return fmt.Sprintf("%d unread", unread)
	case mentions == 1:
		return fmt.Sprintf("%d unread, 1 mention", unread)
	}
	return fmt.Sprintf("%d unread, %d mentions", unread, mentions)
}

// settingLine returns a setting for people.
func settingLine(j *settingJSON) string {
	switch rest, ok := strings.CutPrefix(j.Kind, "no-"); {
	case ok: // its subject is the user
		return rest + " off"
	case j.Adders != "": // likewise
		return j.Kind + " " + j.Adders
	case j.UntilMS != 0:
		return chat.Printable(fmt.Sprintf("%s %s until %s", j.Kind, j.Subject, j.UntilMS.Time().Local().Format(time.DateTime)))
	case j.Name != nil && *j.Name != "":
		return chat.Printable(fmt.Sprintf("%s %s: %s", j.Kind, j.Subject, *j.Name))
	}
	return chat.Printable(j.Kind + " " + j.Subject)
}
