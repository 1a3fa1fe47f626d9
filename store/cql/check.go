package cql

import (
	"context"
	"errors"
	"fmt"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
)

// checkCluster returns why what a quorum has acknowledged could be lost by a crash of its nodes, as an
// error of KindInvalid that says what to set, of KindUnsupported if a node can't tell, or of KindCorrupt if a table is not as
// it must be. It asks all nodes that are up. accepted is what meta says of few copies. An error of another kind says that it could not ask.
func checkCluster(ctx context.Context, session *session, keyspace string, accepted int) (Replication, error) {
	told, durable, err := readKeyspace(ctx, session, keyspace)
	if err != nil {
		return Replication{}, err
	}
	if !durable {
		return Replication{}, pim.Errorf(pim.KindInvalid, "the keyspace %s has durable_writes = false: ALTER KEYSPACE %s WITH durable_writes = true", keyspace, keyspace)
	}
	r, err := readReplication(told)
	if err != nil {
		return r, err
	}
	if centres := session.centres(); r.simple > 0 && len(centres) > 1 {
		return r, r.fits(centres)
	}
	if n := r.copies(); n < leastCopies && n != accepted {
		return r, pim.Errorf(pim.KindInvalid, "the keyspace %s has the replication %s, and pim needs %d copies: ALTER KEYSPACE, then nodetool repair --full on every node; pim cluster init takes one copy, to try pim, if --replication says so",
			keyspace, r, leastCopies)
	}
	nodes := checkNodes(ctx, session)
	if nodes != nil && !errors.Is(nodes, errNotAsked) {
		return r, nodes
	}
	if err := checkTables(ctx, session, keyspace); err != nil {
		return r, err
	}
	return r, nodes
}

// errNotAsked is in the chain of the error that says that a node is up, as the driver sees it, and does not
// answer, and that nothing else is wrong.
var errNotAsked = errors.New("a node of Cassandra does not answer")

// readKeyspace returns a keyspace's replication, and whether it goes through the commit log. An error
// of KindNotFound says that there is no such keyspace.
func readKeyspace(ctx context.Context, session *session, keyspace string) (replication map[string]string, durable bool, err error) {
	err = patiently(ctx, func() error {
		q := session.Query("SELECT replication, durable_writes FROM system_schema.keyspaces WHERE keyspace_name = ?", keyspace)
		return q.Consistency(gocql.One).ScanContext(ctx, &replication, &durable)
	})
	if errors.Is(err, gocql.ErrNotFound) {
		return nil, false, pim.Errorf(pim.KindNotFound, "the cluster has no keyspace %q", keyspace)
	} else if err != nil {
		return nil, false, unavailable("look at the keyspace", err)
	}
	return replication, durable, nil
}

// checkNodes checks the settings of all nodes that are up.
func checkNodes(ctx context.Context, session *session) error {
	hosts := session.GetHosts()
	return checkAll(ctx, len(hosts), func(ctx context.Context, i int) error { return checkNode(ctx, session, hosts[i]) })
}

// checkAll calls check for 0 to n-1, all at once, so that one that does not answer hides no other. If a check
// ends with KindInvalid, that is the error, and the other checks are told to end. If not, it is the error of
// any of those that have failed.
func checkAll(ctx context.Context, n int, check func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan error, n)
	for i := range n {
		go func() { found <- check(ctx, i) }()
	}
	var worst error
	for range n {
		err := <-found
		if err != nil && (worst == nil || worse(err, worst)) {
			worst = err
		}
		if pim.KindOf(worst) == pim.KindInvalid {
			cancel()
		}
	}
	return worst
}

// worse reports whether err says more than worst of why a cluster is not safe.
func worse(err, worst error) bool {
	return pim.KindOf(err) == pim.KindInvalid && pim.KindOf(worst) != pim.KindInvalid ||
		errors.Is(worst, errNotAsked) && !errors.Is(err, errNotAsked)
}

// checkNode returns an error of KindInvalid that says what a node's settings must be. It returns nil if
// the node is down: then it is asked when it comes up.
func checkNode(ctx context.Context, session *session, host *gocql.HostInfo) error {
	address := host.ConnectAddress()
	var sync, paxos string
	err := patiently(ctx, func() error {
		if !host.IsUp() {
			return gocql.ErrNotFound
		}
		for name, value := range map[string]*string{"commitlog_sync": &sync, "paxos_variant": &paxos} {
			q := session.Query("SELECT value FROM system_views.settings WHERE name = ?", name)
			if err := q.Consistency(gocql.One).SetHostID(host.HostID()).ScanContext(ctx, value); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, gocql.ErrNotFound):
		return nil
	case err != nil:
		return noSettings(address.String(), err)
	case sync != "batch" && sync != "group":
		return pim.Errorf(pim.KindInvalid, "the node %s has commitlog_sync: %s, and acknowledges what a power failure takes; set batch or group in cassandra.yaml",
			address, sync)
	case paxos != "v2":
		// With v1 a node may answer that too few replicas are there when the transaction was proposed
		// already, and could take effect later. The other variants read what is not final.
		return pim.Errorf(pim.KindInvalid, "the node %s has paxos_variant: %s, whose refusals are not final; set v2 in cassandra.yaml", address, paxos)
	}
	return nil
}

// noSettings returns the error of a node of which the question for its settings has ended with err.
func noSettings(address string, err error) error {
	if answers(err, gocql.ErrCodeInvalid) {
		return pim.Errorf(pim.KindUnsupported, "the node %s does not tell its settings, so nobody knows whether it keeps what it acknowledges: pim needs Apache Cassandra 5; ScyllaDB and others are not supported: %w", address, err)
	}
	what := "look at the settings of " + address
	if mistaken(err) {
		return unavailable(what, err)
	}
	return unavailable(what, fmt.Errorf("%w: %w", errNotAsked, err))
}

// patiently calls ask, which changes nothing or may be repeated, until it succeeds. It gives up when
// the request is mistaken, when what it asks for is not there, or after askWithin.
func patiently(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	for n := 0; ; n++ {
		err := ask()
		if err == nil || errors.Is(err, gocql.ErrNotFound) || mistaken(err) || !pause(ctx, n) {
			return err
		}
	}
}

// askWithin is for how long a question that opens a store is repeated.
const askWithin = 20 * time.Second

// centres returns the number of nodes, up or down, in each data centre.
func (s *session) centres() map[string]int {
	nodes := map[string]int{}
	for _, host := range s.GetHosts() {
		nodes[host.DataCenter()]++
	}
	return nodes
}
