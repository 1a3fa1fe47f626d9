package inbox_test

import (
	"context"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// passing is a store that knows whether a barrier came after all that was read of cells.
type passing struct {
	store.Store
	behind   bool // a Get or List came after the last barrier
	barriers int
	fails    error // of a barrier
}

func (s *passing) Get(ctx context.Context, gets []store.Get) error {
	s.behind = true
	return s.Store.Get(ctx, gets)
}

func (s *passing) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	s.behind = true
	return s.Store.List(ctx, p, after, limit)
}

func (s *passing) Barrier(context.Context) error {
	s.behind = false
	s.barriers++
	return s.fails
}

// Receipts are answered when all that they were made of is durable, with one barrier for all messages
// and readers. If that fails, nobody is told.
func TestReceiptsAreDurable(t *testing.T) {
	s := &passing{Store: storetest.NewMemory()}
	crowd(t, s, "g:1", 20)
	fillMessages(t, s, pim.Direct("ann", "bob"), 5, "ann")
	x := inbox.New(s)
	for _, c := range []struct {
		user pim.UserID
		req  inbox.ReceiptRequest
	}{
		{"m00000", inbox.ReceiptRequest{Conversation: "g:1", From: 11, To: 60}},
		{"m00000", inbox.ReceiptRequest{Conversation: "g:1", From: 11, Readers: true}},
		{"ann", inbox.ReceiptRequest{Conversation: pim.Direct("ann", "bob"), From: 5}},
	} {
		s.barriers = 0
		if _, err := x.Receipts(t.Context(), c.user, c.req); err != nil {
			t.Fatal(err)
		}
		if s.behind || s.barriers != 1 {
			t.Errorf("%+v: %d barriers; something was read after the last one: %t", c.req, s.barriers, s.behind)
		}
		s.fails = pim.Errorf(pim.KindUnavailable, "the disk fails")
		if r, err := x.Receipts(t.Context(), c.user, c.req); pim.KindOf(err) != pim.KindUnavailable || r.Messages != nil || r.Readers != nil {
			t.Errorf("without a barrier %v tells %+v, %v", c.req, r, err)
		}
		s.fails = nil
	}
}
