// Package load drives a running pim server with many users at once and reports
// what came through, how fast, and what it cost the server. It is what
// `pim bench` runs.
//
// The generator usually shares a machine with the server that it measures, so
// its own cost limits what it can show. It therefore speaks the protocol by hand
// instead of through the SDK: one goroutine for each connection, no allocation for a
// message, and one write that answers everything that one read brought in.
//
// It checks what it receives: every message carries its sender and a counter,
// and each receiver must see each sender's counters once and in order. Receivers pull
// what the server did not push, so a message counts as lost only if it was
// acknowledged and cannot be read from the server either.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pim-im/pim"
)

// Workload names what the users do.
type Workload string

// The workloads.
const (
	Direct Workload = "direct" // pairs of users send to each other
	Group  Workload = "group"  // the members of groups send to all others
	Idle   Workload = "idle"   // users connect and stay silent
	Sync   Workload = "sync"   // one user with a long offline list connects
	Fill   Workload = "fill"   // one user of each pair connects and sends, up to a number of messages
	Cold   Workload = "cold"   // after a Fill and a restart: the first message into each of its conversations
	Relay  Workload = "relay"  // as Direct, through ServeRelay instead of a server: the floor
)

// MaxUsers is how many connections one process opens at the most. It leaves
// room in the usual limit of 20,000 open files and in the range of local ports.
const MaxUsers = 19_500

// minPayload is the room for the stamp, see stamp.
const minPayload = stampSize

// maxInFlight bounds Window, and at a fixed rate the messages of one user that
// wait for their acknowledgement. A lower limit in the server's Welcome wins.
const maxInFlight = 1024

// maxSyncs bounds Syncs.
const maxSyncs = 1_000_000

// maxDevices bounds Devices.
const maxDevices = 64

// maxRate bounds Rate.
const maxRate = 1e8

// maxMessages bounds Messages.
const maxMessages = 1_000_000_000

// Config says what to run. The zero value of a field is its default.
type Config struct {
	Workload Workload

	// Server is where to connect: http://, ws:// (WebSocket) or tcp:// with a
	// host and a port, unencrypted. For Relay with RelayCommand, only the
	// scheme counts (default tcp).
	Server string
	// Others are further servers of the same pim, like Server, for Direct and Group. The users are spread
	// over all of them, so that the two of a pair are on one server as often as by chance.
	Others []string
	// Measured, if not nil, is called at the start of the measured time, and at the end of the drain. Direct and Group only.
	Measured func(ctx context.Context, ended bool) error
	// MetricsURL is the server's page of Prometheus metrics. The default is
	// /metrics on Server's host and port; for tcp://, on the port below it, as
	// in the server's own defaults (7401 and 7400). "-" measures no server cost.
	MetricsURL string
	// Token returns a token for user. Not needed for Relay.
	Token func(user pim.UserID) (string, error)

	Users  int     // connections; default 1,000 (Group: one group, Idle: 10,000, Fill and Cold: 100, of which Fill opens half); at most MaxUsers
	Window int     // messages a user keeps unacknowledged, 1–1,024; default 1 (Fill: 64); ignored with a Rate
	Rate   float64 // messages a second over all users; 0 is the closed loop that Window describes
	Insist bool    // with a Rate: it is kept whatever the server answers. What was refused is not sent again, nor is what a user has no room for sent later

	Payload  int           // bytes in a message; default 100, at least 24
	Duration time.Duration // measured time, for Idle the time connections are held; default 20 s
	Warmup   time.Duration // before the measured time, not counted; default 2 s, negative for none
	Slice    time.Duration // length of the parts of the measured time that are reported one by one; default a tenth of it, at least 1 s

	// OneWay makes half of the users of Direct or Relay senders and the others
	// receivers. Receivers acknowledge by themselves, at most every 200 ms.
	OneWay bool

	GroupSize int // Group: members of one group; default 200
	Senders   int // Group: members of one group who send; default all

	// Conversations is the number of conversations. Sync: those with offline messages;
	// default 1,000. Direct, Fill and Cold: those of all users together, spread evenly
	// over the users, who send into their own in turn; default one for each pair.
	Conversations int
	Messages      int // Sync, Fill: messages over all of them; default 100,000
	Syncs         int // Sync: syncs in the end, with nothing new, for at most Duration; default 10,000
	Devices       int // Sync: the user's devices that make these syncs at the same time; default 1, at most 64

	// RelayCommand starts a process that calls ServeRelay and prints its
	// address as the first line of its output. It is killed at the end.
	RelayCommand []string

	Dialing int          // connections opened at the same time; default 64
	Seed    uint64       // names the users; default random. Each run needs its own, but Cold its Fill's
	Log     *slog.Logger // progress; default none

	seedless bool           // no Seed was given
	up       *atomic.Int64  // when isUp was called first, in ns since 1970; 0: never
	refused  *atomic.Uint64 // see Report.TurnedAway

	// For tests:
	drainLimit, askAfter time.Duration          // see drain
	patience             time.Duration          // see connect
	enough               func(sent uint64) bool // if not nil, the measured time goes on until it returns true
}

