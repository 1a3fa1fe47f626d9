package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// stale commits an append whose seqs are trimmed. It must end in a conflict with last as the log's last seq, or with
// ErrUnknown. It has no effect in either case.
func (s *suite) stale(w *store.Write, last pim.Seq) {
	s.Helper()
	_ = store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable)
	var conflict *store.ConflictError
	switch {
	case errors.As(w.Err, &conflict) && conflict.Last == last:
	case errors.Is(w.Err, store.ErrUnknown) && pim.KindOf(w.Err) == pim.KindUnavailable:
	default:
		s.Fatalf("append to %q after %d, which is trimmed, and the log ends at %d: %v", w.Log, w.After, last, w.Err)
	}
	s.ends(w.Log, last)
}

// conflictsAreFinal lets several callers append to a log while another one trims all that it has read of it. What this one
// has read is all that ever was in the log: what was acknowledged, once and at its seq, and nothing that has ended in a
// conflict.
func (s *suite) conflictsAreFinal() {
	const appenders, each = 4, 12
	type outcome struct {
		seq pim.Seq
		err error
	}
	var mu sync.Mutex
	outcomes := map[string]outcome{} // of each record
	appends := func(who int) {
		last := pim.Seq(0)
		for n := range each {
			w := appendTo("log", last, fmt.Sprintf("%d by %d", n, who))
			_ = store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable)
			mu.Lock()
			outcomes[string(w.Records[0])] = outcome{last + 1, w.Err}
			mu.Unlock()
			var conflict *store.ConflictError
			var err error
			switch {
			case w.Err == nil:
				last++
			case errors.As(w.Err, &conflict):
				last = conflict.Last
			case errors.Is(w.Err, store.ErrUnknown):
				if last, _, err = store.LogEnd(s.ctx, s.store, "log"); err == nil {
					continue
				}
				fallthrough
			default:
				s.Errorf("append behind seq %d: %v, %v", last, w.Err, err)
				return
			}
		}
	}
	var records [][]byte
	trims := func() {
		some := s.follow("log", pim.Seq(len(records))+1, 0)
		if records = append(records, some...); len(some) > 0 {
			s.commits(trim("log", pim.Seq(len(records))))
		}
	}
	var over atomic.Bool
	var appending, trimming sync.WaitGroup
	for who := range appenders {
		appending.Go(func() { appends(who) })
	}
	trimming.Go(func() {
		for !over.Load() && !s.Failed() {
			trims()
		}
	})
	appending.Wait()
	over.Store(true)
	trimming.Wait()
	if s.Failed() {
		return
	}
	trims()
	found := map[string]bool{}
	for i, r := range records {
		o := outcomes[string(r)]
		if found[string(r)] || o.seq != pim.Seq(i)+1 || o.err != nil && !errors.Is(o.err, store.ErrUnknown) {
			s.Errorf("%q is at seq %d, and there before: %v; its append at seq %d ended with %v", r, i+1, found[string(r)], o.seq, o.err)
		}
		found[string(r)] = true
	}
	for r, o := range outcomes {
		if o.err == nil && !found[r] {
			s.Errorf("%q was appended at seq %d, and was never there", r, o.seq)
		}
	}
}
