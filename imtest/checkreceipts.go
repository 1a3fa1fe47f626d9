package imtest

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// receipts is what a user was told of how far others have read.
type receipts struct {
	user         pim.UserID
	conversation pim.ConversationID
	from, to     pim.Seq // what was asked about
	told         client.Receipts
	end          bool
}

// checkReceipts compares what users were told with the logs. At the end it has to be what the logs
// say. Before that it may be less: nothing is reported that is not durable at the end.
func (c *checker) checkReceipts() {
	for i := range c.h.receipts {
		r := &c.h.receipts[i]
		if a, b, direct := r.conversation.DirectUsers(); direct {
			if a == r.user {
				a = b
			}
			c.checkDirect(r, a)
			continue
		}
		reported := make(map[pim.Seq]bool)
		for _, m := range r.told.Messages {
			reported[m.Seq] = true
			c.checkReceipt(r, m)
		}
		l := c.log(r.conversation)
		for seq := max(r.from, l.front); seq <= r.to && r.end; seq++ {
			if e, ok := l.at[seq]; ok && e.Kind == pim.EntryMessage && l.reads(r.user, seq) && !reported[seq] {
				c.fail("receipts", l.id, seq, "%s is not told who has read it", r.user)
			}
		}
	}
}

// checkDirect checks what r tells of peer, the other user of a direct conversation.
func (c *checker) checkDirect(r *receipts, peer pim.UserID) {
	l := c.log(r.conversation)
	read, hidden := c.shows(peer, l)
	if r.told.Read > read || r.end && !hidden && !c.blocks(peer, r.user) && r.told.Read < read {
		c.fail("receipts", l.id, r.told.Read, "%s is told that %s has read up to there; by the logs up to seq %d", r.user, peer, read)
	}
	got := max(read, l.front-min(l.front, 1))
	for s, entries := range c.h.handed {
		for i := range entries {
			if e := &entries[i]; s.User == peer && e.Conversation == l.id {
				got = max(got, e.Seq)
			}
		}
	}
	if r.told.Delivered > got {
		c.fail("receipts", l.id, r.told.Delivered, "%s is told that %s has got it; the devices were handed up to seq %d", r.user, peer, got)
	}
}

// checkReceipt checks what r tells of a message of a group.
func (c *checker) checkReceipt(r *receipts, m client.Receipt) {
	l := c.log(r.conversation)
	e, ok := l.at[m.Seq]
	if !ok || e.Kind != pim.EntryMessage || !l.reads(r.user, m.Seq) {
		c.fail("receipts", l.id, m.Seq, "%s is told who has read it, and may read no such message", r.user)
		return
	}
	var want, most client.Receipt // most: of all that were members at some time
	for u, periods := range l.periods {
		if u == e.Sender || !l.reads(u, m.Seq) {
			continue
		}
		read, hidden := c.shows(u, l)
		present := periods[len(periods)-1].to == forever && !hidden
		most.Members++
		if present {
			want.Members++
		}
		if read >= m.Seq {
			most.Read++
			if present {
				want.Read++
			}
		}
	}
	if r.end {
		most = want
	}
	if m.Read > most.Read || m.Members > most.Members || r.end && (m.Read < want.Read || m.Members < want.Members) {
		c.fail("receipts", l.id, m.Seq, "%s is told that %d of %d have read it; by the logs %d of %d", r.user, m.Read, m.Members, most.Read, most.Members)
	}
}

// shows returns how far user has read l as others may know, and whether the user gives no receipts.
// Who writes has read what is above; who reads while giving no receipts shows nothing of it.
func (c *checker) shows(user pim.UserID, l *log) (shown pim.Seq, hidden bool) {
	for _, e := range l.at {
		if e.Kind == pim.EntryMessage && e.Sender == user {
			shown = max(shown, e.Seq)
		}
	}
	var flag flag
	read := pim.Seq(0)
	for _, e := range c.log(pim.Own(user)).ascending() {
		cmd, err := wire.DecodeCommand(e.Payload)
		switch {
		case err != nil:
		case cmd.Kind == pim.CommandNoReceipts:
			flag.take(&e, &cmd)
		case cmd.Kind == pim.CommandRead && cmd.Subject == string(l.id) && (cmd.Seq > read || cmd.Replaces):
			if read = cmd.Seq; !flag.on {
				shown = max(shown, read)
			}
		}
	}
	return shown, flag.on
}

// blocks reports whether user blocks other.
func (c *checker) blocks(user, other pim.UserID) bool {
	var flag flag
	for _, e := range c.log(pim.Own(user)).ascending() {
		cmd, err := wire.DecodeCommand(e.Payload)
		if err == nil && cmd.Kind == pim.CommandBlock && cmd.Subject == string(other) {
			flag.take(&e, &cmd)
		}
	}
	return flag.on
}

// flag is what the commands of an own log about one entity come to.
type flag struct {
	on    bool
	ended pim.Seq // the last command that took it away
	by    pim.DeviceID
}

// take takes the next command. One that did not know that the flag was taken away does not bring it
// back, unless it is of the same device.
func (f *flag) take(e *pim.Entry, cmd *pim.Command) {
	switch {
	case cmd.Removed:
		f.on, f.ended, f.by = false, e.Seq, e.Device
	case cmd.Known >= f.ended || f.by == e.Device:
		f.on = true
	}
}
