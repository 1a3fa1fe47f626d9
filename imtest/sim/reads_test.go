package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

const readSchedules = 300

// Alice has two or three devices, and Bob two. They write, read, mark, react, edit, recall, erase and
// change a group on networks that fail, they leave conversations open, and their processes die.
// Retention trims. At every moment of quiet all devices of a user show the same read position, read
// at the same time, and the same unread messages, which are those that the logs say: others' messages
// above the position. No device notifies of what is read on another one, and none shows as unread what
// is open on it. A device that comes back shows that after one exchange, before it has pulled anything.
func TestReadSync(t *testing.T) {
	for seed := range uint64(seeds.Many(readSchedules)) {
		if broken, story := playReads(seed, nil); len(broken) > 0 {
			t.Fatalf("seed %d:\n%s\n%s", seed, story, strings.Join(broken, "\n"))
		}
	}
}

// Each device is broken on purpose in one way, and found out.
func TestBrokenReadsAreFoundOut(t *testing.T) {
	for name, spoil := range map[string]func(*Device){
		"an own message counts":             func(d *Device) { d.breaks.Unread = ownCounts },
		"unread by counting entries":        func(d *Device) { d.breaks.Unread = byEntries },
		"what the list foretells is lost":   foretellsNothing,
		"a list that counts from the front": countsFromFront,
		"reads of other devices are lost":   noOtherReads,
		"what is open is not read":          func(d *Device) { d.breaks.Hear = readsNothing },
		"notifications are not taken away":  func(d *Device) { d.breaks.Hear = noReadEvents },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(readSchedules) {
				broken, _ := playReads(seed, spoil)
				if slices.ContainsFunc(broken, func(s string) bool { return strings.Contains(s, "shows") || strings.Contains(s, "notifies") }) {
					t.Logf("found out by seed %d: %s", seed, broken[0])
					return
				}
			}
			t.Errorf("not found out in %d schedules", readSchedules)
		})
	}
}

// ownCounts forgets that who writes has read what is above.
func ownCounts(d *Device, c pim.ConversationID) uint64 {
	row := d.disk.conversations[c]
	return row.Count - min(d.settings[readEntity(c)].Setting.Count, row.Count)
}

// byEntries counts what the device has, in place of subtracting what the log counts.
func byEntries(d *Device, c pim.ConversationID) (n uint64) {
	for seq := range d.disk.entries[c] {
		if seq > d.readTo(c) {
			n++
		}
	}
	return n
}

// foretellsNothing hides from d what the list says of its settings.
func foretellsNothing(d *Device) {
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMSyncResp); ok {
			for _, s := range resp.Conversations {
				s.Read, s.ReadCount, s.ReadAt, s.Marked, s.MarkedAt = 0, 0, 0, false, 0
			}
		}
		return m
	}
}

// noOtherReads hides from d the read commands of the user's other devices.
func noOtherReads(d *Device) {
	hide := func(id string, entries []*wirepb.Entry) {
		for _, e := range entries {
			cmd, err := wire.ParseCommand(e.Payload)
			if e.Device != string(d.ID) && e.Kind == wirepb.EntryKind_ENTRY_KIND_COMMAND && err == nil && cmd.Kind == pim.CommandRead {
				e.Payload = wire.AppendCommand(nil, &pim.Command{Kind: pim.CommandPin, Subject: cmd.Subject})
			}
		}
	}
	d.breaks.Answer = func(_ *Device, m wire.Message) wire.Message {
		switch m := m.(type) {
		case *wirepb.PIMPush:
			hide(m.Conversation, m.Entries)
		case *wirepb.PIMPullResp:
			hide(m.Conversation, m.Entries)
		}
		return m
	}
}

// readsNothing is an app that is not told of what is read because a person looks at it.
func readsNothing(d *Device, ev engine.Event) bool {
	set, ok := ev.(engine.SettingEvent)
	return !ok || set.Setting.Kind != pim.CommandRead || !d.reading[pim.ConversationID(set.Setting.Subject)]
}

// noReadEvents is an app that does not look at ReadEvents.
func noReadEvents(_ *Device, ev engine.Event) bool {
	_, read := ev.(engine.ReadEvent)
	return !read
}

// playReads plays the schedule of a seed and returns what it broke. spoil, if not nil, sees
// alice's devices before they start.
func playReads(seed uint64, spoil func(*Device)) (broken []string, story string) {
	w := NewWorld(seed)
	w.looked = true
	r := w.rng
	for i := range 4 + r.IntN(2) {
		user, id := pim.UserID("alice"), pim.DeviceID(fmt.Sprint("device", i))
		if i < 2 {
			user = "bob"
		}
		d := w.NewDevice(user, id)
		d.config.Page, d.config.LazyGap = 1+r.IntN(8), []int{1 + r.IntN(8), 1000}[r.IntN(2)]
		if user == "alice" && spoil != nil {
			spoil(d)
		}
		d.Start()
	}
	group := w.devices[0].queue(engine.Outgoing{Kind: pim.EntryCreate, Members: []pim.UserID{"alice"}})
	w.groups = append(w.groups, pim.NewGroup("bob", group))
	for range 3 + r.IntN(4) {
		w.Heal(healTime)
		if w.failure != "" {
			break
		}
		if broken = append(w.settingsDiffer(), w.readsDiffer()...); len(broken) > 0 {
			break
		}
		for _, d := range w.devices {
			d.Change(randomNet(w))
		}
		away := w.devices[2+r.IntN(len(w.devices)-2)]
		away.Step(engine.Online{On: false})
		for range 5 + r.IntN(20) {
			w.readOrWrite(away)
			w.Run(w.now + time.Duration(r.ExpFloat64()*float64(2*time.Second)))
		}
		if broken = w.comesBackTo(away); len(broken) > 0 {
			break
		}
	}
	if len(broken) == 0 {
		w.Heal(healTime)
		broken = w.Verify()
	}
	return broken, w.Story()
}

