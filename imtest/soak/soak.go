package soak

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest/process"
)

// Config says what to run. The zero value of a field is its default, where it has one.
type Config struct {
	// Run starts one server, which it kills again and again. WhileDead, if not nil, is called
	// with the data directory after each kill, before the server starts again, so that a test
	// can break the data.
	ServerCommand []string // see process.Start
	Dir           string   // the server's data directory; it must be empty
	WhileDead     func(dir string, kill int) error

	// Servers, if not nil, are there already, and take the place of that one server. Whoever
	// has started them stops them after Run. Keys are theirs.
	Servers Servers
	Keys    *account.Keys

	Duration   time.Duration // of the load; the check comes after it
	FaultEvery time.Duration // mean time from one fault, such as a kill, to the next
	MinFaults  int           // the load goes on until there were that many
	Users      int           // at least 2; default 16. Each has two devices
	Name       string        // of the users, each of whom adds a number to it; default "soak". A run needs users that nobody else has
	Rate       float64       // messages a second that all devices send together; default 1,000
	Seed       uint64        // decides who writes where, which faults there are, and when

	// Answered, if not nil, is called for each message that is acknowledged, with the times at which it
	// was given to its device and at which that was told of the acknowledgement. Calls may come at the same time.
	Answered func(sent, told time.Time)

	// Delivered, if not nil, is called for each message that is handed to a device other than its sender's, with the
	// times at which it was given to its device and handed to the other. calm is set if both have been connected all
	// the time in between. Calls may come at the same time.
	Delivered func(sent, handed time.Time, calm bool)

	// Balanced has the devices ask the servers, by HTTP, which of them to dial, and wait as an app does by default. Without it they
	// dial any of them, at once.
	Balanced bool

	// Patience is how long Run waits after the load while nothing at all comes. Then
	// whatever is missing counts as lost; default 60 s.
	Patience time.Duration
	Log      *slog.Logger // progress; default none
}

// Servers are what a soak loads: one server or several that do the same.
type Servers interface {
	// URLs returns where clients connect, by raw TCP or by HTTP: to any of them.
	URLs(tcp bool) []string
	// Break makes a fault, and returns when it is healed. Which one follows from random and
	// from number, which counts the faults from 1. When ctx ends, Break heals it at once.
	Break(ctx context.Context, random *rand.Rand, number int) error
}

// single is the one server that Run starts.
type single struct {
	*process.Process
	cfg *Config
}

func (s single) URLs(tcp bool) []string { return []string{s.URL(tcp)} }

// Break kills the server and starts it again.
func (s single) Break(ctx context.Context, _ *rand.Rand, number int) error {
	return s.Kill(context.WithoutCancel(ctx), func() error {
		if s.cfg.WhileDead == nil {
			return nil
		}
		return s.cfg.WhileDead(s.cfg.Dir, number)
	})
}

// Report is the result of a run.
type Report struct {
	Seed       uint64
	Seconds    float64 // of the load
	Messages   int     // sent
	Deliveries int     // entries handed to a device's app, its own included
	Faults     int
	Lost       int // sent and never acknowledged, or acknowledged and not in the log, or not handed to a device
	Doubled    int // twice in the log or handed over twice, or sent by nobody
	Misordered int // at another seq than acknowledged, or displayed behind its sender's later ones, or different on a device
	// Overtaken are the messages that stand in the log, although they are not displayed there, behind
	// later ones of their sender. With one server they count as Misordered. Several servers do not
	// promise that order while they agree anew which of them writes.
	Overtaken int
	Longest   time.Duration // that a message waited for its acknowledgement, the time until its client was connected included
	Findings  []string
}

// Err is not nil if anything was lost, doubled or misordered.
func (r *Report) Err() error {
	if r.Lost == 0 && r.Doubled == 0 && r.Misordered == 0 {
		return nil
	}
	return pim.Errorf(pim.KindInternal, "lost %d, doubled %d, misordered %d", r.Lost, r.Doubled, r.Misordered)
}

// devicesEach is how many devices a user has.
const devicesEach = 2

// groupSize is how many members each group has, except the group of all users.
const groupSize = 8

type conversation struct {
	id      pim.ConversationID
	members []int // users; the first makes a group
}

