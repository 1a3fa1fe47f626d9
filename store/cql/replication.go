package cql

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pim-im/pim"
)

// Replication says how many copies of everything a cluster keeps, and where.
// ParseReplication makes one.
type Replication struct {
	simple  int            // copies on any nodes; 0: copies are by data centre
	centres map[string]int // data centre → its copies
}

const (
	simpleStrategy   = "SimpleStrategy"
	networkStrategy  = "NetworkTopologyStrategy"
	leastCopies      = 3 // with two, a quorum is both; with one, all is lost with a disk
	mostCopies       = 64
	replicationUsage = "write DC:COPIES for each data centre, with commas between them, such as dc1:3 or dc1:1,dc2:1,dc3:1"
)

// ParseReplication reads "dc1:3,dc2:2", the copies in each data centre, which become a
// NetworkTopologyStrategy. A number alone is for tests: so many copies on any nodes of a cluster
// with one data centre, by SimpleStrategy. One copy in all is for trying pim. Errors are of KindInvalid: also if there
// would be two copies over all data centres, with which no node may fail, as with one.
func ParseReplication(text string) (Replication, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > mostCopies {
			return Replication{}, pim.Errorf(pim.KindInvalid, "replication: %d copies are not from 1 to %d", n, mostCopies)
		}
		r := Replication{simple: n}
		return r, r.enough()
	}
	r := Replication{centres: map[string]int{}}
	for part := range strings.SplitSeq(text, ",") {
		name, copies, ok := strings.Cut(strings.TrimSpace(part), ":")
		n, err := strconv.Atoi(copies)
		if !ok || err != nil || name == "" || strings.ContainsAny(name, "'\\") {
			return Replication{}, pim.Errorf(pim.KindInvalid, "replication: %q is no data centre with its copies; %s", part, replicationUsage)
		}
		if _, twice := r.centres[name]; twice || n < 1 || n > mostCopies {
			return Replication{}, pim.Errorf(pim.KindInvalid, "replication: %q stands twice, or its copies are not from 1 to %d", name, mostCopies)
		}
		r.centres[name] = n
	}
	return r, r.enough()
}

// enough returns why nobody should want so few copies.
func (r Replication) enough() error {
	if n := r.copies(); n < leastCopies && n != 1 {
		return pim.Errorf(pim.KindInvalid, "replication: %s has %d copies in all, and pim writes to most of them: with fewer than %d no node may fail; %s; or one copy, to try pim",
			r, n, leastCopies, replicationUsage)
	}
	return nil
}

// readReplication reads the replication of a keyspace as Cassandra tells it.
func readReplication(told map[string]string) (Replication, error) {
	class := told["class"]
	class = class[strings.LastIndexByte(class, '.')+1:]
	r := Replication{centres: map[string]int{}}
	for name, copies := range told {
		if name == "class" {
			continue
		}
		n, err := strconv.Atoi(copies)
		if err != nil || n < 0 { // "3/1" has a transient copy, which a quorum must not count
			return Replication{}, pim.Errorf(pim.KindInvalid, "the keyspace has %q copies in %q; pim needs whole numbers", copies, name)
		}
		if n > 0 {
			r.centres[name] = n
		}
	}
	switch {
	case class == simpleStrategy && r.centres["replication_factor"] > 0:
		return Replication{simple: r.centres["replication_factor"]}, nil
	case class == networkStrategy && len(r.centres) > 0:
		return r, nil
	}
	return Replication{}, pim.Errorf(pim.KindInvalid, "the keyspace has the replication %v; pim needs a %s with copies", told, networkStrategy)
}

// copies returns the number of copies in all.
func (r Replication) copies() int {
	n := r.simple
	for _, copies := range r.centres {
		n += copies
	}
	return n
}

// String returns what ParseReplication has read.
func (r Replication) String() string {
	if r.simple > 0 {
		return strconv.Itoa(r.simple)
	}
	parts := make([]string, 0, len(r.centres))
	for _, name := range slices.Sorted(maps.Keys(r.centres)) {
		parts = append(parts, fmt.Sprintf("%s:%d", name, r.centres[name]))
	}
	return strings.Join(parts, ",")
}

// cql returns r as a map of CQL.
func (r Replication) cql() string {
	if r.simple > 0 {
		return fmt.Sprintf("{'class': '%s', 'replication_factor': %d}", simpleStrategy, r.simple)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "{'class': '%s'", networkStrategy)
	for _, name := range slices.Sorted(maps.Keys(r.centres)) {
		fmt.Fprintf(&b, ", '%s': %d", name, r.centres[name])
	}
	return b.String() + "}"
}

// fits returns why a cluster with so many nodes in each data centre can't keep r.
func (r Replication) fits(nodes map[string]int) error {
	if r.simple > 0 {
		if len(nodes) > 1 {
			return pim.Errorf(pim.KindInvalid, "replication: the cluster has the data centres %s, and a number of copies says nothing of where they are; %s",
				strings.Join(slices.Sorted(maps.Keys(nodes)), ", "), replicationUsage)
		}
		for name, n := range nodes {
			if r.simple > n {
				return pim.Errorf(pim.KindInvalid, "replication: %d copies do not fit the %d nodes of %s", r.simple, n, name)
			}
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.centres)) {
		if n := nodes[name]; r.centres[name] > n {
			return pim.Errorf(pim.KindInvalid, "replication: %d copies do not fit the %d nodes of the data centre %q; the cluster has %s",
				r.centres[name], n, name, strings.Join(slices.Sorted(maps.Keys(nodes)), ", "))
		}
	}
	return nil
}
