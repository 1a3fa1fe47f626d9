package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// A user's own log is a conversation whose entries are commands. The settings that result
// from them are a projection, the cells of inbox.Settings. A batch writes these cells with the
// entries. If a cell may be missing, the writer that loads the log writes it again, as with
// every projection.

// What one user may keep, at most. It is bounded because the state of an own log has all
// settings in memory.
const (
	maxSettings     = 100_000  // entities
	maxSettingBytes = 16 << 20 // bytes of all their values
)

// roomFor returns an Error of KindTooLarge if the settings would grow beyond their bounds with
// cmd. No-receipts and no-presence, which are one setting each, always have room: who keeps too much
// can still hide.
func (c *conversation) roomFor(cmd *pim.Command) error {
	was, known := c.settings[cmd.Entity()]
	grows := len(cmd.Value) - len(was.Value)
	switch {
	case !known && len(c.settings) >= maxSettings && !cmd.Kind.OfUser():
		return tooManySettings.tooLarge("%d contacts, blocks, mutes, pins and read positions are kept", maxSettings)
	case grows > 0 && c.values+grows > maxSettingBytes:
		return settingsTooLarge.tooLarge("the contacts of a user have at most %d bytes", maxSettingBytes)
	}
	return nil
}

// obey applies cmd, the command of the entry e about entity, and reports whether it changed
// anything.
func (c *conversation) obey(e *pim.Entry, cmd *pim.Command, entity string) bool {
	s := c.settings[entity]
	if !s.Apply(cmd, e.Seq, e.Device) {
		return false
	}
	// Of two cells of the greatest version the newer one has the greater value, see SettingCell.
	s.version = max(inbox.SettingVersion(&s.Setting), min(s.version+1, store.MaxVersion))
	c.keep(entity, s)
	if cmd.Kind == pim.CommandNoReceipts {
		c.hidden = !cmd.Removed
	}
	return true
}

// setting is the current setting of an entity, and the version of its cell. That is mostly the
// version that inbox.SettingVersion gives the setting. If a read has replaced a position beyond
// the conversation's end, it is greater: the cell of that position has a greater version, and
// the new cell must win.
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

// loadSettings reads the settings of an own log from their cells. The caller then applies the
// log's tail (takeCommand), because the cells may lack its last changes.
func (c *conversation) loadSettings(ctx context.Context, s store.Store) error {
	owner, own := c.id.OwnUser()
	if !own {
		return nil
	}
	err := listAll(ctx, s, inbox.Settings(owner), func(cell store.Cell) error {
		set, err := inbox.ParseSetting(cell)
		if err == nil && set.Kind.Known() { // a later version of pim wrote the others: their cells stay as they are
			c.keep(cell.Key, setting{Setting: set, version: cell.Version})
		}
		return err
	})
	receipts := c.settings[noReceipts(owner)]
	c.hidden = receipts.InForce(0)
	return err
}

// takeCommand applies an entry of a log that is being loaded.
func (l *live) takeCommand(e *pim.Entry) {
	if e.Kind != pim.EntryCommand {
		return
	}
	cmd, err := wire.DecodeCommand(e.Payload)
	if err != nil || !cmd.Kind.Known() {
		return // of a later version of pim, which will apply it
	}
	entity := cmd.Entity()
	changed := l.obey(e, &cmd, entity)
	// If obey changes nothing, the setting's cell was written. Its effect, or the read cell of a
	// position that was in force before, may not have been, and so is written again.
	again, shows := changed || affects(cmd.Kind), l.unsettledSettings[entity]
	if s := shown(e, &cmd); s.seq > shows.seq {
		again, shows = true, s
	}
	if again {
		if l.unsettledSettings == nil {
			l.unsettledSettings = make(map[string]sent)
		}
		l.unsettledSettings[entity] = shows
	}
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
