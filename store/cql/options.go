package cql

import (
	"crypto/tls"
	"log/slog"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Options say where the cluster is, and tune a Store. Hosts and Keyspace are needed.
type Options struct {
	// Hosts are addresses of some of the cluster's nodes. The others are found through them.
	Hosts []string

	// Port is the one at which all nodes serve CQL; 0: 9042.
	Port int

	// Keyspace is what Init has made. It is a name in CQL that needs no quotes.
	Keyspace string

	// User and Password are what the nodes ask for; empty: they ask for nothing.
	User, Password string

	// TLS is how connections to nodes are made; nil: without TLS.
	TLS *tls.Config

	// Logger gets what an operator should know; nil: slog.Default.
	Logger *slog.Logger

	// Registerer gets the store's metrics, which Close takes back; nil: none.
	Registerer prometheus.Registerer

	// Timeout is how long a node may take to answer one request; 0: 6 s. It should be longer than
	// the nodes' own timeouts for writes and for contention (2 s and 1.8 s), so that they say what
	// has become of a request.
	Timeout time.Duration

	// WriteWithin is how long a write may take, with all that is sent again; 0: 15 s.
	WriteWithin time.Duration

	// MaxBytes bounds the bytes of the writes under way; 0: 64 MiB. Each counts for at least
	// 16 KiB. Begin waits when they are reached.
	MaxBytes int64

	// Restore opens a store that another one is being copied to, and makes such a store of an empty
	// one, see store.Restorer. Open refuses one that is complete, with KindConflict.
	Restore bool

	// DC names the data centre whose nodes are asked first; empty: all are asked alike. The others
	// are asked when none of it answers.
	DC string

	// hearWithin is how long Init waits until the nodes have heard of each other; 0: 15 s; for tests.
	hearWithin time.Duration

	// migrations are those that this version knows; for tests of later ones.
	migrations []migration

	// partSeqs is the length of a part, for Init; for tests.
	partSeqs int64

	// space begins the names of all logs and partitions, so that several stores share tables that
	// take a second to make; for tests.
	space string

	// dialer makes the connections to nodes; nil: the driver's own; for tests with a proxy.
	dialer gocql.Dialer
}

// defaultPort is at which Cassandra serves CQL.
const defaultPort = 9042

func (o Options) withDefaults() Options {
	setDefault(&o.Port, defaultPort)
	setDefault(&o.Logger, slog.Default())
	setDefault(&o.Timeout, 6*time.Second)
	setDefault(&o.WriteWithin, 15*time.Second)
	setDefault(&o.MaxBytes, 64<<20)
	setDefault(&o.partSeqs, 1024)
	setDefault(&o.hearWithin, 15*time.Second)
	if o.migrations == nil {
		o.migrations = migrations
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
