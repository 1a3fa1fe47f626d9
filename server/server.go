// Package server puts the parts of pim together in one process: store, writers,
// offline lists, gateway, and the HTTP pages to operate them by.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/home"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/retain"
	"github.com/pim-im/pim/route"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options are what a server takes besides its settings. The zero value is what
// `pim serve` uses.
type Options struct {
	Logger  *slog.Logger // nil: slog.Default
	Version string       // for /healthz and pim_build_info

	// Listeners, if not nil, come from Listen with the same Config. Shutdown closes them;
	// if New fails the caller still must.
	Listeners *Listeners
	// Store, if not nil, is used in place of the embedded one under
	// Config.Data. The server closes it.
	Store store.Store
	// Bus, if not nil, is this node's place among others, in place of what Config says; its roles are
	// those of Config. They have the same store. It has not started. If New succeeds, the server starts and closes it. Settle is how
	// long after that the server begins to serve: until it has heard of the others. It also waits that
	// long, but 2.5 s at most, until the others have heard that it stops.
	Bus    bus.Bus
	Settle time.Duration
	// WrapStore, WrapWriter, WrapReader and WrapOutlet, if not nil, put something between
	// two parts: to observe them, or to break a server on purpose and see a test notice.
	WrapStore  func(store.Store) store.Store
	WrapWriter func(gateway.Writer) gateway.Writer
	WrapReader func(gateway.Reader) gateway.Reader
	WrapOutlet func(conv.Outlet) conv.Outlet
	// Clock has the clocks that the server goes by and watches. The zero Source has the
	// machine's.
	Clock clock.Source
	// SweepEvery is about how far apart passes of the removal of old messages are; 0:
	// retain.DefaultEvery.
	SweepEvery time.Duration
}

// Server is one node.
type Server struct {
	config  Config
	log     *slog.Logger
	version string
	begun   time.Time
	metrics *prometheus.Registry
	files   share
	proxies gateway.Proxies
	web     atomic.Int64 // HTTP connections, without those that became WebSockets
	ring    *account.Keyring
	certs   *certificates // nil: no TLS

	engine   store.Store
	alone    bool   // nobody else can write to engine
	identity string // of the engine, "" if it has none
	clock    *clock.Watch
	acks     *inbox.Acks
	book     *access.Book
	audit    *auditor
	gateway  *gateway.Gateway
	writers  *conv.Writers
	sweeper  *retain.Sweeper // nil: the node is no writer
	cluster  *cluster        // nil: this is the only node
	signer   *lbs.Signer     // of leases and tickets
	balance  *balance        // nil: the node is no LBS

	overload *limit.Overload // nil: nothing is shed

	departing departing
	serves    atomic.Bool // it knows the others, and takes connections

	reloader *reloader
	unready  atomic.Pointer[string] // why, as last logged; empty: it was ready

	http, pprof, admin, watched             *http.Server
	listener, tcp, pprofL, adminL, watchedL net.Listener
	packets                                 net.PacketConn // for QUIC; nil: none
	quicErr                                 error          // why there is none that there should be
	quic                                    *gateway.QUIC  // nil: none is served
	serving                                 sync.WaitGroup
	keeping                                 sync.WaitGroup // keepAccess
	stopping                                chan struct{}  // closed when Shutdown begins
	once                                    sync.Once
	ending                                  atomic.Value  // string: the part whose end Shutdown waits for
	ended                                   chan struct{} // closed when all parts have ended
	endErr                                  error         // of the store's end
	failed                                  chan struct{} // closed when a listener has ended by itself
	failOnce                                sync.Once
	err                                     error // why failed is closed
}

