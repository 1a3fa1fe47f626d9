package chat

import (
	"slices"
	"strings"

	"github.com/pim-im/pim"
)

// situation is what a command refers to without naming it.
type situation struct {
	me   pim.UserID
	open pim.ConversationID // empty: none
}

// slash is a command that can be typed.
type slash struct {
	name, args, help string
	most             int // arguments; -1: any number
	read             func(c situation, args []string) (Effect, error)
}

// slashes are all commands, in the order of the help.
var slashes = []slash{
	{"to", "USER|GROUP", "open a conversation", 1, readOpen},
	{"offline", "", "leave the connection", 0, always(Online{On: false})},
	{"online", "", "connect again", 0, always(Online{On: true})},
	{"resend", "", "send the last failed message again", 0, always(Resend{})},
	{"discard", "", "give the last failed message up", 0, always(Discard{})},
	{"contact", "USER [NAME]", "name a contact; without name: remove", -1, readContact},
	{"mute", "", "no notifications of this conversation", 0, here(pim.CommandMute, false)},
	{"unmute", "", "end that", 0, here(pim.CommandMute, true)},
	{"pin", "", "keep this conversation on top", 0, here(pim.CommandPin, false)},
	{"unpin", "", "end that", 0, here(pim.CommandPin, true)},
	{"unread", "", "mark this conversation as unread", 0, here(pim.CommandUnread, false)},
	{"block", "[USER]", "take no direct messages of a user", 1, block(false)},
	{"unblock", "[USER]", "take them again", 1, block(true)},
	{"receipts", "on|off", "show what you have read, and see what others have; or neither", 1, switches(pim.CommandNoReceipts)},
	{"presence", "on|off", "show when you are there and write, and see when others are; or neither", 1, switches(pim.CommandNoPresence)},
	{"group", "USER…", "create a group", -1, readGroup},
	{"leave", "", "leave this group", 0, readLeave},
	{"accept", "", "take the invitation into this group", 0, readAnswer(false)},
	{"decline", "", "decline it", 0, readAnswer(true)},
	{"adders", "known|all|none", "who adds you to groups without asking; others invite you", 1, readAdders},
	{"erase", "yes", "erase all that you have written here, for good", 1, readErase},
	{"help", "", "show this", 0, always(Help{})},
	{"quit", "", "end", 0, always(Quit{})},
}

// Read returns what a typed line asks for: a text to send, or a command. me is the user
// who typed it; open is the open conversation, empty if there is none. A line that begins
// with "//" is a text that begins with "/". For an empty line, Read returns nil. Errors
// are of KindInvalid.
func Read(line string, me pim.UserID, open pim.ConversationID) (Effect, error) {
	rest, command := strings.CutPrefix(line, "/")
	if !command || strings.HasPrefix(rest, "/") {
		switch {
		case line == "":
			return nil, nil
		case open == "":
			return nil, pim.Errorf(pim.KindInvalid, "no conversation is open: /to USER opens one")
		case command:
			return Send{open, rest}, nil
		}
		return Send{open, line}, nil
	}
	words := strings.Fields(rest)
	if len(words) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "/help lists the commands")
	}
	i := slices.IndexFunc(slashes, func(s slash) bool { return s.name == words[0] })
	if i < 0 {
		return nil, pim.Errorf(pim.KindInvalid, "there is no command /%s; /help lists them, //%[1]s sends it as a text", words[0])
	}
	s, args := slashes[i], words[1:]
	if s.most >= 0 && len(args) > s.most {
		return nil, s.misused()
	}
	e, err := s.read(situation{me, open}, args)
	if e == nil && err == nil {
		err = s.misused()
	}
	return e, err
}

func (s slash) usage() string { return strings.TrimSuffix("/"+s.name+" "+s.args, " ") }

func (s slash) misused() error { return pim.Errorf(pim.KindInvalid, "it is %s: %s", s.usage(), s.help) }

// Commands returns a line of help for each command, and for what else a line can hold.
func Commands() []string {
	var lines []string
	for _, s := range slashes {
		lines = append(lines, s.usage()+" — "+s.help)
	}
	return append(lines, "//text — send a text that begins with /", "@USER, @all in a message to a group — mention a member, or all")
}

var errNothingOpen = pim.Errorf(pim.KindInvalid, "no conversation is open")

