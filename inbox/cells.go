package inbox

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Where things are kept. IDs hold no '/', so no two names collide.

// Entries is the log of a conversation.
func Entries(c pim.ConversationID) store.Log { return store.Log(c) }

// Members is where a group's members are kept: key user, version the seq of the
// entry that last changed the membership, value a Membership.
func Members(c pim.ConversationID) store.Partition { return store.Partition("members/" + c) }

// Places holds in which order a group's log named members whose entry was trimmed: key the
// entry's seq, big-endian, value the users who became members with it and were present then.
func Places(c pim.ConversationID) store.Partition { return store.Partition("places/" + c) }

// Lines holds the lines of a user that have been folded. Together with Fresh it is the
// user's offline list, and the list of the user's conversations: key conversation,
// version the newest seq, value a Line.
func Lines(u pim.UserID) store.Partition { return store.Partition("inbox/" + u) }

// Fresh holds the lines that have not been folded into Lines. Writers write lines here.
func Fresh(u pim.UserID) store.Partition {
	return store.Partition(store.PassingPrefix + "fresh/" + string(u)) // one allocation
}

// Settled holds a mark for each of a user's devices: key device; an odd version says
// that the device has acknowledged all of Lines.
func Settled(u pim.UserID) store.Partition { return store.Partition("settled/" + u) }

// Acked is what a device has acknowledged: key conversation, version the seq.
func Acked(u pim.UserID, d pim.DeviceID) store.Partition {
	return store.Partition("acks/" + string(u) + "/" + string(d))
}

// Devices holds a user's devices: key device, version the highest serial of a
// PIMPushAck that was stored.
func Devices(u pim.UserID) store.Partition { return store.Partition("devices/" + u) }

// Settings holds what follows from the commands of a user's own log: key the entity
// (pim.Command.Entity), version the seq of the entry in force, or for a read position
// the seq that was read (more after a command with Replaces; at most store.MaxVersion), value
// from SettingCell.
func Settings(u pim.UserID) store.Partition { return store.Partition("settings/" + u) }

// Line is one conversation in a user's offline list: what was sent to the user. A
// device still has to fetch the seqs above the one that it acknowledged, up to Newest.
type Line struct {
	Newest pim.Seq // the cell's version
	Count  uint64  // counting messages up to Newest
	Left   bool    // the entry at Newest ended the user's membership, or the user was invited and is no member
	// Invited, which comes with Left, says that the entry at Newest invites the user. Then, and if that entry
	// has ended an invitation, it is the only one up to Newest that the line is about: Own is Newest.
	Invited bool
	Time    pim.Millis // when the entry at Newest was written (pim.Entry.Time); 0: an earlier version wrote the line
	Mark
	All uint64 // messages up to Newest that mention all
	MentionsOf
}

// Mark is how far a member of a conversation has read it by taking part in it: whoever writes
// has read what came before, and what came before a joining is not for the user.
type Mark struct {
	Own      pim.Seq // the user's newest message, or the entry that made the user a member if that is newer; 0: not known
	OwnCount uint64  // counting messages up to Own
}

// MentionsOf says how often a member of a conversation is mentioned, beside what the conversation's
// entries say of all.
type MentionsOf struct {
	Named  uint64 // pim.Mention.Count of the last one after Own that names the user; 0: none
	OwnAll uint64 // messages up to Own that mention all
}

// Cell returns l as the cell of conversation c.
func (l Line) Cell(c pim.ConversationID) store.Cell {
	return store.Cell{Key: string(c), Version: uint64(l.Newest), Value: l.AppendValue(nil)}
}

// Bits of a Line's first byte. The other bits, and bytes behind the numbers,
// are left to later versions and ignored.
const (
	lineLeft    = 1
	lineInvited = 2
)

// AppendValue appends the cell's value to dst: what AppendShared appends, the mark, and the mentions.
func (l Line) AppendValue(dst []byte) []byte {
	return l.MentionsOf.Append(l.Mark.Append(l.AppendShared(dst)), l.All)
}

// AppendShared appends what the lines of all present members of a conversation have in common,
// so that a writer encodes it once.
func (l Line) AppendShared(dst []byte) []byte {
	flags := byte(0)
	if l.Left {
		flags = lineLeft
	}
	if l.Invited {
		flags |= lineInvited
	}
	return binary.AppendUvarint(binary.AppendUvarint(append(dst, flags), l.Count), uint64(l.Time))
}

// Append appends m to what AppendShared has appended.
func (m Mark) Append(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(m.Own)), m.OwnCount)
}

// Append appends m, and all, the Line.All, to what Mark.Append has appended: nothing if all of them
// are 0, as in most conversations.
func (m MentionsOf) Append(dst []byte, all uint64) []byte {
	if all == 0 && m == (MentionsOf{}) {
		return dst
	}
	return binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(dst, all), m.Named), m.OwnAll)
}

// ParseLine reads a Line's cell. It may end behind the count, the time, or the mark.
func ParseLine(c store.Cell) (Line, error) {
	var v [7]uint64
	rest := c.Value[min(1, len(c.Value)):]
	for i := range v {
		if i > 0 && len(rest) == 0 {
			break
		}
		n := 0
		if v[i], n = binary.Uvarint(rest); n <= 0 {
			return Line{}, pim.Errorf(pim.KindCorrupt, "offline list: line of %q has the value %x", c.Key, c.Value)
		}
		rest = rest[n:]
	}
	return Line{
		Newest: pim.Seq(c.Version), Count: v[0], Left: c.Value[0]&lineLeft != 0, Invited: c.Value[0]&lineInvited != 0, Time: pim.Millis(v[1]),
		Mark: Mark{Own: pim.Seq(v[2]), OwnCount: v[3]}, All: v[4], MentionsOf: MentionsOf{Named: v[5], OwnAll: v[6]},
	}, nil
}

