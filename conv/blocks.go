package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A blocked user can't send direct messages to the user who blocked them. The block is a
// setting in the own log of the user who blocks; the direct conversation is another log with
// another machine. That machine has the settings of its two users read again if any block
// has changed since it last did so (Writers.blockings counts the changes). Blocks change
// seldom; messages come all the time.
//
// A driver raises the count before it answers a block command, whatever the answer is: if a
// write has an unknown outcome, nobody can tell when its cell becomes visible. To raise the
// count only where a commit changes a setting is not enough: the try that is answered may
// find that an earlier try has done everything.
//
// A block command also writes a cell to the state of the direct conversation (blockCell), so
// that a load need not read the two settings. The cell has the version of the setting.

// blocks says who may not write to whom in a direct conversation.
type blocks struct {
	by    [2]block // as DirectUsers names them
	known bool     // by is complete; if not, the settings must be read
}

// block says whether user, one of the two, blocks the other.
type block struct {
	user    pim.UserID
	version uint64 // of the setting's cell; 0: no setting is known
	on      bool
}

// blocked reports whether u may not write.
func (b *blocks) blocked(u pim.UserID) bool {
	return b.by[0].on && b.by[1].user == u || b.by[1].on && b.by[0].user == u
}

// take takes in a block cell of the conversation's state, unless b knows a newer version.
func (b *blocks) take(by pim.UserID, version uint64, on bool) {
	for i := range b.by {
		if x := &b.by[i]; x.user == by && version > x.version {
			x.version, x.on = version, on
		}
	}
}

// blockPrefix begins the keys of the block cells in stateCells; the ID of the user who blocks
// follows.
const blockPrefix = "block/"

// blockCell returns the cell that tells the direct conversation of user and s.Subject about
// s, a block that user has set or lifted.
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

func appendBlocks(e *varint.Encoder, b *blocks) {
	if !b.known {
		e.Number(0)
		return
	}
	e.Number(1)
	for _, x := range b.by {
		on := uint64(0)
		if x.on {
			on = 1
		}
		e.Number(x.version)
		e.Number(on)
	}
}

func restoreBlocks(d *varint.Decoder, b *blocks) {
	if b.known = d.Number() == 1; !b.known {
		return
	}
	for i := range b.by {
		b.by[i].version, b.by[i].on = d.Number(), d.Number() == 1
	}
}

// heedBlocks reads the blocks in force into l, if any block has changed since l last read
// them.
func (s *Writers) heedBlocks(ctx context.Context, l *live) error {
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

// read reads from the settings of b.user whether b.user blocks whom.
func (b *block) read(ctx context.Context, s store.Store, whom pim.UserID) error {
	cmd := pim.Command{Kind: pim.CommandBlock, Subject: string(whom)}
	cell, ok, err := store.Lookup(ctx, s, inbox.Settings(b.user), cmd.Entity())
	if err != nil || !ok {
		return err
	}
	set, err := inbox.ParseSetting(cell)
	b.version, b.on = cell.Version, err == nil && !set.Removed
	return err
}
