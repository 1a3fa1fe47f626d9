package replay

import (
	"cmp"
	"math"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
)

// model is what everybody has to see of the group: it follows from what was acknowledged, by rules
// that are written down here once more, as simply as possible.
type model struct {
	log     []pim.Entry // of the group; log[i] has the seq i+1
	members map[pim.UserID]*standing
}

// standing is what the log and the reads make of one user.
type standing struct {
	periods []period // of membership, ascending
	own     pim.Seq  // the user's last message
	reads   position
	shown   position // to others
	hidden  bool     // gives no receipts
}

// period is a time of membership: the entries from..to are for the member.
type period struct{ from, to pim.Seq }

const present = pim.Seq(math.MaxUint64) // the end of a period that has not ended

func (s *standing) present() bool {
	return len(s.periods) > 0 && s.periods[len(s.periods)-1].to == present
}

// joined returns the entry by which the user, who is present, has become a member.
func (s *standing) joined() pim.Seq { return s.periods[len(s.periods)-1].from }

// may reports whether the entry seq is for the user.
func (s *standing) may(seq pim.Seq) bool {
	return slices.ContainsFunc(s.periods, func(p period) bool { return p.from <= seq && seq <= p.to })
}

// position is a seq up to which a user has read, and the server's time of what told so.
type position struct {
	seq pim.Seq
	at  pim.Millis
}

// raise makes p the greater of the two positions; of one seq the earlier counts.
func (p *position) raise(seq pim.Seq, at pim.Millis) {
	if seq > p.seq || seq == p.seq && at < p.at {
		*p = position{seq, at}
	}
}

// userRead is an acknowledged read command of a user, or a switch of receipts.
type userRead struct {
	user pim.UserID
	own  pim.Seq // in the user's own log
	position
	hides, shows bool // a switch: then there is no position
}

func newModel(log []pim.Entry, reads []userRead) *model {
	m := &model{log: log, members: make(map[pim.UserID]*standing)}
	of := func(u pim.UserID) *standing {
		if m.members[u] == nil {
			m.members[u] = new(standing)
		}
		return m.members[u]
	}
	for i := range log {
		switch e := &log[i]; e.Kind {
		case pim.EntryCreate, pim.EntryJoin:
			for _, u := range e.Members {
				of(u).periods = append(of(u).periods, period{e.Seq, present})
			}
		case pim.EntryLeave:
			for _, u := range e.Members {
				s := of(u)
				s.periods[len(s.periods)-1].to = e.Seq
			}
		case pim.EntryMessage:
			s := of(e.Sender)
			s.own = e.Seq
			s.shown.raise(e.Seq, e.Server)
		}
	}
	reads = slices.SortedStableFunc(slices.Values(reads), func(a, b userRead) int { return cmp.Compare(a.own, b.own) })
	for _, r := range reads {
		switch s := of(r.user); {
		case r.hides || r.shows:
			s.hidden = r.hides
		case r.seq > s.reads.seq:
			s.reads.raise(r.seq, r.at)
			if !s.hidden {
				s.shown.raise(r.seq, r.at)
			}
		}
	}
	return m
}

// unread returns how many messages the present member u has to read, and how many of them mention u.
func (m *model) unread(u pim.UserID) (n, mentions uint64) {
	s := m.members[u]
	for i := range m.log {
		e := &m.log[i]
		if e.Kind != pim.EntryMessage || e.Seq <= max(s.reads.seq, s.own, s.joined()) {
			continue
		}
		n++
		if e.MentionAll || slices.ContainsFunc(e.Mentions, func(m pim.Mention) bool { return m.User == u }) {
			mentions++
		}
	}
	return n, mentions
}

// readers returns those whom the message at seq is for, ascending by user.
func (m *model) readers(seq pim.Seq) (all []client.Reader) {
	for u, s := range m.members {
		if !s.present() || s.hidden || u == m.log[seq-1].Sender || !s.may(seq) {
			continue
		}
		r := client.Reader{User: u}
		if s.shown.seq >= seq {
			r.Read, r.At = true, s.shown.at
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b client.Reader) int { return cmp.Compare(a.User, b.User) })
	return all
}

// receipts returns by how many the messages from..to are read, of those that u may read.
func (m *model) receipts(u pim.UserID, from, to pim.Seq) (all []client.Receipt) {
	for seq := from; seq <= to; seq++ {
		if m.log[seq-1].Kind != pim.EntryMessage || !m.members[u].may(seq) {
			continue
		}
		readers := m.readers(seq)
		r := client.Receipt{Seq: seq, Members: len(readers)}
		for _, reader := range readers {
			if reader.Read {
				r.Read++
			}
		}
		all = append(all, r)
	}
	return all
}

// displays returns what every device displays of each message of the log.
func (m *model) displays() map[pim.Seq]imtest.Displayed {
	all := make(map[pim.Seq]imtest.Displayed)
	for i := range m.log {
		if e := &m.log[i]; e.Kind == pim.EntryMessage {
			all[e.Seq] = imtest.Display(m.log, e.Seq)
		}
	}
	return all
}
