package imtest

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// kept is what a device's store has of a conversation at the end.
type kept struct {
	Device
	conversation pim.ConversationID
	entries      []pim.Entry
	folds        map[pim.Seq]pim.Fold
}

// listed is what a device's list shows of a conversation at the end.
type listed struct {
	Device
	conversation pim.ConversationID
	Listed
}

// ascending returns the log's entries.
func (l *log) ascending() []pim.Entry {
	return slices.SortedFunc(maps.Values(l.at), func(a, b pim.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
}

// readable returns those that u may read, ascending.
func (l *log) readable(u pim.UserID) []pim.Entry {
	return slices.DeleteFunc(l.ascending(), func(e pim.Entry) bool { return !l.reads(u, e.Seq) })
}

// about returns the messages of the log, each with the entries that refer to it, and with the
// erases by its sender that reach up to it.
func (l *log) about() map[pim.Seq][]pim.Entry {
	about := make(map[pim.Seq][]pim.Entry)
	for _, e := range l.ascending() {
		switch {
		case e.Kind == pim.EntryMessage:
			about[e.Seq] = []pim.Entry{e}
		case e.Kind == pim.EntryErase:
			for seq, list := range about {
				if seq <= e.Refers && list[0].Sender == e.Sender {
					about[seq] = append(list, e)
				}
			}
		case about[e.Refers] != nil:
			about[e.Refers] = append(about[e.Refers], e)
		}
	}
	return about
}

// checkListed compares the lists of devices with what the logs say.
func (c *checker) checkListed() {
	for _, v := range c.h.listed {
		own := c.log(pim.Own(v.User)).ascending()
		l := c.log(v.conversation)
		want := List(v.conversation, v.User, own, l.readable(v.User))
		if counted := l.countedFrom(own); counted != nil {
			late := List(v.conversation, v.User, counted, l.readable(v.User))
			want.Unread, want.Mentions = late.Unread, late.Mentions
		}
		if v.Unread == 0 && v.Mentions == 0 && c.passedBy(v.Device, l) {
			want.Unread, want.Mentions = 0, 0 // the group was in no list any more when the device came
		}
		if v.Mentions != want.Mentions {
			c.fail("mentions", v.conversation, 0, "%s's %s lists %+v, want %+v", v.User, v.Device.Device, v.Listed, want)
		}
		if v.Mentions = want.Mentions; v.Listed != want {
			c.fail("unread", v.conversation, 0, "%s's %s lists %+v, want %+v", v.User, v.Device.Device, v.Listed, want)
		}
	}
}

// checkKept compares what devices display of each message with what the log says, and looks for
// what was recalled or erased.
func (c *checker) checkKept() {
	for _, v := range c.h.kept {
		d, about := storage{Device: v.Device}, c.log(v.conversation).about()
		front := c.h.fronts[told{v.Device, v.conversation}]
		for seq := range v.folds {
			if seq < front {
				c.fail("trim", v.conversation, seq, "%s keeps what became of it, and was told that it was trimmed", d)
			}
		}
		for i := range v.entries {
			e := &v.entries[i]
			if e.Seq < front {
				c.fail("trim", v.conversation, e.Seq, "%s keeps it, and was told that it was trimmed", d)
			}
			if e.Kind == pim.EntryEdit {
				c.checkGone(d, e, about[e.Refers])
			}
			if e.Kind != pim.EntryMessage || about[e.Seq] == nil {
				continue
			}
			f := v.folds[e.Seq]
			c.checkGone(d, e, about[e.Seq])
			if got := Shown(e, &f); !c.mayDisplay(got, e, v.User, about[e.Seq]) {
				c.fail("fold", v.conversation, e.Seq, "%s displays %+v, want %+v", d, got, Display(about[e.Seq], e.Seq))
			}
		}
	}
}

// checkGone checks that e, an entry in the store of d, has no payload if about has a recall or an
// erase of it that d's user may read. about is a message and what refers to it.
func (c *checker) checkGone(d storage, e *pim.Entry, about []pim.Entry) {
	if len(e.Payload) == 0 {
		return
	}
	for i := range about {
		r := &about[i]
		if invariant := erasing[r.Kind]; invariant != "" && c.log(r.Conversation).reads(d.User, r.Seq) {
			c.fail(invariant, e.Conversation, e.Seq, "%s keeps its payload", d)
		}
	}
}

// erasing has the invariants about the kinds of entries that erase.
var erasing = map[pim.EntryKind]string{pim.EntryRecall: "recall", pim.EntryErase: "erase"}

// mayDisplay reports whether got is what a device of user displays of e, a message in its store.
// about is the message in the log and what refers to it.
//
// What was done while the user was no member is not told, but that the message was recalled may
// be, and how far a user's messages are erased. The server tells the last edit, and the last state of a pin or of a reaction, so when the user
// may not read that one, the device may lack an earlier one.
func (c *checker) mayDisplay(got Displayed, e *pim.Entry, user pim.UserID, about []pim.Entry) bool {
	l := c.log(e.Conversation)
	hidden := func(e pim.Entry) bool { return !l.reads(user, e.Seq) }
	want := Display(slices.DeleteFunc(slices.Clone(about), hidden), e.Seq)
	if c.h.wentBack && e.Erased && !want.Edited && !want.Recalled {
		want.Payload = "" // the recall that erased it is lost
	}
	if !slices.ContainsFunc(about, hidden) || reflect.DeepEqual(got, want) {
		return reflect.DeepEqual(got, want)
	}
	lacks := func(kind pim.EntryKind, reaction string) bool {
		return slices.ContainsFunc(about, func(e pim.Entry) bool {
			return e.Kind == kind && hidden(e) && (kind != pim.EntryReaction || reaction == e.Reaction+" "+string(e.Sender))
		})
	}
	recalled := lacks(pim.EntryRecall, "")
	if got.Recalled {
		return recalled && reflect.DeepEqual(got, Displayed{Recalled: true})
	}
	older := slices.ContainsFunc(about, func(e pim.Entry) bool {
		return !hidden(e) && (e.Kind == pim.EntryEdit) == got.Edited && (e.Kind == pim.EntryEdit || e.Kind == pim.EntryMessage) &&
			(e.Erased || got.Payload == string(e.Payload))
	})
	switch {
	case got.Payload != want.Payload && !(older && (recalled || lacks(pim.EntryErase, "") || lacks(pim.EntryEdit, ""))):
		return false
	case got.Pinned != want.Pinned && (got.Pinned || !lacks(pim.EntryPin, "")):
		return false
	}
	for _, r := range got.Reactions {
		if !slices.Contains(want.Reactions, r) {
			return false
		}
	}
	return !slices.ContainsFunc(want.Reactions, func(r string) bool {
		return !slices.Contains(got.Reactions, r) && !lacks(pim.EntryReaction, r)
	})
}

// checkErased checks that the log has no payload of what was recalled or erased, and that nothing
// else was erased.
func (c *checker) checkErased(l *log) {
	for seq, about := range l.about() {
		gone := false
		for i := range about {
			invariant := erasing[about[i].Kind]
			if invariant == "" {
				continue
			}
			gone = true
			for j := range about {
				e := &about[j]
				// An erase does not look for the edits of a message that was trimmed first.
				passed := invariant == "erase" && seq < l.front
				if len(e.Payload) > 0 && e.Seq >= l.front && !passed {
					c.fail(invariant, l.id, e.Seq, "its payload is in the log, and seq %d erases seq %d", about[i].Seq, seq)
				}
			}
		}
		for i := range about {
			if e := &about[i]; e.Erased && !gone && e.Seq >= l.front {
				c.fail("erase", l.id, e.Seq, "it is erased, and nobody has recalled or erased seq %d", seq)
			}
		}
	}
}

// checkRead checks that the read command e has the count of the entry that it names.
func (c *checker) checkRead(e *pim.Entry) {
	cmd, err := wire.DecodeCommand(e.Payload)
	l := c.logs[pim.ConversationID(cmd.Subject)]
	if e.Kind != pim.EntryCommand || err != nil || cmd.Kind != pim.CommandRead || l == nil {
		return
	}
	if read, ok := l.at[cmd.Seq]; ok && read.Count != cmd.Count && l.counted(&cmd, e.Sender) == cmd.Seq {
		c.fail("unread", e.Conversation, e.Seq, "it says %d messages up to seq %d of %s, there are %d", cmd.Count, cmd.Seq, l.id, read.Count)
	}
}

// counted returns the seq whose count is in cmd, a read command of u: its own, or, if that had been trimmed when it was given,
// that of the last entry that was trimmed. Somebody who had left a group by then has the count of the last entry that they could
// read. The history does not tell when a trim was, so each front that there ever was may have been the one.
func (l *log) counted(cmd *pim.Command, u pim.UserID) pim.Seq {
	periods := l.periods[u]
	for _, f := range l.fronts {
		for i, p := range periods {
			if i+1 < len(periods) && periods[i+1].from < f {
				continue // u was a member again before all that was written
			}
			last := min(f-1, p.to)
			if last > cmd.Seq && l.at[cmd.Seq].Count != cmd.Count && l.at[last].Count == cmd.Count {
				return last
			}
		}
	}
	return cmd.Seq
}

// countedFrom returns own, the commands of a user, with the seqs whose counts are in the read
// commands about l; nil if they are the same.
func (l *log) countedFrom(own []pim.Entry) (counted []pim.Entry) {
	for i := range own {
		cmd, err := wire.DecodeCommand(own[i].Payload)
		if err != nil || cmd.Kind != pim.CommandRead || cmd.Subject != string(l.id) || l.counted(&cmd, own[i].Sender) == cmd.Seq {
			continue
		}
		if counted == nil {
			counted = slices.Clone(own)
		}
		cmd.Seq = l.counted(&cmd, own[i].Sender)
		counted[i].Payload = wire.AppendCommand(nil, &cmd)
	}
	return counted
}
