package retain

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// slowClock is the time that a Sweeper goes by. If the wall clock is set forward by mistake,
// entries that are not old would be removed for good. So this time goes at most twice as fast as
// a clock that nobody sets, and is never ahead of the wall clock. After a node was off, or its
// clock was behind, it takes as long to come to the wall clock's time.
type slowClock struct {
	newest pim.Millis    // that a Sweeper has gone by
	read   time.Duration // by the clock that nobody sets: when now was called last
}

func (k *slowClock) now(wall pim.Millis, mono time.Duration) pim.Millis {
	now := min(wall, k.newest+2*pim.Millis((mono-k.read).Milliseconds()))
	k.newest, k.read = max(k.newest, now), mono
	return now
}

// firstTime returns the time at which the clock begins at the first pass over a store. The wall
// clock may be ahead since the process started, and nothing that was stored tells how far. What was
// written before that has server times of a clock that was relied on then, so it was at least that
// late: firstTime returns the newest of these times. If nothing was written before, nothing can be
// removed for days, and it is the time of the start.
func (s *Sweeper) firstTime(ctx context.Context) (pim.Millis, error) {
	start := pim.MillisOf(s.started)
	var newest pim.Millis
	for n := range inbox.LogPartitions {
		for after := ""; ; {
			cells, err := s.Store.List(ctx, inbox.Logs(n), after, pageLogs)
			if err != nil {
				return 0, err
			}
			for _, c := range cells {
				if err := s.Gate(); err != nil {
					return 0, err
				}
				t, err := s.newestBefore(ctx, c, start)
				switch {
				case ctx.Err() != nil:
					return 0, ctx.Err()
				case err != nil: // without it the clock begins earlier, at most
					s.failed(c.Key, err)
				}
				newest = max(newest, t)
			}
			if len(cells) < pageLogs {
				break
			}
			after = cells[pageLogs-1].Key
			if err := s.sleep(ctx, pause); err != nil {
				return 0, err
			}
		}
	}
	if newest == 0 {
		return start, nil
	}
	return newest, nil
}

// newestBefore returns the server time of the newest entry from before start in the log that the
// index has as cell; 0: there is none left.
func (s *Sweeper) newestBefore(ctx context.Context, cell store.Cell, start pim.Millis) (pim.Millis, error) {
	if _, oldest, err := inbox.ParseLogCell(cell); err != nil || oldest >= start {
		return 0, err
	}
	c := pim.ConversationID(cell.Key)
	begin := []store.Read{firstOf(c)}
	if err := s.Store.Read(ctx, begin); err != nil {
		return 0, err
	}
	if len(begin[0].Records) == 0 {
		return 0, nil
	}
	first, err := serverTime(c, begin[0].Records[0])
	if err != nil || first >= start {
		return 0, err
	}
	seq, _, err := s.newestOld(ctx, c, begin[0].First, begin[0].Last, start-1)
	if err != nil {
		return 0, err
	}
	newest := []store.Read{{Log: inbox.Entries(c), From: seq, To: seq, Limit: store.Limit{Records: 1, Bytes: 1}}}
	if err := s.Store.Read(ctx, newest); err != nil || len(newest[0].Records) == 0 {
		return first, err
	}
	return serverTime(c, newest[0].Records[0])
}
