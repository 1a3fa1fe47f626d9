package sim

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Device is an engine and what is around it: its store, network, clocks and app.
type Device struct {
	User pim.UserID
	ID   pim.DeviceID

	w             *World
	config        engine.Config
	engine        *engine.Engine // nil: the process does not run
	disk          *disk
	backup        *disk // a copy of the store; nil: none
	storage       int   // the number of the store; Restore begins the next
	fuse          int   // effects until the process dies; 0: it does not
	net           Net
	conns         []*conn
	using         uint64        // the attempt whose connection is in use
	waiting       []*conn       // attempts that the network swallows
	wall          pim.Millis    // skew of the wall clock
	slept         time.Duration // how long it slept in all; the monotonic clock stood still meanwhile
	asleep        bool
	signedOut     bool           // the app has no token
	inputs        []engine.Input // inputs that came while it slept
	ticks         uint64         // the number of the last alarm that was set
	had           map[pim.ConversationID]map[pim.Seq]bool
	arrived       map[pim.ConversationID][]pim.Seq   // seqs in the order in which the app was handed them
	failed        map[pim.ClientMessageID]*pim.Error // messages of which the app was told last that they have failed
	settings      map[string]engine.SettingEvent     // as the app shows them
	readElsewhere map[pim.ConversationID][]pim.Seq   // of which the app was told, by this process
	notified      map[pim.ConversationID][]pim.Seq   // the messages of which the app notifies
	reading       map[pim.ConversationID]bool        // a person reads them, if the app is in front
	front         bool
	breaks        Breakage
	fills         uint64 // the ID of the last Fill
	recorder      *recorder
	bot           *bot            // nil: a person uses it
	told          map[string]told // what gateways have told this process of when to come back

	locals map[pim.ClientMessageID]int64 // local times by message; forgotten when the user sends the message again
	timeOf map[int64]pim.ClientMessageID // messages by local time, of the times taken since they last went back
	local  int64                         // the local time that was taken last
	backs  int                           // how often local times went back
}

// Breakage is how a device is broken on purpose. The zero Breakage is sound.
type Breakage struct {
	Blind        bool                                            // Answer removes the identity of the server's store
	ForgetFormer bool                                            // the store returns nothing of what the server has lost
	ForgetOutbox bool                                            // the store drops messages that are queued
	Frame        func(*Device, wire.Message) wire.Message        // changes a frame that is transmitted; if it returns nil, the frame is swallowed
	Answer       func(*Device, wire.Message) wire.Message        // changes a frame that is received
	Show         func(d *Device, c pim.ConversationID) []pim.Seq // returns what the device shows, in another order
	Hear         func(*Device, engine.Event) bool                // if it returns false, the app does not hear the event
	Unread       func(d *Device, c pim.ConversationID) uint64    // counts what is unread in another way
}

// NewDevice adds a device, which does not run yet.
func (w *World) NewDevice(user pim.UserID, id pim.DeviceID) *Device {
	d := &Device{
		User: user, ID: id, w: w, disk: newDisk(), had: make(map[pim.ConversationID]map[pim.Seq]bool),
		failed: make(map[pim.ClientMessageID]*pim.Error), arrived: make(map[pim.ConversationID][]pim.Seq),
		locals: make(map[pim.ClientMessageID]int64), timeOf: make(map[int64]pim.ClientMessageID),
	}
	d.config = engine.Config{
		User: user, Device: id, Servers: []string{"wss://one", "wss://two"},
		BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
		Random: w.rng.Float64,
	}
	w.devices = append(w.devices, d)
	return d
}

func (d *Device) device() imtest.Device { return imtest.Device{User: d.User, Device: d.ID} }

// time returns the present as the device's clocks show it.
func (d *Device) time() engine.Time {
	return engine.Time{Mono: d.w.now - d.slept, Wall: epoch + pim.Millis(d.w.now/time.Millisecond) + d.wall}
}

