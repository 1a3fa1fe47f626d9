package imtest

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// ReadAll pulls from the server all entries of c that cl's user may read, in pages of
// at most limit entries. If a pull fails, ReadAll returns the entries read by then, and
// the error. The error is of KindNotMember, too, if nobody has written to c yet.
func ReadAll(ctx context.Context, cl *client.Client, c pim.ConversationID, limit int) (all []pim.Entry, err error) {
	for next := pim.Seq(1); ; {
		page, err := cl.Pull(ctx, c, next, 0, limit, false)
		if err != nil {
			return all, err
		}
		all = append(all, page.Entries...)
		if page.To >= page.Newest || page.To < next {
			return all, nil
		}
		next = page.To + 1
	}
}

// Pause waits for d; it returns false if ctx ends before.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
