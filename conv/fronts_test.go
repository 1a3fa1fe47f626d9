package conv_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// untold is a store of a process that dies with the write of fronts number left: from it on,
// nothing is written until left is set again.
type untold struct {
	store.Store
	left atomic.Int64
}

func (s *untold) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, func(ctx context.Context, writes []*store.Write, d store.Durability) error {
		if c := writes[0].Cells; len(c) > 0 && strings.HasPrefix(string(c[0].Partition), "~fronts/") {
			s.left.Add(-1)
		}
		if s.left.Load() < 0 {
			writes[0].Err = pim.Errorf(pim.KindUnavailable, "the process is dead")
			return writes[0].Err
		}
		return store.Commit(ctx, s.Store, writes, d)
	}, writes, d, done)
}

// devicesOf has two devices of each of users sync.
func devicesOf(t *testing.T, s store.Store, users []pim.UserID) (all []inbox.SyncRequest) {
	t.Helper()
	for _, u := range users {
		for _, d := range []pim.DeviceID{"phone", "laptop"} {
			req := inbox.SyncRequest{User: u, Device: d, Fronts: true}
			if _, err := inbox.New(s).Sync(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			all = append(all, req)
		}
	}
	return all
}

// toldFronts returns of how many devices the list tells that the front of c is front.
func toldFronts(t *testing.T, s store.Store, devices []inbox.SyncRequest, c pim.ConversationID, front pim.Seq) (n int) {
	t.Helper()
	for _, req := range devices {
		page, err := inbox.New(s).Sync(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Fronts {
			if f != (inbox.Front{Conversation: c, Front: front}) {
				t.Errorf("%s/%s is told of %v", req.User, req.Device, f)
			}
			n++
		}
	}
	return n
}

// A trim tells all devices of all members, and of those who have left. A process that dies at any
// write of that leaves it to another one, which tells all of them within two rounds.
func TestATrimTellsAllDevices(t *testing.T) {
	for _, died := range []int64{0, 1, 2, 5, 100} { // of six writes of fronts
		synctest.Test(t, func(t *testing.T) {
			s, rec := &untold{Store: storetest.NewMemory()}, newRecorder()
			s.left.Store(1000)
			begin := func() *conv.Writers { return conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()}) }
			w := begin()
			users := []pim.UserID{"ann"}
			for i := range 699 {
				users = append(users, pim.UserID(fmt.Sprintf("user%03d", i)))
			}
			g := group(t, w, rec, "ann", users[1:]...)
			for _, r := range []*conv.Request{message(g, "ann", "1"), inGroup(g, pim.EntryLeave, "ann", users[7]), message(g, "ann", "2")} {
				if _, err := persist(w, rec, r); err != nil {
					t.Fatal(err)
				}
			}
			devices := devicesOf(t, s, users)
			stranger := devicesOf(t, s, []pim.UserID{"zoe"})
			s.left.Store(died)
			err := w.Trim(t.Context(), g, 2)
			if (err == nil) != (died == 100) {
				t.Fatal(err)
			}
			if n := toldFronts(t, s, devices, g, 3); n != min(256*int(died), len(devices)) {
				t.Errorf("a process that dies with write %d has told %d devices", died, n)
			}
			w.Close()
			s.left.Store(1000)
			w = begin()
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if n := toldFronts(t, s, devices, g, 3); n != len(devices) {
				t.Errorf("a process died with write %d, and %d devices of %d are told", died, n, len(devices))
			}
			if n := toldFronts(t, s, stranger, g, 3); n != 0 {
				t.Error("a stranger is told")
			}
			noIntents(t, s)
			w.Close()
		})
	}
}

// Both users of a direct conversation are told, and who has written to themselves once.
func TestATrimOfADirectConversationTells(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	devices := devicesOf(t, s, []pim.UserID{"ann", "bob"})
	for i, c := range []pim.ConversationID{pim.Direct("ann", "bob"), pim.Direct("ann", "ann")} {
		if _, err := persist(w, rec, message(c, "ann", "1")); err != nil {
			t.Fatal(err)
		}
		trimmed(t, w, c, 1)
		trimmed(t, w, c, 1)
		some := devices[:4-2*i]
		if n := toldFronts(t, s, some, c, 2); n != len(some) {
			t.Errorf("%s: %d devices are told", c, n)
		}
		var w store.Write
		for _, d := range devices {
			w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Fronts(d.User, d.Device), Cell: store.Cell{Key: string(c), Version: 2}, Forget: true})
		}
		if err := store.Commit(t.Context(), s, []*store.Write{&w}, store.Relaxed); err != nil {
			t.Fatal(err)
		}
	}
	noIntents(t, s)
}