// Start runs the process. The app shows what it finds in the store.
func (d *Device) Start() {
	if d.engine != nil {
		return
	}
	d.w.tell(d, "starts")
	d.w.history.Opened(d.device(), d.storage)
	for id := range d.disk.entries {
		for _, e := range d.disk.shown(id) {
			d.show(e, true)
		}
	}
	d.settings = make(map[string]engine.SettingEvent)
	d.reading, d.front = make(map[pim.ConversationID]bool), false
	d.readElsewhere, d.notified = make(map[pim.ConversationID][]pim.Seq), make(map[pim.ConversationID][]pim.Seq)
	for entity, s := range d.disk.settings {
		d.settings[entity] = engine.SettingEvent{Entity: entity, Setting: s}
	}
	d.told = make(map[string]told)
	d.recorder.begin(d)
	config := d.config
	config.Random = d.recorder.random(config.Random)
	d.engine = engine.New(config, d.disk.snapshot())
	if d.bot != nil {
		d.bot.begins(d)
	}
	d.Step(engine.Start{})
}

// Kill ends the process at once.
func (d *Device) Kill() {
	if d.engine == nil {
		return
	}
	d.w.tell(d, "is killed")
	d.engine, d.fuse, d.asleep, d.inputs = nil, 0, false, nil
	for _, c := range d.take() {
		c.close()
	}
}

// KillAfter ends the process after n more effects, in the middle of whatever it
// does then.
func (d *Device) KillAfter(n int) { d.fuse = n }

// Backup keeps a copy of the store.
func (d *Device) Backup() {
	d.backup = d.disk.clone()
	d.w.tell(d, "is backed up")
}

// Restore ends the process and goes back to the backup. Messages that were queued since
// the backup are gone with the store.
func (d *Device) Restore() {
	if d.backup == nil {
		return
	}
	d.Kill()
	d.w.tell(d, "is restored")
	for id, owner := range d.w.queued {
		if _, kept := d.backup.outbox[id]; owner == d && !kept {
			delete(d.w.queued, id)
		}
	}
	if d.bot != nil {
		d.bot.restored(d)
	}
	d.disk = d.backup.clone()
	d.storage++
	d.forgetTimes()
	d.had, d.arrived = make(map[pim.ConversationID]map[pim.Seq]bool), make(map[pim.ConversationID][]pim.Seq)
	d.w.keep()
}

// Sleep stops the device for a time: its monotonic clock stands still.
func (d *Device) Sleep(for_ time.Duration) {
	if d.engine == nil || d.asleep {
		return
	}
	d.w.tell(d, "sleeps for %v", for_)
	d.asleep = true
	e := d.engine
	d.w.After(for_, func() {
		if d.engine != e {
			return
		}
		d.asleep = false
		d.slept += for_
		inputs := d.inputs
		d.inputs = nil
		for _, in := range append(inputs, engine.Tick{}) {
			if d.engine == e {
				d.Step(in)
			}
		}
	})
}

// Jump moves the device's wall clock.
func (d *Device) Jump(by time.Duration) {
	d.w.tell(d, "wall clock jumps by %v", by)
	d.wall += pim.Millis(by / time.Millisecond)
}

// Step gives the engine an input and does what the engine asks for.
func (d *Device) Step(in engine.Input) error {
	if d.engine == nil {
		return errNotRunning
	}
	if d.asleep {
		d.inputs = append(d.inputs, in)
		return nil
	}
	d.noteTime(in)
	if f, ok := in.(engine.Frame); ok && d.breaks.Answer != nil {
		f.Message = d.breaks.Answer(d, f.Message)
		in = f
	}
	now := d.time()
	err := d.engine.Step(now, in)
	out := d.engine.Take()
	if up, ok := in.(engine.Dialled); ok && !slices.Contains(out.Hangups, up.Attempt) {
		d.using = up.Attempt
	}
	d.recorder.step(d.engine, now, in, &out, err)
	if err == nil {
		d.looks(in)
	}
	d.perform(&out)
	d.checkReading()
	for _, r := range out.Reads {
		if d.engine == nil || d.burns() {
			break
		}
		answer := engine.FromStore{ID: r.ID}
		if !r.Former || !d.breaks.ForgetFormer {
			answer.Entries = d.disk.read(r)
		}
		d.Step(answer)
	}
	d.setAlarm()
	return err
}

var errNotRunning = pim.Errorf(pim.KindUnavailable, "the process does not run")

// setAlarm gives the engine a Tick when the engine asked for one.
func (d *Device) setAlarm() {
	d.ticks++
	if d.engine == nil {
		return
	}
	at, ok := d.engine.Deadline()
	if !ok {
		return
	}
	number := d.ticks
	d.w.At(at+d.slept, func() {
		if d.ticks == number && d.engine != nil && !d.asleep {
			d.Step(engine.Tick{})
		}
	})
}

