package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// Who blocks a user is not written to by them directly. The block is a setting of
// the one, the conversation another log with another writer: it reads the two
// settings when it is loaded, and again when any block has changed since
// (Writers.blockings). Blocks change seldom; messages come all the time.
//
// The count is raised before a block command is answered, whatever the answer is:
// of a write with an unknown outcome nobody can tell when its cell is seen. To
// raise it where a commit changes a setting is not enough, since the try that is
// answered may find everything done by one before it.

// heedBlocks sees to it that l knows the blocks in force.
func (s *shard) heedBlocks(ctx context.Context, l *live) error {
	now := s.blockings.Load()
	if l.blockings == now {
		return nil
	}
	a, b, ok := l.id.DirectUsers()
	if ok && a != b {
		blocked := make(map[pim.UserID]bool)
		for by, who := range map[pim.UserID]pim.UserID{a: b, b: a} {
			on, err := blocks(ctx, s.store, by, who)
			if err != nil {
				return err
			}
			if on {
				blocked[who] = true
			}
		}
		l.blocked = blocked
	}
	l.blockings = now
	return nil
}

// blocks reports whether by blocks who.
func blocks(ctx context.Context, s store.Store, by, who pim.UserID) (bool, error) {
	block := pim.Command{Kind: pim.CommandBlock, Subject: string(who)}
	cell, ok, err := s.Get(ctx, inbox.Settings(by), block.Entity())
	if err != nil || !ok {
		return false, err
	}
	set, err := inbox.ParseSetting(cell)
	return err == nil && !set.Removed, err
}
