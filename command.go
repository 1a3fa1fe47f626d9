package pim

import (
	"slices"
	"strconv"
)

// A user's own log (Own) holds commands. Each changes one entity: a contact, a
// block, the mute or pin of a conversation, the read position in it, or whether others see
// what the user has read, or when the user is there. The setting
// of an entity follows from the log alone, by Setting.Apply, so the server and all
// devices of the user agree on it.

// CommandKind says what a Command changes, as on the wire. A stored command of a later
// version's kind is kept and passed on unchanged; this version does not act on it.
type CommandKind uint32

const (
	CommandContact CommandKind = 1 // a contact's name and notes
	CommandBlock   CommandKind = 2 // the subject cannot send direct messages to the user
	CommandMute    CommandKind = 3 // no notifications of the conversation
	CommandPin     CommandKind = 4 // the conversation stays on top
	CommandRead    CommandKind = 5 // how far the user has read the conversation
	CommandUnread  CommandKind = 6 // the user wants to come back to the conversation
	// CommandNoReceipts, whose subject is the user, hides from all others how far the user has
	// read, and from the user how far others have.
	CommandNoReceipts CommandKind = 7
	// CommandNoPresence, whose subject is the user, hides from all others when the user is connected
	// and writes, and from the user when others are.
	CommandNoPresence CommandKind = 8
	// CommandAdders, whose subject is the user, says who adds the user to groups without asking: Command.Adders.
	CommandAdders CommandKind = 9
)

// Adders says who makes a user a member of a group without asking. Everybody else only invites.
type Adders uint32

const (
	// AddersKnown are those among the user's contacts, and those to whom the user has written directly.
	// It is what holds if the user has said nothing.
	AddersKnown Adders = 0
	AddersAll   Adders = 1 // everybody
	AddersNone  Adders = 2 // nobody: also those whom the user knows only invite
)

// String returns the stable name of a, as in JSON.
func (a Adders) String() string {
	switch a {
	case AddersKnown:
		return "known"
	case AddersAll:
		return "all"
	case AddersNone:
		return "none"
	}
	return strconv.FormatUint(uint64(a), 10)
}

// Known reports whether this version knows the kind.
func (k CommandKind) Known() bool {
	return k >= CommandContact && k <= CommandAdders
}

// OfUser reports whether the kind is about the user as a whole: the command's subject is the user, and the user
// has one setting of the kind.
func (k CommandKind) OfUser() bool { return k.Hides() || k == CommandAdders }

// Hides reports whether the kind is a switch by which a user hides something, both ways. The
// command's subject is the user, and the user has one setting of the kind.
func (k CommandKind) Hides() bool { return k == CommandNoReceipts || k == CommandNoPresence }

// String returns the kind's stable name, as in JSON.
func (k CommandKind) String() string {
	switch k {
	case CommandContact:
		return "contact"
	case CommandBlock:
		return "block"
	case CommandMute:
		return "mute"
	case CommandPin:
		return "pin"
	case CommandRead:
		return "read"
	case CommandUnread:
		return "unread"
	case CommandNoReceipts:
		return "no-receipts"
	case CommandNoPresence:
		return "no-presence"
	case CommandAdders:
		return "adders"
	}
	return strconv.FormatUint(uint64(k), 10)
}

// MaxCommandValue is how many bytes Command.Value may have.
const MaxCommandValue = 4 << 10

// Command is one change. Its operation ID is the client message ID of its entry.
type Command struct {
	Kind    CommandKind
	Subject string // a UserID for contact, block, no-receipts, no-presence and adders, else a ConversationID
	Removed bool   // the contact is deleted, the block, mute, pin, unread, no-receipts or no-presence taken away
	Value   []byte // contact: opaque to the server; at most MaxCommandValue bytes
	Until   Millis // mute: when it ends; 0: never
	Seq     Seq    // read: everything up to here has been read
	Count   uint64 // read: Entry.Count at Seq; the server writes it
	// Replaces, of a read, makes this position take effect whatever its Seq: the one in
	// force is beyond the conversation, and so not valid. The server writes it.
	Replaces bool
	// Shown, of a read, says that others may know of this position from now on: it went on, and no-receipts
	// was not in force. The server writes it; devices make nothing of it.
	Shown bool
	// Named and All, of a read, are the Mentioned of the user at Seq; the server writes both.
	Named, All uint64
	Adders     Adders // adders: who adds the user to groups without asking
	// Known is the newest seq of the user's own log that the device knew when the
	// command was given.
	Known Seq
	// Unknown are the fields of a later version, as they were encoded.
	Unknown []byte
}

