package engine_test

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/clienttest"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// A world is devices and a server in virtual time. Nothing in it runs by itself:
// a test says which frame moves next, when time passes, what breaks.
type world struct {
	t       tester
	now     time.Duration
	server  *clienttest.Server
	devices []*phone
	random  func() float64
	ids     uint64
	refused map[pim.ClientMessageID]bool // messages that the server has refused for good
}

// tester is what *testing.T and *rapid.T have in common here.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

const (
	epoch = pim.Millis(1_795_000_000_000)
	day   = pim.Millis(24 * 3_600_000)
)

func newWorld(t tester, random func() float64) *world {
	w := &world{t: t, now: time.Hour, random: random, refused: make(map[pim.ClientMessageID]bool)}
	w.server = clienttest.NewServer(func() pim.Millis { return epoch + pim.Millis(w.now/time.Millisecond) })
	return w
}

// phone is one device: an engine, its store, and what is on the wire.
type phone struct {
	w       *world
	user    pim.UserID
	name    pim.DeviceID
	watch   bool
	page    int // of its configuration
	lazy    int
	skew    pim.Millis // of its wall clock
	store   *disk
	engine  *engine.Engine
	session *clienttest.Session
	up      []wire.Message // on the way to the server
	down    []wire.Message // and from it
	paused  bool
	fuse    int // effects until it crashes; 0: none

	handed  map[pim.ConversationID]pim.Seq
	sent    map[pim.ClientMessageID]engine.Sent
	failed  map[pim.ClientMessageID]*pim.Error
	events  []engine.Event
	pulled  []engine.Pulled
	filled  []engine.Filled
	dials   int
	attempt uint64 // the last that was asked for
	linked  uint64 // the last that was Dialled
}

func (w *world) device(user pim.UserID, name pim.DeviceID) *phone {
	p := &phone{
		w: w, user: user, name: name, store: newDisk(),
		handed: make(map[pim.ConversationID]pim.Seq),
		sent:   make(map[pim.ClientMessageID]engine.Sent),
		failed: make(map[pim.ClientMessageID]*pim.Error),
	}
	w.devices = append(w.devices, p)
	return p
}

// starts runs the device from what its disk holds.
func (p *phone) starts() {
	p.engine = engine.New(engine.Config{
		User: p.user, Device: p.name, Servers: []string{"ws://sim"}, Watch: p.watch, Random: p.w.random,
		BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
		Page: p.page, LazyGap: p.lazy,
	}, p.store.snapshot())
	if !p.watch { // entries that were stored and not handed over: the app finds them in the store
		for c, row := range p.store.conversations {
			p.handed[c] = row.Known
		}
	}
	// The server may have lost a message that was sent, and the process may have died
	// before the app was told that it is in the outbox again.
	for id := range p.store.outbox {
		delete(p.sent, id)
	}
	p.step(engine.Start{})
}

// dies ends the process at once; the disk stays.
func (p *phone) dies() {
	p.cutQuietly()
	p.engine, p.fuse, p.paused = nil, 0, false
}

func (p *phone) cutQuietly() {
	if p.session != nil {
		p.session.Close()
	}
	p.session, p.up, p.down = nil, nil, nil
}

// loses breaks the connection; what is on the wire is gone.
func (p *phone) loses() {
	if p.session == nil || p.engine == nil {
		return
	}
	p.cutQuietly()
	p.step(engine.Lost{Attempt: p.linked, Err: fmt.Errorf("cut")})
}

func (p *phone) time() engine.Time {
	return engine.Time{Mono: p.w.now, Wall: epoch + pim.Millis(p.w.now/time.Millisecond) + p.skew}
}

func (p *phone) step(in engine.Input) error {
	switch i := in.(type) { // of the last attempt, unless it says otherwise
	case engine.Dialled:
		i.Attempt = cmp.Or(i.Attempt, p.attempt)
		p.linked = i.Attempt
		in = i
	case engine.Lost:
		i.Attempt = cmp.Or(i.Attempt, p.last())
		in = i
	case engine.Frame:
		i.Attempt = cmp.Or(i.Attempt, p.last())
		in = i
	}
	err := p.engine.Step(p.time(), in)
	p.perform(p.engine.Take())
	return err
}