// burns counts an effect and reports whether the process dies before it.
func (d *Device) burns() bool {
	if d.fuse == 0 {
		return false
	}
	if d.fuse--; d.fuse == 0 {
		d.Kill()
		return true
	}
	return false
}

// perform does what the engine asks for, in the order that engine.Output documents.
func (d *Device) perform(out *engine.Output) {
	if !out.Store.Empty() {
		if d.burns() {
			return
		}
		if d.breaks.ForgetOutbox {
			out.Store.Outbox = nil
		}
		d.disk.apply(&out.Store)
		d.givesUp(out.Events)
	}
	for _, m := range out.Frames {
		if d.burns() {
			return
		}
		d.transmit(m)
	}
	for _, n := range out.Hangups {
		for _, c := range d.conns {
			if c.attempt == n {
				c.close()
			}
		}
	}
	d.conns = slices.DeleteFunc(d.conns, func(c *conn) bool { return c.gone })
	for _, to := range out.Dials {
		d.w.dials = append(d.w.dials, d.w.now)
		d.dial(to)
	}
	for _, ev := range out.Events {
		if d.burns() {
			return
		}
		d.hear(ev)
	}
}

// transmit sends m on the connection in use.
func (d *Device) transmit(m wire.Message) {
	if d.breaks.Frame != nil {
		if m = d.breaks.Frame(d, m); m == nil {
			return
		}
	}
	if req, ok := m.(*wirepb.PIMSendReq); ok {
		d.timed(req)
		if id, _ := wire.ClientID(req.ClientMessageId); d.w.sentAt[id] == 0 {
			d.note(d.disk.outbox[id], nil) // a read of the engine's own, which grows until now
		}
	}
	for _, c := range d.conns {
		if c.attempt == d.using {
			c.toServer(m)
			return
		}
	}
}

// timed checks that a message keeps its local time over every resend and restart, and
// that no other message of the device has the same. Each time the server's clock is set
// back, the device's local times may go back once, when the device notices; earlier
// times may then be taken again.
func (d *Device) timed(req *wirepb.PIMSendReq) {
	id, _ := wire.ClientID(req.ClientMessageId)
	if d.disk.outbox[id].Again {
		return // it keeps its first local time, which another device of the user may have given it
	}
	if was, again := d.locals[id]; again {
		if was != req.LocalMs {
			d.w.Failf("%s/%s transmits %s with the local time %d, and before that with %d", d.User, d.ID, id, req.LocalMs, was)
		}
		return // its local time may be of an earlier setting of the clock
	}
	if req.LocalMs <= d.local && d.backs < d.w.backs {
		d.backs++
		clear(d.timeOf)
	}
	if other, taken := d.timeOf[req.LocalMs]; taken {
		d.w.Failf("%s/%s transmits %s and %s with the local time %d", d.User, d.ID, other, id, req.LocalMs)
	}
	d.locals[id], d.timeOf[req.LocalMs], d.local = req.LocalMs, id, req.LocalMs
}

// forgetTimes begins to note local times anew, with those that the store has.
func (d *Device) forgetTimes() {
	d.locals, d.timeOf, d.local = make(map[pim.ClientMessageID]int64), make(map[int64]pim.ClientMessageID), 0
	for id, m := range d.disk.outbox {
		if m.Local != 0 {
			d.locals[id] = int64(m.Local)
		}
	}
}

// hear is the app: it takes an event of the engine.
func (d *Device) hear(ev engine.Event) {
	if d.breaks.Hear != nil && !d.breaks.Hear(d, ev) {
		return
	}
	d.notify(ev)
	switch ev := ev.(type) {
	case engine.EntryEvent:
		d.show(ev.Entry, ev.Late)
		if d.bot != nil {
			d.bot.hears(d, ev)
		}
	case engine.SettingEvent:
		d.settings[ev.Entity] = ev
	case engine.ReadEvent:
		d.hearRead(ev)
	case engine.RewoundEvent:
		told := d.readElsewhere[ev.Conversation]
		d.readElsewhere[ev.Conversation] = slices.DeleteFunc(told, func(seq pim.Seq) bool { return seq > ev.After })
	case engine.SendEvent:
		d.hearSend(ev)
	case engine.StateEvent:
		d.w.tell(d, "%s %v", ev.State, errText(ev.Err))
		d.checkWait(ev)
	}
}

