package conv_test

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store/storetest"
)

// While the disk is stuck, one user takes a fifth of a queue at most, and many greedy users together leave
// something to the next one. When the disk goes on, so does everybody.
func TestUsersShareTheQueues(t *testing.T) {
	for name, test := range map[string]struct{ payload, room int }{
		"requests": {1, 1 << 16},
		"bytes":    {pim.MaxPayload, 256 << 20 / pim.MaxPayload},
	} {
		t.Run(name, func(t *testing.T) {
			st, rec := &watched{Store: storetest.NewMemory(), open: make(chan struct{}), drop: true}, newRecorder()
			w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
			defer w.Close()
			payload := make([]byte, test.payload) // shared by all requests
			var sent []*conv.Request
			send := func(u pim.UserID, n int) {
				var some []*conv.Request
				for range n {
					r := rec.track(message(pim.Direct(u, "bob"), u, ""))
					r.Payload = payload
					some = append(some, r)
				}
				w.Submit(some)
				sent = append(sent, some...)
			}
			greedy := func(u pim.UserID, atOnce int) (taken int) { // sends until it is refused
				for {
					send(u, atOnce)
					select {
					case a := <-sent[len(sent)-1].Origin.(chan conv.Answer):
						if pim.KindOf(a.Err) != pim.KindOverloaded {
							t.Fatal(a.Err)
						}
						sent = sent[:len(sent)-atOnce]
						return taken
					default:
						taken += atOnce
					}
				}
			}
			atOnce := test.room / 500
			if taken := greedy("eve", atOnce); taken > test.room/5 || taken < test.room/5-2*atOnce {
				t.Errorf("of a queue for %d requests, one user takes %d", test.room, taken)
			}
			for i := range 15 {
				greedy(pim.UserID(fmt.Sprint("greedy", i)), atOnce)
			}
			before := len(sent)
			if greedy("ann", 1) == 0 || len(sent) == before {
				t.Error("nothing is left for one more user")
			}
			close(st.open)
			for _, r := range sent {
				rec.wait(r)
			}
			for _, u := range []pim.UserID{"eve", "ann"} {
				r := rec.track(message(pim.Direct(u, "bob"), u, "there is room"))
				w.Submit([]*conv.Request{r})
				if a := rec.wait(r); a.Err != nil {
					t.Error(a.Err)
				}
			}
		})
	}
}
