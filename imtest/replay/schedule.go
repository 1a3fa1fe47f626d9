package replay

import (
	"context"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// sender sends a step. acked waits for its acknowledgement.
type sender func(context.Context, step) (acked func(context.Context) error, err error)

// schedule carries steps out, each at its time (pace waits for it), at most bound of
// them at once. A user's messages go out in their order, after the acknowledgement of
// the user's join; a leave, or another join, goes out after the acknowledgements of all
// steps of the user before it. No other step waits for another. schedule returns when
// all steps are acknowledged, or with the first error.
func schedule(ctx context.Context, steps []step, bound int, pace func(ctx context.Context, i int) error, send sender) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	places := make(chan struct{}, bound)
	last := make(map[pim.UserID]*turn)
	for i, s := range steps {
		if err := pace(ctx, i); err != nil {
			cancel(err)
			break
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		t := &turn{kind: s.kind, queued: make(chan struct{}), acked: make(chan struct{})}
		before := last[s.user]
		last[s.user] = t
		// The step that t waits for has a place already, so that one of the steps under
		// way can always go on.
		wg.Go(func() {
			defer func() { <-places }()
			if err := t.take(ctx, s, before, send); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// turn is a step under way.
type turn struct {
	kind   pim.EntryKind
	queued chan struct{} // closed when the step is in its client's outbox
	acked  chan struct{} // closed when the step and all before it of its user are acknowledged
}

// take carries out s, the step after before of the same user.
func (t *turn) take(ctx context.Context, s step, before *turn, send sender) error {
	if before != nil {
		// A client keeps the order of its messages, so a message need not wait for the
		// acknowledgement of the message before it. But joins and leaves are sent by
		// another client, the owner's.
		ready := before.acked
		if t.kind == pim.EntryMessage && before.kind == pim.EntryMessage {
			ready = before.queued
		}
		if err := wait(ctx, ready); err != nil {
			return err
		}
	}
	acked, err := send(ctx, s)
	if err != nil {
		return err
	}
	close(t.queued)
	if err := acked(ctx); err != nil {
		return err
	}
	if before != nil {
		if err := wait(ctx, before.acked); err != nil {
			return err
		}
	}
	close(t.acked)
	return nil
}

func wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sleepUntil waits until at.
func sleepUntil(ctx context.Context, at time.Time) error {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
