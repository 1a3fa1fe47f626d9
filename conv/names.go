package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/username"
)

// newcomers returns the users whom r may bring in, as far as the conversation can
// tell: nobody, once it has begun.
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

// heedNames refuses newcomers whose name only those may have who have it already. The
// store is asked about such names alone.
func (s *shard) heedNames(ctx context.Context, newcomers []pim.UserID) error {
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
