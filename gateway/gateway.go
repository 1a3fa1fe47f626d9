package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/crew"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
)

// Writer takes send requests; it answers each through Sessions.Deliver.
type Writer interface {
	Submit([]*conv.Request)
}

// Reader serves what devices ask for; see the methods of inbox.Inbox.
type Reader interface {
	Sync(context.Context, inbox.SyncRequest) (inbox.SyncPage, error)
	Recent(context.Context, inbox.SyncRequest) ([]inbox.Summary, error)
	Pull(context.Context, pim.UserID, inbox.PullRequest) (inbox.Page, error)
	Receipts(context.Context, pim.UserID, inbox.ReceiptRequest) (inbox.Receipts, error)
	Members(context.Context, pim.UserID, inbox.MembersRequest) (inbox.MembersPage, error)
	Live(context.Context, pim.ConversationID, []pim.UserID, *inbox.Screen) ([]*inbox.Receipts, []bool, error)
	Barrier(context.Context) error
	Presence(ctx context.Context, user pim.UserID, lookers []pim.UserID) (pim.Millis, []bool, error)
	Typing(context.Context, pim.ConversationID, []pim.UserID) ([]bool, error)
	Serial(context.Context, pim.UserID, pim.DeviceID) (uint64, error)
	Known(context.Context, pim.UserID) (bool, error)
}

// Acks takes what devices acknowledge; see the methods of inbox.Acks.
type Acks interface {
	Note(user pim.UserID, device pim.DeviceID, serial uint64, acks []inbox.Ack)
	NoteFronts(user pim.UserID, device pim.DeviceID, fronts []inbox.Front)
	Settle(ctx context.Context, user pim.UserID, device pim.DeviceID)
	Later(user pim.UserID, write func(context.Context))
	Seen(user pim.UserID, at pim.Millis)
	LastSeen(user pim.UserID) pim.Millis
}

// Verifier checks tokens.
type Verifier interface {
	Verify(token string, now time.Time) (account.Claims, error)
}

// Limits bound connections (invariant I8). All must be positive, but Heartbeat, Reconnect,
// Drain, Memory and Rates may be 0.
type Limits struct {
	Connections int           // open at once, handshakes included
	User        int           // connections of one user, each of another device
	InFlight    int           // sends of one connection without an answer
	QueueBytes  int           // unsent bytes in each queue of one connection, about
	Handshake   time.Duration // from accept to Welcome; also for an unfinished frame to end, or to grow by readStep
	Idle        time.Duration // how long a client that announced no heartbeats may be silent
	Heartbeat   time.Duration // longest that a client may announce; 0: announcements are ignored
	Reconnect   time.Duration // window over which clients whose connection broke come back
	Write       time.Duration // how long the write of each writeStep bytes may take
	Drain       time.Duration // window over which clients come back after GoAway
	Members     int           // of a group, or named by one request
	Memory      uint64        // live bytes above which no connection is let in; 0: no bound
	Rates       limit.Rates   // how often connections and logins may come, and what a connection may send
}

// Options are what a Gateway works with.
type Options struct {
	Writer   Writer
	Sessions *Sessions // through which Writer answers; used by no other gateway
	Reader   Reader
	Acks     Acks
	Verifier Verifier
	Access   Access  // nil: nothing is revoked
	Devices  Devices // nil: nothing is told of devices
	Homes    Homes   // nil: this is the only node
	Limits   Limits
	Presence bool                                      // tell who is connected and who writes
	Retain   time.Duration                             // for how long the server keeps entries, to tell clients; 0: for ever
	Proxies  Proxies                                   // trusted to name clients' addresses
	Store    string                                    // the store's identity, for Welcome
	Now      func() time.Time                          // for what clients are told and to judge tokens; nil: time.Now
	Doubt    func() error                              // returns why Now may be wrong, a *pim.Error, or nil; nil: Now is never in doubt
	Lease    func(lease string, user pim.UserID) error // refuses a user whose Hello has this lease, with a *pim.Error; nil: none is needed
	Full     func() bool                               // reports that no file descriptor is left for one more TCP connection; nil: never
	Mono     func() time.Duration                      // never decreases, for limits of time; nil: since New
	Live     func() uint64                             // bytes of memory in use, garbage left out, for Limits.Memory; nil: the runtime's
	Starts   bool                                      // it refuses connections until Opens is called
	Overload *limit.Overload                           // says what is shed, and is told how long requests wait; nil: nothing is shed
	Logger   *slog.Logger                              // nil: slog.Default
}

