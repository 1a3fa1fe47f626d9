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
	"github.com/pim-im/pim/inbox"
)

// Writer takes send requests; it answers each through the Gateway's Deliver.
type Writer interface {
	Submit([]*conv.Request)
}

// Reader serves what devices ask for.
type Reader interface {
	Sync(context.Context, inbox.SyncRequest) (inbox.SyncPage, error)
	Pull(context.Context, pim.UserID, inbox.PullRequest) (inbox.Page, error)
	Serial(context.Context, pim.UserID, pim.DeviceID) (uint64, error)
	Known(context.Context, pim.UserID) (bool, error)
}

// Acks takes what devices acknowledge.
type Acks interface {
	Note(user pim.UserID, device pim.DeviceID, serial uint64, acks []inbox.Ack)
	Settle(ctx context.Context, user pim.UserID, device pim.DeviceID)
	Later(write func(context.Context))
}

// Verifier checks tokens.
type Verifier interface {
	Verify(token string, now time.Time) (account.Claims, error)
}

// Limits bound connections (invariant I8). All must be positive.
type Limits struct {
	Connections int           // at once, handshakes included
	User        int           // connections of one user, each of another device
	InFlight    int           // sends of one connection without an answer
	QueueBytes  int           // unsent bytes of one connection, about
	Handshake   time.Duration // from accept to Hello; also for the end of a frame, or readStep more of it
	Idle        time.Duration // without a byte from a client that did not announce its heartbeats
	Heartbeat   time.Duration // longest that may be announced; 0: announcements are ignored
	Reconnect   time.Duration // clients that lose their connection come back within such a window
	Write       time.Duration // for a write to make way
	Drain       time.Duration // window over which clients reconnect after GoAway
	Members     int           // of a group, or named by one request
}

// Options are what a Gateway works with.
type Options struct {
	Writer   Writer
	Reader   Reader
	Acks     Acks
	Verifier Verifier
	Limits   Limits
	Proxies  Proxies              // whose word on clients' addresses in headers is taken
	Store    string               // the store's identity, for Welcome
	Metrics  *Metrics             // nil: not counted
	Now      func() time.Time     // what clients are told, and tokens are judged by; nil: time.Now
	Doubt    func() error         // why Now may be wrong: a *pim.Error; nil: never
	Full     func() bool          // whether other connections leave no file for one more of TCP; nil: they do
	Mono     func() time.Duration // never decreases, for limits of time; nil: since New
	Logger   *slog.Logger         // nil: slog.Default
}

// Gateway serves connections. It is also the writers' Outlet.
type Gateway struct {
	Options
	sessions registry
	wheel    wheel
	keys     keyring
	open     atomic.Int64 // connections, handshakes included
	ids      atomic.Uint64
	ctx      context.Context // ends when the gateway closes
	cancel   context.CancelFunc
	greeting context.Context // ends when GoAway begins: for handshakes
	leave    context.CancelFunc
	tasks    sync.WaitGroup // every goroutine of the gateway and its connections
	mu       sync.Mutex     // orders Add on tasks before Wait
	closing  bool
}

// New starts a gateway. SetWriter may supply the Writer later, but before the
// first connection is served.
func New(o Options) *Gateway {
	g := &Gateway{Options: o, sessions: newRegistry()}
	if g.Metrics == nil {
		g.Metrics = NewMetrics(nil)
	}
	if g.Now == nil {
		g.Now = time.Now
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
	g.ids.Store(rand.Uint64() >> 16) // connection IDs differ from run to run
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.greeting, g.leave = context.WithCancel(g.ctx)
	if g.Metrics.registry != nil {
		g.Metrics.registry.MustRegister(newQueues(g))
	}
	g.start(g.janitor)
	return g
}

// elapsed is the time that limits of time are measured in: milliseconds, never 0.
// It does not jump with the wall clock.
func (g *Gateway) elapsed() int64 { return g.Mono().Milliseconds() + 1 }

// SetWriter supplies the Writer: writers need their Outlet first, and that is
// the gateway.
func (g *Gateway) SetWriter(w Writer) { g.Writer = w }

// start runs f as a goroutine of the gateway; it reports false, and runs
// nothing, when the gateway is closing.
func (g *Gateway) start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing && g.ctx.Err() != nil {
		return false
	}
	g.tasks.Go(f)
	return true
}

// GoAway asks all clients to leave and spread their return over Limits.Drain, and
// refuses new ones; handshakes under way are broken off. It waits until what was
// queued for clients is written, or ctx ends.
func (g *Gateway) GoAway(ctx context.Context) {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	g.leave()
	g.sessions.each((*conn).goAway)
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
	g.sessions.each((*conn).abort)
	g.tasks.Wait()
}

// Open returns the number of connections, handshakes included.
func (g *Gateway) Open() int64 { return g.open.Load() }

func (g *Gateway) admit() error {
	g.mu.Lock()
	closing := g.closing
	g.mu.Unlock()
	if closing {
		return pim.Errorf(pim.KindUnavailable, "the server is shutting down")
	}
	if n := g.open.Add(1); n > int64(g.Limits.Connections) {
		g.open.Add(-1)
		return pim.Errorf(pim.KindOverloaded, "this node has its %d connections", g.Limits.Connections)
	}
	return nil
}

// admitTCP is admit for a connection that nobody else has counted.
func (g *Gateway) admitTCP() error {
	if err := g.admit(); err != nil {
		return err
	}
	if g.Full != nil && g.Full() {
		g.open.Add(-1)
		return pim.Errorf(pim.KindOverloaded, "this node has no file for one more connection")
	}
	return nil
}

// Deliver queues answers and pushes for the connections concerned, then lets
// each of them write once. See conv.Outlet.
func (g *Gateway) Deliver(answers []conv.Answer, pushes []conv.Published) {
	var touched []*conn
	var ack ackScratch
	for i := range answers {
		c := answers[i].Request.Origin.(*conn)
		if c.answer(&answers[i], &ack) {
			touched = append(touched, c)
		}
	}
	for i := range pushes {
		touched = g.push(&pushes[i], touched)
	}
	if len(touched) > 0 {
		var d direct
		d.start(touched)
	}
	g.Metrics.answered(len(answers))
}

// push queues p for every connected device that may read it, and returns
// touched with those added whose sender is to be started.
func (g *Gateway) push(p *conv.Published, touched []*conn) []*conn {
	parts := splitPush(p)
	for i := range parts {
		part := &parts[i]
		for _, u := range p.Members {
			for _, c := range g.sessions.of(u) {
				if c.push(part, 0, pim.Seq(1<<63)) {
					touched = append(touched, c)
				}
			}
		}
		for _, r := range p.Partly {
			for _, c := range g.sessions.of(r.User) {
				if c.push(part, r.From, r.To) {
					touched = append(touched, c)
				}
			}
		}
	}
	return touched
}
