package conv_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store/storetest"
)

// While the gate is shut nothing is appended. A request that was appended before still gets
// its first answer, from memory and from the log.
func TestGate(t *testing.T) {
	var shut atomic.Pointer[pim.Error]
	now := atomic.Int64{}
	now.Store(1_795_000_000_000)
	options := conv.Options{
		Outlet: newRecorder(), Shards: 1, Logger: quiet(),
		Now: func() time.Time { return time.UnixMilli(now.Load()) },
		Gate: func() error {
			if err := shut.Load(); err != nil {
				return err
			}
			return nil
		},
	}
	rec := options.Outlet.(*recorder)
	mem := storetest.NewMemory()
	w := conv.New(mem, options)
	defer func() { w.Close() }()
	submit := func(r *conv.Request) conv.Answer {
		r = rec.track(r)
		w.Submit([]*conv.Request{r})
		return rec.wait(r)
	}
	chat := pim.Direct("alice", "bob")
	requests := make([]*conv.Request, 2)
	for i := range requests {
		requests[i] = message(chat, "alice", fmt.Sprint(i))
		requests[i].Local = pim.Millis(now.Load())
	}
	first := submit(requests[0])

	off := &pim.Error{Kind: pim.KindClockUnhealthy, Text: "off", RetryAfter: 2 * time.Second}
	shut.Store(off)
	now.Add(3_600_000)
	for range 2 {
		if a := submit(requests[1]); a.Err != error(off) {
			t.Fatalf("a message while the clock is off: %+v", a)
		}
		if a := submit(requests[0]); a.Err != nil || !a.Duplicate || a.Seq != first.Seq || a.Server != first.Server {
			t.Fatalf("answered with %+v first and %+v then", first, a)
		}
		w.Close()
		w = conv.New(mem, options) // in the second round nothing is in memory
	}

	shut.Store(nil)
	now.Add(-7_200_000)
	second := submit(requests[1])
	if second.Err != nil || second.Seq != 2 || second.Duplicate || second.Server < first.Server {
		t.Errorf("after %+v came %+v", first, second)
	}
}