// Run runs one workload and returns what it measured. It returns an error of KindInvalid
// if cfg cannot run. It returns another error, and an incomplete Report, if a connection
// failed or the server broke one. Lost messages are no error of Run: see Report.Err.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if err := cfg.complete(); err != nil {
		return Report{}, err
	}
	cfg.Log.Info("bench", "workload", string(cfg.Workload), "server", cfg.Server, "seed", cfg.Seed)
	run := map[Workload]func(context.Context, *Config) (Report, error){Idle: runIdle, Sync: runSync, Relay: runRelay}[cfg.Workload]
	if run == nil {
		run = runChat
	}
	rep, err := run(ctx, &cfg)
	rep.TurnedAway = cfg.refused.Load()
	return rep, cfg.gone(err)
}

// isUp notes that the server has taken the users' connections.
func (cfg *Config) isUp() { cfg.up.CompareAndSwap(0, time.Now().UnixNano()) }

// gone returns err. But if a connection to a server that was up has failed, it returns an
// error that says that the server went away. That error does not wrap err: callers would
// take a cause such as ECONNREFUSED for a server that was never there.
func (cfg *Config) gone(err error) error {
	var errno syscall.Errno
	up := cfg.up.Load()
	if up == 0 || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &errno) {
		return err
	}
	return pim.Errorf(pim.KindUnavailable, "the server went away %.1f s into the run: %v", time.Since(time.Unix(0, up)).Seconds(), err)
}

