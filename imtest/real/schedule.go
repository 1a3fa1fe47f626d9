package real

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/fault"
)

// longest bounds the wait until everyone has everything in a healed world. It measures
// nothing: it ends a schedule that hangs.
const longest = 5 * time.Minute

// cast is what a schedule is played with.
type cast struct {
	seed uint64
	host host
	// apps, if there are any, make commands that call serveChild, or that do the same in another
	// language: then every app is a process of its own, made by one of them.
	apps  []func() *exec.Cmd
	tally *tally
}

// tally counts what happened in several schedules.
type tally struct {
	mu                        sync.Mutex
	messages, deliveries      int
	connections               int
	duplicates                int // acknowledgements of messages that had been appended before
	appsKilled, serversKilled int
}

func (t *tally) count(f func(*tally)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t)
}

// String returns the counts in words.
func (t *tally) String() string {
	return fmt.Sprintf("%d messages, %d deliveries, %d connections, %d answers to what was there already, %d apps and %d servers killed",
		t.messages, t.deliveries, t.connections, t.duplicates, t.appsKilled, t.serversKilled)
}

// schedule is a random schedule under way.
type schedule struct {
	cast
	*stage
	world  *world
	rng    *rand.Rand
	users  []pim.UserID
	phones []*phone
	trail  []string // what was done, for whoever looks for the reason
	texts  int
	bad    sync.WaitGroup // the goroutines that play faults on the networks
}

// event is something that happens at a time.
type event struct {
	at time.Duration
	do func()
}

// run plays a schedule and returns what the checker found.
func run(st *stage, c cast, h *imtest.History) []imtest.Violation {
	s := newSchedule(st, c, h)
	length := time.Duration(600+s.rng.IntN(1400)) * time.Millisecond
	s.enter()
	s.spoil(length)
	events := s.draw(length)
	begun := time.Now()
	for _, e := range events {
		time.Sleep(time.Until(begun.Add(e.at)))
		e.do()
	}
	s.heal()
	s.settle()
	s.record()
	return imtest.Check(h)
}

func newSchedule(st *stage, c cast, h *imtest.History) *schedule {
	return &schedule{cast: c, stage: st, world: newWorld(h), rng: rand.New(rand.NewPCG(c.seed, 3))}
}

// note remembers what is done.
func (s *schedule) note(format string, args ...any) {
	s.trail = append(s.trail, fmt.Sprintf(format, args...))
}

// fatal ends the schedule with its trail.
func (s *schedule) fatal(err error) {
	s.Helper()
	s.Fatalf("%v\n%v", err, s.trail)
}

// enter makes the users and their phones.
func (s *schedule) enter() {
	dir := s.TempDir()
	for n := range 2 + s.rng.IntN(3) {
		u := pim.UserID(fmt.Sprintf("user-%d", n))
		for _, other := range s.users {
			s.world.direct(u, other)
		}
		s.users = append(s.users, u)
		for d := range 1 + s.rng.IntN(2) {
			s.addPhone(u, pim.DeviceID(fmt.Sprintf("phone-%d", d)), dir)
		}
	}
}

func (s *schedule) addPhone(u pim.UserID, d pim.DeviceID, dir string) {
	p := &phone{
		world: s.world, device: imtest.Device{User: u, Device: d}, tcp: s.rng.IntN(2) == 0,
		handed: make(map[place]bool), has: make(map[pim.ClientMessageID]bool),
		asked: make(map[int]imtest.Send), owes: make(map[int]bool), sent: make(map[pim.ClientMessageID]bool),
	}
	token, err := s.host.token(u)
	if err != nil {
		s.fatal(err)
	}
	if p.proxy, err = fault.New(s.host.addr(p.tcp), s.rng.Uint64()); err != nil {
		s.fatal(err)
	}
	s.Cleanup(p.proxy.Close)
	scheme := "http://"
	if p.tcp {
		scheme = "tcp://"
	}
	p.spec = spec{Server: scheme + p.proxy.Addr(), Token: token, User: u, Device: d, Confirm: s.rng.IntN(3) == 0}
	if len(s.apps) > 0 {
		p.self = s.apps[s.rng.IntN(len(s.apps))]
	}
	if s.rng.IntN(3) == 0 || p.self != nil {
		p.spec.File = filepath.Join(dir, fmt.Sprintf("%s-%s.db", u, d))
	} else {
		p.memory = client.NewMemory(client.MemoryOptions{})
	}
	s.world.history.Opened(p.device, 0)
	s.phones = append(s.phones, p)
	s.Cleanup(p.kill)
	if err := p.open(); err != nil {
		s.fatal(err)
	}
}

// spoil begins a schedule of faults on the network of each phone.
func (s *schedule) spoil(length time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(func() { cancel(); s.bad.Wait() })
	for _, p := range s.phones {
		if s.rng.IntN(6) == 0 {
			continue // a good network for once
		}
		steps := fault.Random(rand.New(rand.NewPCG(s.rng.Uint64(), 4)), length)
		s.note("%v: %v", p.device, steps)
		s.bad.Go(func() {
			if err := p.proxy.Play(ctx, steps); err != nil && !errors.Is(err, context.Canceled) {
				s.world.fail(err)
			}
		})
	}
}

