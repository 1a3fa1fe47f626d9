package real

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/fault"
)

// phone is a device behind a bad network of its own, with an app that dies and comes
// back. The phone notes what the app reports.
type phone struct {
	// Used by the schedule's goroutine, to which do, open, stop, kill and shows belong.
	// told reads world, device and spec too.
	world  *world
	device imtest.Device
	spec   spec
	tcp    bool
	memory *client.Memory                  // nil: SQLite, in spec.File
	wrap   func(client.Store) client.Store // if not nil, between the store and an app in this process
	self   func() *exec.Cmd                // not nil: the app is a process of its own
	proxy  *fault.Proxy
	app    running // nil: it does not run
	number int     // of the last command

	// Guarded by mu.
	mu     sync.Mutex
	handed map[place]bool
	has    map[pim.ClientMessageID]bool // the client message IDs of handed
	asked  map[int]imtest.Send          // messages by the number of their command, until their IDs are known
	awake  bool                         // the app that runs has reported Begun
	owes   map[int]bool                 // numbers of the commands that the app that runs has not answered
	sent   map[pim.ClientMessageID]bool // messages whose sending was recorded
	// duplicates counts the acknowledgements of messages that had been appended before.
	duplicates int
}

type place struct {
	conversation pim.ConversationID
	seq          pim.Seq
}

// open starts the app, if it does not run.
func (p *phone) open() error {
	if p.app != nil {
		return nil
	}
	if p.self != nil {
		app, err := startChild(p.self, p.spec, p.told)
		if err != nil {
			return err
		}
		p.app = app
		return nil
	}
	store, err := p.store(context.Background())
	if err != nil {
		return err
	}
	if p.wrap != nil {
		store = p.wrap(store)
	}
	p.app = startInside(p.spec, store, p.told)
	return nil
}

// store opens the device's store. Closing one in memory forgets nothing.
func (p *phone) store(ctx context.Context) (client.Store, error) {
	if p.memory != nil {
		return p.memory, nil
	}
	return sqlite.Open(ctx, p.spec.File)
}

func (p *phone) stop() {
	if p.app != nil {
		p.app.stop()
		p.ended()
	}
}

func (p *phone) kill() {
	if p.app != nil {
		p.app.kill()
		p.ended()
	}
}

// ended notes that the app is over and that no more reports come from it.
func (p *phone) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.app, p.awake = nil, false
	clear(p.owes)
}

// do lets the user do what cmd says. m is the message that this sends; its Kind is 0 if
// nothing new is sent.
func (p *phone) do(cmd command, m imtest.Send) {
	if p.app == nil {
		return
	}
	p.number++
	cmd.Number = p.number
	p.mu.Lock()
	p.owes[cmd.Number] = true
	p.mu.Unlock()
	m.Sender, m.Device, m.Payload = p.device.User, p.device.Device, imtest.PayloadSum([]byte(cmd.Text))
	if m.Kind != 0 { // else nothing new is sent
		p.mu.Lock()
		p.asked[cmd.Number] = m
		p.mu.Unlock()
	}
	p.app.do(cmd)
}

// told notes a report of the app.
func (p *phone) told(r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.Begun != nil:
		p.begun(r.Begun)
	case r.Answer != nil:
		delete(p.owes, r.Answer.Number)
		if r.Answer.Err == "" {
			p.took(r.Answer.Number, r.Answer.ID)
		}
		// Else the app was dying, and the message may be in the outbox or not.
	case r.Entry != nil:
		if p.spec.Confirm && p.handed[place{r.Entry.Entry.Conversation, r.Entry.Entry.Seq}] {
			break // handed over again, because it was not confirmed
		}
		p.hand(r.Entry.Entry, r.Entry.Late)
	case r.Sent != nil && r.Sent.State == client.Delivered:
		s := r.Sent.Sent
		if s.Duplicate {
			p.duplicates++
		}
		p.world.history.Acked(imtest.Ack{
			User: p.device.User, Device: p.device.Device, ClientID: r.Sent.ID, Conversation: s.Conversation,
			Seq: s.Seq, Anchor: s.Anchor, Server: s.Server, Count: s.Count, Duplicate: s.Duplicate,
		})
	case r.Sent != nil: // it has failed
		p.world.resend(p, r.Sent.ID)
	case r.Broken != "":
		p.world.fail(fmt.Errorf("%v: %s", p.device, r.Broken))
	}
	p.world.poke()
}

