// Package nats carries the frames of package link over core NATS: a bus.Bus between processes.
//
// Each node runs a NATS server inside its process, and these servers are meshed by routes: a node that
// joins names some of the others, and learns of the rest from them. Or all nodes are clients of NATS servers
// that somebody else runs. Nothing is stored: JetStream is off.
//
// Each node has the subject pim.node.NAME, and pim.all is everybody's. NATS keeps the order of what
// one client sends on one subject, and loses messages where a connection is slow or breaks. Package link
// notices both.
//
// Between the nodes there is TLS with a certificate authority of the cluster's own, if it is given: who has
// a certificate of it is a node. The names in the certificates do not count, since nodes find each other under
// addresses that nobody has written down.
package nats

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	subjectNode = "pim.node."
	subjectAll  = "pim.all"
)

// Options say how a node reaches the others. Either Listen or Servers is given.
type Options struct {
	Self bus.Node // what the node says of itself; Run and Protocol too

	Listen string   // HOST:PORT on which the embedded server takes other nodes; port 0 takes a free one
	Join   []string // HOST:PORT of other nodes, any number of which may be down
	// Servers are the URLs, nats://HOST:PORT or tls://HOST:PORT, of NATS servers to use
	// instead of the embedded one. Their max_payload must be link.MaxFrame at least: Start fails with
	// KindInvalid if it is less. A server that is reached only later, and takes less, is used for nothing, and the log says so.
	Servers []string

	Token string // which all nodes of the cluster know; "": none is needed
	TLS   *TLS   // nil: nothing is encrypted, unless Servers are tls://

	Metrics prometheus.Registerer // nil: none
	Logger  *slog.Logger          // nil: none
}

// Bus is a bus.Bus over NATS.
type Bus struct {
	*link.Node
	network *network
}