// New opens the store and the keys and puts the parts together. Start makes the server
// serve. Once New has succeeded, Shutdown must be called, whether or not Start was.
func New(c Config, o Options) (*Server, error) {
	if err := c.validate(c.clustered() || o.Bus != nil); err != nil {
		return nil, err
	}
	s := &Server{
		config: c, log: o.Logger, version: o.Version, begun: time.Now(),
		metrics: prometheus.NewRegistry(), stopping: make(chan struct{}), ended: make(chan struct{}), failed: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.metrics.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
		buildInfo(o.Version),
	)
	var err error
	if s.proxies, err = gateway.ParseProxies(c.TrustedProxies); err != nil {
		return nil, err
	}
	if s.signer, err = c.leaseSigner(s.log); err != nil {
		return nil, err
	}
	if err := s.fitFiles(); err != nil {
		return nil, err
	}
	if err := s.loadTLS(o.Clock.Now); err != nil {
		return nil, err
	}
	if o.Clock.Now == nil {
		o.Clock.Now = ownClock(c.Data)
	}
	keys, err := s.open(o)
	if err != nil {
		return nil, err
	}
	if o.Bus == nil {
		if o.Bus, err = s.config.openBus(o.Clock.Now(), s.metrics, s.log); err != nil {
			_ = s.engine.Close()
			return nil, err
		}
		o.Settle = home.Settle
	}
	if o.Listeners != nil {
		s.take(o.Listeners)
	}
	s.ring = account.NewKeyring(keys)
	s.assemble(s.ring, o)
	s.watchFiles(s.ring)
	s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pim_ready", Help: "1 while the node acknowledges what it is sent, see /readyz.",
	}, func() float64 {
		if s.Ready() != nil {
			return 0
		}
		return 1
	}))
	return s, nil
}

// keys loads the key file, or makes one as LoadKeys says. used says that a store that is not in the data
// directory was used before.
func (s *Server) keys(used bool) (*account.Keys, error) {
	keys, created, err := s.config.loadKeys(used)
	if err == nil {
		s.warnOfKeys(keys)
	}
	if created {
		s.log.Info("made a development key; whoever reads it can be any user", "file", s.config.KeysPath())
	}
	return keys, err
}

// assemble connects the parts: gateway → writers → store, and back out through the gateway's
// sessions.
func (s *Server) assemble(keys *account.Keyring, o Options) {
	st := s.engine
	if o.WrapStore != nil {
		st = o.WrapStore(st)
	}
	s.clock = clock.New(clock.Options{Source: o.Clock, Wait: o.Bus != nil && o.Settle > 0, Metrics: s.metrics, Logger: s.log})
	shards := s.config.Shards
	if shards == 0 {
		shards = runtime.GOMAXPROCS(0)
	}
	s.overload = s.newOverload()
	sessions := gateway.NewSessions(gateway.NewMetrics(s.metrics))
	s.acks = inbox.NewAcks(st, s.log, sessions.Acknowledged)
	s.acks.Register(s.metrics)
	s.book = access.New(st)
	s.audit = &auditor{dir: s.config.Data, now: s.clock.Relied, log: s.log}
	lists := inbox.New(st)
	lists.GoBy(s.clock.Relied)
	var reader gateway.Reader = lists
	if o.WrapReader != nil {
		reader = o.WrapReader(reader)
	}
	writers := func(outlet conv.Outlet) route.Writer {
		if o.WrapOutlet != nil {
			outlet = o.WrapOutlet(outlet)
		}
		s.writers = conv.New(st, conv.Options{
			Outlet: outlet, Shards: shards, Members: s.config.GroupMembers,
			EditWindow: orNever(s.config.EditWindow), RecallWindow: orNever(s.config.RecallWindow), RetainNotice: s.config.RetainNotice, Now: s.clock.Relied, Gate: s.gate, Set: s.clockSet,
			Deeds: limit.Deed{Groups: int32(s.config.UserGroups), Members: int32(s.config.UserMembers), Strangers: int32(s.config.UserStrangers)}, Bytes: s.config.UserBytes, Free: s.config.freeUsers(), Consent: s.config.Consent,
			Overload: s.overload,
			Alone:    s.alone, Metrics: conv.NewMetrics(s.metrics), Logger: s.log,
		})
		return s.writers
	}
	var writer gateway.Writer
	var homes gateway.Homes
	if o.Bus == nil {
		writer = writers(sessions)
	} else {
		s.cluster = s.joinCluster(o.Bus, o.Settle, sessions, writers)
		writer, homes = s.cluster.router, s.cluster.home
	}
	if s.config.has(bus.RoleWriter) {
		s.sweeper = retain.New(retain.Options{
			Store: st, Trim: s.writers.Trim, Age: s.config.Retain, Every: o.SweepEvery, Now: s.clock.Relied, Mono: s.clock.Mono, Gate: s.gate,
			Registerer: s.metrics, Logger: s.log,
		})
	}
	if o.WrapWriter != nil {
		writer = o.WrapWriter(writer)
	}
	s.gateway = gateway.New(gateway.Options{
		Writer: writer, Sessions: sessions, Reader: reader, Acks: s.acks, Verifier: keys, Access: s.book, Devices: devices{s}, Homes: homes, Store: s.identity, Logger: s.log,
		Now: s.clock.Relied, Doubt: s.clock.Gate, Mono: s.clock.Mono,
		Presence: s.config.Presence, Retain: s.config.Retain, Overload: s.overload,
		Full: s.full, Proxies: s.proxies, Lease: s.leaseCheck(), Starts: true,
		Limits: gateway.Limits{
			Connections: s.files.connections, User: s.config.UserConnections, InFlight: s.config.InFlight, QueueBytes: s.config.QueueBytes,
			Handshake: s.config.HandshakeTimeout, Idle: s.config.IdleTimeout, Write: s.config.WriteTimeout,
			Heartbeat: s.config.MaxHeartbeat, Reconnect: s.config.ReconnectWindow,
			Drain: s.config.DrainWindow, Members: s.config.GroupMembers,
			Memory: mostMemory(s.config.MaxMemory),
			Rates: limit.Rates{
				Accept: s.config.acceptsInASecond(), Address: s.config.AddressRate, Network: s.config.NetworkRate,
				User: s.config.UserLogins, Device: s.config.DeviceLogins,
				Frames: s.config.ConnectionFrames, Bytes: s.config.ConnectionBytes,
			},
		},
	})
	if s.config.has(bus.RoleLBS) {
		s.balance = s.newBalance(s.signer)
	}
}

