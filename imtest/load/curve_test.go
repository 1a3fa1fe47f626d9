package load

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A curve has the points that were to be shown, the last look, and the highest of all.
func TestCurve(t *testing.T) {
	c := curve{begun: time.Now(), empty: 1000, users: 10}
	for _, look := range []struct {
		rss   int64
		shown bool
	}{{2000, true}, {9000, false}, {3000, true}} {
		c.note(look.rss, look.shown)
	}
	var rep Report
	c.end(4000, &rep)
	c.note(99_000, true) // late
	var got []float64
	for _, p := range rep.MemoryCurve {
		got = append(got, p.BytesPerConnection)
	}
	if fmt.Sprint(got) != "[100 200 300]" || rep.MaxBytesPerConnection != 800 {
		t.Errorf("points %v, highest %v", got, rep.MaxBytesPerConnection)
	}
}

// A short run has no curve: watch does not look at the server's memory at all.
func TestShortRunsHaveNoCurve(t *testing.T) {
	var asked atomic.Int64
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprintf(w, "%s 1\n%s 2000\n", cpuMetric, rssMetric)
	}))
	defer page.Close()
	c := curve{meter: &meter{url: page.URL}, begun: time.Now().Add(-20 * time.Second), users: 1}
	if err := c.watch(t.Context(), 20*time.Second); err != nil || asked.Load() != 0 {
		t.Errorf("%d looks, %v", asked.Load(), err)
	}
	var rep Report
	if c.end(2000, &rep); rep.MemoryCurve != nil || rep.MaxBytesPerConnection != 0 {
		t.Errorf("%+v", rep)
	}
	c = curve{meter: c.meter, begun: time.Now().Add(-time.Hour), users: 1} // all looks are due at once
	if err := c.watch(t.Context(), 2*time.Minute+time.Second); err != nil || asked.Load() < 20 {
		t.Errorf("%d looks, %v", asked.Load(), err)
	}
	if c.end(2000, &rep); len(rep.MemoryCurve) != 6 { // 3 s, 10 s, 30 s, 1 min, 2 min, and the end
		t.Errorf("%+v", rep.MemoryCurve)
	}
}