// Entity names what c changes: its kind and subject. A kind after read goes by its number there,
// so that every version has the same name for what it keeps, also of kinds that it does not know.
func (c *Command) Entity() string {
	name := c.Kind.String()
	if c.Kind > CommandRead {
		name = strconv.FormatUint(uint64(c.Kind), 10)
	}
	return name + "/" + c.Subject
}

// Validate reports what is wrong with c, as an Error of KindInvalid,
// KindTooLarge or, for a kind of a later version, KindUnsupported.
func (c *Command) Validate() error {
	switch c.Kind {
	case CommandContact, CommandBlock, CommandNoReceipts, CommandNoPresence, CommandAdders:
		if err := UserID(c.Subject).Validate(); err != nil {
			return err
		}
	case CommandMute, CommandPin, CommandRead, CommandUnread:
		if err := ConversationID(c.Subject).Validate(); err != nil {
			return err
		}
	default:
		return Errorf(KindUnsupported, "command of kind %d", c.Kind)
	}
	switch {
	case len(c.Value) > MaxCommandValue:
		return Errorf(KindTooLarge, "command with a value of %d bytes, at most %d are allowed", len(c.Value), MaxCommandValue)
	case len(c.Value) > 0 && c.Kind != CommandContact:
		return Errorf(KindInvalid, "a %s command has no value", c.Kind)
	case c.Until < 0 || c.Until != 0 && c.Kind != CommandMute:
		return Errorf(KindInvalid, "a %s command that ends at %d ms", c.Kind, c.Until)
	case c.Adders > AddersNone || c.Adders != 0 && (c.Kind != CommandAdders || c.Removed):
		return Errorf(KindInvalid, "a %s command that lets %s add the user", c.Kind, c.Adders)
	case c.Kind == CommandRead && (c.Seq == 0 || c.Removed):
		return Errorf(KindInvalid, "a read command names a seq, and is not taken away")
	case c.Kind != CommandRead && (c.Seq != 0 || c.Count != 0 || c.Named != 0 || c.All != 0 || c.Replaces || c.Shown):
		return Errorf(KindInvalid, "a %s command has no seq and no count", c.Kind)
	}
	return nil
}

// Setting is the state of an entity: the command in force, and what Apply needs to
// judge later ones. The zero Setting is that of an entity that no command has named.
type Setting struct {
	Command          // the one in force
	At      Seq      // seq of Command in the user's own log; 0: there was no command
	Deleted Seq      // seq of the last command with Removed; 0: none
	By      DeviceID // the device that gave the command at Deleted
}

// Apply applies the entity's next command, the entry at seq at, which was given on
// device by, and reports whether the setting has changed. The caller keeps the order
// of the log; a command that comes again changes nothing. The rules (section 17 of
// docs/protocol.md):
//
//   - A read position takes the maximum, but a command with Replaces always takes
//     effect.
//   - A deletion wins over changes that were made without knowing of it: commands of
//     other devices with a Known below Deleted. A device knows its own deletions. This does not
//     hold of no-receipts and no-presence: once they are acknowledged, nobody sees what they hide.
//   - Else the last writer, in the order of the log, wins.
func (s *Setting) Apply(c *Command, at Seq, by DeviceID) bool {
	switch {
	case at <= s.At, c.Kind == CommandRead && c.Seq <= s.Seq && !c.Replaces:
		return false
	case c.Removed:
		s.Deleted, s.By = at, by
	case s.Deleted > c.Known && s.By != by && !c.Kind.Hides():
		return false
	}
	s.Command, s.At = *c, at
	s.Value, s.Unknown = slices.Clone(c.Value), slices.Clone(c.Unknown)
	return true
}

// InForce reports whether the entity is in force: the contact exists, the user is
// blocked, the conversation is muted (at now) or pinned, no receipts are given.
func (s *Setting) InForce(now Millis) bool {
	return s.At != 0 && !s.Removed && (s.Until == 0 || now < s.Until)
}
