package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// Who blocks a user is not written to by them directly. The block is a setting of
// the one, the conversation another log with another writer: it reads the two
// settings when any block has changed since it did so last (Writers.blockings). Blocks
// change seldom; messages come all the time.
//
// The count is raised before a block command is answered, whatever the answer is:
// of a write with an unknown outcome nobody can tell when its cell is seen. To
// raise it where a commit changes a setting is not enough, since the try that is
// answered may find everything done by one before it.
//
// So that a load need not read two more cells, a block command is written to the
// conversation's state as well. The versions are those of the settings.

// blocks are who may not write to whom in a direct conversation.
type blocks struct {
	by    [2]block // as DirectUsers names them
	known bool     // by says so; else the settings must be read
}

// block is whether one of the two blocks the other.
type block struct {
	user    pim.UserID
	version uint64 // of the setting; 0: there is none
	on      bool
}

// blocked reports whether u may not write.
func (b *blocks) blocked(u pim.UserID) bool {
	return b.by[0].on && b.by[1].user == u || b.by[1].on && b.by[0].user == u
}

// take takes in what a cell says of who blocks whom.
func (b *blocks) take(by pim.UserID, version uint64, on bool) {
	for i := range b.by {
		if x := &b.by[i]; x.user == by && version > x.version {
			x.version, x.on = version, on
		}
	}
}

// blockPrefix begins the keys of blocks among stateCells; the user who blocks follows.
const blockPrefix = "block/"

// blockCell returns what the conversation of user and whom is to know of the setting s
// of user, a block.
func blockCell(user pim.UserID, s *setting) store.CellWrite {
	value := byte(0)
	if !s.Removed {
		value = 1
	}
	return store.CellWrite{
		Partition: stateCells(pim.Direct(user, pim.UserID(s.Subject))),
		Cell:      store.Cell{Key: blockPrefix + string(user), Version: s.version, Value: []byte{value}},
	}
}

func (e *encoder) blocks(b *blocks) {
	if !b.known {
		e.number(0)
		return
	}
	e.number(1)
	for _, x := range b.by {
		on := uint64(0)
		if x.on {
			on = 1
		}
		e.number(x.version)
		e.number(on)
	}
}

func (d *decoder) blocks(b *blocks) {
	if b.known = d.number() == 1; !b.known {
		return
	}
	for i := range b.by {
		b.by[i].version, b.by[i].on = d.number(), d.number() == 1
	}
}

// heedBlocks sees to it that l knows the blocks in force.
func (s *shard) heedBlocks(ctx context.Context, l *live) error {
	now := s.blockings.Load()
	if l.blockings == now {
		return nil
	}
	if b := &l.blocks; b.by[0].user != b.by[1].user {
		for i := range b.by {
			if err := b.by[i].read(ctx, s.store, b.by[1-i].user); err != nil {
				return err
			}
		}
		b.known = true
	}
	l.blockings = now
	return nil
}

// read reads the setting.
func (b *block) read(ctx context.Context, s store.Store, whom pim.UserID) error {
	cmd := pim.Command{Kind: pim.CommandBlock, Subject: string(whom)}
	cell, ok, err := s.Get(ctx, inbox.Settings(b.user), cmd.Entity())
	if err != nil || !ok {
		return err
	}
	set, err := inbox.ParseSetting(cell)
	b.version, b.on = cell.Version, err == nil && !set.Removed
	return err
}
