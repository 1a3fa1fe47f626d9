package chat

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
)

// everybody is what is typed behind "@" to mention all members.
const everybody = "all"

// places returns where a text names users with "@", pim.MaxMentions users at most, and where it names
// all. A name goes on over letters, digits and the signs of nameSigns, and does not end with
// one of these but "_". It does not begin within an address such as bob@example.org.
func places(text string) (found []content.Mention) {
	var users []pim.UserID
	for at := 0; len(found) < content.MaxMentions; {
		sign := strings.Index(text[at:], "@")
		if sign < 0 {
			break
		}
		sign += at
		before, rest := text[at:sign], text[sign+len("@"):]
		last, _ := utf8.DecodeLastRuneInString(before)
		end := strings.IndexFunc(rest, func(r rune) bool { return !inName(r) })
		if end < 0 {
			end = len(rest)
		}
		name := strings.TrimRight(rest[:end], strings.ReplaceAll(nameSigns, "_", ""))
		at = sign + len("@") + end
		place := content.Mention{User: pim.UserID(name), Offset: sign, Length: len("@") + len(name)}
		switch {
		case strings.HasSuffix(before, "/"), before != "" && last < utf8.RuneSelf && inName(last):
			continue
		case name == everybody:
			place.User = ""
		case place.User.Validate() != nil:
			continue
		case !slices.Contains(users, place.User):
			if len(users) == pim.MaxMentions {
				continue
			}
			users = append(users, place.User)
		}
		found = append(found, place)
	}
	return found
}

// named returns whom a text names with "@", each once, and whether it names all.
func named(text string) (users []pim.UserID, all bool) {
	for _, place := range places(text) {
		switch {
		case place.User == "":
			all = true
		case !slices.Contains(users, place.User):
			users = append(users, place.User)
		}
	}
	return users, all
}

// nameSigns are the signs that are part of a name behind "@".
const nameSigns = "._-+@"

func inName(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || strings.ContainsRune(nameSigns, r)
}

// mentioning makes a message to a group mention whom its text names. Those who are no
// members the server leaves out.
func mentioning(id pim.ConversationID, text string) []client.SendOption {
	if !id.IsGroup() {
		return nil
	}
	users, all := named(text)
	options := []client.SendOption{client.Mention(users...)}
	if all {
		options = append(options, client.MentionAll())
	}
	return options
}

// sayIn makes say, a message to id, have its text's mentions as places, if id is a group, and returns its
// payload. There are no places if there is no room for them.
func sayIn(id pim.ConversationID, say content.Content) ([]byte, error) {
	say.Mentions = nil
	if id.IsGroup() {
		say.Mentions = places(say.Text)
	}
	payload, err := say.Encode()
	if pim.KindOf(err) == pim.KindTooLarge {
		say.Mentions = nil
		return say.Encode()
	}
	return payload, err
}

// span is a part of a text.
type span struct{ from, to int }

// placesIn returns where the line of item, which begins with head, names the mentions of its text.
func placesIn(item *client.Message, head string) (spans []span) {
	say, err := item.Content()
	if err != nil || item.State != client.Delivered { // in other states the line has a style of its own
		return nil
	}
	for _, p := range say.Mentions {
		from := len(head) + len(Printable(say.Text[:p.Offset]))
		spans = append(spans, span{from, from + len(Printable(say.Text[p.Offset:p.Offset+p.Length]))})
	}
	return spans
}

// embolden makes bold what of part, which begins at the byte at of a text, lies in spans.
func embolden(part string, at int, spans []span) string {
	var text strings.Builder
	done := 0 // bytes of part
	for _, s := range spans {
		from, to := max(s.from-at, done), min(s.to-at, len(part))
		if from < to {
			text.WriteString(part[done:from] + bold.Styled(part[from:to]))
			done = to
		}
	}
	return text.String() + part[done:]
}

// mentions names whom a message mentions and its text does not name, behind the text.
func mentions(e *pim.Entry, text string, name func(pim.UserID) string) string {
	users, all := named(text)
	var names []string
	if e.MentionAll && !all {
		names = append(names, "@"+everybody)
	}
	for _, m := range e.Mentions {
		if !slices.Contains(users, m.User) {
			names = append(names, "@"+name(m.User))
		}
	}
	if names == nil {
		return ""
	}
	return " (" + strings.Join(names, " ") + ")"
}