// New returns a node that has not started. It reads the files of TLS. Errors are *pim.Error: of KindInvalid
// for an option that is wrong, and those of the files.
func New(o Options) (*Bus, error) {
	if (o.Listen == "") == (len(o.Servers) == 0) {
		return nil, pim.Errorf(pim.KindInvalid, "either an address to listen on for other nodes, or NATS servers, are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n := &network{options: o, log: o.Logger}
	if o.TLS != nil {
		var err error
		if n.tls, err = o.TLS.load(); err != nil {
			return nil, err
		}
	}
	node, err := link.New(link.Options{Self: o.Self, Network: n, Metrics: o.Metrics, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return &Bus{node, n}, nil
}

// ClusterAddr returns where the embedded server takes other nodes, with the real port. It is "" before
// Start, and without an embedded server.
func (b *Bus) ClusterAddr() string {
	b.network.mu.Lock()
	defer b.network.mu.Unlock()
	if b.network.server == nil || b.network.server.ClusterAddr() == nil {
		return ""
	}
	return b.network.server.ClusterAddr().String()
}

// network is a link.Network.
type network struct {
	options Options
	log     *slog.Logger
	tls     *tlsFiles // nil: none

	leaving atomic.Bool                    // Close has begun
	account atomic.Pointer[server.Account] // of the embedded server, which knows the subscriptions of the other nodes; nil: there is none
	small   atomic.Bool                    // the server takes no messages as large as ours may be

	mu     sync.Mutex
	closed bool
	server *server.Server // nil: that of somebody else
	conn   *nats.Conn
	done   chan struct{} // closed when conn has called receive for the last time

	// receive is called by a goroutine for each of the two subscriptions; order holds between them.
	order sync.Mutex
}

func (n *network) Open(ctx context.Context, self string, receive func([]byte)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return errClosed
	}
	options := nats.GetDefaultOptions()
	options.Name = self
	options.NoEcho = true
	options.MaxReconnect = -1
	options.ReconnectWait = 250 * time.Millisecond
	options.ReconnectBufSize = -1 // what cannot be sent is lost; package link tells of it
	options.RetryOnFailedConnect = true
	options.PingInterval, options.MaxPingsOut = pingEvery, pingsLost
	options.AllowReconnect = true
	n.done = make(chan struct{})
	done := n.done
	options.ClosedCB = func(*nats.Conn) { close(done) }
	options.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		switch {
		case n.leaving.Load():
		case err == nil:
			n.log.Warn("the connection to NATS is broken: the server has closed it")
		default:
			n.log.Warn("the connection to NATS is broken", "error", err)
		}
	}
	options.ConnectedCB = n.measure
	options.ReconnectedCB = func(conn *nats.Conn) {
		n.log.Info("connected to NATS again")
		n.measure(conn)
	}
	options.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { n.log.Warn("NATS", "error", err) }
	if err := n.reach(ctx, &options); err != nil {
		return err
	}
	conn, err := options.Connect()
	if err != nil {
		n.stopServer()
		return pim.Errorf(pim.KindUnavailable, "connection to NATS: %w", err)
	}
	if conn.IsConnected() {
		if err := checkPayload(conn); err != nil {
			conn.Close()
			<-done
			n.stopServer()
			return err
		}
	}
	n.conn = conn
	take := func(m *nats.Msg) {
		if n.small.Load() {
			return
		}
		n.order.Lock()
		receive(m.Data)
		n.order.Unlock()
	}
	for _, subject := range []string{subjectNode + self, subjectAll} {
		sub, err := conn.Subscribe(subject, take)
		if err == nil {
			err = sub.SetPendingLimits(-1, receiveBytes)
		}
		if err != nil {
			return pim.Errorf(pim.KindUnavailable, "subscription to %s: %w", subject, err)
		}
	}
	if n.server != nil { // else it may be down for now
		err = conn.FlushTimeout(startWait)
	}
	if err != nil {
		return pim.Errorf(pim.KindUnavailable, "connection to NATS: %w", err)
	}
	return nil
}

// measure looks at what the server takes to which conn has been connected. If that is too little nothing is sent or taken
// any more, as if the connection were broken: large messages would be lost each time, and the others would
// send them again each time.
func (n *network) measure(conn *nats.Conn) {
	err := checkPayload(conn)
	n.small.Store(err != nil)
	if err != nil {
		n.log.Error("no other node is reached over NATS", "error", err)
	}
}

func checkPayload(conn *nats.Conn) error {
	if most := conn.MaxPayload(); most < link.MaxFrame {
		return pim.Errorf(pim.KindInvalid, "the NATS server %s takes messages of %d bytes: its max_payload must be %d at least",
			conn.ConnectedUrlRedacted(), most, link.MaxFrame)
	}
	return nil
}

// reach says in options where the server is, having started the embedded one. n.mu is held.
func (n *network) reach(ctx context.Context, options *nats.Options) error {
	if len(n.options.Servers) > 0 {
		options.Servers = n.options.Servers
		options.Token = n.options.Token
		if n.tls != nil {
			options.TLSConfig = n.tls.client()
			options.Secure = true
		}
		return nil
	}
	token := randomToken()
	s, err := n.startServer(ctx, token)
	if err != nil {
		return err
	}
	n.server = s
	n.account.Store(s.GlobalAccount())
	options.Url = s.ClientURL()
	options.Token = token
	options.InProcessServer = s
	return nil
}

var (
	errClosed = pim.Errorf(pim.KindUnavailable, "the connection to NATS is closed")
	errSmall  = pim.Errorf(pim.KindUnavailable, "the max_payload of the NATS server is too small")
)

func (n *network) Send(to string, frame []byte) error { return n.publish(subjectNode+to, frame) }

// Reaches implements link.Reacher. The embedded server forgets what a node has subscribed to when the connection to it
// breaks, at once if the other process has died.
func (n *network) Reaches(to string) bool {
	account := n.account.Load()
	return account == nil || account.SubscriptionInterest(subjectNode+to)
}

func (n *network) Broadcast(frame []byte) error { return n.publish(subjectAll, frame) }

func (n *network) publish(subject string, frame []byte) error {
	n.mu.Lock()
	conn := n.conn
	n.mu.Unlock()
	if conn == nil {
		return errClosed
	}
	if n.small.Load() {
		return errSmall
	}
	return conn.Publish(subject, frame)
}

func (n *network) Close() {
	n.leaving.Store(true)
	n.mu.Lock()
	n.closed = true
	conn, done := n.conn, n.done
	n.conn = nil
	n.mu.Unlock()
	if conn != nil {
		_ = conn.FlushTimeout(flushWait) // so that the others hear that this node leaves
		conn.Close()
		<-done
		n.order.Lock() // receive has returned; a later call finds the node closed and does nothing
		defer n.order.Unlock()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopServer()
}

// CheckServers returns why urls are not those of NATS servers, nats://HOST:PORT or tls://HOST:PORT; nil if they are.
func CheckServers(urls []string) error {
	for _, u := range urls {
		rest, plain := strings.CutPrefix(u, "nats://")
		if !plain {
			var secure bool
			if rest, secure = strings.CutPrefix(u, "tls://"); !secure {
				return pim.Errorf(pim.KindInvalid, "%q is neither nats://HOST:PORT nor tls://HOST:PORT", u)
			}
		}
		if err := CheckAddress(rest); err != nil {
			return err
		}
	}
	return nil
}
