package sim

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest"
)

// Heal ends all faults, starts every device, and lets time pass until everything
// has arrived, at most for limit.
func (w *World) Heal(limit time.Duration) {
	w.tell(nil, "everything heals")
	w.Server.DropPush, w.Server.Reject, w.Server.Admit = nil, nil, nil
	w.down, w.healed, w.busy = false, true, nil
	for _, d := range w.devices {
		d.fuse = 0
		if d.asleep {
			d.Kill()
		}
		d.Change(Net{Name: d.net.Name, Delay: 20 * time.Millisecond})
		d.signedOut = false
		d.Start()
		d.comesBack()
		d.Step(engine.Pause{On: false})
		d.Step(engine.Online{On: true})
	}
	peeked := false
	for end := w.now + limit; w.failure == "" && w.now < end; {
		w.Run(w.now + 5*time.Second)
		if w.quiet() {
			// What is shown is right before anybody scrolls over the gaps that were jumped, and when
			// only a page in the middle of them has come.
			w.early = append(w.early, w.unreadDiffers()...)
			w.early = append(w.early, w.showsOtherwise()...)
			if !w.scroll(!peeked) {
				return
			}
			peeked = true
		}
		for _, d := range w.devices {
			d.comesBack() // the frame that stopped it was still on its way
			d.resend()
		}
	}
	if w.failure == "" {
		w.Failf("not settled after %v: %s", limit, w.unsettled())
	}
}

// resend is a user who sends every message again that has failed with a retryable
// error.
func (d *Device) resend() {
	for _, id := range slices.SortedFunc(maps.Keys(d.failed), func(a, b pim.ClientMessageID) int { return slices.Compare(a[:], b[:]) }) {
		if err := d.failed[id]; err.Kind.Retryable() && d.disk.outbox[id].Failed != nil {
			delete(d.locals, id) // the message takes a new local time
			d.Step(engine.Resend{ID: id})
		}
	}
	for _, m := range d.disk.snapshot().Outbox { // after a restart the app is not told again what has failed
		if m.Failed != nil && m.Failed.Kind.Retryable() {
			delete(d.locals, m.ID)
			d.Step(engine.Resend{ID: m.ID})
		}
	}
}

// scroll fills the holes that are filled only when somebody scrolls there, or with peek a page in
// the middle of each. It reports whether there were any.
func (w *World) scroll(peek bool) (some bool) {
	for _, d := range w.devices {
		for _, c := range slices.Sorted(maps.Keys(d.disk.conversations)) {
			for _, h := range d.disk.conversations[c].Holes {
				if !h.Lazy {
					continue
				}
				some = true
				d.fills++
				if !peek {
					d.Step(engine.Fill{ID: d.fills, Conversation: c})
					break
				}
				d.Step(engine.Fill{ID: d.fills, Conversation: c, Before: h.From + (h.To-h.From)/2 + 1, Limit: 2})
			}
		}
	}
	return some
}

// showsOtherwise says where devices show of lists and messages something else than the logs say
// now.
func (w *World) showsOtherwise() (broken []string) {
	h := imtest.NewHistory()
	if w.wentBack {
		h.WentBack()
	}
	for _, c := range w.Server.All() {
		w.recordLog(h, c)
	}
	for _, d := range w.devices {
		for _, c := range w.Server.Conversations(d.User) {
			d.recordKept(h, c)
		}
	}
	for _, v := range imtest.Check(h) {
		switch v.Invariant {
		case "unread", "mentions", "fold", "recall", "erase", "trim":
			broken = append(broken, v.String())
		}
	}
	return broken
}

func (w *World) quiet() bool { return w.unsettled() == "" }