// last is the attempt whose connection stands, or else the last one.
func (p *phone) last() uint64 {
	if p.session != nil && p.linked != 0 {
		return p.linked
	}
	return p.attempt
}

// burn counts one effect and reports whether the process dies before it.
func (p *phone) burn() bool {
	if p.fuse == 0 {
		return false
	}
	if p.fuse--; p.fuse == 0 {
		p.dies()
		return true
	}
	return false
}

// perform does what the engine asks for, in the order of its documentation.
func (p *phone) perform(out engine.Output) {
	if !out.Store.Empty() {
		if p.burn() {
			return
		}
		p.store.apply(p.w.t, &out.Store)
	}
	for _, f := range out.Frames {
		if p.burn() {
			return
		}
		if p.session != nil {
			p.up = append(p.up, f)
		}
	}
	if slices.Contains(out.Hangups, p.linked) {
		p.cutQuietly()
	}
	if n := len(out.Dials); n > 0 {
		p.attempt = out.Dials[n-1].Attempt
		p.dials++
	}
	for _, ev := range out.Events {
		if p.burn() {
			return
		}
		p.takes(ev)
	}
	p.pulled = append(p.pulled, out.Pulled...)
	p.filled = append(p.filled, out.Filled...)
	for _, r := range out.Reads {
		if p.engine == nil || p.burn() {
			return
		}
		p.step(engine.FromStore{ID: r.ID, Entries: p.store.read(r)})
	}
}

// takes is the app: it checks that every entry comes once and in order.
func (p *phone) takes(ev engine.Event) {
	p.events = append(p.events, ev)
	switch ev := ev.(type) {
	case engine.EntryEvent:
		c := ev.Entry.Conversation
		if ev.Late {
			if ev.Entry.Seq > p.handed[c] {
				p.w.t.Fatalf("%s/%s: late seq %d of %s lies above what was handed over", p.user, p.name, ev.Entry.Seq, c)
			}
			return // disk.apply checks that it comes once
		}
		if ev.Entry.Seq <= p.handed[c] {
			p.w.t.Fatalf("%s/%s: seq %d of %s handed over after seq %d", p.user, p.name, ev.Entry.Seq, c, p.handed[c])
		}
		p.handed[c] = ev.Entry.Seq
	case engine.RewoundEvent:
		p.handed[ev.Conversation] = min(p.handed[ev.Conversation], ev.After)
	case engine.SendEvent:
		p.reaches(ev)
	}
}

func (p *phone) reaches(ev engine.SendEvent) {
	switch ev.State {
	case engine.Queued: // again, if the server has lost it
		delete(p.sent, ev.ID)
	case engine.Delivered:
		if _, twice := p.sent[ev.ID]; twice {
			p.w.t.Fatalf("%s/%s: message %s sent twice", p.user, p.name, ev.ID)
		}
		p.sent[ev.ID] = ev.Sent
	case engine.Failed:
		p.failed[ev.ID] = ev.Err
	}
}

// connects answers a dial that is under way.
func (p *phone) connects() {
	if p.engine == nil || p.session != nil || p.dials == 0 || p.engine.State() != engine.Connecting {
		return
	}
	p.session, p.dials = p.w.server.Connect(nil), 0
	p.step(engine.Dialled{Attempt: p.attempt, Token: string(p.user)})
}

// toServer moves the next frame to the server.
func (p *phone) toServer() bool {
	if len(p.up) == 0 {
		return false
	}
	m := p.up[0]
	p.up = p.up[1:]
	answers := p.session.Handle(recode(p.w.t, m))
	for _, a := range answers {
		if a, ok := a.(*wirepb.PIMError); ok && !a.Retryable && len(a.ClientMessageId) > 0 {
			p.w.refused[pim.ClientMessageID(a.ClientMessageId)] = true
		}
	}
	p.down = append(p.down, answers...)
	for _, other := range p.w.devices {
		if other.session != nil {
			other.down = append(other.down, other.session.Pushes()...)
		}
	}
	return true
}