// run is one soak under way.
type run struct {
	cfg           *Config
	keys          *account.Keys
	servers       Servers
	devices       []*device
	conversations []conversation
	indices       sync.Map // pim.ConversationID → its number
	book          *book
	found         *findings
	readers       sync.WaitGroup
	faults        atomic.Int32
	progress      atomic.Int64 // entries handed over and messages acknowledged
}

// Run runs the load and checks. An error means that Run could not do that. What the check
// found is in the report, see Report.Err.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Users == 0 {
		cfg.Users = 16
	}
	if cfg.Name == "" {
		cfg.Name = "soak"
	}
	if cfg.Rate == 0 {
		cfg.Rate = 1000
	}
	if cfg.Patience == 0 {
		cfg.Patience = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Users < 2 || !(cfg.Rate > 0) || cfg.Duration <= 0 || cfg.FaultEvery <= 0 {
		return Report{}, pim.Errorf(pim.KindInvalid, "%d users, %g messages a second, for %v, with a fault every %v: there must be 2 users or more, and the others must be more than 0", cfg.Users, cfg.Rate, cfg.Duration, cfg.FaultEvery)
	}
	r := &run{cfg: &cfg, found: &findings{}, servers: cfg.Servers, keys: cfg.Keys}
	if r.servers == nil {
		var err error
		if r.keys, err = account.CreateDevelopmentKey(filepath.Join(cfg.Dir, "keys.json")); err != nil {
			return Report{}, err
		}
		p, err := process.Start(ctx, cfg.ServerCommand, cfg.Dir)
		if err != nil {
			return Report{}, err
		}
		defer p.Stop()
		r.servers = single{p, &cfg}
	}
	defer r.close()
	if err := r.meet(ctx); err != nil {
		return Report{}, err
	}
	return r.play(ctx)
}

func (r *run) user(n int) pim.UserID { return pim.UserID(fmt.Sprintf("%s-%d", r.cfg.Name, n)) }

// token returns a token of some age, since the clock of a server may be minutes behind.
func (r *run) token(u pim.UserID) (string, error) {
	return r.keys.Issue(u, 24*time.Hour, time.Now().Add(-time.Hour))
}

// index returns the number of a conversation; ok is false if the run does not know it.
func (r *run) index(c pim.ConversationID) (n int, ok bool) {
	v, ok := r.indices.Load(c)
	if !ok {
		return 0, false
	}
	return v.(int), true
}

// of returns the conversations of a user.
func (r *run) of(user int) (list []int) {
	for n, c := range r.conversations {
		for _, m := range c.members {
			if m == user {
				list = append(list, n)
			}
		}
	}
	return list
}

// plan lays out the conversations: each user with the next two, groups of neighbours,
// and one group of all.
func (r *run) plan() {
	users := r.cfg.Users
	all := make([]int, users)
	for i := range all {
		all[i] = i
	}
	for i := range users {
		for _, other := range []int{(i + 1) % users, (i + 2) % users} {
			c := pim.Direct(r.user(i), r.user(other))
			if _, known := r.index(c); known || other == i {
				continue
			}
			r.indices.Store(c, len(r.conversations))
			r.conversations = append(r.conversations, conversation{id: c, members: []int{i, other}})
		}
	}
	for i := 0; i+groupSize <= users; i += groupSize / 2 {
		r.conversations = append(r.conversations, conversation{members: all[i : i+groupSize]})
	}
	r.conversations = append(r.conversations, conversation{members: all})
}

// meet opens all devices and creates the groups.
func (r *run) meet(ctx context.Context) error {
	r.plan()
	r.book = newBook(devicesEach*r.cfg.Users, len(r.conversations))
	for n := range devicesEach * r.cfg.Users {
		d, err := r.open(ctx, n)
		if err != nil {
			return err
		}
		r.devices = append(r.devices, d)
	}
	for n := range r.conversations {
		c := &r.conversations[n]
		if c.id != "" {
			continue
		}
		var members []pim.UserID
		for _, m := range c.members[1:] {
			members = append(members, r.user(m))
		}
		if err := r.create(ctx, n, c, members); err != nil {
			return err
		}
	}
	for _, d := range r.devices {
		d.adopt()
	}
	return nil
}
