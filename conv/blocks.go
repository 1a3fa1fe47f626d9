package conv

import (
	"context"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A blocked user can't send direct messages to the user who blocked them. The block is a
// setting in the own log of the user who blocks; the direct conversation is another log with
// another writer. The block reaches that writer as an effect: a cell in the state of the direct
// conversation (blockCell), and the raise of its fence, see effects.go. So a load reads the
// block cells after it has read the fence. The cell has the version of the setting.

// blocks says who may not write to whom in a direct conversation.
type blocks struct {
	by    [2]block // as DirectUsers names them
	known bool     // by is complete; a snapshot of an earlier version of pim may not know it
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

// loadBlocks takes in the block cells of a direct conversation, which are among cells, those of
// its state. If the snapshot does not know the blocks, loadBlocks first reads the settings that
// they follow from: an earlier version of pim wrote no block cells.
func (l *live) loadBlocks(ctx context.Context, s store.Store, cells []store.Cell) error {
	b := &l.blocks
	if b.by[0].user == b.by[1].user { // not a direct conversation, or one with oneself
		return nil
	}
	for i := range b.by {
		if b.known {
			break
		}
		if err := b.by[i].read(ctx, s, b.by[1-i].user); err != nil {
			return err
		}
	}
	b.known = true
	for _, c := range cells {
		if by, ok := strings.CutPrefix(c.Key, blockPrefix); ok && len(c.Value) > 0 {
			b.take(pim.UserID(by), c.Version, c.Value[0] == 1)
		}
	}
	return nil
}

// read reads from the settings of b.user whether b.user blocks other.
func (b *block) read(ctx context.Context, s store.Store, other pim.UserID) error {
	cmd := pim.Command{Kind: pim.CommandBlock, Subject: string(other)}
	cell, ok, err := store.Lookup(ctx, s, inbox.Settings(b.user), cmd.Entity())
	if err != nil || !ok {
		return err
	}
	set, err := inbox.ParseSetting(cell)
	b.version, b.on = cell.Version, err == nil && !set.Removed
	return err
}
