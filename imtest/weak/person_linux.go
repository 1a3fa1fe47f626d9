package weak

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
)

// person is a user with one device, whose events it records.
type person struct {
	run    *run
	device imtest.Device
	client *client.Client
}

// open starts the SDK, with its own defaults for everything that matters here.
func (r *run) open(o client.Options) (*person, error) {
	c, err := client.Open(context.Background(), o)
	if err != nil {
		return nil, err
	}
	if err := c.SetForeground(!r.config.Background); err != nil {
		c.Close()
		return nil, err
	}
	p := &person{run: r, client: c, device: imtest.Device{User: o.User, Device: o.Device}}
	r.history.Opened(p.device, 0)
	r.listening.Go(p.listen)
	return p, nil
}

// listen takes events until the client is closed.
func (p *person) listen() {
	var lostAt time.Time
	for ev := range p.client.Events() {
		now := time.Now()
		switch ev := ev.(type) {
		case client.EntryEvent:
			p.run.history.Handed(p.device, 0, ev.Entry, ev.Late)
			p.run.seen.handed(p.device.User, ev.Entry.ClientID, now)
		case client.SendEvent:
			p.reached(ev, now)
		case client.StateEvent:
			switch {
			case ev.State != client.Connected && lostAt.IsZero():
				lostAt = now
			case ev.State == client.Connected && !lostAt.IsZero():
				p.run.seen.connected(now.Sub(lostAt))
				lostAt = time.Time{}
			}
		}
	}
}

func (p *person) reached(ev client.SendEvent, now time.Time) {
	switch ev.State {
	case client.InFlight:
		p.run.seen.transmitted(ev.ID)
	case client.Delivered:
		s := ev.Sent
		p.run.history.Acked(imtest.Ack{
			User: p.device.User, Device: p.device.Device, ClientID: ev.ID, Conversation: s.Conversation,
			Seq: s.Seq, Anchor: s.Anchor, Server: s.Server, Count: s.Count, Duplicate: s.Duplicate,
		})
		p.run.seen.acked(ev.ID, now)
	case client.Failed:
		// Resend the message, as a person would. The failure counts in the report.
		p.run.seen.failed()
		p.run.listening.Go(func() { _, _ = p.client.Resend(p.run.ctx, ev.ID) })
	}
}

// send sends text to conv, where readers other persons are to get it.
func (p *person) send(ctx context.Context, conv pim.ConversationID, text string, readers int) error {
	begun := time.Now()
	s, err := p.client.Send(ctx, conv, []byte(text))
	if err != nil {
		return err
	}
	p.run.history.Sent(imtest.Send{
		Conversation: conv, Sender: p.device.User, Device: p.device.Device, ClientID: s.ID(),
		Kind: pim.EntryMessage, Payload: imtest.PayloadSum([]byte(text)),
	})
	p.run.seen.sent(p.device.User, s.ID(), begun, readers)
	return nil
}
