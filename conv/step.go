package conv

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// conversation is the state of one conversation that step needs, a cache of its log. It is
// pure: no I/O, no clock.
type conversation struct {
	id    pim.ConversationID
	last  pim.Seq
	times pim.Times                   // of the entries up to last
	count uint64                      // of the messages up to last
	order map[pim.UserID]*pim.Anchors // of the senders of the last three minutes
	floor floor                       // of the other senders
	many  []*pim.Anchors              // of order: grown beyond anchorBytes, settled trims them; one may be there twice
	ids   dedup.IDs                   // of the client message IDs
	bound int                         // present members of a group, at most

	consent     bool   // only those whom a user lets add the user do, see invite.go
	deeds       *deeds // of the users of all conversations; nil: not bounded
	blocks      blocks // of a direct conversation
	windows     windows
	targets     map[pim.Seq]*target // entries to which others refer, those used last; replaced when they are many
	targetBytes int                 // of targets, see room
	pins        []pim.Seq           // the pinned messages
	pinned      pim.Seq             // of the entry that has changed pins last
	unerased    []erasing           // of the erases behind the snapshot that was loaded: nobody knows whether they are carried out

	settings map[string]setting // of a user's own log, by entity
	values   int                // bytes of the settings' values
	hidden   bool               // of a user's own log: no-receipts is in force

	members  map[pim.UserID]*member // of a group: everyone who ever was one
	reads    store.Partition        // of a group: inbox.Reads
	present  []pim.UserID           // who will read the next entry; replaced, never changed in place
	marks    []inbox.Mark           // of those in present, in the same order; empty in a user's own log, and of a group until it is loaded
	pair     [2]inbox.Mark          // holds the marks of a direct conversation
	mentions *mentions              // nil if no message mentions anybody
	written  pim.Millis             // when the entry at last was written, see pim.Entry.Time
}

// maxEver is how many users may be, or have been, members of a group. It is bounded because
// the state of a group has all of them in memory.
const maxEver = 100_000

// outcome is the result of step: an error, a duplicate or an entry.
type outcome struct {
	err      error
	first    pim.Seq // the seq of the entry that the request's ID already has
	entry    pim.Entry
	strange  bool // its client message ID needs a cell
	joined   []pim.UserID
	departed []departure
	entity   string  // of the setting that changed, empty if none did
	shown    sent    // of a read command that others may know of
	target   *target // which entry has changed; nil: none
	erased   pim.Seq // of an erase: the first entry that it erases
	pinned   bool    // the pinned messages have changed
	deed     *deed   // what the entry has begun; nil if it counts as nothing
}

// step takes one request at the time now. r has passed check, and f is what was looked up for
// r. If the outcome is an entry, the state already counts that entry as appended.
func (c *conversation) step(r *Request, f findings, now pim.Millis) outcome {
	if first := cmp.Or(c.ids.Seq(r.ClientID), f.first); first != 0 {
		return outcome{first: first}
	}
	members, err := c.allow(r)
	if err != nil {
		return outcome{err: err}
	}
	if r.Kind == pim.EntryErase && f.erased == 0 {
		return outcome{err: nothingToErase(r)}
	}
	var t *target
	if refers(r.Kind) {
		if t = f.target; t == nil {
			t = c.targets[r.Refers]
		}
		if err := c.allowRefers(r, t, now); err != nil {
			return outcome{err: err}
		}
	}
	members, invited, err := c.divide(r, members, f.consents)
	if err != nil {
		return outcome{err: err}
	}
	begun, err := c.deeds.begin(r, c.deedOf(r, len(members)+len(invited)), f.view.at)
	if err != nil {
		return outcome{err: err}
	}
	o := c.append(r, members, invited, &f, now)
	o.erased, o.deed = f.erased, begun
	if t != nil {
		c.refer(&o.entry, t)
		o.target, o.pinned = t, c.pin(&o.entry)
	}
	return o
}

