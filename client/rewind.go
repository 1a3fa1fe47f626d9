package client

import (
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// readFor reads the entries that r asks for from the store, and gives them to the engine.
func (c *Client) readFor(r engine.Read) {
	if c.loop.broken != nil {
		return
	}
	ctx := context.WithoutCancel(c.ctx)
	var entries []pim.Entry
	var err error
	if r.Former {
		entries, err = c.store.Former(ctx, r.Conversation, r.Skip, r.Limit)
	} else {
		entries, err = c.store.Below(ctx, r.Conversation, r.UpTo, r.Limit)
	}
	if err != nil {
		c.breakDown(err)
		return
	}
	// The engine never refuses this input.
	_ = c.loop.engine.Step(c.now(), engine.FromStore{ID: r.ID, Entries: entries})
}

// rewind takes the entries out of the queue that are not in the log any more.
func (f *feed) rewind(ev RewoundEvent) {
	f.queue = slices.DeleteFunc(f.queue, func(e EntryEvent) bool {
		return e.Entry.Conversation == ev.Conversation && e.Entry.Seq > ev.After
	})
}

// erase takes the payloads of what is erased.
func (f *feed) erase(ev ErasedEvent) {
	for i := range f.queue {
		if e := &f.queue[i].Entry; e.Conversation == ev.Conversation && ev.Erases(e) {
			erase(e)
		}
	}
}

// reload fills v anew from the local store, after the server's store went back.
func (c *Client) reload(v *View) {
	n := max(v.size, v.length())
	page, err := c.store.Entries(context.WithoutCancel(c.ctx), v.conv, nil, n)
	if err != nil {
		c.breakDown(err)
		return
	}
	folds, err := c.foldsOf(context.WithoutCancel(c.ctx), v.conv, page)
	if err != nil {
		c.breakDown(err)
		return
	}
	v.skipped = c.loop.engine.Skipped(v.conv, endSeq)
	all := len(page) < n && v.skipped == 0
	page = slices.DeleteFunc(page, func(e pim.Entry) bool { return e.Seq <= v.skipped })
	v.take(func(t *timeline) bool {
		t.entries, t.made, t.folds, t.front = nil, nil, nil, c.loop.engine.Front(v.conv)
		t.fold(folds)
		t.prepend(page, all)
		return true
	})
}
