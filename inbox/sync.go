package inbox

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// SyncRequest asks for a page of a device's offline list, see PIMSyncReq.
type SyncRequest struct {
	User   pim.UserID
	Device pim.DeviceID
	Full   bool               // every conversation, whatever was acknowledged
	After  pim.ConversationID // Next of the page before
	Limit  int                // conversations; 0: defaultSync
	Brief  bool               // last entries as wire.BriefEntry makes them
}

const (
	defaultSync = 100
	maxSync     = 1000
	scanPage    = 512 // cells read at once
	// summaryOverhead is what a Summary has besides its conversation and entry, in
	// bytes, at the most: three numbers, two flags, the fields' tags.
	summaryOverhead = 48
	// maxSyncBytes keeps a page with its last entries below one frame.
	maxSyncBytes = pim.MaxFrame - 32<<10
)

// Summary is one conversation that a device has not got the whole of.
type Summary struct {
	Conversation pim.ConversationID
	Line
	Acked pim.Seq // by this device
	Last  []byte  // the entry at Newest, encoded; nil if it is not durable yet
	Cut   bool    // Last is brief, and its payload was cut
}

// SyncPage is one page of an offline list.
type SyncPage struct {
	Summaries []Summary
	Next      pim.ConversationID // empty: this was the last page
}

// Sync returns one page, in the order of conversation IDs. It reads two sorted
// lists of cells side by side, the user's lines and the device's
// acknowledgements, and holds a page of each.
func (x *Inbox) Sync(ctx context.Context, req SyncRequest) (SyncPage, error) {
	limit := defaultSync
	if req.Limit > 0 {
		limit = min(req.Limit, maxSync)
	}
	lines := cursor{store: x.store, partition: Lines(req.User), after: string(req.After)}
	acks := cursor{store: x.store, partition: Acked(req.User, req.Device), after: string(req.After)}
	var page SyncPage
	room := maxSyncBytes
	for {
		cell, ok, err := lines.next(ctx)
		if err != nil || !ok {
			return page, err
		}
		if len(page.Summaries) == limit || room <= 0 {
			page.Next = page.Summaries[len(page.Summaries)-1].Conversation
			return page, nil
		}
		acked, err := acks.version(ctx, cell.Key)
		if err != nil {
			return page, err
		}
		if acked >= cell.Version && !req.Full {
			continue
		}
		s, err := x.summary(ctx, cell, pim.Seq(acked))
		if err != nil {
			return page, err
		}
		if req.Brief {
			if err := s.shorten(); err != nil {
				return page, err
			}
		}
		page.Summaries = append(page.Summaries, s)
		room -= len(s.Last) + len(s.Conversation) + summaryOverhead
	}
}

func (x *Inbox) summary(ctx context.Context, cell store.Cell, acked pim.Seq) (Summary, error) {
	s := Summary{Conversation: pim.ConversationID(cell.Key), Acked: acked}
	var err error
	if s.Line, err = ParseLine(cell); err != nil {
		return s, err
	}
	records, err := x.store.Read(ctx, Entries(s.Conversation), s.Newest, s.Newest, store.Limit{Records: 1, Bytes: pim.MaxFrame})
	if err == nil && len(records) == 1 {
		s.Last = records[0]
	}
	return s, err
}

// shorten makes the last entry brief.
func (s *Summary) shorten() error {
	if s.Last == nil {
		return nil
	}
	var m wirepb.Entry
	if err := m.UnmarshalVT(s.Last); err != nil {
		return pim.Errorf(pim.KindCorrupt, "last entry of %s: %w", s.Conversation, err)
	}
	brief, cut := wire.BriefEntry(&m)
	data, err := brief.MarshalVT()
	s.Last, s.Cut = data, cut
	return err
}

// Serial returns the highest serial of a PIMPushAck stored for the device, 0 if
// there is none.
func (x *Inbox) Serial(ctx context.Context, user pim.UserID, device pim.DeviceID) (uint64, error) {
	cell, _, err := x.store.Get(ctx, Devices(user), string(device))
	return cell.Version, err
}

// Known reports whether the user has had a part in pim: a conversation in the
// offline list, or a device that acknowledged something.
func (x *Inbox) Known(ctx context.Context, user pim.UserID) (bool, error) {
	return Known(ctx, x.store, user)
}

// Known is Inbox.Known for a store.
func Known(ctx context.Context, s store.Store, user pim.UserID) (bool, error) {
	for _, p := range []store.Partition{Lines(user), Devices(user)} {
		cells, err := s.List(ctx, p, "", 1)
		if err != nil || len(cells) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// cursor walks over a partition, a page at a time.
type cursor struct {
	store     store.Store
	partition store.Partition
	after     string // key of the last cell read
	page      []store.Cell
	ended     bool
}

func (c *cursor) next(ctx context.Context) (store.Cell, bool, error) {
	cell, ok, err := c.peek(ctx)
	if ok {
		c.page = c.page[1:]
	}
	return cell, ok, err
}

func (c *cursor) peek(ctx context.Context) (store.Cell, bool, error) {
	if len(c.page) == 0 && !c.ended {
		page, err := c.store.List(ctx, c.partition, c.after, scanPage)
		if err != nil {
			return store.Cell{}, false, err
		}
		c.page = page
		c.ended = len(page) < scanPage
		if len(page) > 0 {
			c.after = page[len(page)-1].Key
		}
	}
	if len(c.page) == 0 {
		return store.Cell{}, false, nil
	}
	return c.page[0], true, nil
}

// version moves on to key and returns its version, 0 if there is no such cell.
// Keys must ascend from call to call.
func (c *cursor) version(ctx context.Context, key string) (uint64, error) {
	for {
		cell, ok, err := c.peek(ctx)
		if err != nil || !ok || cell.Key > key {
			return 0, err
		}
		c.page = c.page[1:]
		if cell.Key == key {
			return cell.Version, nil
		}
	}
}