// orNever returns d as conv.Options takes it, where 0 is the default.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// clockSet returns when the clock was set last, 0 if never or longer than pim.SetWindow ago:
// then all devices know of it.
func (s *Server) clockSet() pim.Millis {
	at, ago, ever := s.clock.Jumped()
	if !ever || ago > time.Duration(pim.SetWindow)*time.Millisecond {
		return 0
	}
	return pim.MillisOf(at)
}

// gate returns why the store would not take what the writers append now, or nil. The writers'
// drivers ask it in each turn.
func (s *Server) gate() error {
	if err := s.clock.Gate(); err != nil {
		return err
	}
	return s.engine.Health()
}

// Start listens, unless Options.Listeners were given, and serves in the background. One of several nodes answers at
// once, but says that it is starting and takes no connections until it knows the others: that is when Start returns. ctx
// bounds Start only.
func (s *Server) Start(ctx context.Context) error {
	if s.listener == nil {
		l, err := Listen(ctx, s.config)
		if err != nil {
			return err
		}
		s.take(l)
	}
	s.tellLoad() // the first word that others hear has it
	s.answerAll()
	if s.cluster != nil {
		if err := s.cluster.start(ctx); err != nil {
			return err
		}
	}
	s.serves.Store(true)
	s.gateway.Opens()
	s.keepAll()
	return nil
}

// take makes l the server's own.
func (s *Server) take(l *Listeners) {
	s.listener, s.tcp, s.pprofL = s.proxies.Listen(l.HTTP, s.config.HandshakeTimeout), l.TCP, l.Pprof
	s.watchedL = l.Metrics
	if s.tcp != nil {
		s.tcp = s.proxies.Listen(s.tcp, s.config.HandshakeTimeout)
	}
	s.packets, s.quicErr = l.QUIC, l.quicErr
}

// answerAll begins to answer at the addresses for clients, and at the profiler's and that of the metrics.
func (s *Server) answerAll() {
	s.http = s.httpServer()
	s.serving.Go(func() {
		if s.certs != nil {
			s.http.TLSConfig = s.certs.config()
			s.fail(s.http.ServeTLS(s.gateway.Screen(s.listener), "", ""))
			return
		}
		s.fail(s.http.Serve(s.listener))
	})
	if s.tcp != nil {
		var conf *tls.Config
		if s.certs != nil {
			conf = s.certs.config()
		}
		s.serving.Go(func() { s.fail(s.gateway.ServeTCP(s.tcp, conf)) })
	}
	s.serveQUIC()
	if s.pprofL != nil {
		s.pprof = &http.Server{Handler: pprofPages(), ReadHeaderTimeout: s.config.HandshakeTimeout}
		s.serving.Go(func() { s.fail(s.pprof.Serve(s.pprofL)) })
	}
	if s.watchedL != nil {
		s.watched = s.serverFor(s.watchedPages())
		s.serving.Go(func() { s.fail(s.watched.Serve(s.watchedL)) })
	}
}

// keepAll begins what the server does by itself, and to take orders.
func (s *Server) keepAll() {
	s.serving.Go(func() { s.reloader.run(s.stopping) })
	s.keeping.Go(func() { s.keepAccess(s.stopping) })
	if s.overload != nil {
		s.serving.Go(func() { s.watchOverload(s.stopping) })
	}
	s.tellOfGateways()
	s.serving.Go(func() { s.keepTelling(s.stopping) })
	if _, embedded := s.engine.(*pebble.Store); embedded || s.config.Store != "" || s.cluster != nil {
		s.serveAdmin()
	}
}

