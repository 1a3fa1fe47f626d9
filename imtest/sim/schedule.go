package sim

import (
	"fmt"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// Random draws a world and what happens in it from a seed, and plays it up to the
// end of the faults. set, if not nil, sees every device before it starts.
func Random(seed uint64, set func(*Device)) *World {
	w := NewWorld(seed)
	r := w.rng
	for u := range 2 + r.IntN(2) {
		for i := range 1 + r.IntN(2) {
			d := w.NewDevice(pim.UserID(fmt.Sprint("user", u)), pim.DeviceID(fmt.Sprint("device", i)))
			d.config.Page, d.config.LazyGap = 1+r.IntN(8), []int{1 + r.IntN(8), 1000}[r.IntN(2)]
			d.wall = pim.Millis(r.IntN(7_200_000) - 3_600_000)
			d.net = randomNet(w)
			if r.IntN(4) == 0 {
				d.makeBot()
			}
			d.config.Servers = [][]string{{"wss://one"}, {"wss://one", "wss://two"}, {"wss://one:7400", "tls://one:7401", "wss://two:7400"}}[r.IntN(3)]
			if set != nil {
				set(d)
			}
			w.After(time.Duration(r.IntN(5000))*time.Millisecond, d.Start)
		}
	}
	share := float64(r.IntN(3)) / 10
	w.Server.DropPush = func() bool { return r.Float64() < share }
	busy := float64(r.IntN(3)) / 10
	w.Server.Reject = func(*wirepb.PIMSendReq) *pim.Error {
		if r.Float64() >= busy {
			return nil
		}
		return &pim.Error{Kind: pim.KindOverloaded, Text: "busy", RetryAfter: time.Duration(r.IntN(60)) * time.Second}
	}
	w.Run(w.now + 5*time.Second)
	for range 10 + r.IntN(25) {
		w.act()
		w.Run(w.now + time.Duration(r.ExpFloat64()*float64(4*time.Second)))
	}
	return w
}

func randomNet(w *World) Net {
	r := w.rng
	n := Net{Delay: time.Duration(r.IntN(400)) * time.Millisecond, Name: fmt.Sprint("net", r.IntN(3))}
	n.Jitter = n.Delay / 2
	switch r.IntN(6) {
	case 0:
		n.Loss = 0.2
	case 1:
		n.Rate = 2000
	case 2:
		n.Forget = time.Minute
	}
	return n
}

// actions are what act draws from; often says how often each is drawn.
var actions = []struct {
	often int
	do    func(*World, *Device)
}{
	{14, (*World).someMessage},
	{3, (*World).someBurst},
	{3, (*World).someCommand},
	{5, (*World).someReference},
	{4, (*World).someMark},
	{1, (*World).someErase},
	{2, (*World).someTrim},
	{1, (*World).someScrolling},
	{2, (*World).someGroupChange},
	{2, func(_ *World, d *Device) { d.Cut() }},
	{1, func(_ *World, d *Device) { d.Freeze() }},
	{3, (*World).someNet},
	{2, (*World).someHole},
	{3, func(w *World, d *Device) { d.KillAfter(1 + w.rng.IntN(8)) }},
	{1, func(_ *World, d *Device) { d.Kill() }},
	{1, func(_ *World, d *Device) { d.Backup() }},
	{1, func(_ *World, d *Device) { d.Restore() }},
	{1, func(w *World, d *Device) { d.Sleep(time.Duration(w.rng.IntN(120)) * time.Second) }},
	{1, func(w *World, d *Device) { d.Jump(time.Duration(w.rng.IntN(7200)-3600) * time.Second) }},
	{1, func(w *World, d *Device) { d.Step(engine.Online{On: w.rng.IntN(2) == 0}) }},
	{1, func(w *World, d *Device) { d.Step(engine.Foreground{On: w.rng.IntN(2) == 0}) }},
	{2, (*World).someReading},
	{2, func(_ *World, d *Device) { d.resend() }},
	{2, (*World).someDiscards},
	{2, func(w *World, d *Device) { d.Step(engine.Pause{On: w.rng.IntN(3) == 0}) }},
	{1, func(w *World, _ *Device) { w.StopServer(time.Duration(w.rng.IntN(20)) * time.Second) }},
	{1, func(w *World, _ *Device) { w.RefuseTokens(time.Duration(w.rng.IntN(60)) * time.Second) }},
	{2, (*World).someOverload},
	{1, (*World).someReplacement},
	{1, (*World).someGoingBack},
	{1, (*World).someSignOut},
	{1, func(w *World, _ *Device) {
		most := 1000 << w.rng.IntN(13) // ms: from a second to over an hour
		w.JumpServer(time.Duration(w.rng.IntN(2*most)-most) * time.Millisecond)
	}},
}

// act does something random to a random device.
func (w *World) act() {
	d := w.devices[w.rng.IntN(len(w.devices))]
	if d.engine == nil {
		d.Start()
		return
	}
	if d.asleep {
		return
	}
	all := 0
	for _, a := range actions {
		all += a.often
	}
	n := w.rng.IntN(all)
	for _, a := range actions {
		if n -= a.often; n < 0 {
			a.do(w, d)
			return
		}
	}
}

// someConversation returns a conversation that d may write to, or once could.
func (w *World) someConversation(d *Device) pim.ConversationID {
	if len(w.groups) > 0 && w.rng.IntN(3) == 0 {
		return w.groups[w.rng.IntN(len(w.groups))]
	}
	return pim.Direct(d.User, w.devices[w.rng.IntN(len(w.devices))].User)
}

func (w *World) someMessage(d *Device) {
	out := engine.Outgoing{Conversation: w.someConversation(d), Kind: pim.EntryMessage, Payload: fmt.Append(nil, "message ", w.ids)}
	switch w.rng.IntN(6) {
	case 0:
		out.MentionAll = true
	case 1, 2:
		for range 1 + w.rng.IntN(2) {
			out.Mentions = append(out.Mentions, w.devices[w.rng.IntN(len(w.devices))].User)
		}
	}
	d.queue(out)
}

func (w *World) someBurst(d *Device) {
	c := w.someConversation(d)
	for range w.rng.IntN(30) {
		if d.engine == nil {
			return
		}
		d.Send(c, fmt.Sprint("burst ", w.ids))
	}
}

// someDiscards discards some messages of the outbox. Bots discard nothing.
func (w *World) someDiscards(d *Device) {
	if d.bot != nil {
		return
	}
	for _, m := range d.disk.snapshot().Outbox {
		if w.rng.IntN(3) == 0 {
			d.Step(engine.Discard{ID: m.ID})
		}
	}
}

func (w *World) someCommand(d *Device) {
	other := string(w.devices[w.rng.IntN(len(w.devices))].User)
	c := pim.Command{Subject: string(w.someConversation(d)), Removed: w.rng.IntN(3) == 0}
	switch w.rng.IntN(5) {
	case 4:
		c.Kind, c.Subject = []pim.CommandKind{pim.CommandNoReceipts, pim.CommandNoPresence}[w.rng.IntN(2)], string(d.User)
	case 0:
		c = pim.Command{Kind: pim.CommandContact, Subject: other, Removed: c.Removed, Value: []byte{byte('a' + w.rng.IntN(26))}}
	case 1:
		c.Kind = pim.CommandMute
	case 2:
		c.Kind = []pim.CommandKind{pim.CommandPin, pim.CommandUnread}[w.rng.IntN(2)]
	default:
		c.Kind, c.Removed, c.Seq = pim.CommandRead, false, pim.Seq(1+w.rng.IntN(40))
		if newest := d.disk.conversations[pim.ConversationID(c.Subject)].Newest; newest > 0 && c.Seq > newest {
			c.Seq = 1 + c.Seq%newest
		}
	}
	d.Do(c)
}

// someReference edits or recalls a message, reacts to it, or pins it; mostly one that somebody has
// referred to before, or that the device has and its user wrote lately. The server may refuse that.
func (w *World) someReference(d *Device) {
	c := w.someConversation(d)
	newest := d.disk.conversations[c].Newest
	if newest == 0 {
		return
	}
	out := engine.Outgoing{Conversation: c, Refers: 1 + pim.Seq(w.rng.Uint64N(uint64(newest)))}
	if about := w.about[c]; about != 0 && w.rng.IntN(2) == 0 {
		out.Refers = min(about, newest)
	} else if w.rng.IntN(4) > 0 {
		for _, e := range d.disk.shown(c) {
			if e.Kind == pim.EntryMessage && e.Sender == d.User && w.rng.IntN(2) == 0 {
				out.Refers = e.Seq
			}
		}
	}
	w.about[c] = out.Refers
	switch w.rng.IntN(8) {
	case 0:
		out.Kind = pim.EntryRecall
	case 1:
		out.Kind, out.Removed = pim.EntryPin, w.rng.IntN(3) == 0
	case 2, 3:
		out.Kind, out.Reaction, out.Removed = pim.EntryReaction, []string{"x", "y"}[w.rng.IntN(2)], w.rng.IntN(3) == 0
	default:
		out.Kind, out.Payload = pim.EntryEdit, fmt.Append(nil, "edit ", w.ids)
	}
	d.queue(out)
}

// someMark marks a conversation as read, up to its newest entry or up to one that the device has, as
// client.Client.MarkRead does, or marks it as unread.
func (w *World) someMark(d *Device) {
	c := w.someConversation(d)
	row := d.disk.conversations[c]
	marked := pim.Command{Kind: pim.CommandUnread, Subject: string(c)}
	if row.Newest == 0 || w.rng.IntN(4) == 0 {
		d.Do(marked)
		return
	}
	read := pim.Command{Kind: pim.CommandRead, Subject: string(c), Seq: row.Newest, Count: row.Count}
	if e, ok := d.disk.entries[c][1+pim.Seq(w.rng.Uint64N(uint64(row.Newest)))]; ok && w.rng.IntN(3) > 0 {
		read.Seq, read.Count = e.Seq, e.Count
	}
	mark := d.settings[marked.Entity()].Setting
	d.Do(read)
	if marked.Removed = true; mark.InForce(0) {
		d.Do(marked)
	}
}

// someScrolling fills a page of a hole, anywhere.
func (w *World) someScrolling(d *Device) {
	c := w.someConversation(d)
	d.fills++
	d.Step(engine.Fill{
		ID: d.fills, Conversation: c, Before: pim.Seq(w.rng.Uint64N(uint64(d.disk.conversations[c].Newest + 1))), Limit: 1 + w.rng.IntN(4),
	})
}

func (w *World) someGroupChange(d *Device) {
	other := w.devices[w.rng.IntN(len(w.devices))].User
	if len(w.groups) == 0 || w.rng.IntN(4) == 0 {
		id := d.queue(engine.Outgoing{Kind: pim.EntryCreate, Members: []pim.UserID{other}})
		w.groups = append(w.groups, pim.NewGroup(d.User, id))
		return
	}
	kind := pim.EntryJoin
	if w.rng.IntN(2) == 0 {
		kind = pim.EntryLeave
	}
	d.queue(engine.Outgoing{Conversation: w.groups[w.rng.IntN(len(w.groups))], Kind: kind, Members: []pim.UserID{other}})
}

// someNet puts the device on another network. The device may be told.
func (w *World) someNet(d *Device) {
	n := randomNet(w)
	if w.rng.IntN(2) == 0 {
		d.Freeze() // its address is another one now
		d.Change(n)
		d.Step(engine.NetworkChanged{Name: n.Name})
		return
	}
	d.Change(n)
}

// someHole takes the network away for a while.
func (w *World) someHole(d *Device) {
	was, n := d.net, d.net
	switch w.rng.IntN(4) {
	case 0:
		n.Silent, n.Deaf = true, true
	case 1:
		n.Deaf = true
	case 2:
		n.Refuse = true
		d.Cut()
	default:
		n.Portal = true
		d.Cut()
	}
	d.Change(n)
	w.After(time.Duration(w.rng.IntN(90))*time.Second, func() {
		if !w.healed {
			d.Change(was)
		}
	})
}
