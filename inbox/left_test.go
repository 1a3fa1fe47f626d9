package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// leaver is one user's list, and the devices that read it.
type leaver struct {
	t   *testing.T
	s   store.Store
	in  *inbox.Inbox
	now time.Time
}

func newLeaver(t *testing.T) *leaver {
	l := &leaver{t: t, s: storetest.NewMemory(), now: time.UnixMilli(1_800_000_000_000)}
	l.in = inbox.New(l.s)
	l.in.GoBy(func() time.Time { return l.now })
	return l
}

func group(i int) pim.ConversationID { return pim.ConversationID(fmt.Sprintf("g:%04d", i)) }

// puts writes lines of the groups from..to at seq.
func (l *leaver) puts(from, to int, seq pim.Seq, left bool) {
	l.t.Helper()
	var w store.Write
	for i := from; i < to; i++ {
		line := inbox.Line{Newest: seq, Count: 1, Left: left, Time: pim.MillisOf(l.now)}
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Fresh("alice"), Cell: line.Cell(group(i))})
	}
	commit(l.t, l.s, &w)
}

// syncs reads the whole list of device, and acknowledges it. It returns how many conversations are listed, and how
// many of them are left.
func (l *leaver) syncs(device pim.DeviceID, full bool) (listed, left int) {
	l.t.Helper()
	req := inbox.SyncRequest{User: "alice", Device: device, Full: full, Limit: 1000, Fronts: true}
	for {
		page, err := l.in.Sync(ctx, req)
		if err != nil {
			l.t.Fatal(err)
		}
		var w store.Write
		for _, s := range page.Summaries {
			listed++
			if s.Left {
				left++
			}
			w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Acked("alice", device), Cell: store.Cell{Key: string(s.Conversation), Version: uint64(s.Newest)}})
		}
		commit(l.t, l.s, &w)
		if req.After = page.Next; req.After == "" {
			return listed, left
		}
	}
}

// holds checks how many cells there are of the list: lines, and acknowledgements of devices.
func (l *leaver) holds(what string, lines, acks int, devices ...pim.DeviceID) {
	l.t.Helper()
	count := func(p store.Partition, keys map[string]bool) {
		cells, err := l.s.List(ctx, p, "", 1<<20)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, c := range cells {
			keys[string(p)+c.Key] = true
		}
	}
	got, acked := map[string]bool{}, map[string]bool{}
	count(inbox.Fresh("alice"), got)
	count(inbox.Lines("alice"), got)
	for _, d := range devices {
		count(inbox.Acked("alice", d), acked)
	}
	if len(got) > lines || len(acked) != acks {
		l.t.Errorf("%s: %d lines and %d acknowledgements, want %d and %d", what, len(got), len(acked), lines, acks)
	}
}

// A user was put into a thousand groups and has left them. A device that was offline is told, each group once. When
// all devices know it nothing of the groups is left in the list, and neither a sync nor a new device is told of any.
func TestLeftGroupsLeaveTheList(t *testing.T) {
	const stays, left = 20, 1000
	l := newLeaver(t)
	l.puts(0, stays+left, 1, false)
	for _, d := range []pim.DeviceID{"phone", "laptop"} {
		if n, _ := l.syncs(d, true); n != stays+left {
			t.Fatalf("%s is told of %d groups", d, n)
		}
		l.syncs(d, false) // folds
	}
	l.puts(stays, stays+left, 2, true)
	if n, gone := l.syncs("phone", false); n != left || gone != left {
		t.Fatalf("the phone is told of %d groups, of which %d are left", n, gone)
	}
	for range 3 {
		if n, _ := l.syncs("phone", false); n != 0 {
			t.Fatalf("the phone is told of %d groups again", n)
		}
	}
	l.holds("the laptop is offline", stays+left, 2*(stays+left), "phone", "laptop")
	if n, gone := l.syncs("laptop", false); n != left || gone != left {
		t.Fatalf("the laptop was offline, and is told of %d groups, of which %d are left", n, gone)
	}
	l.syncs("laptop", false)
	l.holds("both know it", stays, 2*stays, "phone", "laptop")
	for _, d := range []pim.DeviceID{"phone", "laptop"} {
		if n, _ := l.syncs(d, true); n != stays {
			t.Errorf("%s lists %d groups in full", d, n)
		}
	}
	if n, _ := l.syncs("tablet", true); n != stays {
		t.Errorf("a new device is told of %d groups", n)
	}

	// Who comes back into a group has it in the list again, on every device.
	l.puts(stays, stays+1, 3, false)
	for _, d := range []pim.DeviceID{"phone", "laptop", "tablet"} {
		if n, gone := l.syncs(d, false); n != 1 || gone != 0 {
			t.Errorf("%s is told of %d groups that were joined again, %d left", d, n, gone)
		}
	}
	for range 20 { // folds it
		l.syncs("phone", false)
	}
	if n, _ := l.syncs("watch", true); n != stays+1 {
		t.Errorf("a new device is told of %d groups", n)
	}
}

