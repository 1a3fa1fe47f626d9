package replay

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// stage is what a replay is doing, for people who wait for it.
type stage struct {
	name  string // what is done, and what total counts, as in "playing events"
	total int64
	done  atomic.Int64
}

// begins begins the stage name, which is over when total are done.
func (r *run) begins(name string, total int) *stage {
	s := &stage{name: name, total: int64(total)}
	r.stage.Store(s)
	return s
}

// line says how far the replay has come.
func (r *run) line(since time.Duration) string {
	s := r.stage.Load()
	text := fmt.Sprintf("%v: %s, %d of %d", since.Round(time.Second), s.name, s.done.Load(), s.total)
	if r.process != nil {
		if n := r.process.Kills(); n > 0 {
			text += fmt.Sprintf("; kills of the server: %d", n)
		}
	}
	return text
}

// tell writes to w, at intervals of every, how far the replay has come. end stops that.
func (r *run) tell(w io.Writer, every time.Duration) (end func()) {
	if w == nil || every <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				fmt.Fprintln(w, r.line(time.Since(start))) // an error is ignored: the line is for people only
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
