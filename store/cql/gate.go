package cql

import (
	"context"
	"net"
	"sync"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
)

// gate makes the driver's connections, and ends them all before the driver's session is closed. If the
// driver is about to connect its control connection again just then, Session.Close waits for ever
// (v2.1.2: a refresh of the schema is asked for when nobody carries it out any more). With the gate
// shut no such attempt succeeds.
type gate struct {
	dialer gocql.Dialer

	mu     sync.Mutex
	closed bool
	conns  map[*gatedConn]bool
}

// gatedConn keeps the methods of a TCPConn, also the one by which the driver writes several
// buffers in one call.
type gatedConn struct {
	*net.TCPConn
	gate    *gate
	to      net.IP // the node that the driver asked for
	waiting waiting
}

// DialContext implements gocql.Dialer.
func (g *gate) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	// The driver takes an OpError for final, and does not try again.
	shut := &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return nil, shut
	}
	c, err := g.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &gatedConn{TCPConn: c.(*net.TCPConn), gate: g, to: addressOf(address)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.Close()
		return nil, shut
	}
	g.conns[conn] = true
	return conn, nil
}

// Close implements net.Conn.
func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c)
	c.gate.mu.Unlock()
	return c.TCPConn.Close()
}

// shut ends all connections. The driver makes no more.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for c := range g.conns {
		c.TCPConn.Close()
	}
}

// closeWithin is how long the driver may take to end. It has no connections then.
const closeWithin = 5 * time.Second

// session is a session of the driver with its gate.
type session struct {
	*gocql.Session
	gate *gate
	came chan struct{} // has an element after a node has come up
}

// Close ends the session's connections and goroutines.
func (s *session) Close() {
	s.gate.shut()
	ended := make(chan struct{})
	go func() {
		s.Session.Close()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeWithin):
	}
}

// connect opens a session. The driver repeats nothing by itself, because it can't know what a
// transaction has come to, and it sets no timestamps.
func (o *Options) connect() (*session, error) {
	g := &gate{dialer: o.dialer, conns: map[*gatedConn]bool{}}
	if g.dialer == nil {
		g.dialer = &net.Dialer{Timeout: o.Timeout}
	}
	came := make(chan struct{}, 1)
	c := gocql.NewCluster(o.Hosts...)
	c.Port, c.Keyspace, c.Dialer = o.Port, o.Keyspace, g
	c.Timeout, c.WriteTimeout, c.ConnectTimeout = o.Timeout, o.Timeout, o.Timeout
	c.Consistency, c.SerialConsistency = gocql.Quorum, gocql.Serial
	c.RetryPolicy, c.DefaultTimestamp = nil, false
	nodes := gocql.RoundRobinHostPolicy()
	if o.DC != "" {
		nodes = gocql.DCAwareRoundRobinPolicy(o.DC)
	}
	c.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(&steady{nodes, g, func() {
		select {
		case came <- struct{}{}:
		default:
		}
	}})
	c.ReconnectInterval = reconnectEvery
	// With more than one attempt at a time, the driver would still sleep between two when it is closed.
	c.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 1}
	c.Metadata.CacheMode = gocql.KeyspaceOnly // by which the driver finds the replicas of a partition
	c.Logger = driverLog{o.Logger}
	if o.User != "" {
		c.Authenticator = gocql.PasswordAuthenticator{Username: o.User, Password: o.Password}
	}
	if o.TLS != nil {
		c.SslOpts = &gocql.SslOptions{Config: o.TLS, EnableHostVerification: !o.TLS.InsecureSkipVerify}
	}
	made, err := c.CreateSession()
	if err != nil {
		g.shut()
		return nil, pim.Errorf(pim.KindUnavailable, "no connection to any of %v, with the keyspace %q: %w", o.Hosts, o.Keyspace, err)
	}
	return &session{made, g, came}, nil
}

// reconnectEvery is how often the driver tries to reach a node that was down.
const reconnectEvery = time.Second
