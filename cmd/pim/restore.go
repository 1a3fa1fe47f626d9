package main

import (
	"context"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

type restoreCmd struct {
	Data string `name:"data" env:"PIM_DATA" default:"./pim-data" placeholder:"DIR" help:"Data directory: without a store, or with --from missing, with the backup in it."`
	storeElsewhere
	From string `name:"from" placeholder:"DIR" help:"What pim backup has made. It is read first, to see that it is whole, and stays as it is."`
}

// Run puts a backup back, unless that was done, and gives the restored store another identity.
func (c *restoreCmd) Run(ctx context.Context, s streams) error {
	config, log := server.Config{Data: c.Data, StoreConfig: c.config()}, newLogger("warn", "text", s.err)
	restore := func() (string, error) { return server.Restore(ctx, config, log) }
	if c.From != "" {
		restore = func() (string, error) { return server.RestoreFrom(ctx, config, c.From, log) }
	}
	identity, err := restore()
	switch {
	case pim.KindOf(err) == pim.KindNotFound, c.From != "" && pim.KindOf(err) == pim.KindInvalid:
		return &usageError{err, "restore"}
	case err != nil:
		return dataHint(err)
	}
	_, err = fmt.Fprintf(s.out, "the store in %s is %s now; start the server: devices will bring back what they have sent and it lacks\n", c.Data, identity)
	return err
}