// fromServer moves the next frame to the device.
func (p *phone) fromServer() bool {
	if len(p.down) == 0 || p.engine == nil || p.paused {
		return false
	}
	m := p.down[0]
	p.down = p.down[1:]
	p.step(engine.Frame{Message: recode(p.w.t, m)})
	return true
}

// recode sends m through its encoding, so that neither side shares memory.
func recode(t tester, m wire.Message) wire.Message {
	_, out, err := wire.Decode(wire.Append(nil, m))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (p *phone) sends(c pim.ConversationID, text string) pim.ClientMessageID {
	return p.queues(engine.Outgoing{Conversation: c, Kind: pim.EntryMessage, Payload: []byte(text)})
}

func (p *phone) queues(out engine.Outgoing) pim.ClientMessageID {
	p.w.t.Helper()
	out.ID = p.w.id()
	if err := p.step(engine.Send{Message: out}); err != nil {
		p.w.t.Fatal(err)
	}
	return out.ID
}

func (w *world) id() (id pim.ClientMessageID) {
	w.ids++
	copy(id[:], fmt.Sprintf("%016d", w.ids))
	return id
}

// passes lets time go by; every engine is called when it asked to be.
func (w *world) passes(d time.Duration) {
	until := w.now + d
	for range 100_000 {
		next, who := until, (*phone)(nil)
		for _, p := range w.devices {
			if p.engine == nil {
				continue
			}
			if at, ok := p.engine.Deadline(); ok && at <= next {
				next, who = max(at, w.now), p
			}
		}
		w.now = next
		if who == nil {
			return
		}
		who.step(engine.Tick{})
	}
	w.t.Fatal("an engine asks to be called again and again")
}

// settles moves everything until nothing is left to do.
func (w *world) settles() {
	for range 2000 {
		for {
			moved := false
			for _, p := range w.devices {
				p.connects()
				moved = p.toServer() || moved
				moved = p.fromServer() || moved
			}
			if !moved {
				break
			}
		}
		if w.quiet() {
			return
		}
		for _, p := range w.devices {
			p.resends()
		}
		w.passes(time.Second)
	}
	for _, p := range w.devices {
		w.t.Logf("%s/%s %s synced %v outbox %d up %d down %d: %v", p.user, p.name, p.engine.State(), p.engine.Synced(),
			len(p.store.outbox), len(p.up), len(p.down), p.store)
	}
	w.t.Fatal("the devices do not settle")
}

// resends is a user who sends again every message that has failed for a reason that may
// pass.
func (p *phone) resends() {
	for _, id := range slices.SortedFunc(maps.Keys(p.store.outbox), func(a, b pim.ClientMessageID) int { return cmp.Compare(a.String(), b.String()) }) {
		m := p.store.outbox[id]
		if p.engine != nil && m.Failed != nil && m.Failed.Kind.Retryable() && p.engine.State() != engine.Stopped {
			if err := p.step(engine.Resend{ID: id}); err != nil {
				p.w.t.Fatal(err)
			}
		}
	}
}

// pending counts the messages that are on their way.
func (d *disk) pending() (n int) {
	for _, m := range d.outbox {
		if m.Failed == nil || m.Failed.Kind.Retryable() {
			n++
		}
	}
	return n
}

func (w *world) quiet() bool {
	for _, p := range w.devices {
		if p.engine == nil || p.engine.State() == engine.Stopped {
			continue
		}
		if !p.engine.Synced() || p.store.pending() > 0 || !p.complete() {
			return false
		}
	}
	return true
}

// complete reports whether the device has all that its user may read.
func (p *phone) complete() bool {
	if p.watch {
		return true
	}
	for _, c := range p.w.server.Conversations(p.user) {
		want := p.w.server.Readable(c, p.user)
		row := p.store.conversations[c]
		if len(want) > 0 && row.Known < want[len(want)-1].Seq || slices.ContainsFunc(row.Holes, func(h engine.Hole) bool { return !h.Lazy }) {
			return false
		}
	}
	return true
}

// verify checks that the device holds exactly what its user may read (I4). Of the
// user's own log the settings must be right; superseded commands need not be there.
func (p *phone) verify() {
	p.w.t.Helper()
	if want, got := p.w.server.Settings(p.user), p.store.settings; !maps.EqualFunc(want, got, sameSetting) {
		p.w.t.Fatalf("%s/%s: settings\n got %+v\nwant %+v", p.user, p.name, got, want)
	}
	for _, c := range p.w.server.Conversations(p.user) {
		want, got := p.w.server.Readable(c, p.user), p.store.messages(c)
		if c == pim.Own(p.user) {
			want = slices.DeleteFunc(want, func(e pim.Entry) bool {
				return !slices.ContainsFunc(got, func(g pim.Entry) bool { return g.Seq == e.Seq })
			})
		}
		want = slices.DeleteFunc(want, func(e pim.Entry) bool { return inHole(p.store.conversations[c].Holes, e.Seq) })
		if len(want) != len(got) {
			p.w.t.Fatalf("%s/%s: %d entries of %s, want %d", p.user, p.name, len(got), c, len(want))
		}
		for i := range want {
			if got[i].Erased { // also if the recall is lost since
				want[i].Payload, want[i].Erased = nil, true
			}
			if want[i].Erased && p.store.conversations[c].Left && !recalls(p.w.server.Readable(c, p.user), &want[i]) {
				want[i].Payload, want[i].Erased = got[i].Payload, got[i].Erased // nobody tells who has left
			}
			if a, b := fmt.Sprintf("%+v", want[i]), fmt.Sprintf("%+v", got[i]); a != b {
				p.w.t.Fatalf("%s/%s: entry %d of %s:\n got %s\nwant %s", p.user, p.name, i, c, b, a)
			}
		}
		p.verifyFolds(c, got)
	}
}

// recalls reports whether one of entries erases e, a message or an edit of one.
func recalls(entries []pim.Entry, e *pim.Entry) bool {
	return slices.ContainsFunc(entries, func(r pim.Entry) bool {
		target := cmp.Or(e.Refers, e.Seq)
		return r.Kind == pim.EntryRecall && r.Refers == target || r.Kind == pim.EntryErase && r.Sender == e.Sender && r.Refers >= target
	})
}

// verifyFolds checks that the device displays its messages of c as the whole log says. Of what
// was done while its user was no member, the user has only heard if a message was recalled.
func (p *phone) verifyFolds(c pim.ConversationID, messages []pim.Entry) {
	if p.store.conversations[c].Left || len(messages) == 0 {
		return
	}
	log, readable := p.w.server.Log(c), p.w.server.Readable(c, p.user)
	absent := readable[len(readable)-1].Seq-readable[0].Seq+1 != pim.Seq(len(readable))
	for i := range messages {
		e := &messages[i]
		if e.Kind != pim.EntryMessage {
			continue
		}
		f := p.store.folds[c][e.Seq]
		want, got := imtest.Display(log, e.Seq), imtest.Shown(e, &f)
		if p.store.erasures[erased{c, e.Sender}] >= e.Seq && !want.Recalled { // also if the erase is lost since
			want.Payload, want.Edited = "", false
		}
		if e.Erased && !want.Edited && !want.Recalled { // the recall that erased it is lost
			want.Payload = ""
		}
		if absent && got.Recalled == want.Recalled {
			continue
		}
		if !reflect.DeepEqual(got, want) {
			p.w.t.Fatalf("%s/%s: message %d of %s is displayed as\n%+v, want\n%+v", p.user, p.name, e.Seq, c, got, want)
		}
	}
}

func sameSetting(a, b pim.Setting) bool { return reflect.DeepEqual(a, b) }

func inHole(holes []engine.Hole, seq pim.Seq) bool {
	return slices.ContainsFunc(holes, func(h engine.Hole) bool { return h.From <= seq && seq <= h.To })
}

// texts returns the payloads handed over since the last call, in order.
func (p *phone) texts() []string {
	var out []string
	for _, ev := range p.events {
		if ev, ok := ev.(engine.EntryEvent); ok {
			out = append(out, string(ev.Entry.Payload))
		}
	}
	p.events = nil
	return out
}

func (p *phone) sees(want ...string) {
	p.w.t.Helper()
	if got := p.texts(); !slices.Equal(got, want) {
		p.w.t.Fatalf("%s/%s sees %q, want %q", p.user, p.name, got, want)
	}
}
