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

// about returns the messages of the log, each with the entries that refer to it.
func (l *log) about() map[pim.Seq][]pim.Entry {
	about := make(map[pim.Seq][]pim.Entry)
	for _, e := range l.ascending() {
		if e.Kind == pim.EntryMessage {
			about[e.Seq] = []pim.Entry{e}
		} else if about[e.Refers] != nil {
			about[e.Refers] = append(about[e.Refers], e)
		}
	}
	return about
}

// checkListed compares the lists of devices with what the logs say.
func (c *checker) checkListed() {
	for _, v := range c.h.listed {
		own := c.log(pim.Own(v.User)).ascending()
		want := List(v.conversation, v.User, own, c.log(v.conversation).readable(v.User))
		if v.Listed != want {
			c.fail("unread", v.conversation, 0, "%s's %s lists %+v, want %+v", v.User, v.Device.Device, v.Listed, want)
		}
	}
}

// checkKept compares what devices display of each message with what the log says, and looks for
// what was recalled.
func (c *checker) checkKept() {
	for _, v := range c.h.kept {
		d, about := storage{Device: v.Device}, c.log(v.conversation).about()
		for i := range v.entries {
			e := &v.entries[i]
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

// checkGone checks that e, an entry in the store of d, has no payload if about has a recall of it
// that d's user may read. about is a message and what refers to it.
func (c *checker) checkGone(d storage, e *pim.Entry, about []pim.Entry) {
	told := func(r pim.Entry) bool {
		return r.Kind == pim.EntryRecall && c.log(r.Conversation).reads(d.User, r.Seq)
	}
	if len(e.Payload) > 0 && slices.ContainsFunc(about, told) {
		c.fail("recall", e.Conversation, e.Seq, "%s keeps its payload", d)
	}
}

// mayDisplay reports whether got is what a device of user displays of e, a message in its store.
// about is the message in the log and what refers to it.
//
// What was done while the user was no member is not told, but that the message was recalled may
// be. The server tells the last edit, and the last state of a pin or of a reaction, so when the user
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
	case got.Payload != want.Payload && !(older && (recalled || lacks(pim.EntryEdit, ""))):
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

// checkRecalled checks that the log has no payload of what was recalled.
func (c *checker) checkRecalled(l *log) {
	for seq, about := range l.about() {
		if !slices.ContainsFunc(about, func(e pim.Entry) bool { return e.Kind == pim.EntryRecall }) {
			continue
		}
		for i := range about {
			if e := &about[i]; len(e.Payload) > 0 {
				c.fail("recall", l.id, e.Seq, "its payload is in the log, and seq %d was recalled", seq)
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
	if read, ok := l.at[cmd.Seq]; ok && read.Count != cmd.Count {
		c.fail("unread", e.Conversation, e.Seq, "it says %d messages up to seq %d of %s, there are %d", cmd.Count, cmd.Seq, l.id, read.Count)
	}
}