// unsettled says what has not arrived yet.
func (w *World) unsettled() string {
	for _, d := range w.devices {
		if d.engine == nil || !d.engine.Synced() {
			return fmt.Sprintf("%s/%s is not synced", d.User, d.ID)
		}
		if w.wentBack && !d.breaks.Blind && d.disk.meta.Store != w.Server.Store {
			return fmt.Sprintf("%s/%s has not met the server since it went back", d.User, d.ID)
		}
		if d.bot != nil && (len(d.bot.inbox) > 0 || d.disk.meta.Confirmed < d.disk.meta.Stored) {
			return fmt.Sprintf("the bot %s/%s has confirmed %d of %d", d.User, d.ID, d.disk.meta.Confirmed, d.disk.meta.Stored)
		}
		for _, m := range d.disk.outbox {
			if m.Failed == nil || m.Failed.Kind.Retryable() {
				return fmt.Sprintf("%s/%s has %s in its outbox: %v", d.User, d.ID, m.ID, m.Failed)
			}
		}
		for _, c := range w.Server.Conversations(d.User) {
			log := w.Server.Written(c, d.User)
			if row := d.disk.conversations[c]; len(log) > 0 && row.Known < log[len(log)-1].Seq {
				return fmt.Sprintf("%s/%s has %s up to %d of %d", d.User, d.ID, c, row.Known, log[len(log)-1].Seq)
			}
			if front := w.Server.Untold(d.User, d.ID, c); front != 0 {
				return fmt.Sprintf("%s/%s has not acknowledged that %s begins at seq %d", d.User, d.ID, c, front)
			}
			if acked := w.Server.Acked(d.User, d.ID, c); len(log) > 0 && acked < log[len(log)-1].Seq {
				return fmt.Sprintf("%s/%s has acknowledged %s up to %d of %d", d.User, d.ID, c, acked, log[len(log)-1].Seq)
			}
		}
	}
	return ""
}

// Verify returns how the world has broken its promises, nil if it has not.
func (w *World) Verify() []string {
	var broken []string
	if w.failure != "" {
		return []string{w.failure}
	}
	w.rewrite()
	times := w.record()
	for id, d := range w.queued {
		if times[id] == 0 && !w.refused[id] {
			broken = append(broken, fmt.Sprintf("lost: message %s of %s/%s was queued, and is neither in a log nor refused", id, d.User, d.ID))
		}
	}
	broken = append(broken, w.settingsDiffer()...)
	broken = append(broken, w.early...)
	broken = append(broken, w.unreadDiffers()...)
	broken = append(broken, w.readsDiffer()...)
	for _, d := range w.devices {
		if d.bot != nil {
			broken = append(broken, d.bot.missed(d)...)
		}
	}
	for _, v := range imtest.Check(w.history) {
		broken = append(broken, v.String())
	}
	slices.Sort(broken)
	return broken
}

// record puts the end of the world into its history. It returns how often each message
// is in a log.
func (w *World) record() map[pim.ClientMessageID]int {
	times := make(map[pim.ClientMessageID]int)
	logged := make(map[pim.ConversationID]bool)
	users := make(map[pim.UserID]bool)
	for _, d := range w.devices {
		for _, c := range w.Server.Conversations(d.User) {
			if !logged[c] {
				logged[c] = true
				w.recordLog(w.history, c)
				for _, e := range w.Server.Log(c) {
					times[e.ClientID]++
				}
			}
			d.recordShown(c)
			if !users[d.User] {
				w.history.Final(d.User, c, w.Server.Readable(c, d.User))
				if written := w.Server.Written(c, d.User); len(written) > 0 {
					w.history.Line(d.User, c, written[len(written)-1].Seq)
				}
			}
		}
		users[d.User] = true
	}
	return times
}

func (d *Device) recordShown(c pim.ConversationID) {
	var seqs []pim.Seq
	if d.breaks.Show != nil {
		seqs = d.breaks.Show(d, c)
	} else {
		for _, e := range d.disk.shown(c) {
			seqs = append(seqs, e.Seq)
		}
	}
	d.w.history.Shown(d.device(), c, seqs)
	d.recordKept(d.w.history, c)
}

// recordKept puts what d has of c, and what its list shows, into h.
func (d *Device) recordKept(h *imtest.History, c pim.ConversationID) {
	if _, own := c.OwnUser(); own {
		return
	}
	h.Kept(d.device(), c, d.disk.shown(c), maps.Clone(d.disk.folds[c]))
	h.Front(d.device(), c, d.disk.conversations[c].Front)
	h.Listed(d.device(), c, d.listed(c))
}

