package pim

// MaxMentions is how many users a message names at most.
const MaxMentions = 64

// Mention is a user whom a message names.
type Mention struct {
	User UserID
	// Count is the Entry.Count of the user's newest message, or of the create or join that made
	// the user a member if that is newer, and the messages since then, up to and including this
	// one, that name the user. It is 0 if this one does not count: the user is no member, or
	// the sender, or the message mentions all. It never decreases with the seq.
	Count uint64
}

// Mentioned is how often the messages up to some seq mention a user. Both numbers only grow with
// the seq, so what is not read is a difference, see Since.
type Mentioned struct {
	Named uint64 // Mention.Count of the last one that names the user; 0: none
	All   uint64 // Entry.AllCount
}

// Since returns how many messages mention the user after both of two seqs: that of an entry that
// makes everything before it read, which has the count own and the AllCount ownAll, and a read
// position.
func (m Mentioned) Since(own, ownAll uint64, read Mentioned) uint64 {
	after := func(n, seen uint64) uint64 { return n - min(n, seen) }
	return after(m.Named, max(own, read.Named)) + after(m.All, max(ownAll, read.All))
}

// NamedIn returns the Count of the user's Mention in e, 0 if there is none.
func (e *Entry) NamedIn(user UserID) uint64 {
	for i := range e.Mentions {
		if e.Mentions[i].User == user {
			return e.Mentions[i].Count
		}
	}
	return 0
}
