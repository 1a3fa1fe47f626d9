package conv

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// answers is an Outlet that counts answers.
type answers chan Answer

func (a answers) Deliver(some []Answer, _ []Published) {
	for _, one := range some {
		a <- one
	}
}

// lastSnapshots is a store that takes its time for snapshots, and perhaps fails to write them. It counts those that are begun.
type lastSnapshots struct {
	store.Store
	each  time.Duration
	fails bool
	begun int
}

func (s *lastSnapshots) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	if d != store.Relaxed {
		s.Store.Begin(ctx, writes, d, done)
		return
	}
	s.begun += len(writes)
	time.Sleep(s.each)
	for _, w := range writes {
		if s.fails {
			w.Err = pim.Errorf(pim.KindUnavailable, "no")
		}
		done(w)
	}
}

// The last snapshots are bounded in number and in time, and none is tried when the ones before could not be written.
func TestLastSnapshotsAreBounded(t *testing.T) {
	const chats = 5 * restAtOnce
	for name, test := range map[string]struct {
		store lastSnapshots
		most  int
		want  int
	}{
		"all":   {lastSnapshots{}, chats, chats},
		"most":  {lastSnapshots{}, restAtOnce + 1, restAtOnce + 1},
		"slow":  {lastSnapshots{each: restWithin * 2 / 5}, chats, 3 * restAtOnce}, // begun at 0, 0.4 and 0.8 s
		"fails": {lastSnapshots{fails: true}, chats, restAtOnce},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, out := test.store, make(answers, chats)
				st.Store = storetest.NewMemory()
				w := New(&st, Options{Outlet: out, Shards: 1})
				for range restedEvery {
					for i := range chats {
						w.Submit([]*Request{{
							Conversation: pim.Direct("ann", pim.UserID(fmt.Sprint("u", i))), Sender: "ann", Kind: pim.EntryMessage,
							ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()),
						}})
					}
					for range chats {
						if a := <-out; a.Err != nil {
							t.Fatal(a.Err)
						}
					}
				}
				w.Close()
				if st.begun != 0 {
					t.Fatalf("%d snapshots before the end", st.begun)
				}
				w.drivers[0].restAll(t.Context(), test.most)
				if st.begun != test.want {
					t.Errorf("%d snapshots, want %d", st.begun, test.want)
				}
			})
		})
	}
}