// allow returns why r may not be appended, or nil, and the users whose membership, or invitation, a create,
// join or leave changes.
func (c *conversation) allow(r *Request) ([]pim.UserID, error) {
	if r.Kind == pim.EntryCommand {
		if r.read.err != nil {
			return nil, r.read.err
		}
		return nil, c.roomFor(r.command)
	}
	if r.Kind == pim.EntryErase {
		return nil, c.allowErase(r)
	}
	if !c.id.IsGroup() {
		if c.blocks.blocked(r.Sender) {
			return nil, pim.Errorf(pim.KindForbidden, "user %s is blocked", r.Sender)
		}
		return nil, nil
	}
	if r.Kind == pim.EntryCreate {
		return c.allowCreate(r)
	}
	m := c.members[r.Sender]
	answers := m != nil && m.Invited && r.answersInvitation()
	switch {
	case answers && r.Kind == pim.EntryLeave: // of a closed group, too: the invitation is not to stay
		return []pim.UserID{r.Sender}, nil
	case m != nil && len(c.present) == 0:
		return nil, pim.Errorf(pim.KindNotMember, "%s is closed: nobody is left in it", c.id)
	case answers:
		return c.bounded([]pim.UserID{r.Sender})
	case m == nil || !m.Present():
		return nil, notMember(r.Sender, c.id)
	}
	switch r.Kind {
	case pim.EntryJoin:
		return c.allowJoin(r)
	case pim.EntryLeave:
		return c.allowLeave(r)
	case pim.EntryRetain:
		if c.owner() != r.Sender {
			return nil, pim.Errorf(pim.KindForbidden, "only the owner of %s says for how long its messages are kept", c.id)
		}
	}
	return nil, nil
}

func (c *conversation) allowCreate(r *Request) ([]pim.UserID, error) {
	if c.last != 0 {
		return nil, pim.Errorf(pim.KindConflict, "group %s exists", c.id)
	}
	members := append([]pim.UserID{r.Sender}, r.Members...)
	return c.bounded(distinct(members))
}

func (c *conversation) allowJoin(r *Request) ([]pim.UserID, error) {
	added := distinct(slices.DeleteFunc(slices.Clone(r.Members), func(u pim.UserID) bool {
		m := c.members[u]
		return m != nil && m.Present()
	}))
	if len(added) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "all of them are members of %s", c.id)
	}
	return c.bounded(added)
}

func (c *conversation) allowLeave(r *Request) ([]pim.UserID, error) {
	others := func(u pim.UserID) bool { return u != r.Sender }
	if slices.ContainsFunc(r.Members, others) && c.owner() != r.Sender {
		return nil, pim.Errorf(pim.KindForbidden, "only the owner of %s removes others", c.id)
	}
	gone := distinct(slices.DeleteFunc(slices.Clone(r.Members), func(u pim.UserID) bool {
		m := c.members[u]
		return m == nil || !m.Present() && !m.Invited
	}))
	if len(gone) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "none of them is a member of %s", c.id)
	}
	return gone, nil
}

func (c *conversation) bounded(added []pim.UserID) ([]pim.UserID, error) {
	if n := len(c.present) + len(added); n > c.bound {
		return nil, tooManyMembers.tooLarge("a group of %d members, at most %d are allowed", n, c.bound)
	}
	n := len(c.members)
	for _, u := range added {
		if c.members[u] == nil {
			n++
		}
	}
	if n > maxEver {
		return nil, tooManyEver.tooLarge("a group that %d users are or were members of, at most %d are allowed", n, maxEver)
	}
	return added, nil
}