// Period is a stretch of a conversation that a member reads, both ends included.
type Period struct {
	From, To pim.Seq // To is 0 while it lasts
}

// maxPeriods bounds a Membership: a user who leaves and joins more often can no longer
// read the oldest periods.
const maxPeriods = 64

// Membership is what a user may read of a group.
type Membership struct {
	Maker   bool     // made the group: for earlier versions, which take the maker for the owner
	Invited bool     // was invited last, and has neither come nor declined
	Untold  bool     // that invitation did not reach the user: nothing is told of its end either
	Flags   byte     // bits of later versions, kept as they are; those of the fields above do not count here
	Periods []Period // ascending; only the last one may still last
}

// Bits of a Membership's first byte.
const (
	memberMaker   = 1
	memberInvited = 2
	memberUntold  = 4
	memberFlags   = memberMaker | memberInvited | memberUntold
)

// Present reports whether the user is a member now.
func (m *Membership) Present() bool {
	n := len(m.Periods)
	return n > 0 && m.Periods[n-1].To == 0
}

// Join opens a period at seq, and ends an invitation. The user must not be present.
func (m *Membership) Join(seq pim.Seq) {
	m.Invited, m.Untold = false, false
	m.open(Period{From: seq})
}

func (m *Membership) open(p Period) {
	if len(m.Periods) == maxPeriods {
		m.Periods = append(m.Periods[:0:0], m.Periods[1:]...)
	}
	m.Periods = append(m.Periods, p)
}

// Invite notes that the entry at seq invites the user, who must not be present: that entry is all that the
// user reads. untold says that nothing of it reaches the user.
func (m *Membership) Invite(seq pim.Seq, untold bool) {
	m.Invited, m.Untold = true, untold
	m.open(Period{seq, seq})
}

// Decline notes that the entry at seq ends the invitation of the user, who reads it.
func (m *Membership) Decline(seq pim.Seq) {
	m.Invited = false
	m.open(Period{seq, seq})
}

// Leave ends, with the entry at seq, the period that lasts. The user must be present.
func (m *Membership) Leave(seq pim.Seq) { m.Periods[len(m.Periods)-1].To = seq }

// Reads reports whether the user may read the entry at seq.
func (m *Membership) Reads(seq pim.Seq) bool {
	for _, p := range m.Periods {
		if seq >= p.From && (p.To == 0 || seq <= p.To) {
			return true
		}
	}
	return false
}

// trim takes the seqs before front, which were trimmed, out of what the user may read.
func (m *Membership) trim(front pim.Seq) {
	for len(m.Periods) > 0 {
		p := &m.Periods[0]
		if p.To == 0 || p.To >= front {
			p.From = max(p.From, front)
			return
		}
		m.Periods = m.Periods[1:]
	}
}

// firstFrom returns the first seq from seq on that the user may read,
// math.MaxUint64 if there is none.
func (m *Membership) firstFrom(seq pim.Seq) pim.Seq {
	for _, p := range m.Periods {
		if p.To == 0 || p.To >= seq {
			return max(p.From, seq)
		}
	}
	return math.MaxUint64
}

// LastUpTo returns the last seq up to seq that the user may read, 0 if there is
// none.
func (m *Membership) LastUpTo(seq pim.Seq) pim.Seq {
	for _, p := range slices.Backward(m.Periods) {
		if p.From <= seq {
			if p.To == 0 {
				return seq
			}
			return min(p.To, seq)
		}
	}
	return 0
}

// Value returns m as a cell's value.
func (m *Membership) Value() []byte {
	flags := m.Flags &^ memberFlags
	if m.Maker {
		flags |= memberMaker
	}
	if m.Invited {
		flags |= memberInvited
	}
	if m.Untold {
		flags |= memberUntold
	}
	b := []byte{flags}
	for _, p := range m.Periods {
		b = binary.AppendUvarint(b, uint64(p.From))
		b = binary.AppendUvarint(b, uint64(p.To))
	}
	return b
}

// present reports whether value is that of a Membership that lasts. It allocates nothing.
func present(value []byte) bool {
	return len(value) > 1 && value[len(value)-1] == 0 // the last number, a varint of the fewest bytes
}

// ParseMembership reads what Value wrote.
func ParseMembership(value []byte) (Membership, error) {
	var m Membership
	if len(value) == 0 {
		return m, pim.Errorf(pim.KindCorrupt, "membership with the value %x", value)
	}
	m.Maker, m.Invited, m.Untold = value[0]&memberMaker != 0, value[0]&memberInvited != 0, value[0]&memberUntold != 0
	m.Flags = value[0] &^ memberFlags
	for b := value[1:]; len(b) > 0; {
		from, n := binary.Uvarint(b)
		if n <= 0 {
			return m, pim.Errorf(pim.KindCorrupt, "membership with the value %x", value)
		}
		to, k := binary.Uvarint(b[n:])
		if k <= 0 || from == 0 {
			return m, pim.Errorf(pim.KindCorrupt, "membership with the value %x", value)
		}
		m.Periods = append(m.Periods, Period{pim.Seq(from), pim.Seq(to)})
		b = b[n+k:]
	}
	return m, nil
}