// A device that never comes back holds no left group in the list for longer than 90 days.
func TestAnAbandonedDeviceHoldsNothingUpForEver(t *testing.T) {
	l := newLeaver(t)
	l.puts(0, 30, 1, false)
	l.syncs("lost", true)
	l.syncs("phone", true)
	l.syncs("phone", false)
	l.puts(10, 30, 2, true)
	l.syncs("phone", false)
	l.syncs("phone", false)
	l.now = l.now.Add(89 * 24 * time.Hour)
	if n, gone := l.syncs("tablet", true); n != 30 || gone != 20 {
		t.Fatalf("after 89 days a new device is told of %d groups, %d of them left", n, gone)
	}
	l.syncs("tablet", false)
	l.holds("after 89 days", 30, 90, "lost", "phone", "tablet")
	l.now = l.now.Add(2 * 24 * time.Hour)
	l.syncs("watch", true) // the lines are folded: whoever walks over all finds them
	l.syncs("watch", false)
	l.holds("after 91 days", 10, 40, "lost", "phone", "tablet", "watch")
	if n, _ := l.syncs("lost", false); n != 0 {
		t.Errorf("the device that was away is told of %d groups", n)
	}
}

// Wherever a drop dies, the next sync does it again, and no older line of the group comes to light.
func TestADropThatDies(t *testing.T) {
	for die := range 40 {
		l := newLeaver(t)
		l.puts(0, 12, 1, false)
		l.syncs("phone", true)
		l.syncs("phone", false) // folds
		l.puts(0, 12, 2, true)
		l.syncs("phone", false)
		mortal := &mortal{Store: l.s, left: die}
		l.in = inbox.New(mortal)
		_, _ = l.in.Sync(ctx, inbox.SyncRequest{User: "alice", Device: "phone", Fronts: true})
		l.in = inbox.New(l.s)
		page, err := l.in.Sync(ctx, inbox.SyncRequest{User: "alice", Device: "other", Full: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Summaries {
			if !s.Left {
				t.Fatalf("after %d writes %s is listed as a group of the user, at seq %d", die, s.Conversation, s.Newest)
			}
		}
		for range 3 {
			l.syncs("phone", false)
		}
		if n, _ := l.syncs("new", true); n != 0 {
			t.Errorf("after %d writes: %d groups are listed in the end", die, n)
		}
	}
}

// mortal is a store that carries out left cells of writes, and no more.
type mortal struct {
	store.Store
	left int
}

func (m *mortal) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.BeginHere(ctx, func(ctx context.Context, w []*store.Write, d store.Durability) error {
		for i := range w[0].Cells {
			if m.left--; m.left < 0 {
				return errors.New("dead")
			}
			if err := store.Commit(ctx, m.Store, []*store.Write{{Cells: w[0].Cells[i : i+1]}}, d); err != nil {
				return err
			}
		}
		return nil
	}, writes, d, done)
}

// An invitation that all devices know stays in the list, for devices to come. When it has ended it goes as a group does that was left.
func TestInvitationsStayInTheList(t *testing.T) {
	l := newLeaver(t)
	puts := func(line inbox.Line) {
		line.Time, line.Left = pim.MillisOf(l.now), true
		commit(t, l.s, &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fresh("alice"), Cell: line.Cell("g:asks")}}})
	}
	puts(inbox.Line{Newest: 1, Invited: true})
	for range 3 {
		for _, d := range []pim.DeviceID{"phone", "laptop"} {
			l.syncs(d, false)
		}
		l.now = l.now.Add(100 * 24 * time.Hour)
	}
	if n, _ := l.syncs("tablet", true); n != 1 {
		t.Errorf("a new device is told of %d groups", n)
	}
	puts(inbox.Line{Newest: 2})
	for range 3 {
		for _, d := range []pim.DeviceID{"phone", "laptop", "tablet"} {
			l.syncs(d, false)
		}
	}
	if n, _ := l.syncs("television", true); n != 0 {
		t.Errorf("a new device is told of %d groups, of which none is left", n)
	}
}
