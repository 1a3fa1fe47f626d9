package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

type clusterCmd struct {
	Status   clusterStatusCmd   `cmd:"" help:"Show how all nodes are, and what is wrong; the status is 1 if something is."`
	Drain    clusterDrainCmd    `cmd:"" help:"Have other nodes take over what a node writes, and no new connections come to it."`
	Undrain  clusterUndrainCmd  `cmd:"" help:"End that."`
	Init     clusterInitCmd     `cmd:"" help:"Make the keyspace and the tables of a store on Cassandra, or add what this version needs."`
	Restored clusterRestoredCmd `cmd:"" help:"Say that the keyspace was put back from snapshots; before a node serves it."`
}

// clusterInitCmd makes the schema of a store on Cassandra.
type clusterInitCmd struct {
	server.ClusterStore
	Replication string `name:"replication" placeholder:"DC:COPIES,..." help:"Copies in each data centre, at least three in all, such as dc1:3 or dc1:1,dc2:1,dc3:1; or dc1:1, to try pim: all messages are lost with one disk. A number alone is for tests. Leave it out if the keyspace is there."`
	JSON        bool   `name:"json" help:"Print one JSON object."`
}

// clusterInitJSON is what cluster init prints. The names are stable.
type clusterInitJSON struct {
	Store  string `json:"store"`
	Before int    `json:"before"`
	Schema int    `json:"schema"`
}

// Run makes the schema.
func (c *clusterInitCmd) Run(ctx context.Context, s streams) error {
	before, now, err := server.InitCluster(ctx, c.ClusterStore, c.Replication, newLogger("error", "text", s.err))
	switch {
	case pim.KindOf(err) == pim.KindNotFound:
		return &usageError{&hintedError{err, "give --replication DC:3"}, "cluster init"}
	case pim.KindOf(err) == pim.KindInvalid:
		return &usageError{err, "cluster init"}
	case err != nil:
		return err
	case c.JSON:
		return json.NewEncoder(s.out).Encode(clusterInitJSON{c.Store, before, now})
	}
	did := fmt.Sprintf("has schema %d", now)
	if before != now {
		did = fmt.Sprintf("has schema %d now, and had %d", now, before)
	}
	_, err = fmt.Fprintf(s.out, "%s %s; start nodes on it: %s serve --store %s\n", c.Store, did, program(), c.Store)
	return err
}

// clusterRestoredCmd gives a store on Cassandra that was put back another identity.
type clusterRestoredCmd struct {
	server.ClusterStore
	JSON bool `name:"json" help:"Print one JSON object."`
}

// clusterRestoredJSON is what cluster restored prints. The names are stable.
type clusterRestoredJSON struct {
	Store    string `json:"store"`
	Identity string `json:"identity"`
}

// Run gives the store another identity.
func (c *clusterRestoredCmd) Run(ctx context.Context, s streams) error {
	identity, err := server.ClusterRestored(ctx, c.ClusterStore, newLogger("error", "text", s.err))
	switch kind := pim.KindOf(err); {
	case kind == pim.KindNotFound || kind == pim.KindInvalid:
		return &usageError{err, "cluster restored"}
	case err != nil:
		return err
	case c.JSON:
		return json.NewEncoder(s.out).Encode(clusterRestoredJSON{c.Store, identity})
	}
	_, err = fmt.Fprintf(s.out, "%s is %s now; start the nodes: devices will bring back what they have sent and it lacks\n", c.Store, identity)
	return err
}

// storeElsewhere is the setting by which commands of the embedded store find out that the store is
// another one.
type storeElsewhere struct {
	Store string `name:"store" env:"PIM_STORE" placeholder:"URL" hidden:""`
}

func (s *storeElsewhere) config() server.StoreConfig { return server.StoreConfig{Store: s.Store} }
