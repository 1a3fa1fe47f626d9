package clock_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/clock"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// watched is a Watch of clocks that the test moves.
type watched struct {
	*clock.Watch
	ahead   atomic.Int64 // by how much the wall clock is ahead
	kernel  atomic.Pointer[clock.Kernel]
	metrics *prometheus.Registry
	log     bytes.Buffer
}

func watch(t *testing.T, k *clock.Kernel) *watched {
	w := &watched{metrics: prometheus.NewPedanticRegistry()}
	w.kernel.Store(k)
	w.Watch = clock.New(clock.Options{
		Source: clock.Source{
			Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
			Kernel: func() (clock.Kernel, error) {
				if k := w.kernel.Load(); k != nil {
					return *k, nil
				}
				return clock.Kernel{}, errors.New("not permitted")
			},
		},
		Metrics: w.metrics, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	t.Cleanup(w.Close)
	return w
}

// shows checks metrics, given as "name value".
func (w *watched) shows(t *testing.T, want ...string) {
	t.Helper()
	got := page(w.metrics)
	for _, line := range want {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("want %s in\n%s", line, got)
		}
	}
}

// said counts the lines of the log that hold text.
func (w *watched) said(text string) int {
	synctest.Wait() // the watching goroutine is idle
	return strings.Count(w.log.String(), text)
}

func page(r *prometheus.Registry) string {
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

// From the very moment of a jump Gate refuses. When the clock has been steady for ten
// seconds, Gate passes again. The log says each of the two once.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, &clock.Kernel{Synchronised: true, Error: 3 * time.Millisecond})
		time.Sleep(1500 * time.Millisecond)
		if err := w.Gate(); err != nil {
			t.Fatal(err)
		}
		w.shows(t, "pim_clock_healthy 1", "pim_clock_synchronised 1", "pim_clock_error_seconds 0.003", "pim_clock_jumps_total 0")
		w.ahead.Store(int64(2 * time.Second))
		for range 100 {
			var err *pim.Error
			if !errors.As(w.Gate(), &err) || err.Kind != pim.KindClockUnhealthy || err.RetryAfter != 2*time.Second {
				t.Fatalf("after the jump: %v", err)
			}
			time.Sleep(99 * time.Millisecond)
		}
		if err := w.Gate(); !strings.Contains(err.Error(), "jumped by 2s") {
			t.Error(err)
		}
		w.shows(t, "pim_clock_healthy 0", "pim_clock_jumps_total 1", "pim_clock_drift_seconds 2")
		time.Sleep(2 * time.Second)
		if err := w.Gate(); err != nil {
			t.Errorf("steady for 11 s: %v", err)
		}
		w.shows(t, "pim_clock_healthy 1", "pim_clock_jumps_total 1")
		for _, text := range []string{"nothing is written", "relied on again"} {
			if n := w.said(text); n != 1 {
				t.Errorf("%q is said %d times:\n%s", text, n, &w.log)
			}
		}
	})
}

// While the clock is in doubt, Relied goes on as if the clock had not jumped. When the
// clock has been steady, Relied takes its time. If the clock is set right within seconds,
// Relied never shows the jump.
func TestRelied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, &clock.Kernel{Synchronised: true})
		is := func(when string, ahead time.Duration) {
			t.Helper()
			if off := time.Until(w.Relied()); (off - ahead).Abs() > time.Millisecond {
				t.Errorf("%s: ahead by %v, want %v", when, off, ahead)
			}
		}
		time.Sleep(1500 * time.Millisecond)
		w.ahead.Store(int64(300 * time.Millisecond)) // no jump
		is("a small step", 300*time.Millisecond)
		time.Sleep(time.Second)
		for _, by := range []time.Duration{25 * time.Hour, -45 * time.Second} {
			w.ahead.Add(int64(by))
			for range 50 {
				is("a jump, before and after it is looked at", 300*time.Millisecond)
				time.Sleep(99 * time.Millisecond)
			}
			w.ahead.Add(-int64(by))
			is("taken back", 300*time.Millisecond)
			time.Sleep(12 * time.Second)
			is("and steady", 300*time.Millisecond)
		}
		w.ahead.Store(int64(time.Hour))
		time.Sleep(9 * time.Second)
		is("not steady for long enough", 300*time.Millisecond)
		time.Sleep(3 * time.Second)
		is("taken", time.Hour)
		w.kernel.Store(&clock.Kernel{Synchronised: true, Error: time.Second})
		time.Sleep(time.Minute)
		w.ahead.Store(int64(2 * time.Hour))
		is("the kernel says that it is off", time.Hour)
	})
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, &clock.Kernel{Synchronised: true, Error: time.Second})
		time.Sleep(time.Minute)
		if off := time.Until(w.Relied()); off.Abs() > time.Millisecond {
			t.Errorf("a node that starts in doubt goes by a time %v off", off)
		}
	})
}

// Without a time service the node writes, and logs that once each time the service is
// lost.
func TestNoTimeService(t *testing.T) {
	for _, k := range []*clock.Kernel{nil, {Error: time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			w := watch(t, k)
			time.Sleep(59500 * time.Millisecond)
			if err := w.Gate(); err != nil {
				t.Error(err)
			}
			w.shows(t, "pim_clock_healthy 1", "pim_clock_synchronised 0", "pim_clock_error_seconds 0")
			w.kernel.Store(&clock.Kernel{Synchronised: true, Error: time.Second})
			time.Sleep(time.Second)
			if err := w.Gate(); pim.KindOf(err) != pim.KindClockUnhealthy {
				t.Errorf("the kernel is off by a second: %v", err)
			}
			w.kernel.Store(k)
			time.Sleep(time.Second)
			if err := w.Gate(); err != nil {
				t.Error(err)
			}
			if n := w.said("run a time service"); n != 2 {
				t.Errorf("said %d times, it was lost twice:\n%s", n, &w.log)
			}
		})
	}
}

// A process that is held up between reading the two clocks sees no jump.
func TestHeldUpBetweenTwoReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held atomic.Bool
		w := clock.New(clock.Options{
			Source: clock.Source{
				Now: func() time.Time {
					now := time.Now()
					if held.Swap(false) {
						time.Sleep(time.Second)
					}
					return now
				},
				Kernel: func() (clock.Kernel, error) { return clock.Kernel{}, nil },
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		defer w.Close()
		time.Sleep(500 * time.Millisecond)
		held.Store(true)
		if err := w.Gate(); err != nil {
			t.Error(err)
		}
	})
}

// The machine's own clocks can be read.
func TestThisMachine(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	w := clock.New(clock.Options{Metrics: r, Logger: slog.New(slog.DiscardHandler)})
	defer w.Close()
	if got := page(r); strings.Count(got, "# TYPE pim_clock_") != 6 {
		t.Errorf("metrics:\n%s", got)
	}
	if d := time.Until(w.Now()).Abs(); d > time.Minute {
		t.Errorf("the wall clock is %v off itself", d)
	}
}

func BenchmarkGate(b *testing.B) {
	w := clock.New(clock.Options{Logger: slog.New(slog.DiscardHandler)})
	defer w.Close()
	for b.Loop() {
		if err := w.Gate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRelied(b *testing.B) {
	w := clock.New(clock.Options{Logger: slog.New(slog.DiscardHandler)})
	defer w.Close()
	for b.Loop() {
		w.Relied()
	}
}
