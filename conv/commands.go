package conv

import (
	"context"
	"math"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// A user's own log is a conversation whose entries are commands. What they have
// come to is a projection, cells of inbox.Settings: written with the entries, and
// like every projection written again from the log by who takes it over.

// What one user may keep: the writer of an own log has all of it in memory.
const (
	maxSettings     = 100_000  // entities
	maxSettingBytes = 16 << 20 // their values
)

// roomFor reports why cmd cannot be kept, as an Error of KindTooLarge.
func (c *conversation) roomFor(cmd *pim.Command) error {
	was, known := c.settings[cmd.Entity()]
	grows := len(cmd.Value) - len(was.Value)
	switch {
	case !known && len(c.settings) >= maxSettings:
		return tooManySettings.tooLarge("%d contacts, blocks, mutes, pins and read positions are kept", maxSettings)
	case grows > 0 && c.values+grows > maxSettingBytes:
		return settingsTooLarge.tooLarge("the contacts of a user have at most %d bytes", maxSettingBytes)
	}
	return nil
}

// obey applies cmd, the command of the entry e, and reports whether it changed
// anything.
func (c *conversation) obey(e *pim.Entry, cmd *pim.Command) bool {
	entity := cmd.Entity()
	s := c.settings[entity]
	if !s.Apply(cmd, e.Seq, e.Device) {
		return false
	}
	if s.version != math.MaxUint64 { // of equal versions the greater value wins: it begins with At
		s.version = max(inbox.SettingCell(&s.Setting).Version, s.version+1)
	}
	c.keep(entity, s)
	return true
}

// setting is what an entity has come to, and the version of its cell. That is the version
// that inbox.SettingCell gives it. It is greater where a read has replaced a position
// beyond the conversation's end: the cell of that position had a greater one.
type setting struct {
	pim.Setting
	version uint64
}

func (c *conversation) keep(entity string, s setting) {
	if c.settings == nil {
		c.settings = make(map[string]setting)
	}
	c.values += len(s.Value) - len(c.settings[entity].Value)
	c.settings[entity] = s
}

// loadSettings reads the projection. The log's tail, applied to it, tells what of
// it is missing.
func (c *conversation) loadSettings(ctx context.Context, s store.Store) error {
	owner, own := c.id.OwnUser()
	if !own {
		return nil
	}
	return listAll(ctx, s, inbox.Settings(owner), func(cell store.Cell) error {
		set, err := inbox.ParseSetting(cell)
		if err == nil && set.Kind.Known() { // else of a later version: its cell stays as it is
			c.keep(cell.Key, setting{set, cell.Version})
		}
		return err
	})
}

// takeCommand applies an entry of a log that is being loaded.
func (l *live) takeCommand(e *pim.Entry) {
	if e.Kind != pim.EntryCommand {
		return
	}
	cmd, err := wire.DecodeCommand(e.Payload)
	if err != nil || !cmd.Kind.Known() {
		return // a later version's: it knows what to do with it
	}
	// Even a block that is known, since the cell of the setting was written: the
	// conversation has another of it.
	if l.obey(e, &cmd) || cmd.Kind == pim.CommandBlock {
		l.unsettledSettings = append(l.unsettledSettings, cmd.Entity())
	}
}

// appendSettingCells appends what is to be written of an entity to cells.
func appendSettingCells(cells []store.CellWrite, c *live, entity string) []store.CellWrite {
	owner, _ := c.id.OwnUser()
	s := c.settings[entity]
	cell := inbox.SettingCell(&s.Setting)
	cell.Version = s.version
	cells = append(cells, store.CellWrite{Partition: inbox.Settings(owner), Cell: cell})
	if s.Kind == pim.CommandBlock {
		cells = append(cells, blockCell(owner, &s))
	}
	return cells
}

// listAll calls f on every cell of a partition.
func listAll(ctx context.Context, s store.Store, p store.Partition, f func(store.Cell) error) error {
	const page = 1000
	for after := ""; ; {
		cells, err := s.List(ctx, p, after, page)
		if err != nil {
			return err
		}
		for _, cell := range cells {
			if err := f(cell); err != nil {
				return err
			}
			after = cell.Key
		}
		if len(cells) < page {
			return nil
		}
	}
}
