package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/username"
)

// newcomers returns the users whom r names and who may be new to the node: the two of a direct
// conversation that has no entry yet, the members of a create or a join, and the subject of a
// contact or block command that sets a new entity.
func (c *conversation) newcomers(r *Request) []pim.UserID {
	switch r.Kind {
	case pim.EntryMessage:
		if c.last != 0 {
			return nil
		}
		if a, b, direct := c.id.DirectUsers(); direct {
			return []pim.UserID{a, b}
		}
	case pim.EntryCreate, pim.EntryJoin:
		return r.Members
	case pim.EntryCommand:
		if cmd := r.command; (cmd.Kind == pim.CommandContact || cmd.Kind == pim.CommandBlock) && !cmd.Removed {
			if _, known := c.settings[cmd.Entity()]; !known {
				return []pim.UserID{pim.UserID(cmd.Subject)}
			}
		}
	}
	return nil
}

// heedNames returns an error if a newcomer has a name that username.Check refuses, unless the
// node knows that user already. It asks the store only about such names.
func (s *Writers) heedNames(ctx context.Context, newcomers []pim.UserID) error {
	for _, u := range newcomers {
		refusal := username.Check("user ID", string(u))
		if refusal == nil {
			continue
		}
		if known, err := inbox.Known(ctx, s.store, u); err != nil || !known {
			if err == nil {
				err = refusal
			}
			return err
		}
	}
	return nil
}
