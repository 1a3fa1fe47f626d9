package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

type clusterCmd struct {
	Init clusterInitCmd `cmd:"" help:"Make the keyspace and the tables of a store on Cassandra, or add what this version needs."`
}

// clusterInitCmd makes the schema of a store on Cassandra.
type clusterInitCmd struct {
	server.StoreConfig
	Replication string `name:"replication" placeholder:"DC:COPIES,..." help:"Copies in each data centre, at least three in all, such as dc1:3 or dc1:1,dc2:1,dc3:1. A number alone is for tests. Leave it out if the keyspace is there."`
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
	before, now, err := server.InitCluster(ctx, c.StoreConfig, c.Replication, newLogger("error", "text", s.err))
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

// storeElsewhere is the setting by which commands of the embedded store find out that the store is
// another one.
type storeElsewhere struct {
	Store string `name:"store" env:"PIM_STORE" placeholder:"URL" hidden:""`
}

func (s *storeElsewhere) config() server.StoreConfig { return server.StoreConfig{Store: s.Store} }