// hearRead checks that the app is told once how far the user has read.
func (d *Device) hearRead(ev engine.ReadEvent) {
	told := d.readElsewhere[ev.Conversation]
	if slices.ContainsFunc(told, func(seq pim.Seq) bool { return seq >= ev.Seq }) {
		d.w.Failf("%s/%s is told of reads of %s up to %d, and before that up to %v", d.User, d.ID, ev.Conversation, ev.Seq, told)
	}
	d.readElsewhere[ev.Conversation] = append(told, ev.Seq)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (d *Device) hearSend(ev engine.SendEvent) {
	if ev.State != engine.InFlight && ev.State != engine.Queued {
		d.w.tell(d, "message %s is %s %v", ev.ID, ev.State, ev.Err)
	}
	delete(d.failed, ev.ID)
	switch ev.State {
	case engine.Delivered:
		s := ev.Sent
		d.w.history.Acked(imtest.Ack{
			User: d.User, Device: d.ID, ClientID: ev.ID, Conversation: s.Conversation,
			Seq: s.Seq, Anchor: s.Anchor, Server: s.Server, Count: s.Count, Duplicate: s.Duplicate,
		})
	case engine.Failed:
		d.failed[ev.ID] = ev.Err
	}
}

// givesUp notes the messages that leave the outbox without being sent. It does not wait
// for the app to hear of it, because the process may die before that.
func (d *Device) givesUp(events []engine.Event) {
	for _, ev := range events {
		if ev, ok := ev.(engine.SendEvent); ok && (ev.State == engine.Superseded || ev.State == engine.Discarded) {
			delete(d.w.queued, ev.ID)
		}
	}
}

// show hands an entry to the app. An entry that the app finds in the store is handed
// over only if the app has not had it before.
func (d *Device) show(e pim.Entry, late bool) {
	had := d.had[e.Conversation]
	if had == nil {
		had = make(map[pim.Seq]bool)
		d.had[e.Conversation] = had
	}
	if had[e.Seq] && late && d.engine == nil {
		return // shown before the process died
	}
	had[e.Seq] = true
	d.w.shownAt[e.ClientID] = d.w.now
	d.arrived[e.Conversation] = append(d.arrived[e.Conversation], e.Seq)
	d.w.history.Handed(d.device(), d.storage, e, late)
}

// Send queues text to c.
func (d *Device) Send(c pim.ConversationID, text string) pim.ClientMessageID {
	return d.queue(engine.Outgoing{Conversation: c, Kind: pim.EntryMessage, Payload: []byte(text)})
}

// queue queues a message. It counts as queued if the store has it.
func (d *Device) queue(out engine.Outgoing) pim.ClientMessageID {
	out.ID = d.w.id()
	d.w.tell(d, "sends %s to %s", out.ID, out.Conversation)
	d.note(out, d.Step(engine.Send{Message: out}))
	return out.ID
}

// Do queues a command.
func (d *Device) Do(c pim.Command) pim.ClientMessageID {
	id := d.w.id()
	d.w.tell(d, "commands %s: %s", id, c.Entity())
	err := d.Step(engine.Do{ID: id, Command: c})
	if c.Kind == pim.CommandRead && err == nil {
		d.takeAway(pim.ConversationID(c.Subject), c.Seq)
	}
	if m, ok := d.disk.outbox[id]; ok {
		d.note(m, err)
	}
	return id
}

func (d *Device) note(out engine.Outgoing, err error) {
	_, stored := d.disk.outbox[out.ID]
	if err != nil || !stored && !d.breaks.ForgetOutbox {
		return
	}
	d.w.queued[out.ID] = d
	d.w.sentAt[out.ID] = d.w.now
	sent := imtest.Send{
		Conversation: out.Conversation, Sender: d.User, Device: d.ID, ClientID: out.ID, Kind: out.Kind,
		Members: out.Members, Payload: imtest.SentSum(out.Kind, out.Payload),
		Refers: out.Refers, Reaction: out.Reaction, Removed: out.Removed, Mentions: out.Mentions, MentionAll: out.MentionAll,
	}
	d.w.history.Sent(sent)
	d.w.sends = append(d.w.sends, sent)
}
