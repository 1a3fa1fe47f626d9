package weak

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/tunlink"
	"github.com/pim-im/pim/server"
)

// run is one measurement under way.
type run struct {
	config  Config
	ctx     context.Context
	link    *tunlink.Link
	server  *server.Server
	keys    *account.Keys
	history *imtest.History
	seen    *seen
	rng     *rand.Rand

	persons   []*person
	listening sync.WaitGroup // the goroutines of persons
	group     pim.ConversationID
}

const (
	preparing = 5 * time.Minute // for everyone to connect over a good network
	progress  = 10 * time.Second
)

// Run runs c and returns the result. It fails if the preparations, a send or a pull at
// the end fails, if ctx ends, or if this machine cannot do it (KindUnsupported).
// Messages that are lost or late are in the report.
func Run(ctx context.Context, c Config) (Report, error) {
	if err := c.check(); err != nil {
		return Report{}, err
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{
		config: c, ctx: ctx, history: imtest.NewHistory(), seen: newSeen(),
		rng: rand.New(rand.NewPCG(c.Seed, 2)),
	}
	dir, err := os.MkdirTemp("", "pim-weak-")
	if err != nil {
		return Report{}, pim.Errorf(pim.KindUnavailable, "%w", err)
	}
	defer os.RemoveAll(dir)
	if r.link, err = tunlink.New(c.Seed); err != nil {
		return Report{}, err
	}
	defer r.link.Close()
	if err := r.serve(dir); err != nil {
		return Report{}, err
	}
	defer r.stop()
	return r.measure()
}

// serve starts the server in its namespace.
func (r *run) serve(dir string) error {
	config := server.Defaults()
	config.Consent = false // people here are strangers
	config.Data = dir
	config.ShedTarget = 0 // the machine may be too busy
	config.TLSSelfSigned = r.config.Transport != ""
	config.Insecure = !config.TLSSelfSigned // both ends of the link are in this process
	config.Listen = r.link.ServerAddr().String() + ":0"
	config.ListenTCP = config.Listen
	s, err := server.New(config, server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	r.server = s
	if err := r.link.Server.Do(func() error { return s.Start(r.ctx) }); err != nil {
		r.stop()
		return err
	}
	if r.keys, err = account.LoadKeys(config.KeysPath()); err != nil {
		r.stop()
	}
	return err
}

// stop ends the clients, then the server.
func (r *run) stop() {
	for _, p := range r.persons {
		p.client.Close()
	}
	r.listening.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no grace: nobody is connected
	_ = r.server.Shutdown(ctx)
}

func (r *run) measure() (Report, error) {
	if err := r.prepare(); err != nil {
		return Report{}, err
	}
	r.link.Set(r.config.Path, r.config.Path)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var weather sync.WaitGroup
	cuts := 0
	weather.Go(func() { cuts = r.cut(ctx) })
	err := r.chat()
	if err == nil {
		err = r.settle()
	}
	cancel()
	weather.Wait()
	if err != nil {
		return Report{}, err
	}
	report := Report{Network: r.network(), Users: r.config.Users, Cuts: cuts, within: r.config.Within}
	report.Up, report.Down = r.link.Stats()
	r.seen.measure(&report, r.config.Users)
	if err := r.record(); err != nil {
		return Report{}, err
	}
	report.judge(imtest.Check(r.history))
	return report, nil
}

// network says in words what is measured.
func (r *run) network() string {
	c, p := &r.config, &r.config.Path
	s := fmt.Sprintf("one way %v ± %v (round trip %v ± %v), loss %.3g %%, reordered %.3g %% by up to %v",
		p.Delay, p.Jitter, 2*p.Delay, 2*p.Jitter, 100*p.Loss, 100*p.Reorder, p.Late)
	if c.Transport != "" {
		s = c.Transport + ", " + s
	}
	if p.Rate > 0 {
		s += fmt.Sprintf(", %d bytes/s", p.Rate)
	}
	if c.CutEvery > 0 {
		s += fmt.Sprintf(", every %v cut for %v", c.CutEvery, c.CutFor)
		if c.Handover {
			s += " and another address"
		}
		if c.Tell {
			s += ", and the apps are told"
		}
	}
	return s
}

func name(n int) pim.UserID { return pim.UserID(fmt.Sprintf("user-%d", n)) }

// prepare opens everyone's client and makes the group, while the network is
// good.
func (r *run) prepare() error {
	var others []pim.UserID
	for n := range r.config.Users {
		url := "http://" + r.server.Addr()
		if n/2%2 == 1 {
			url = "tcp://" + r.server.TCPAddr()
		}
		switch r.config.Transport {
		case "https":
			url = "https://" + r.server.Addr()
		case "tls":
			url = "tls://" + r.server.TCPAddr()
		case "quic":
			url = "quic://" + r.server.QUICAddr()
		}
		p, err := r.open(client.Options{
			Server: url, Direct: true, Insecure: true, User: name(n), Device: "phone", Dial: r.dial, TLSPin: r.server.Pin(),
			Token: func(context.Context) (string, error) { return r.keys.Issue(name(n), 24*time.Hour, time.Now()) },
		})
		if err != nil {
			return err
		}
		r.persons = append(r.persons, p)
		others = append(others, name(n))
	}
	ctx, cancel := context.WithTimeout(r.ctx, preparing)
	defer cancel()
	for _, p := range r.persons {
		if err := p.client.Synced(ctx); err != nil {
			return fmt.Errorf("connect %s: %w", p.device.User, err)
		}
	}
	owner := r.persons[0]
	s, err := owner.client.CreateGroup(ctx, others[1:])
	if err != nil {
		return err
	}
	r.history.Sent(imtest.Send{
		Sender: owner.device.User, Device: owner.device.Device, ClientID: s.ID(), Kind: pim.EntryCreate,
		Members: others[1:], Payload: imtest.PayloadSum(nil),
	})
	sent, err := s.Wait(ctx)
	r.group = sent.Conversation
	return err
}

// dial makes the clients' connections, in their namespace. A UDP socket is bound to no address, as those that the client makes by itself.
func (r *run) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "udp" {
		return r.link.Client.Dial(ctx, network, address)
	}
	to, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return nil, err
	}
	var socket *net.UDPConn
	err = r.link.Client.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", nil)
		return err
	})
	return unbound{socket, to}, err
}