// Gateway serves connections.
type Gateway struct {
	Options
	Metrics  *Metrics // shared with Sessions
	wheel    wheel
	keys     keyring
	gate     *limit.Gate     // whom the rates let in
	memory   watermark       // whether there is memory for one more
	told     atomic.Int64    // when the log said that an address comes too fast, as elapsed; 0: never
	open     atomic.Int64    // connections, handshakes included
	ids      atomic.Uint64   // the last connection's ID
	ctx      context.Context // ends when the gateway closes
	cancel   context.CancelFunc
	greeting context.Context          // of handshakes: ends when GoAway begins
	leave    context.CancelFunc       // ends greeting
	tasks    sync.WaitGroup           // every goroutine of the gateway and its connections
	servers  *crew.Crew[*taskRun]     // goroutines for pulls and syncs
	linger   time.Duration            // lingerTime; tests set another one before the first connection
	farewell atomic.Pointer[Farewell] // what GoAway tells; nil before it
	mu       sync.Mutex               // guards closing; orders Add on tasks before Wait
	closing  bool                     // GoAway or Close has begun
	starting atomic.Bool              // Opens has not been called
}

// New starts a gateway.
func New(o Options) *Gateway {
	g := &Gateway{Options: o, Metrics: o.Sessions.metrics, linger: lingerTime, gate: limit.NewGate(o.Limits.Rates, rand.Float64)}
	o.Sessions.looks.hears(o.Homes, o.Overload)
	o.Sessions.gateway.Store(g)
	if g.Now == nil {
		g.Now = time.Now
	}
	if g.Access == nil {
		g.Access = freely{}
	}
	if g.Doubt == nil {
		g.Doubt = func() error { return nil }
	}
	if g.Logger == nil {
		g.Logger = slog.Default()
	}
	if g.Mono == nil {
		begun := time.Now()
		g.Mono = func() time.Duration { return time.Since(begun) }
	}
	if g.Live == nil {
		g.Live = liveMemory
	}
	g.starting.Store(o.Starts)
	g.ids.Store(rand.Uint64() >> 16) // connection IDs differ from run to run
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.servers = crew.New[*taskRun](keptServers, g.ctx.Done())
	g.greeting, g.leave = context.WithCancel(g.ctx)
	g.start(g.janitor)
	return g
}

// elapsed returns the time by which limits of time are measured: milliseconds, never 0.
// It does not jump with the wall clock.
func (g *Gateway) elapsed() int64 { return g.Mono().Milliseconds() + 1 }

// start runs f in a goroutine that Close waits for. Once Close has begun it runs
// nothing and reports false.
func (g *Gateway) start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing && g.ctx.Err() != nil {
		return false
	}
	g.tasks.Go(f)
	return true
}

// GoAway asks all clients to leave, with f. It refuses new connections and breaks off
// handshakes under way. It returns when what was queued for each connection is written and
// all are closed, or when ctx ends.
func (g *Gateway) GoAway(ctx context.Context, f Farewell) {
	g.farewell.Store(&f)
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	g.leave()
	g.Sessions.each((*conn).goAway)
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for g.open.Load() > 0 {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends every connection at once and waits for all goroutines.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.closing = true
	g.cancel()
	g.mu.Unlock()
	g.Sessions.each((*conn).abort)
	g.tasks.Wait()
}

// Opens lets connections in that Options.Starts kept out.
func (g *Gateway) Opens() { g.starting.Store(false) }

// Open returns the number of connections, handshakes included.
func (g *Gateway) Open() int64 { return g.open.Load() }