// readOrWrite does something random to a random device. That which is away has no network, and
// nobody looks at it.
func (w *World) readOrWrite(away *Device) {
	d := w.devices[w.rng.IntN(len(w.devices))]
	if d.engine == nil {
		d.Start()
	}
	if d == away {
		return
	}
	c := []pim.ConversationID{pim.Direct("alice", "bob"), w.groups[0]}[w.rng.IntN(2)]
	newest := d.disk.conversations[c].Newest
	switch w.rng.IntN(20) {
	case 0, 1, 2, 3, 4:
		d.Send(c, fmt.Sprint("message ", w.ids))
	case 5:
		for range w.rng.IntN(20) {
			d.Send(c, "burst")
		}
	case 6, 7, 8:
		seq := newest - pim.Seq(w.rng.IntN(int(min(newest, 3)+1)))
		if e, ok := d.disk.entries[c][seq]; ok {
			d.Do(pim.Command{Kind: pim.CommandRead, Subject: string(c), Seq: seq, Count: e.Count})
		}
	case 9:
		d.Do(pim.Command{Kind: pim.CommandUnread, Subject: string(c), Removed: w.rng.IntN(2) == 0})
	case 10, 11:
		w.refer(d, c)
	case 12:
		kind := []pim.EntryKind{pim.EntryJoin, pim.EntryLeave}[w.rng.IntN(2)]
		d.queue(engine.Outgoing{Conversation: w.groups[0], Kind: kind, Members: []pim.UserID{"alice"}})
	case 13:
		d.Cut()
	case 14:
		d.KillAfter(1 + w.rng.IntN(8))
	case 15, 16:
		d.Step(engine.Foreground{On: w.rng.IntN(3) > 0})
		d.Step(engine.Reading{Conversation: c, On: w.rng.IntN(3) > 0})
	case 17:
		d.Step(engine.Online{On: w.rng.IntN(2) == 0})
	case 18:
		w.eraseSome(d, c)
	case 19:
		w.trimSome(c)
	}
}

// refer reacts to a message of c, edits it, recalls it or pins it.
func (w *World) refer(d *Device, c pim.ConversationID) {
	seqs := slices.Sorted(maps.Keys(d.disk.entries[c]))
	if len(seqs) == 0 {
		return
	}
	e := d.disk.entries[c][seqs[w.rng.IntN(len(seqs))]]
	out := engine.Outgoing{Conversation: c, Kind: pim.EntryReaction, Refers: e.Seq, Reaction: "ok"}
	switch {
	case e.Kind != pim.EntryMessage:
		return
	case e.Sender == d.User && w.rng.IntN(2) == 0:
		out.Kind, out.Reaction, out.Payload = pim.EntryEdit, "", []byte("edited")
	case e.Sender == d.User && w.rng.IntN(2) == 0:
		out.Kind, out.Reaction = pim.EntryRecall, ""
	case w.rng.IntN(4) == 0:
		out.Kind, out.Reaction = pim.EntryPin, ""
	}
	d.queue(out)
}

// comesBackTo lets everything but the device away become quiet, and then that one come back, but
// pull nothing. What the list names is right then.
func (w *World) comesBackTo(away *Device) (broken []string) {
	for _, d := range w.devices {
		if d != away {
			d.fuse = 0
			d.Change(Net{Name: d.net.Name, Delay: 20 * time.Millisecond})
			d.Start()
			d.Step(engine.Online{On: true})
		}
	}
	w.Run(w.now + 3*time.Minute)
	for _, d := range w.devices {
		if d != away && (!d.engine.Synced() || len(d.disk.outbox) > 0) {
			return nil // not quiet
		}
	}
	listed := make(map[pim.ConversationID]bool)
	was := away.breaks
	away.breaks.Frame = func(_ *Device, m wire.Message) wire.Message {
		if _, ok := m.(*wirepb.PIMPullReq); ok {
			return nil
		}
		return m
	}
	away.breaks.Answer = func(d *Device, m wire.Message) wire.Message {
		if resp, ok := m.(*wirepb.PIMSyncResp); ok {
			for _, s := range resp.Conversations {
				listed[pim.ConversationID(s.Conversation)] = true
			}
		}
		if was.Answer != nil {
			m = was.Answer(d, m)
		}
		return m
	}
	away.Start()
	away.Change(Net{Name: away.net.Name, Delay: 20 * time.Millisecond})
	away.Step(engine.Online{On: true})
	w.Run(w.now + 2*time.Second)
	away.breaks = was
	settings := w.Server.Settings(away.User)
	for _, c := range slices.Sorted(maps.Keys(listed)) {
		if _, own := c.OwnUser(); !own {
			broken = append(broken, away.unreadDiffers(c, settings)...)
		}
	}
	return broken
}