// unbound is a UDP socket that sends to one address, from whatever address the machine has.
type unbound struct {
	*net.UDPConn
	to *net.UDPAddr
}

// Write implements net.Conn.
func (c unbound) Write(b []byte) (int, error) { return c.WriteTo(b, c.to) }

// RemoteAddr implements net.Conn.
func (c unbound) RemoteAddr() net.Addr { return c.to }

// cut cuts the link and mends it until ctx ends, and returns how often.
func (r *run) cut(ctx context.Context) (cuts int) {
	defer r.link.Mend()
	if r.config.CutEvery == 0 {
		return 0
	}
	for {
		if !imtest.Pause(ctx, r.config.CutEvery-r.config.CutFor) {
			return cuts
		}
		cuts++
		r.link.Cut()
		if r.config.Handover {
			if err := r.link.MoveClient(); err != nil {
				fmt.Fprintf(r.config.Progress, "the address did not change: %v\n", err)
			}
		}
		if !imtest.Pause(ctx, r.config.CutFor) {
			return cuts
		}
		r.link.Mend()
		if r.config.Tell {
			for _, p := range r.persons {
				_ = p.client.NetworkChanged("") // fails only if the SDK has stopped, which shows in the report
			}
		}
	}
}

// chat sends for the configured time, evenly.
func (r *run) chat() error {
	total := max(1, int(r.config.Rate*r.config.Duration.Seconds()))
	begun, told := time.Now(), time.Now()
	for n := range total {
		at := begun.Add(time.Duration(float64(n) / r.config.Rate * float64(time.Second)))
		if !imtest.Pause(r.ctx, time.Until(at)) {
			return r.ctx.Err()
		}
		if err := r.say(n); err != nil {
			return err
		}
		if time.Since(told) >= progress {
			told = time.Now()
			waiting, _ := r.seen.waiting()
			fmt.Fprintf(r.config.Progress, "%d of %d sent, %d on their way\n", n+1, total, waiting)
		}
	}
	return nil
}

// say lets anybody send a message to the partner or to the group.
func (r *run) say(n int) error {
	from := r.rng.IntN(len(r.persons))
	p := r.persons[from]
	text := fmt.Sprintf("message %d of %s", n, p.device.User)
	if r.rng.IntN(2) == 0 {
		return p.send(r.ctx, r.group, text, len(r.persons)-1)
	}
	return p.send(r.ctx, pim.Direct(p.device.User, name(from^1)), text, 1)
}

// settle waits, on the same bad network, until everyone has everything, for at most
// Config.Within.
func (r *run) settle() error {
	t := time.NewTimer(r.config.Within)
	defer t.Stop()
	for {
		waiting, changed := r.seen.waiting()
		if waiting == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-t.C:
			return nil // the report says what is missing
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
}

// record records, over a good network, what everyone shows and can pull.
func (r *run) record() error {
	r.link.Set(tunlink.Path{}, tunlink.Path{})
	r.link.Mend()
	ctx, cancel := context.WithTimeout(r.ctx, r.config.Within)
	defer cancel()
	for n, p := range r.persons {
		for _, c := range []pim.ConversationID{r.group, pim.Direct(p.device.User, name(n^1))} {
			entries, err := imtest.ReadAll(ctx, p.client, c, pim.MaxPageEntries)
			if err != nil && (len(entries) > 0 || pim.KindOf(err) != pim.KindNotMember) { // else nobody has written there
				return fmt.Errorf("pull %s as %s: %w", c, p.device.User, err)
			}
			r.history.Final(p.device.User, c, entries)
			shown, err := p.client.Messages(ctx, c, len(entries)+1)
			if err != nil {
				return err
			}
			var seqs []pim.Seq
			for _, e := range shown {
				seqs = append(seqs, e.Seq)
			}
			r.history.Shown(p.device, c, seqs)
		}
	}
	return nil
}
