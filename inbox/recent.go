package inbox

import (
	"cmp"
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// MaxRecent bounds SyncRequest.Recent.
const MaxRecent = 100

// recentShare is how many bytes a brief Summary takes that Recent returns, at most, so that twenty
// of them are less than 16 KiB. One that is not whole takes less in any case.
const recentShare = 768

// Recent returns, of the conversations that a Sync with req lists from its first page on, the
// req.Recent whose newest entries are newest, if there are more; and else none: then the
// page begins with them anyway.
func (x *Inbox) Recent(ctx context.Context, req SyncRequest) ([]Summary, error) {
	if req.Recent == 0 || req.After != "" {
		return nil, nil
	}
	mark, err := x.mark(ctx, &req)
	if err != nil {
		return nil, err
	}
	freshOnly := settled(mark) && !req.Full
	newest, more, err := x.newestLines(ctx, &req, freshOnly)
	if err != nil || !more {
		return nil, err
	}
	x.readNewest(ctx, newest, len(newest), true)
	most := wire.FrameRoom
	if req.Brief {
		most = recentShare
	}
	list := make([]Summary, len(newest))
	for i := range newest {
		s := &list[i]
		if *s, err = newest[i].summary(); err != nil {
			return nil, err
		}
		if err := s.settleLast(req.Brief, most); err != nil {
			return nil, err
		}
	}
	x.lookUpSettings(ctx, req.User, list)
	return list, nil
}

// newestLines returns the req.Recent lines to be listed whose entries are newest, in the order of
// their conversations. more says that there are others.
func (x *Inbox) newestLines(ctx context.Context, req *SyncRequest, freshOnly bool) (newest []line, more bool, err error) {
	type timed struct {
		line
		at pim.Millis
	}
	var top []timed // the newest first
	lines := x.newWalk(req.User, "", freshOnly)
	acks := cursor{store: x.store, partition: Acked(req.User, req.Device)}
	for {
		some, err := lines.some(ctx, scanPage)
		if err != nil {
			return nil, false, err
		}
		if len(some) == 0 {
			break
		}
		if err := x.lookUpAcked(ctx, &acks, some, freshOnly); err != nil {
			return nil, false, err
		}
		for i := range some {
			l := &some[i]
			if l.acked >= l.Version && !req.Full {
				continue
			}
			parsed, err := ParseLine(l.Cell)
			if err != nil {
				return nil, false, err
			}
			at, _ := slices.BinarySearchFunc(top, parsed.Time, func(t timed, at pim.Millis) int { return cmp.Compare(at, t.at) })
			if len(top) == req.Recent {
				more = true
				if at == len(top) {
					continue
				}
				top = top[:len(top)-1]
			}
			top = slices.Insert(top, at, timed{*l, parsed.Time})
		}
	}
	for _, t := range top {
		newest = append(newest, t.line)
	}
	slices.SortFunc(newest, func(a, b line) int { return cmp.Compare(a.Key, b.Key) })
	return newest, more, nil
}
