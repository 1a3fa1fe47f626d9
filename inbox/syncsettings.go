package inbox

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Told is what a Summary tells of the user's settings, so that a device need not have pulled the
// user's own log. The seqs that end in At are of that log; 0: no command is known.
type Told struct {
	Read      pim.Seq // the read position, at most Summary.Newest
	ReadCount uint64  // counting messages up to Read
	ReadAt    pim.Seq
	ReadNamed uint64 // up to Read, see pim.Mentioned; 0 if Named is 0, because then it says nothing
	ReadAll   uint64
	Marked    bool // the user has marked the conversation as unread
	MarkedAt  pim.Seq
}

// lookUpSettings sets what list tells of the user's settings. What cannot be looked up is left
// out, because a device finds it in the own log.
func (x *Inbox) lookUpSettings(ctx context.Context, user pim.UserID, list []Summary) {
	if len(list) == 0 {
		return
	}
	gets := make([]store.Get, 0, 2*len(list))
	for i := range list {
		for _, kind := range []pim.CommandKind{pim.CommandRead, pim.CommandUnread} {
			c := pim.Command{Kind: kind, Subject: string(list[i].Conversation)}
			gets = append(gets, store.Get{Partition: Settings(user), Key: c.Entity()})
		}
	}
	_ = x.store.Get(ctx, gets) // a cell that was not found has version 0
	var beyond []store.Read
	var of []*Summary
	for i := range list {
		s := &list[i]
		if set, ok := told(gets[2*i].Cell); ok {
			s.Read, s.ReadCount, s.ReadAt = set.Seq, set.Count, set.At
			s.readMentions(set.Named, set.All)
			if set.Seq > s.Newest {
				beyond = append(beyond, store.Read{Log: Entries(s.Conversation), WithLast: true})
				of = append(of, s)
			}
		}
		if set, ok := told(gets[2*i+1].Cell); ok {
			s.Marked, s.MarkedAt = set.InForce(0), set.At
		}
	}
	// A position beyond Newest is of entries that came since the line was read, or beyond the log:
	// then it is none.
	_ = x.store.Read(ctx, beyond)
	for i, s := range of {
		if s.Read <= beyond[i].Last {
			s.Read, s.ReadCount = s.Newest, s.Count
			s.readMentions(s.Named, s.All)
		} else {
			s.Read, s.ReadCount, s.ReadAt = 0, 0, 0
			s.readMentions(0, 0)
		}
	}
}

// readMentions sets ReadNamed and ReadAll, of which s tells what is not more than Named and All.
func (s *Summary) readMentions(named, all uint64) {
	s.ReadNamed, s.ReadAll = min(named, s.Named), min(all, s.All)
}

// told reads a setting's cell. ok is false if there is no setting that can be read.
func told(c store.Cell) (set pim.Setting, ok bool) {
	if c.Version == 0 {
		return set, false
	}
	set, err := ParseSetting(c)
	return set, err == nil
}