// fail notes that a listener ended by itself, with err. That it was closed is no failure.
func (s *Server) fail(err error) {
	if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return
	}
	s.failOnce.Do(func() {
		s.err = err
		close(s.failed)
	})
}

// Addr returns the address for HTTP and WebSocket, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// TCPAddr returns the address for raw TCP, "" if that is turned off or the node is no gateway.
func (s *Server) TCPAddr() string {
	if s.tcp == nil {
		return ""
	}
	return s.tcp.Addr().String()
}

// MetricsAddr returns the address of /metrics alone, "" if it is at Addr.
func (s *Server) MetricsAddr() string {
	if s.watchedL == nil {
		return ""
	}
	return s.watchedL.Addr().String()
}

// PprofAddr returns the address of Go's profiler, "" if that is turned off.
func (s *Server) PprofAddr() string {
	if s.pprofL == nil {
		return ""
	}
	return s.pprofL.Addr().String()
}

// Done is closed when the server can no longer serve; Err says why.
func (s *Server) Done() <-chan struct{} { return s.failed }

// Err returns why Done is closed, nil before.
func (s *Server) Err() error {
	select {
	case <-s.failed:
		return s.err
	default:
		return nil
	}
}

// stopGrace is how much longer than its context Shutdown waits for the parts to end. What is
// left to do then takes milliseconds, and up to a second for snapshots (conv.Writers.CloseAtRest), unless the disk is stuck.
const stopGrace = 2 * time.Second

// Shutdown stops the server. /readyz fails from now on, what is under way is committed and
// answered, clients are asked to leave and to spread their return, and the store is closed.
// When ctx ends Shutdown cuts that short; nothing acknowledged is lost by it. If a part does
// not end even then, because the disk is stuck, the error says which. The part goes on
// ending in the background, and Shutdown may be called again to wait for it.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() {
		close(s.stopping)
		if s.cluster != nil {
			s.cluster.leaveSoon(ctx)
		}
		if s.tcp != nil {
			s.tcp.Close()
		}
		if s.quic != nil {
			s.quic.Refuse()
		}
		drain, cancel := half(ctx)
		s.writers.Drain(drain)
		if s.cluster != nil {
			s.cluster.router.Drain(drain)
		}
		cancel()
		if s.cluster != nil {
			s.cluster.home.EndsSoon()
		}
		s.gateway.GoAway(ctx, s.farewell(s.departure()))
		go s.end()
	})
	late, end := context.WithCancel(context.Background())
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, end) })()
	select {
	case <-s.ended:
		return s.endErr
	case <-late.Done():
		return pim.Errorf(pim.KindUnavailable, "the node does not stop: %s has not ended, as with a disk that is stuck; nothing acknowledged is lost", s.ending.Load())
	}
}

// half returns a context for the first half of the time that ctx has left. With a stuck disk
// the writers use up all the time that they get, and clients must still be told to go
// elsewhere before ctx ends.
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(end)/2)
}

// end stops the parts one after the other, each before the parts that it uses.
func (s *Server) end() {
	defer close(s.ended)
	for _, part := range []struct {
		name string
		stop func()
	}{
		{"a connection", s.gateway.Close},
		{"QUIC", s.closeQUIC},
		{"a page", s.closePages},
		{"the removal of old messages", s.closeSweeper},
		{"a commit", s.writers.CloseAtRest},
		{"what goes to other nodes", s.cluster.leave},
		{"the writing of when devices came", s.endAccess},
		{"the writing of acknowledgements", s.acks.Close},
		{"the bus", s.cluster.close},
		{"the clock", s.clock.Close},
		{"the store", func() { s.endErr = s.engine.Close() }},
	} {
		s.ending.Store(part.name)
		part.stop()
	}
}

func (s *Server) closeSweeper() {
	if s.sweeper != nil {
		s.sweeper.Close()
	}
}

func (s *Server) closePages() {
	for _, h := range []*http.Server{s.http, s.pprof, s.admin, s.watched} {
		if h != nil {
			h.Close()
		}
	}
	for _, l := range []net.Listener{s.listener, s.pprofL, s.adminL, s.watchedL} {
		if l != nil {
			l.Close()
		}
	}
	s.serving.Wait()
}
