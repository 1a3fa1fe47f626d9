package main

import (
	"context"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

type restoreCmd struct {
	Data string `name:"data" env:"PIM_DATA" default:"./pim-data" placeholder:"DIR" help:"Data directory, with the backup in it."`
}

// Run gives the restored store another identity.
func (c *restoreCmd) Run(ctx context.Context, s streams) error {
	identity, err := server.Restore(ctx, server.Config{Data: c.Data}, newLogger("warn", "text", s.err))
	switch {
	case pim.KindOf(err) == pim.KindNotFound:
		return &usageError{err, "restore"}
	case err != nil:
		return dataHint(err)
	}
	_, err = fmt.Fprintf(s.out, "the store in %s is %s now; start the server: devices will bring back what they have sent and it lacks\n", c.Data, identity)
	return err
}