// begun notes what the app found in its store. Every entry that the app was handed
// before must be there. Every other entry counts as handed now, but a bot waits until
// the SDK hands it over.
func (p *phone) begun(b *begun) {
	p.awake = true
	stored := make(map[place]bool, len(b.Entries))
	for _, e := range b.Entries {
		stored[place{e.Conversation, e.Seq}] = true
		if !p.handed[place{e.Conversation, e.Seq}] && !p.spec.Confirm {
			p.hand(e, true) // it may have come to the store in any order
		}
	}
	for at := range p.handed {
		if !stored[at] {
			p.world.fail(fmt.Errorf("%v was handed seq %d of %s, and after a restart its store lacks it", p.device, at.seq, at.conversation))
		}
	}
	for _, m := range b.Pending {
		if m.Failed {
			p.world.resend(p, m.ID)
		}
		p.find(m.ID, m.Payload)
	}
}

func (p *phone) hand(e pim.Entry, late bool) {
	p.world.history.Handed(p.device, 0, e, late)
	p.handed[place{e.Conversation, e.Seq}], p.has[e.ClientID] = true, true
	if e.Sender == p.device.User && e.Device == p.device.Device {
		p.find(e.ClientID, string(e.Payload))
	}
	p.world.saw(e)
}

// took records the message that a command has become.
func (p *phone) took(number int, id pim.ClientMessageID) {
	m, ok := p.asked[number]
	if !ok {
		return
	}
	delete(p.asked, number)
	if p.sent[id] { // it was found before its answer came
		return
	}
	p.sent[id] = true
	m.ClientID = id
	p.world.history.Sent(m)
}

// find records the message of a command whose app died before it answered. The message
// was found in the store or among the entries, and find knows its command by the
// payload: payloads are unique.
func (p *phone) find(id pim.ClientMessageID, payload string) {
	if p.sent[id] {
		return
	}
	sum := imtest.PayloadSum([]byte(payload))
	for number, m := range p.asked {
		if m.Payload == sum {
			p.took(number, id)
			return
		}
	}
}

// lacks names something that the device should have and has not, "" if there is
// nothing. It should have its own messages and, of each conversation that its user is a
// member of, all entries that any device has.
func (p *phone) lacks(newest map[pim.ConversationID]pim.Seq) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.awake: // what its outbox has is not known
		return fmt.Sprintf("%v has not begun", p.device)
	case len(p.owes) > 0:
		return fmt.Sprintf("%v has not answered", p.device)
	}
	for id := range p.sent {
		if !p.has[id] {
			return fmt.Sprintf("%v lacks its own message %s", p.device, id)
		}
	}
	for c, last := range newest {
		for seq := pim.Seq(1); seq <= last && p.world.member(c, p.device.User); seq++ {
			if !p.handed[place{c, seq}] {
				return fmt.Sprintf("%v lacks seq %d of %s", p.device, seq, c)
			}
		}
	}
	return ""
}

// shows records what the device displays. It reads the store, which no app may use
// meanwhile.
func (p *phone) shows(ctx context.Context, conversations []pim.ConversationID) error {
	b, err := p.look(ctx)
	if err != nil {
		return err
	}
	for _, c := range conversations {
		var seqs []pim.Seq
		for _, e := range b.Entries {
			if e.Conversation == c {
				seqs = append(seqs, e.Seq)
			}
		}
		p.world.history.Shown(p.device, c, slices.Clip(seqs))
	}
	return nil
}

// look returns what the store has. Only an app that is a process knows how to read its own.
func (p *phone) look(ctx context.Context) (*begun, error) {
	if p.self == nil {
		store, err := p.store(ctx)
		if err != nil {
			return nil, err
		}
		defer store.Close()
		return read(ctx, store)
	}
	var said report
	spec := p.spec
	spec.Look = true
	app, err := startChild(p.self, spec, func(r report) { said = r })
	if err != nil {
		return nil, err
	}
	app.stop() // waits until it has ended by itself
	if said.Begun == nil {
		return nil, fmt.Errorf("%v does not say what it has: %s", p.device, said.Broken)
	}
	return said.Begun, nil
}
