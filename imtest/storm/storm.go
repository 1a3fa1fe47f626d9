package storm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/soak"
)

// Config says what to play. All fields without a default must be set.
type Config struct {
	Pim     string // the program of the gateways
	Clients string // the program of the clients, see BuildClients
	Store   string // cql://HOST/KEYSPACE, which pim cluster init has made
	Dir     string // for the gateways' data; it must be empty

	Gateways    int // at least Kills and 2 more
	Connections int // clients, each of another user
	Kills       int // gateways that are killed, one after the other
	AcceptRate  int // of each gateway: new connections a second

	// Calm is for how long nothing happens before each kill, and after the last one.
	Calm time.Duration
	// Patience is how long the storm waits until all clients are connected. After it something hangs: a test fails.
	Patience time.Duration

	Users int     // who write to each other, with two devices each; default 8
	Rate  float64 // messages a second that they send together; default 20
	Seed  uint64  // decides who of them writes where, and when

	// Sync has the clients sync when they have connected, and with each heartbeat, as apps do. That is work for the store, so much that on a
	// few cores it is the store that a storm shows. Without it they connect, and wait for nothing.
	Sync bool

	// BackoffMax bounds the random wait of a client between two tries; default: the SDK's, 30 s. The last clients are back as late as that.
	BackoffMax time.Duration

	// Unprotected takes away what holds back a storm: accept rates, and the LBS. Clients come back within a second.
	Unprotected bool

	Every time.Duration // between two rows; default 1 s
	Row   func(Row)     // if not nil, is told each row
	Log   *slog.Logger  // default none
}

const (
	// clientsEach is how many clients a process has: each takes one open file, and many systems let a process have 20,000.
	clientsEach = 10_000
	// asked is how many gateways have the role lbs.
	asked = 3
	// spare is by how much a gateway may have more connections than its share of all when the last kill is over.
	spare = 1.1
)

// Loss is what the kill of a gateway came to.
type Loss struct {
	Gateway   int           // from 1
	At        time.Duration // since the storm began
	Connected int           // clients that were connected to it
	Back      time.Duration // until all clients were connected; 0: they were not when Patience was over
}

// Report is what a storm came to.
type Report struct {
	Soak   soak.Report // of the messages
	In     time.Duration
	Losses []Loss
	Rows   []Row
	// MaxConnections is the setting of the gateways.
	MaxConnections int
	// Beyond says which gateways were beyond their bounds, and when. Empty: none was.
	Beyond []string
	// Unready counts the looks at a gateway that was not killed and did not answer.
	Unready int
}

// Err is not nil if a gateway was beyond its bounds, clients were not back, or a message was lost, doubled or misordered.
func (r *Report) Err() error {
	err := r.Soak.Err()
	for _, b := range r.Beyond {
		err = errors.Join(err, pim.Errorf(pim.KindInternal, "%s", b))
	}
	for _, l := range r.Losses {
		if l.Back == 0 {
			err = errors.Join(err, pim.Errorf(pim.KindTimeout, "not all clients were back after gateway %d was killed", l.Gateway))
		}
	}
	return err
}

// storm is one under way.
type storm struct {
	*Config
	keys  *account.Keys
	gates *gateways
	crowd *crowd
	begun time.Time

	mu     sync.Mutex
	report Report
}

