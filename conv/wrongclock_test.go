package conv_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store/pebble"
)

// A resend gets its first answer (I2) however wrong the wall clock was: when the
// message was sent, or since, over a restart or not, for long enough to be swept by.
func TestResendsUnderAWrongClock(t *testing.T) {
	const far = 15 * 24 * time.Hour
	for i, clocks := range [][]time.Duration{{0, far, far}, {0, 0, far}, {-far, 0, 0}, {-far, -far, far}, {far, 0, -far}} {
		if testing.Short() && i%2 == 1 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			var off atomic.Int64 // how far the wall clock is off
			wall := func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
			off.Store(int64(clocks[0]))
			rec, fs := newRecorder(), vfs.NewMem()
			start := func() (*pebble.Store, *conv.Writers) {
				s, err := pebble.Open("db", pebble.Options{FS: fs, Logger: quiet(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				return s, conv.New(s, conv.Options{
					Outlet: rec, Shards: 1, Logger: quiet(), Now: wall,
				})
			}
			s, w := start()
			chat := pim.Direct("alice", "bob")
			submit := func(i int) conv.Answer {
				r := rec.track(message(chat, "alice", fmt.Sprint(i)))
				copy(r.ClientID[:], fmt.Sprintf("message %08d", i))
				r.Local = pim.MillisOf(wall())
				w.Submit([]*conv.Request{r})
				return rec.wait(r)
			}
			for i := range 300 { // the first are no longer among the recent
				if a := submit(i); a.Err != nil {
					t.Fatal(a.Err)
				}
			}
			for _, now := range clocks[1:] {
				off.Store(int64(now))
				time.Sleep(2 * time.Hour)
				for _, i := range []int{0, 50, 299} {
					if a := submit(i); a.Err != nil || !a.Duplicate || a.Seq != pim.Seq(i+1) {
						t.Errorf("clocks %v, now %v: message %d came again as %+v", clocks, now, i, a)
					}
				}
				w.Close()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s, w = start()
			}
			w.Close()
			s.Close()
		})
	}
}