// mark returns the user's newest message in c, or the newest joining, whichever is later.
func (w *World) mark(user pim.UserID, c pim.ConversationID) (own pim.Entry) {
	for _, e := range w.Server.Written(c, user) {
		if e.Sender == user && e.Kind == pim.EntryMessage || (e.Kind == pim.EntryCreate || e.Kind == pim.EntryJoin) && slices.Contains(e.Members, user) {
			own = e
		}
	}
	return own
}

// listed returns what the list of d shows of c, as client.Client.Conversations does.
func (d *Device) listed(c pim.ConversationID) imtest.Listed {
	marked := pim.Command{Kind: pim.CommandUnread, Subject: string(c)}
	mark, read, row := d.settings[marked.Entity()].Setting, d.settings[readEntity(c)].Setting, d.disk.conversations[c]
	mentions := row.Since(row.OwnCount, row.OwnAll, pim.Mentioned{Named: read.Named, All: read.All})
	return imtest.Listed{Read: read.Seq, Unread: d.unread(c), Mentions: mentions, Marked: mark.InForce(0)}
}

// settingsDiffer compares what the devices of a user hold with what the user's own
// log has come to.
func (w *World) settingsDiffer() (broken []string) {
	for _, d := range w.devices {
		want := w.Server.Settings(d.User)
		for entity, s := range want {
			if got := d.disk.settings[entity]; !reflect.DeepEqual(got, s) {
				broken = append(broken, fmt.Sprintf("settings: %s/%s holds %s as %+v, its log has come to %+v", d.User, d.ID, entity, got, s))
			}
			if got := d.settings[entity]; got.Pending || !reflect.DeepEqual(got.Setting, s) {
				broken = append(broken, fmt.Sprintf("settings: %s/%s shows %s as %+v, its log has come to %+v", d.User, d.ID, entity, got, s))
			}
		}
		for entity, got := range d.settings {
			if _, ok := want[entity]; !ok && got.Setting.At != 0 {
				broken = append(broken, fmt.Sprintf("settings: %s/%s shows %s as %+v, of which its log knows nothing", d.User, d.ID, entity, got))
			}
		}
		for entity := range d.disk.settings {
			if _, ok := want[entity]; !ok {
				broken = append(broken, fmt.Sprintf("settings: %s/%s holds %s, of which its log knows nothing", d.User, d.ID, entity))
			}
		}
	}
	return broken
}

// unreadDiffers compares what the devices of a user count as unread, before any read
// position, with the log: the messages after the user's newest own message or newest
// joining, whichever is later.
func (w *World) unreadDiffers() (broken []string) {
	for _, d := range w.devices {
		for _, c := range w.Server.Conversations(d.User) {
			log, own := w.Server.Written(c, d.User), w.mark(d.User, c)
			count := log[len(log)-1].Count
			if row := d.disk.conversations[c]; row.Own != own.Seq || row.Count-row.OwnCount != count-own.Count {
				broken = append(broken, fmt.Sprintf("unread: %s/%s has %d of %s, with the own message, or the joining, at %d; the log says %d, and %d",
					d.User, d.ID, row.Count-row.OwnCount, c, row.Own, count-own.Count, own.Seq))
			}
		}
	}
	return broken
}

// figures tells how the world's messages fared: how many there were, the longest
// time from being sent to being shown on every device of its readers, and how
// often devices tried to connect.
func (w *World) figures() string {
	var worst time.Duration
	shown := 0
	for id, sent := range w.sentAt {
		if last, ok := w.shownAt[id]; ok {
			shown++
			worst = max(worst, last-sent)
		}
	}
	return fmt.Sprintf("%d sent, %d shown everywhere, the last of them after %v; %d attempts to connect",
		len(w.sentAt), shown, worst.Round(10*time.Millisecond), len(w.dials))
}
