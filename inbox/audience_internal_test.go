package inbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Those who ask while a reading is under way share the next one, which begins after they have
// asked, and not before the group has rested.
func TestReadingsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s audiences
		var all sync.WaitGroup
		begun := time.Now()
		var at []time.Duration
		read := func() (audience, error) {
			at = append(at, time.Since(begun))
			time.Sleep(10 * time.Millisecond)
			return make(audience, len(at)), nil
		}
		ask := func(want int) {
			all.Go(func() {
				if a, err := s.share(t.Context(), "g:x", audienceRest, read); err != nil || len(a) != want {
					t.Errorf("reading %d, %v; want %d", len(a), err, want)
				}
			})
		}
		ask(1)
		synctest.Wait()
		for range 100 {
			ask(2)
		}
		all.Wait()
		if len(at) != 2 || at[1] != 50*time.Millisecond {
			t.Errorf("read at %v", at)
		}
		for range keptRests + 10 {
			s.forget(time.Now().Add(time.Hour))
		}
		if len(s.of) != 0 {
			t.Errorf("%d groups are remembered", len(s.of))
		}
	})
}

// If the one who was to read goes away, another one who waits reads.
func TestReadingThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s audiences
		read := func() (audience, error) {
			time.Sleep(10 * time.Millisecond)
			return nil, nil
		}
		var all sync.WaitGroup
		ask := func(ctx context.Context, want error) {
			all.Go(func() {
				if _, err := s.share(ctx, "g:x", audienceRest, read); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
			synctest.Wait()
		}
		ask(t.Context(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		ask(ctx, context.Canceled)
		ask(t.Context(), nil)
		cancel()
		all.Wait()
	})
}