// append gives r's entry its seq, its count, its times and its place (see date), and moves the
// state past it.
func (c *conversation) append(r *Request, members, invited []pim.UserID, f *findings, now pim.Millis) outcome {
	o := outcome{entry: pim.Entry{
		Conversation: c.id, Seq: c.last + 1, Kind: r.Kind, Sender: r.Sender, Device: r.Device, ClientID: r.ClientID,
		Local: r.Local, Members: members, Invited: invited, Payload: r.Payload, Refers: r.Refers, Reaction: r.Reaction, Removed: r.Removed,
		Retain: r.Retain,
	}}
	e := &o.entry
	if r.reads() {
		e.Payload = c.payload(r)
	}
	c.date(e, r, f.anchor, now)
	e.Count = c.count
	if e.Kind.Counts() {
		e.Count++
	}
	c.mention(e, r)
	o.strange = c.ids.Add(e.ClientID, e.Server)
	c.last, c.count = e.Seq, e.Count
	c.noteSent(e)
	o.departed = departures(e, c.markOf)
	o.joined = c.change(e)
	o.departed = append(o.departed, c.invite(e, f.untold())...)
	c.mark(e)
	if r.command != nil {
		if entity := r.command.Entity(); c.obey(e, r.command, entity) {
			o.entity, o.shown = entity, shown(e, r.command)
		}
	}
	return o
}

// change applies a create, join or leave to the memberships. It leaves a member alone whose
// membership already accounts for the entry. An entry of another kind changes nothing, also
// if this version does not know the kind.
func (c *conversation) change(e *pim.Entry) (joined []pim.UserID) {
	switch e.Kind {
	case pim.EntryCreate, pim.EntryJoin, pim.EntryLeave:
	default:
		return nil
	}
	if c.members == nil {
		c.members = make(map[pim.UserID]*member)
	}
	for i, u := range e.Members {
		m := c.members[u]
		if m == nil {
			m = &member{Membership: inbox.Membership{Maker: e.Kind == pim.EntryCreate && u == e.Sender}}
			c.members[u] = m
		}
		if e.Seq <= m.changed {
			continue
		}
		m.changed, m.asked = e.Seq, m.asked || m.Invited
		switch leaves := e.Kind == pim.EntryLeave; {
		case leaves != m.Present(): // an entry of an unknown kind has begun or ended the membership already
		case leaves:
			m.Leave(e.Seq)
		default:
			m.Join(e.Seq)
			m.place = i + 1
			joined = append(joined, u)
		}
	}
	present := make([]pim.UserID, 0, len(c.present)+len(joined))
	marks := make([]inbox.Mark, 0, cap(present))
	var of []inbox.MentionsOf
	for i, u := range c.present {
		if m := c.members[u]; m.Present() {
			m.at = len(present)
			present = append(present, u)
			if i < len(c.marks) {
				marks = append(marks, c.marks[i])
				if c.mentions != nil {
					of = append(of, c.mentions.of[i])
				}
			}
		}
	}
	for i, u := range joined {
		c.members[u].at = len(present) + i
	}
	c.present = append(present, joined...)
	c.marks = append(marks, make([]inbox.Mark, len(joined))...)
	if c.mentions != nil {
		c.mentions.of = append(of, make([]inbox.MentionsOf, len(joined))...)
	}
	return joined
}

// distinct returns users in their order, each once.
func distinct(users []pim.UserID) []pim.UserID {
	seen := make(map[pim.UserID]bool, len(users))
	return slices.DeleteFunc(users, func(u pim.UserID) bool {
		was := seen[u]
		seen[u] = true
		return was
	})
}

// newConversation returns the state of an empty log.
func newConversation(id pim.ConversationID, bound int) *conversation {
	c := &conversation{id: id, bound: bound}
	if id.IsGroup() {
		c.reads = inbox.Reads(id)
	}
	if a, b, ok := id.DirectUsers(); ok {
		c.present = distinct([]pim.UserID{a, b})
		c.blocks.by[0].user, c.blocks.by[1].user = a, b
		c.marks = c.pair[:len(c.present)]
	}
	if owner, own := id.OwnUser(); own {
		c.present = []pim.UserID{owner}
	}
	return c
}

// bulk is the part of cost that a single entry, or a look-up, can change by much.
func (c *conversation) bulk() int {
	const user, setting = 240, 400
	return c.mentions.room() + user*len(c.members) + setting*len(c.settings) + c.values + c.ids.Room() + c.targetBytes
}

// cost returns how much memory the state takes up, in bytes, about.
func (c *conversation) cost() int {
	const itself, sender = 1060, 200
	n := itself + c.ids.Others() + c.bulk()
	for _, a := range c.order {
		n += sender + a.Memory()
	}
	return n
}
