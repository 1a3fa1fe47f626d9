package inbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/store/storetest"
)

// calls counts the calls to a store, and the cells that it looks up and lists.
type calls struct {
	store.Store
	gets, got, lists, listed, commits int
}

func (c *calls) Get(ctx context.Context, gets []store.Get) error {
	c.gets++
	c.got += len(gets)
	return c.Store.Get(ctx, gets)
}

func (c *calls) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	cells, err := c.Store.List(ctx, p, after, limit)
	c.lists++
	c.listed += len(cells)
	return cells, err
}

func (c *calls) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, c.commit, writes, d, done)
}

func (c *calls) commit(ctx context.Context, w []*store.Write, d store.Durability) error {
	c.commits++
	return store.Commit(ctx, c.Store, w, d)
}

// What a sync with nothing new asks of the store does not depend on how many
// conversations there are: not on a store that an earlier version wrote, not after
// messages came and were acknowledged, not after a crash.
func TestSyncWithNothingNewReadsLittle(t *testing.T) {
	const n = 3000
	c := func(i int) pim.ConversationID { return pim.ConversationID(fmt.Sprintf("g:%04d", i)) }
	fs := vfs.NewCrashableMem()
	s := openOn(t, fs)
	write := func(p store.Partition, from, to int, newest pim.Seq) {
		w := &store.Write{}
		for i := from; i < to; i++ {
			w.Cells = append(w.Cells, store.CellWrite{Partition: p, Cell: inbox.Line{Newest: newest, Count: uint64(newest)}.Cell(c(i))})
		}
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
			t.Fatal(err)
		}
	}
	acknowledges := func(device pim.DeviceID, to int, seq pim.Seq) {
		acks := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
		var noted []inbox.Ack
		for i := range to {
			noted = append(noted, inbox.Ack{Conversation: c(i), Seq: seq})
		}
		acks.Note("alice", device, uint64(seq), noted)
		acks.Close()
	}
	costs := func(what string, warm int) {
		t.Helper()
		for _, device := range []pim.DeviceID{"phone", "laptop"} {
			for i := range warm + 2 {
				counted := &calls{Store: s}
				page, err := inbox.New(counted).Sync(ctx, inbox.SyncRequest{User: "alice", Device: device, Fronts: true})
				if err != nil || len(page.Summaries)+len(page.Fronts) > 0 {
					t.Fatalf("%s, sync %d of %s: %d conversations, %v", what, i, device, len(page.Summaries), err)
				}
				few := counted.gets <= 3 && counted.got <= 2+inbox.FoldAbove && counted.lists == 2 && counted.listed <= inbox.FoldAbove && counted.commits == 0
				if i >= warm && !few {
					t.Errorf("%s, sync %d of %s: %d gets of %d cells, %d lists of %d cells, %d commits", what, i, device, counted.gets, counted.got, counted.lists, counted.listed, counted.commits)
				}
			}
		}
	}
	write(inbox.Lines("alice"), 0, n, 1)
	acknowledges("phone", n, 1)
	acknowledges("laptop", n, 1)
	costs("a store of earlier days", 1)
	write(inbox.Fresh("alice"), 0, inbox.FoldAbove, 2)
	acknowledges("phone", inbox.FoldAbove, 2)
	acknowledges("laptop", inbox.FoldAbove, 2)
	costs("few messages", 0)
	write(inbox.Fresh("alice"), 0, n, 3)
	acknowledges("phone", n, 3)
	acknowledges("laptop", n, 3)
	costs("a message in each", 1)
	write(inbox.Fresh("alice"), 100, 104, 4)
	acknowledges("phone", n, 4)
	acknowledges("laptop", n, 4)
	image := fs.CrashClone(vfs.CrashCloneCfg{})
	s.Close()
	s = openOn(t, image)
	defer func() { s.Close() }()
	costs("after a crash", 0)

	// A device that did not take part is not settled, and misses nothing.
	write(inbox.Fresh("alice"), 0, n, 5)
	acknowledges("phone", n, 5)
	x := inbox.New(s)
	if page, err := x.Sync(ctx, inbox.SyncRequest{User: "alice", Device: "phone"}); err != nil || len(page.Summaries) > 0 {
		t.Errorf("the phone is listed %d conversations, %v", len(page.Summaries), err)
	}
	for _, device := range []pim.DeviceID{"laptop", "never seen"} {
		page, err := x.Sync(ctx, inbox.SyncRequest{User: "alice", Device: device, Limit: 1000})
		if err != nil || len(page.Summaries) != 1000 || page.Next == "" {
			t.Errorf("%s is listed %d conversations, %v", device, len(page.Summaries), err)
		}
	}
	acknowledges("laptop", n, 5)
	for i := range 2 {
		if page, err := x.Sync(ctx, inbox.SyncRequest{User: "alice", Device: "laptop"}); err != nil || len(page.Summaries) > 0 {
			t.Errorf("sync %d of the laptop lists %d conversations, %v", i, len(page.Summaries), err)
		}
	}
	costs("after all of it", 1)
}

func openOn(t *testing.T, fs vfs.FS) *pebble.Store {
	s, err := pebble.Open("db", pebble.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
