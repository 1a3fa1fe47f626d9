package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

type backupCmd struct {
	Data string `name:"data" env:"PIM_DATA" default:"./pim-data" placeholder:"DIR" help:"Data directory to back up. A server may run on it; then be its user, or root."`
	storeElsewhere
	To   string `name:"to" required:"" placeholder:"DIR" help:"Directory for the backup: a new one, or an empty one."`
	JSON bool   `name:"json" help:"Print one JSON object."`
}

// backupJSON is what backup prints. The names are stable.
type backupJSON struct {
	Dir     string `json:"dir"`
	Logs    uint64 `json:"logs"`
	Entries uint64 `json:"entries"`
	Cells   uint64 `json:"cells"`
	Bytes   int64  `json:"bytes"`
	Keys    bool   `json:"keys"`
}

// Run makes a backup and reads it.
func (c *backupCmd) Run(ctx context.Context, s streams) error {
	dir, err := filepath.Abs(c.To)
	if err != nil {
		return &usageError{err, "backup"}
	}
	b, err := server.Backup(ctx, server.Config{Data: c.Data, StoreConfig: c.config()}, dir, newLogger("warn", "text", s.err))
	switch {
	case pim.KindOf(err) == pim.KindNotFound, pim.KindOf(err) == pim.KindInvalid:
		return &usageError{err, "backup"}
	case err != nil:
		return dataHint(err)
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(backupJSON{dir, b.Contents.Logs, b.Contents.Records, b.Contents.Cells, b.Contents.Bytes, b.Keys})
	}
	keys := "keys.json is in it: whoever reads it can be any user"
	if !b.Keys {
		keys = "there was no keys.json beside the store: back the key file up, too"
	}
	_, err = fmt.Fprintf(s.out, "backed up to %s, read and found whole: %d logs, %d entries, %d cells, %d bytes; %s\n",
		dir, b.Contents.Logs, b.Contents.Records, b.Contents.Cells, b.Contents.Bytes, keys)
	return err
}