// draw returns what the users and the machines do, in order.
func (s *schedule) draw(length time.Duration) (events []event) {
	add := func(n int, do func()) {
		for range n {
			events = append(events, event{time.Duration(s.rng.Int64N(int64(length))), do})
		}
	}
	for n := range 2 {
		events = append(events, event{time.Duration(n) * length / 3, func() { s.create(s.phones[n]) }})
	}
	add(20+s.rng.IntN(40), s.send)
	add(s.rng.IntN(5), s.killPhone)
	add(s.rng.IntN(4), s.openPhones)
	add(1+s.rng.IntN(2), s.killServer)
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return events
}

func (s *schedule) anyPhone() *phone { return s.phones[s.rng.IntN(len(s.phones))] }

// create lets p's user make a group of everyone. Each phone does it at most once,
// because phone.find tells messages apart by their payloads.
func (s *schedule) create(p *phone) {
	others := slices.DeleteFunc(slices.Clone(s.users), func(u pim.UserID) bool { return u == p.device.User })
	p.do(command{Create: others}, imtest.Send{Kind: pim.EntryCreate, Members: others})
}

// send lets anybody write something, several times in a row.
func (s *schedule) send() {
	p := s.anyPhone()
	open := s.world.open(p.device.User)
	c := open[s.rng.IntN(len(open))]
	for range 1 + s.rng.IntN(3) {
		s.texts++
		p.do(command{Conversation: c, Text: fmt.Sprintf("text %d", s.texts)}, imtest.Send{Conversation: c, Kind: pim.EntryMessage})
	}
}

// killPhone kills somebody's app. Some come back at once.
func (s *schedule) killPhone() {
	p := s.anyPhone()
	s.note("kill %v", p.device)
	s.tally.count(func(t *tally) { t.appsKilled++ })
	p.kill()
	if s.rng.IntN(2) == 0 {
		s.open(p)
	}
}

func (s *schedule) openPhones() {
	for _, p := range s.phones {
		s.open(p)
	}
}

func (s *schedule) open(p *phone) {
	if err := p.open(); err != nil {
		s.fatal(err)
	}
}

func (s *schedule) killServer() {
	s.note("kill the server")
	s.tally.count(func(t *tally) { t.serversKilled++ })
	if err := s.host.kill(time.Duration(s.rng.IntN(200)) * time.Millisecond); err != nil {
		s.fatal(err)
	}
	for _, p := range s.phones {
		p.proxy.SetTarget(s.host.addr(p.tcp))
	}
}

// heal makes every network good and opens every app. Connections that are dead by then
// are reset, or the system tells the app that the network has changed, or the app finds
// out by itself.
func (s *schedule) heal() {
	s.bad.Wait()
	for _, p := range s.phones {
		if err := p.proxy.Set(fault.Conditions{}); err != nil {
			s.fatal(err)
		}
		switch s.rng.IntN(3) {
		case 0:
			p.proxy.Cut(fault.Both)
		case 1:
			p.do(command{Network: true}, imtest.Send{})
		}
	}
	s.openPhones()
}

// settle waits until everyone has everything. Nothing is restarted meanwhile; messages
// that have failed are sent again.
func (s *schedule) settle() {
	t := time.NewTimer(longest)
	defer t.Stop()
	for {
		newest, changed, err := s.world.state()
		if err != nil {
			s.fatal(err)
		}
		for _, f := range s.world.takeFailed() {
			f.phone.do(command{Resend: f.id}, imtest.Send{})
		}
		lacks := ""
		for _, p := range s.phones {
			lacks = cmp.Or(lacks, p.lacks(newest))
		}
		if lacks == "" {
			again, _, err := s.world.state()
			if err != nil {
				s.fatal(err)
			}
			if maps.Equal(again, newest) {
				return
			}
			continue // while the phones were asked one by one, an entry came to one of them
		}
		select {
		case <-changed:
		case <-t.C:
			s.fatal(errors.New(lacks))
		}
	}
}

// record closes every app and records what there is at the end.
func (s *schedule) record() {
	for _, p := range s.phones {
		p.stop()
	}
	for _, u := range s.users {
		if err := s.pull(u); err != nil {
			s.fatal(err)
		}
	}
	for _, p := range s.phones {
		if err := p.shows(context.Background(), s.world.open(p.device.User)); err != nil {
			s.fatal(err)
		}
	}
	newest, _, err := s.world.state()
	if err != nil {
		s.fatal(err)
	}
	var all []pim.ConversationID
	for c := range newest {
		all = append(all, c)
	}
	s.host.record(s.users, all)
	s.tally.count(func(t *tally) {
		for _, p := range s.phones {
			t.messages += len(p.sent)
			t.deliveries += len(p.handed)
			t.connections += p.proxy.Accepted()
			t.duplicates += p.duplicates
		}
	})
}

// pull records all that u can pull, on a good network.
func (s *schedule) pull(u pim.UserID) error {
	token, err := s.host.token(u)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	c, err := client.Open(ctx, client.Options{
		Server: "tcp://" + s.host.addr(true), User: u, Device: "checker", Watch: true,
		Token: func(context.Context) (string, error) { return token, nil },
	})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, conv := range s.world.open(u) {
		entries, err := imtest.ReadAll(ctx, c, conv, pim.MaxPageEntries)
		if err != nil && (len(entries) > 0 || pim.KindOf(err) != pim.KindNotMember) { // else nobody has written there
			return fmt.Errorf("pull %s as %s: %w", conv, u, err)
		}
		s.world.history.Final(u, conv, entries)
	}
	return nil
}
