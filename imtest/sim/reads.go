package sim

import (
	"fmt"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// What is read and unread, judged by the logs: the server's words about it (Entry.Count, own
// marks, the Summary's position) are not looked at.

func readEntity(c pim.ConversationID) string {
	cmd := pim.Command{Kind: pim.CommandRead, Subject: string(c)}
	return cmd.Entity()
}

// unread returns how many messages of c the device shows as unread.
func (d *Device) unread(c pim.ConversationID) uint64 {
	if d.breaks.Unread != nil {
		return d.breaks.Unread(d, c)
	}
	row, read := d.disk.conversations[c], d.settings[readEntity(c)].Setting
	return row.Count - min(max(read.Count, row.OwnCount), row.Count)
}

// readTo returns the seq up to which the device shows c as read.
func (d *Device) readTo(c pim.ConversationID) pim.Seq {
	return max(d.disk.conversations[c].Own, d.settings[readEntity(c)].Setting.Seq)
}

// readIn returns the seq up to which user has read c by the logs, and how many messages above it
// are for the user. Of a position that had been trimmed when it was given, all that had been trimmed
// is read.
func (w *World) readIn(user pim.UserID, c pim.ConversationID, settings map[string]pim.Setting) (to pim.Seq, unread uint64) {
	readable := w.Server.Written(c, user)
	for _, e := range readable {
		if e.Sender == user && e.Kind == pim.EntryMessage || e.Kind == pim.EntryJoin && slices.Contains(e.Members, user) {
			to = max(to, e.Seq)
		}
	}
	read, counted := settings[readEntity(c)], to
	if len(readable) > 0 && read.Seq <= readable[len(readable)-1].Seq {
		to, counted = max(to, read.Seq), max(to, w.counted(c, read))
	}
	for _, e := range readable {
		if e.Seq > counted && e.Kind == pim.EntryMessage {
			unread++
		}
	}
	return to, unread
}

// readsDiffer compares what the devices of a user show as unread, when it was read, and what they
// notify of, with the logs.
func (w *World) readsDiffer() (broken []string) {
	for _, d := range w.devices {
		settings, log := w.Server.Settings(d.User), w.Server.Log(pim.Own(d.User))
		for _, c := range w.Server.Conversations(d.User) {
			if _, own := c.OwnUser(); own {
				continue
			}
			broken = append(broken, d.unreadDiffers(c, settings)...)
			if at := settings[readEntity(c)].At; at != 0 && d.disk.entries[pim.Own(d.User)][at].Server != log[at-1].Server {
				broken = append(broken, fmt.Sprintf("reads: %s/%s does not know when %s was read", d.User, d.ID, c))
			}
			to, _ := w.readIn(d.User, c, settings)
			if seqs := d.notified[c]; slices.ContainsFunc(seqs, func(seq pim.Seq) bool { return seq <= to }) {
				broken = append(broken, fmt.Sprintf("reads: %s/%s notifies of %v of %s, which is read up to %d", d.User, d.ID, seqs, c, to))
			}
		}
	}
	return broken
}

// unreadDiffers compares what the device shows as unread of c with the logs.
func (d *Device) unreadDiffers(c pim.ConversationID, settings map[string]pim.Setting) (broken []string) {
	if to, want := d.w.readIn(d.User, c, settings); d.unread(c) != want {
		broken = append(broken, fmt.Sprintf("reads: %s/%s shows %d unread of %s, read up to %d: by the logs %d, %d", d.User, d.ID, d.unread(c), c, d.readTo(c), want, to))
	}
	return broken
}

// looks notes what a person reads, and takes its notifications away.
func (d *Device) looks(in engine.Input) {
	switch in := in.(type) {
	case engine.Foreground:
		d.front = in.On
	case engine.Reading:
		if delete(d.reading, in.Conversation); in.On {
			d.reading[in.Conversation] = true
		}
	}
	for c := range d.reading {
		if d.front {
			delete(d.notified, c)
		}
	}
}

// checkReading checks that nothing that a person reads is shown as unread, once it has come.
func (d *Device) checkReading() {
	if !d.w.looked || d.engine == nil || !d.front {
		return
	}
	for c := range d.reading {
		if row := d.disk.conversations[c]; row.Known >= row.Newest && d.unread(c) > 0 {
			d.w.Failf("%s/%s shows %d unread of %s, which a person reads", d.User, d.ID, d.unread(c), c)
		}
	}
}

// someReading is a person who opens a conversation or leaves it, or turns to another app.
func (w *World) someReading(d *Device) {
	d.Step(engine.Foreground{On: w.rng.IntN(3) > 0})
	d.Step(engine.Reading{Conversation: w.someConversation(d), On: w.rng.IntN(3) > 0})
}

// notify is an app with notifications: it notifies of what it is handed and shows as unread, and
// takes the notification away when the user reads.
func (d *Device) notify(ev engine.Event) {
	switch ev := ev.(type) {
	case engine.EntryEvent:
		switch e := &ev.Entry; {
		case e.Kind != pim.EntryMessage:
		case e.Sender == d.User:
			d.takeAway(e.Conversation, e.Seq)
		case d.front && d.reading[e.Conversation]:
		case e.Seq > d.readTo(e.Conversation):
			d.notified[e.Conversation] = append(d.notified[e.Conversation], e.Seq)
		}
	case engine.ReadEvent:
		d.takeAway(ev.Conversation, ev.Seq)
	case engine.SendEvent:
		if ev.State == engine.Delivered {
			d.takeAway(ev.Conversation, ev.Sent.Seq)
		}
	case engine.TrimmedEvent:
		d.takeAway(ev.Conversation, ev.Front-1)
	case engine.RewoundEvent:
		d.notified[ev.Conversation] = slices.DeleteFunc(d.notified[ev.Conversation], func(seq pim.Seq) bool { return seq > ev.After })
	}
}

// takeAway takes away the notifications of c up to the seq to.
func (d *Device) takeAway(c pim.ConversationID, to pim.Seq) {
	d.notified[c] = slices.DeleteFunc(d.notified[c], func(seq pim.Seq) bool { return seq <= to })
}
