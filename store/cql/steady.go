package cql

import (
	"net"
	"sync/atomic"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// silentAfter is how long a node may leave a connection without a byte of an answer until it counts as
// silent. A healthy node answers within milliseconds. One that waits for other nodes takes up to 2 s, and
// is asked last for this moment, too, which does no harm.
const silentAfter = time.Second

// steady is the order in which the driver asks nodes: that of the policy in it, but silent nodes come
// last. A process that stands still keeps its connections, and the driver would give it a part of all
// requests until the others have taken it for dead, each of them for the whole Options.Timeout.
type steady struct {
	gocql.HostSelectionPolicy
	gate *gate
	came func() // is called when a node comes up, or becomes known; must not wait
}

// IsLocal implements gocql.HostSelectionPolicy. The driver asks replicas that are local before the order of
// Pick.
func (s *steady) IsLocal(host *gocql.HostInfo) bool {
	return s.HostSelectionPolicy.IsLocal(host) && !s.gate.silent(host)
}

// AddHost implements gocql.HostSelectionPolicy.
func (s *steady) AddHost(host *gocql.HostInfo) {
	s.HostSelectionPolicy.AddHost(host)
	s.came()
}

// HostUp implements gocql.HostSelectionPolicy.
func (s *steady) HostUp(host *gocql.HostInfo) {
	s.HostSelectionPolicy.HostUp(host)
	s.came()
}

// Pick implements gocql.HostSelectionPolicy.
func (s *steady) Pick(statement gocql.ExecutableStatement) gocql.NextHost {
	next := s.HostSelectionPolicy.Pick(statement)
	var last []gocql.SelectedHost
	return func() gocql.SelectedHost {
		for next != nil {
			host := next()
			if host == nil {
				next = nil
			} else if s.gate.silent(host.Info()) {
				last = append(last, host)
			} else {
				return host
			}
		}
		if len(last) == 0 {
			return nil
		}
		host := last[0]
		last = last[1:]
		return host
	}
}

// waiting is since when a connection has had no byte of an answer to what was written to it: nanoseconds
// of the monotonic clock, 0 if nothing is waited for.
type waiting struct{ since atomic.Int64 }

var started = time.Now()

func (w *waiting) begin() { w.since.CompareAndSwap(0, max(1, int64(time.Since(started)))) }

func (w *waiting) end() { w.since.Store(0) }

func (w *waiting) longerThan(d time.Duration) bool {
	since := w.since.Load()
	return since != 0 && int64(time.Since(started))-since > int64(d)
}

// SetWriteDeadline implements net.Conn. The driver sets one before each write, and may write past Write, by
// several buffers in one call.
func (c *gatedConn) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() {
		c.waiting.begin()
	}
	return c.TCPConn.SetWriteDeadline(t)
}

// Read implements net.Conn.
func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if n > 0 {
		c.waiting.end()
	}
	return n, err
}

// silent reports whether a connection to host has waited for an answer for too long.
func (g *gate) silent(host *gocql.HostInfo) bool {
	address := host.ConnectAddress()
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		if c.to.Equal(address) && c.waiting.longerThan(silentAfter) {
			return true
		}
	}
	return false
}

// addressOf returns the IP address in an address of HOST:PORT, nil if there is none.
func addressOf(address string) net.IP {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	return net.ParseIP(host)
}
