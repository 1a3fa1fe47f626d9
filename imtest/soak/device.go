package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
)

// device is one of a user's devices: a real client that sends, and whose events are
// recorded. mu guards the fields below it, except sent, which the goroutine of talk owns.
type device struct {
	number uint32
	user   pim.UserID
	client *client.Client
	run    *run
	handed *handed
	room   chan struct{} // a place for each message under way
	up     atomic.Int64  // since when it is connected, on the book's clock; 0: it is not

	mu      sync.Mutex
	pending map[pim.ClientMessageID]underWay // sent and not answered
	early   map[pim.ClientMessageID]answer   // answers that came before Send returned
	sent    uint32
	before  []client.EntryEvent // events of conversations that were not known yet
	failed  error
}

// underWay is a message that waits for its answer.
type underWay struct {
	stamp
	sent time.Time
}

// answer is the acknowledgement of a message.
type answer struct {
	seq pim.Seq
	at  time.Time
}

// maxUnderWay bounds the messages of one device that wait for their answer. While the
// server is away, the device stops sending there.
const maxUnderWay = 200

func (r *run) open(ctx context.Context, number int) (*device, error) {
	d := &device{
		number: uint32(number), user: r.user(number / devicesEach), run: r,
		handed: newHanded(len(r.conversations), r.found), room: make(chan struct{}, maxUnderWay),
		pending: make(map[pim.ClientMessageID]underWay), early: make(map[pim.ClientMessageID]answer),
	}
	urls := r.servers.URLs(number%2 == 0 && !r.cfg.Balanced)
	first := number / 2 % len(urls) // so that the devices are spread over the servers
	o := client.Options{
		Servers: slices.Concat(urls[first:], urls[:first]), User: d.user, Device: pim.DeviceID(fmt.Sprintf("device-%d", number%devicesEach)),
		Token:      func(context.Context) (string, error) { return r.token(d.user) },
		Store:      client.NewMemory(client.MemoryOptions{PositionsOnly: true}),
		Agent:      "pim-soak",
		Direct:     true,
		BackoffMin: 50 * time.Millisecond, BackoffMax: time.Second,
		LazyGap: maxSeq, // everything is handed over, however much was missed
	}
	if r.cfg.Balanced {
		o.Direct, o.BackoffMin, o.BackoffMax = false, 0, 0
	}
	c, err := client.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	d.client = c
	r.readers.Go(d.read)
	return d, nil
}

// read takes what the client hands over until it is closed.
func (d *device) read() {
	for ev := range d.client.Events() {
		switch ev := ev.(type) {
		case client.EntryEvent:
			d.take(ev)
		case client.SendEvent:
			d.reached(ev)
		case client.StateEvent:
			switch ev.State {
			case client.Connected:
				d.up.Store(max(1, int64(time.Since(d.run.book.begun))))
			case client.Stopped:
				d.fail(ev.Err)
				fallthrough
			default:
				d.up.Store(0)
			}
		}
	}
}

// take notes an entry. The creation of a group may come before the run knows the group's
// ID; then it is kept until adopt.
func (d *device) take(ev client.EntryEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.run.index(ev.Entry.Conversation)
	if !ok {
		d.before = append(d.before, ev)
		return
	}
	d.handed.take(d.name(), c, &ev.Entry, ev.Late)
	d.run.progress.Add(1)
	if d.run.cfg.Delivered != nil {
		d.delivered(&ev.Entry)
	}
}

// delivered tells how long another device's message took. One that comes before its sender has noted it is left out.
func (d *device) delivered(e *pim.Entry) {
	s, ok := stampOf(e.Payload)
	if !ok || e.Kind != pim.EntryMessage || s.device == d.number || int(s.device) >= len(d.run.devices) {
		return
	}
	sent, ok := d.run.book.queuedAt(s)
	if !ok {
		return
	}
	from, to := d.run.devices[s.device].up.Load(), d.up.Load()
	calm := from != 0 && to != 0 && max(from, to) < int64(sent)
	d.run.cfg.Delivered(d.run.book.begun.Add(sent), time.Now(), calm)
}

// adopt takes what came before all conversations were known.
func (d *device) adopt() {
	d.mu.Lock()
	before := d.before
	d.before = nil
	d.mu.Unlock()
	for _, ev := range before {
		d.take(ev)
	}
}

func (d *device) name() string { return fmt.Sprintf("device %d of %s", d.number, d.user) }

func (d *device) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = fmt.Errorf("%s: %w", d.name(), err)
	}
}

// err returns why the device cannot go on, nil if it can.
func (d *device) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// reached notes what became of a message.
func (d *device) reached(ev client.SendEvent) {
	switch ev.State {
	case client.Failed:
		d.fail(ev.Err)
	case client.Delivered:
		a := answer{ev.Sent.Seq, time.Now()}
		d.mu.Lock()
		m, ok := d.pending[ev.ID]
		if ok {
			delete(d.pending, ev.ID)
		} else {
			d.early[ev.ID] = a
		}
		d.mu.Unlock()
		if ok {
			d.settle(m, a)
		}
	}
}

func (d *device) settle(m underWay, a answer) {
	d.run.book.acknowledged(m.stamp, a.seq)
	if answered := d.run.cfg.Answered; answered != nil {
		answered(m.sent, a.at)
	}
	d.run.progress.Add(1)
	<-d.room
}

// send sends one message into the conversation, when there is room for it.
func (d *device) send(ctx context.Context, conversation int) error {
	select {
	case d.room <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	s, begun := stamp{d.number, d.sent}, time.Now()
	sending, err := d.client.Send(context.WithoutCancel(ctx), d.run.conversations[conversation].id, s.payload())
	if err != nil {
		return fmt.Errorf("%s: %w", d.name(), err)
	}
	d.sent++
	d.run.book.queued(s, sending.ID(), conversation)
	d.mu.Lock()
	m := underWay{s, begun}
	a, ok := d.early[sending.ID()]
	if ok {
		delete(d.early, sending.ID())
	} else {
		d.pending[sending.ID()] = m
	}
	d.mu.Unlock()
	if ok {
		d.settle(m, a)
	}
	return nil
}

// talk sends into random conversations of the user, at the device's share of the run's
// rate, until ctx ends.
func (d *device) talk(ctx context.Context) error {
	random := rand.New(rand.NewPCG(d.run.cfg.Seed, uint64(d.number)))
	mine := d.run.of(int(d.number) / devicesEach)
	gap := time.Duration(float64(time.Second) * float64(len(d.run.devices)) / d.run.cfg.Rate)
	next := time.Now().Add(time.Duration(random.Int64N(int64(gap) + 1)))
	for {
		if !imtest.Pause(ctx, time.Until(next)) {
			return nil
		}
		if err := d.send(ctx, mine[random.IntN(len(mine))]); err != nil {
			return err
		}
		// After an outage the device catches up on at most one second of it.
		next = next.Add(gap)
		if earliest := time.Now().Add(-time.Second); next.Before(earliest) {
			next = earliest
		}
	}
}