// complete fills in the defaults and checks the rest.
func (cfg *Config) complete() error {
	or(&cfg.GroupSize, 200)
	users := map[Workload]int{Direct: 1000, Group: cfg.GroupSize, Idle: 10_000, Sync: 1, Relay: 1000, Fill: 100, Cold: 100}
	n, known := users[cfg.Workload]
	if !known {
		return pim.Errorf(pim.KindInvalid, "workload %q is not known: direct, group, idle, sync, fill, cold or relay", string(cfg.Workload))
	}
	or(&cfg.Users, n)
	or(&cfg.Payload, 100)
	or(&cfg.Duration, 20*time.Second)
	or(&cfg.Warmup, 2*time.Second)
	or(&cfg.Senders, cfg.GroupSize)
	or(&cfg.Conversations, cfg.conversations())
	or(&cfg.Messages, 100_000)
	or(&cfg.Syncs, 10_000)
	or(&cfg.Devices, 1)
	or(&cfg.Dialing, 64)
	cfg.seedless = cfg.Seed == 0
	cfg.up, cfg.refused = new(atomic.Int64), new(atomic.Uint64)
	or(&cfg.Seed, rand.Uint64())
	or(&cfg.drainLimit, 10*time.Second)
	or(&cfg.askAfter, time.Second)
	or(&cfg.patience, patience)
	cfg.Warmup = max(cfg.Warmup, 0)
	cfg.OneWay = cfg.OneWay || cfg.Workload == Fill || cfg.Workload == Cold
	if err := cfg.completeSlice(); err != nil {
		return err
	}
	if cfg.Rate > 0 {
		cfg.Window = 0
	} else if cfg.Workload == Fill {
		or(&cfg.Window, 64)
	} else {
		or(&cfg.Window, 1)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Server == "" && cfg.Workload == Relay {
		cfg.Server = "tcp://"
	}
	if err := cfg.completeURLs(); err != nil {
		return err
	}
	return cfg.check()
}

func (cfg *Config) completeURLs() error {
	u, err := url.Parse(cfg.Server)
	if err != nil {
		return pim.Errorf(pim.KindInvalid, "server %q: %w", cfg.Server, err)
	}
	switch u.Scheme {
	case "http", "ws", "tcp":
	default:
		return pim.Errorf(pim.KindInvalid, "server %q: the load generator speaks http://, ws:// and tcp:// only, unencrypted", cfg.Server)
	}
	if cfg.Workload == Relay && len(cfg.RelayCommand) > 0 {
		return nil // the command prints where it listens
	}
	if err := cfg.checkHost(u); err != nil {
		return err
	}
	if cfg.MetricsURL == "" {
		cfg.MetricsURL = metricsURL(cfg.Workload, u)
	}
	if m, err := url.Parse(cfg.MetricsURL); cfg.MetricsURL != "-" && (err != nil || m.Scheme != "http" && m.Scheme != "https" || m.Host == "") {
		return pim.Errorf(pim.KindInvalid, "metrics page %q: it must be http://HOST:PORT/PATH, or - for none", cfg.MetricsURL)
	}
	return nil
}

// checkHost adds the default port to the server's address: 80 for HTTP. Raw TCP has no
// default port, so the address must name one.
func (cfg *Config) checkHost(u *url.URL) error {
	if u.Hostname() == "" {
		return pim.Errorf(pim.KindInvalid, "server %q has no host", cfg.Server)
	}
	if u.Port() != "" {
		return nil
	}
	if u.Scheme == "tcp" {
		return pim.Errorf(pim.KindInvalid, "server %q has no port", cfg.Server)
	}
	u.Host = net.JoinHostPort(u.Hostname(), "80")
	cfg.Server = u.String()
	return nil
}

func (cfg *Config) check() error {
	switch {
	case cfg.Users < 1 || cfg.Users > MaxUsers:
		return pim.Errorf(pim.KindInvalid, "%d users: one process opens 1 to %d connections; start several for more", cfg.Users, MaxUsers)
	case cfg.OneWay && !cfg.pairs():
		return pim.Errorf(pim.KindInvalid, "one-way %s: only direct and relay have pairs", cfg.Workload)
	case cfg.Workload == Group && (cfg.GroupSize < 2 || cfg.GroupSize > pim.MaxGroupMembers):
		return pim.Errorf(pim.KindInvalid, "groups of %d: a group has 2 to %d members", cfg.GroupSize, pim.MaxGroupMembers)
	case cfg.Workload == Group && cfg.Users%cfg.GroupSize != 0:
		return pim.Errorf(pim.KindInvalid, "%d users in groups of %d: the number of users must be a multiple of the group size", cfg.Users, cfg.GroupSize)
	case cfg.Workload == Group && (cfg.Senders < 1 || cfg.Senders > cfg.GroupSize):
		return pim.Errorf(pim.KindInvalid, "%d senders in a group of %d: there must be 1 to %[2]d", cfg.Senders, cfg.GroupSize)
	case cfg.Window < 0 || cfg.Window > maxInFlight:
		return pim.Errorf(pim.KindInvalid, "window of %d messages: it must be 1 to %d", cfg.Window, maxInFlight)
	case cfg.Insist && cfg.Rate == 0:
		return pim.Errorf(pim.KindInvalid, "to insist on what rate? name one")
	case !(cfg.Rate >= 0 && cfg.Rate <= maxRate):
		return pim.Errorf(pim.KindInvalid, "rate of %g messages a second: it must be more than 0, and at most %d", cfg.Rate, int(maxRate))
	case cfg.Payload < minPayload || cfg.Payload > pim.MaxPayload:
		return pim.Errorf(pim.KindInvalid, "payload of %d bytes: it must be %d to %d", cfg.Payload, minPayload, pim.MaxPayload)
	case cfg.Messages < 1 || cfg.Messages > maxMessages:
		return pim.Errorf(pim.KindInvalid, "%d messages: there must be 1 to %d", cfg.Messages, maxMessages)
	case cfg.Workload == Sync && (cfg.Conversations < 1 || cfg.Conversations > cfg.Messages):
		return pim.Errorf(pim.KindInvalid, "%d messages in %d conversations: each conversation needs a message", cfg.Messages, cfg.Conversations)
	case cfg.Syncs < 1 || cfg.Syncs > maxSyncs:
		return pim.Errorf(pim.KindInvalid, "%d syncs: there must be 1 to %d", cfg.Syncs, maxSyncs)
	case cfg.Devices < 1 || cfg.Devices > maxDevices:
		return pim.Errorf(pim.KindInvalid, "%d devices: there must be 1 to %d", cfg.Devices, maxDevices)
	case cfg.Duration < 0 || cfg.Dialing < 1:
		return pim.Errorf(pim.KindInvalid, "duration %v, dialing %d: neither can be negative", cfg.Duration, cfg.Dialing)
	}
	if cfg.pairs() {
		if err := cfg.checkPairs(); err != nil {
			return err
		}
	}
	if cfg.Token == nil && cfg.Workload != Relay {
		return pim.Errorf(pim.KindInvalid, "no way to get tokens")
	}
	return nil
}

// pairs reports whether the users talk in pairs.
func (cfg *Config) pairs() bool {
	switch cfg.Workload {
	case Direct, Relay, Fill, Cold:
		return true
	}
	return false
}

// conversations returns the default of Conversations.
func (cfg *Config) conversations() int {
	if cfg.pairs() {
		return cfg.Users / 2
	}
	return 1000
}

// user returns the name of the run's n-th user.
func (cfg *Config) user(n int) pim.UserID {
	return pim.UserID(fmt.Sprintf("load-%012x-%d", cfg.Seed&(1<<48-1), n))
}

// or sets *p to the default d if it is unset.
func or[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}
