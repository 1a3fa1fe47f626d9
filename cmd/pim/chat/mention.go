package chat

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// everybody is what is typed behind "@" to mention all members.
const everybody = "all"

// named returns whom a text names with "@", each once and pim.MaxMentions at most, and whether it
// names all. A name goes on over letters, digits and the signs of nameSigns, and does not end with
// one of these but "_". It does not begin within an address such as bob@example.org.
func named(text string) (users []pim.UserID, all bool) {
	for {
		before, rest, ok := strings.Cut(text, "@")
		if !ok {
			return users, all
		}
		last, _ := utf8.DecodeLastRuneInString(before)
		end := strings.IndexFunc(rest, func(r rune) bool { return !inName(r) })
		if end < 0 {
			end = len(rest)
		}
		name := strings.TrimRight(rest[:end], strings.ReplaceAll(nameSigns, "_", ""))
		text = rest[end:]
		switch user := pim.UserID(name); {
		case strings.HasSuffix(before, "/"), before != "" && last < utf8.RuneSelf && inName(last):
		case name == everybody:
			all = true
		case user.Validate() == nil && len(users) < pim.MaxMentions && !slices.Contains(users, user):
			users = append(users, user)
		}
	}
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