// Run plays a storm. An error means that it could not be played to its end; what came of it is in the report, see Report.Err.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Users == 0 {
		cfg.Users = 8
	}
	if cfg.Rate == 0 {
		cfg.Rate = 20
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Row == nil {
		cfg.Row = func(Row) {}
	}
	if cfg.Gateways < cfg.Kills+2 || cfg.Connections < 1 || cfg.AcceptRate < 1 || cfg.Calm <= 0 || cfg.Patience <= 0 {
		return Report{}, pim.Errorf(pim.KindInvalid, "%d gateways of which %d are killed, %d connections, %d a second: at least two gateways must be left, and the others more than 0", cfg.Gateways, cfg.Kills, cfg.Connections, cfg.AcceptRate)
	}
	s := &storm{Config: &cfg, begun: time.Now()}
	devices := 2*cfg.Users + 1
	s.report.MaxConnections = int(spare*float64(cfg.Connections)/float64(cfg.Gateways-cfg.Kills)) + devices
	path := filepath.Join(cfg.Dir, "keys.json")
	var err error
	if s.keys, err = account.CreateDevelopmentKey(path); err != nil {
		return Report{}, err
	}
	if s.gates, err = startGateways(ctx, &cfg, path, s.report.MaxConnections); err != nil {
		return Report{}, err
	}
	defer s.gates.stop()
	if s.crowd, err = startCrowd(ctx, &cfg, path, s.gates.urls()); err != nil {
		return Report{}, err
	}
	defer s.crowd.stop()
	watched, stop := context.WithCancel(ctx)
	defer stop()
	w := newWatch(s)
	watching := make(chan struct{})
	go func() { defer close(watching); w.run(watched) }()
	err = s.play(ctx, w)
	stop()
	<-watching
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report, err
}

// play waits until all clients are in, and lets messages flow and gateways die.
func (s *storm) play(ctx context.Context, w *watch) error {
	begun := time.Now()
	if !s.allIn(ctx) {
		return s.hangs("the clients connect for the first time")
	}
	s.mu.Lock()
	s.report.In = time.Since(begun)
	s.mu.Unlock()
	rep, err := soak.Run(ctx, soak.Config{
		Servers: s, Keys: s.keys, Name: "talker", Seed: s.Seed, Users: s.Users, Rate: s.Rate, Log: s.Log,
		Duration: time.Millisecond, FaultEvery: time.Millisecond, MinFaults: s.Kills + 1, Patience: s.Patience,
		Delivered: w.delivered, Balanced: !s.Unprotected,
	})
	s.mu.Lock()
	s.report.Soak = rep
	s.mu.Unlock()
	return err
}

// URLs returns where the users who write connect. It is a part of soak.Servers.
func (s *storm) URLs(tcp bool) []string {
	if tcp {
		return s.gates.tcp()
	}
	return s.gates.urls()
}

// Break kills the next gateway, after a time of calm, and returns when all clients are connected, or Patience is over. The last
// fault is no kill, but calm. It is a part of soak.Servers.
func (s *storm) Break(ctx context.Context, _ *rand.Rand, number int) error {
	if !imtest.Pause(ctx, s.Calm) || number > s.Kills {
		return nil
	}
	victim := victimOf(number, s.Gateways)
	loss := Loss{Gateway: victim + 1, At: time.Since(s.begun)}
	s.gates.kill(victim)
	s.Log.Info("a gateway is killed", "gateway", loss.Gateway)
	begun := time.Now()
	// Clients notice on their own time: only when one has, "all are connected" says something.
	for s.crowd.connected() == s.Connections && time.Since(begun) < s.Patience {
		if !imtest.Pause(ctx, poll) {
			return nil
		}
	}
	if s.allIn(ctx) {
		loss.Back = time.Since(begun)
	}
	loss.Connected = s.gates.had(victim)
	s.mu.Lock()
	s.report.Losses = append(s.report.Losses, loss)
	s.mu.Unlock()
	if loss.Back == 0 && ctx.Err() == nil && !s.Unprotected {
		return s.hangs(fmt.Sprintf("gateway %d was killed", loss.Gateway))
	}
	return nil
}

// victimOf returns the gateway, from 0, that dies as the number-th, from 1: one with the role lbs, then one without if there
// is one.
func victimOf(number, gateways int) int { return (2*number - 1) % gateways }

// poll is the time between two looks whether something has happened.
const poll = 20 * time.Millisecond

// allIn waits until all clients are connected. It reports false if that takes longer than Patience.
func (s *storm) allIn(ctx context.Context) bool {
	for begun := time.Now(); s.crowd.connected() < s.Connections; {
		if time.Since(begun) > s.Patience || !imtest.Pause(ctx, poll) {
			return false
		}
	}
	return true
}

func (s *storm) hangs(since string) error {
	return pim.Errorf(pim.KindTimeout, "%v after %s, %d of %d clients are connected; %s; %s",
		s.Patience, since, s.crowd.connected(), s.Connections, s.crowd.said(), s.gates.said())
}
