package conv_test

import (
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store/storetest"
)

// The clock was set some minutes ago. A message waits at another node for three seconds, and the next one of its device is sent
// again and written before it. The first one is displayed first nevertheless. Without Came it would look like one of a device that
// has not noticed that the clock was set.
func TestAMessageThatWaitedAtAServerFindsItsPlace(t *testing.T) {
	rec := newRecorder()
	now := time.Now()
	w := conv.New(storetest.NewMemory(), conv.Options{
		Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return now }, Set: func() pim.Millis { return pim.MillisOf(now) - 300_000 },
	})
	defer w.Close()
	send := func(text string, ago time.Duration, attempt uint32, age pim.Millis, came time.Time) pim.Place {
		r := message("d:alice:bob", "alice", text)
		r.Local, r.Attempt, r.Age, r.Came = pim.MillisOf(now.Add(-ago)), attempt, age, came
		r = rec.track(r)
		w.Submit([]*conv.Request{r})
		a := rec.wait(r)
		if a.Err != nil {
			t.Fatal(a.Err)
		}
		e := pim.Entry{Seq: a.Seq, Local: r.Local, Server: a.Server, Ahead: a.Ahead, Order: a.Order, Anchor: a.Anchor}
		return e.Place()
	}
	send("earlier", 10*time.Second, 2, 10_000, time.Time{})
	second := send("second", 2*time.Second, 2, 2000, time.Now())
	first := send("first", 3*time.Second, 1, 0, time.Now().Add(-3*time.Second))
	if first.Compare(second) >= 0 {
		t.Errorf("displayed at %+v, the one that was sent later at %+v", first, second)
	}
}