// always reads a command that is always the same.
func always(e Effect) func(situation, []string) (Effect, error) {
	return func(situation, []string) (Effect, error) { return e, nil }
}

// here reads a command about the open conversation.
func here(kind pim.CommandKind, removed bool) func(situation, []string) (Effect, error) {
	return func(c situation, _ []string) (Effect, error) {
		if c.open == "" {
			return nil, errNothingOpen
		}
		return Change{pim.Command{Kind: kind, Subject: string(c.open), Removed: removed}}, nil
	}
}

func readOpen(c situation, args []string) (Effect, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if id := pim.ConversationID(args[0]); strings.Contains(args[0], ":") { // no user ID holds a ":"
		if _, own := id.OwnUser(); own {
			return nil, pim.Errorf(pim.KindInvalid, "%s holds commands, there is nothing to read in it", Printable(args[0]))
		}
		return Open{id}, id.Validate()
	}
	user := pim.UserID(args[0])
	return Open{pim.Direct(c.me, user)}, user.Validate()
}

func readContact(_ situation, args []string) (Effect, error) {
	if len(args) == 0 {
		return nil, nil
	}
	name := strings.Join(args[1:], " ")
	cmd := pim.Command{Kind: pim.CommandContact, Subject: args[0], Value: []byte(name), Removed: name == ""}
	return Change{cmd}, pim.UserID(args[0]).Validate()
}

// block reads a command about a user: the one that is named, or else the other user of
// the open conversation.
func block(removed bool) func(situation, []string) (Effect, error) {
	return func(c situation, args []string) (Effect, error) {
		user, direct := peer(c.open, c.me)
		switch {
		case len(args) > 0:
			user = pim.UserID(args[0])
		case !direct:
			return nil, nil
		}
		return Change{pim.Command{Kind: pim.CommandBlock, Subject: string(user), Removed: removed}}, user.Validate()
	}
}

// switches reads a command that shows and hides something.
func switches(hides pim.CommandKind) func(situation, []string) (Effect, error) {
	return func(c situation, args []string) (Effect, error) {
		if len(args) == 0 || args[0] != "on" && args[0] != "off" {
			return nil, nil
		}
		return Change{pim.Command{Kind: hides, Subject: string(c.me), Removed: args[0] == "on"}}, nil
	}
}

func readGroup(_ situation, args []string) (Effect, error) {
	var members []pim.UserID
	for _, a := range args {
		if err := pim.UserID(a).Validate(); err != nil {
			return nil, err
		}
		members = append(members, pim.UserID(a))
	}
	if len(members) == 0 {
		return nil, nil
	}
	return Group{members}, nil
}

func readLeave(c situation, _ []string) (Effect, error) {
	if !c.open.IsGroup() {
		return nil, pim.Errorf(pim.KindInvalid, "only a group can be left")
	}
	return Leave{c.open}, nil
}

// readAnswer reads an answer to the invitation into the open group.
func readAnswer(no bool) func(situation, []string) (Effect, error) {
	return func(c situation, _ []string) (Effect, error) {
		if !c.open.IsGroup() {
			return nil, pim.Errorf(pim.KindInvalid, "nobody is invited but into groups")
		}
		if no {
			return Leave{c.open}, nil
		}
		return Accept{c.open}, nil
	}
}

func readAdders(c situation, args []string) (Effect, error) {
	for _, who := range []pim.Adders{pim.AddersKnown, pim.AddersAll, pim.AddersNone} {
		if len(args) > 0 && args[0] == who.String() {
			return Change{pim.Command{Kind: pim.CommandAdders, Subject: string(c.me), Adders: who}}, nil
		}
	}
	return nil, nil
}

// readErase wants a word more than the command's name: nothing brings back what is erased.
func readErase(c situation, args []string) (Effect, error) {
	switch {
	case len(args) == 0 || args[0] != "yes":
		return nil, nil
	case c.open == "":
		return nil, errNothingOpen
	}
	return Refer{Conversation: c.open, Kind: pim.EntryErase}, nil
}

// peer returns the other user of a direct conversation of me.
func peer(conv pim.ConversationID, me pim.UserID) (pim.UserID, bool) {
	a, b, ok := conv.DirectUsers()
	if a == me {
		return b, ok
	}
	return a, ok
}
