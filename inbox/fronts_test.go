package inbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// syncsFronts returns what a sync tells of fronts, as "g:x 5".
func syncsFronts(t *testing.T, s store.Store, req inbox.SyncRequest) (told []string) {
	t.Helper()
	page, err := inbox.New(s).Sync(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range page.Fronts {
		told = append(told, fmt.Sprint(f.Conversation, " ", f.Front))
	}
	return told
}

func wants(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

func asks(user pim.UserID, device pim.DeviceID) inbox.SyncRequest {
	return inbox.SyncRequest{User: user, Device: device, Fronts: true}
}

// A trim is told to every device of those who have the conversation in their lists, and of a group's former members
// whose lists it has left, until the device has acknowledged it, and to nobody else: not to
// a device that can't use it, and on no other page than the first.
func TestFrontsAreTold(t *testing.T) {
	s := storetest.NewMemory()
	line := func(p store.Partition, c pim.ConversationID) store.CellWrite {
		return store.CellWrite{Partition: p, Cell: inbox.Line{Newest: 9, Count: 9}.Cell(c)}
	}
	w := &store.Write{Cells: []store.CellWrite{
		line(inbox.Lines("alice"), "g:x"), line(inbox.Fresh("bob"), "g:x"),
		line(inbox.Fresh("bob"), "d:alice:bob"), line(inbox.Fresh("eve"), "g:y"),
	}}
	for _, u := range []string{"alice", "bob", "carol"} {
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Members("g:x"), Cell: store.Cell{Key: u, Version: 1, Value: []byte{0, 1, 5}}})
	}
	commit(t, s, w)
	all := []inbox.SyncRequest{asks("alice", "phone"), asks("alice", "laptop"), asks("bob", "phone"), asks("carol", "phone"), asks("eve", "phone")}
	for _, req := range all {
		wants(t, "before any trim", syncsFronts(t, s, req))
	}
	for _, f := range []inbox.Front{{"g:x", 4}, {"d:alice:bob", 3}, {"g:x", 5}, {"g:x", 2}} { // the last one comes late
		if err := inbox.TellFronts(ctx, s, f.Conversation, f.Front); err != nil {
			t.Fatal(err)
		}
	}
	told := func(what string, alice, laptop, bob []string) {
		t.Helper()
		carol := []string{"g:x 5"} // acknowledges nothing
		if what == "after another trim" {
			carol = []string{"g:x 7"}
		}
		for i, want := range [][]string{alice, laptop, bob, carol, nil} {
			wants(t, fmt.Sprint(what, ", ", all[i].User, "/", all[i].Device), syncsFronts(t, s, all[i]), want...)
		}
	}
	told("after the trims", []string{"g:x 5"}, []string{"g:x 5"}, []string{"d:alice:bob 3", "g:x 5"})
	told("again", []string{"g:x 5"}, []string{"g:x 5"}, []string{"d:alice:bob 3", "g:x 5"})
	wants(t, "an earlier client", syncsFronts(t, s, inbox.SyncRequest{User: "bob", Device: "phone"}))
	wants(t, "the second page", syncsFronts(t, s, inbox.SyncRequest{User: "bob", Device: "phone", Fronts: true, After: "a"}))

	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	a.NoteFronts("alice", "phone", []inbox.Front{{"g:x", 5}})
	a.NoteFronts("bob", "phone", []inbox.Front{{"g:x", 4}, {"d:alice:bob", 3}})
	a.Settle(ctx, "bob", "phone")
	wants(t, "settled", syncsFronts(t, s, asks("bob", "phone")), "g:x 5")
	a.Close()
	told("after the acknowledgements", nil, []string{"g:x 5"}, []string{"g:x 5"})
	if err := inbox.TellFronts(ctx, s, "g:x", 7); err != nil {
		t.Fatal(err)
	}
	told("after another trim", []string{"g:x 7"}, []string{"g:x 7"}, []string{"g:x 7"})
}

// A device acknowledges what it was not told of, and more than that. It hides nothing that comes
// later from itself, and nothing is written for names that it has made up.
func TestHostileFronts(t *testing.T) {
	s := &forgets{Store: storetest.NewMemory()}
	commit(t, s, &store.Write{Cells: []store.CellWrite{
		{Partition: inbox.Fronts("alice", "phone"), Cell: store.Cell{Key: "g:x", Version: 4}},
		{Partition: inbox.Fronts("alice", "laptop"), Cell: store.Cell{Key: "g:y", Version: 4}},
	}})
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	many := []inbox.Front{{"g:x", store.MaxVersion + 5}, {"g:y", 9}, {"g:x", 0}}
	for i := range 2 * inbox.AckShare {
		many = append(many, inbox.Front{Conversation: pim.ConversationID(fmt.Sprint("g:made-up", i)), Front: 1})
	}
	a.NoteFronts("alice", "phone", many)
	a.Close()
	if want := []string{"~fronts/alice/phone g:x 4"}; !reflect.DeepEqual(s.gone, want) {
		t.Errorf("forgotten are %d cells: %.10q, want %q", len(s.gone), s.gone, want)
	}
	commit(t, s, &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fronts("alice", "phone"), Cell: store.Cell{Key: "g:x", Version: 5}}}})
	wants(t, "a later trim", syncsFronts(t, s, asks("alice", "phone")), "g:x 5")
	wants(t, "the other device", syncsFronts(t, s, asks("alice", "laptop")), "g:y 4")
}

// forgets notes which cells are forgotten.
type forgets struct {
	store.Store
	gone []string
}

func (s *forgets) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		for _, c := range w.Cells {
			if c.Forget {
				s.gone = append(s.gone, fmt.Sprint(c.Partition, " ", c.Key, " ", c.Version))
			}
		}
	}
	s.Store.Begin(ctx, writes, d, done)
}

// Fronts are told a hundred at a time, and leave room in the frame for the list.
func TestManyFronts(t *testing.T) {
	s := storetest.NewMemory()
	name := func(i int) pim.ConversationID {
		return pim.ConversationID(fmt.Sprintf("g:%03d%s", i, strings.Repeat("x", 61)))
	}
	w := &store.Write{}
	for i := range 250 {
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Fronts("alice", "phone"), Cell: store.Cell{Key: string(name(i)), Version: 9}})
	}
	commit(t, s, w)
	a := inbox.NewAcks(s, slog.New(slog.DiscardHandler), nil)
	defer a.Close()
	for _, want := range []int{100, 100, 50, 0} {
		page, err := inbox.New(s).Sync(ctx, asks("alice", "phone"))
		if err != nil || len(page.Fronts) != want {
			t.Fatalf("%d fronts are told, %v; want %d", len(page.Fronts), err, want)
		}
		a.NoteFronts("alice", "phone", page.Fronts)
		a.Settle(ctx, "alice", "phone")
	}
	if s := (&inbox.SyncPage{Fronts: []inbox.Front{{name(0), 1 << 60}}}).Size(); s < 64+64+14 {
		t.Errorf("a front takes %d bytes", s)
	}
}

// A user with very many devices costs a trim no more than 1,024 of them do.
func TestFrontsOfManyDevices(t *testing.T) {
	s := storetest.NewMemory()
	w := &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fresh("eve"), Cell: inbox.Line{Newest: 9}.Cell("d:eve:zoe")}}}
	for i := range 1100 {
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Settled("eve"), Cell: store.Cell{Key: fmt.Sprintf("d%04d", i), Version: 3}})
	}
	commit(t, s, w)
	if err := inbox.TellFronts(ctx, s, "d:eve:zoe", 4); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int][]string{0: {"d:eve:zoe 4"}, 1023: {"d:eve:zoe 4"}, 1024: nil, 1099: nil} {
		wants(t, fmt.Sprint("device ", i), syncsFronts(t, s, asks("eve", pim.DeviceID(fmt.Sprintf("d%04d", i)))), want...)
	}
}

// A device that asks for no fronts and has acknowledged nothing, like a command that is run once, takes none of
// the places of a user's devices. Once it has acknowledged something it has one.
func TestCommandsTakeNoPlaceAmongTheDevices(t *testing.T) {
	const c = pim.ConversationID("d:eve:zoe")
	s := storetest.NewMemory()
	commit(t, s, &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fresh("eve"), Cell: inbox.Line{Newest: 9}.Cell(c)}}})
	devices := func() (keys []string) {
		t.Helper()
		cells, err := s.List(ctx, inbox.Settled("eve"), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, cell := range cells {
			keys = append(keys, cell.Key)
		}
		return keys
	}
	command, phone := inbox.SyncRequest{User: "eve", Device: "cli-1"}, asks("eve", "phone")
	for range 2 {
		syncsFronts(t, s, command)
		syncsFronts(t, s, phone)
	}
	wants(t, "before an acknowledgement", devices(), "phone")
	commit(t, s, &store.Write{Cells: []store.CellWrite{{Partition: inbox.Acked("eve", "cli-1"), Cell: store.Cell{Key: string(c), Version: 9}}}})
	syncsFronts(t, s, command)
	wants(t, "after it", devices(), "cli-1", "phone")
}

// A trim comes while a device reads its list for the first time. Either the trim finds the device, or
// the list tells the front: the device's mark is there before the first line is read.
func TestATrimDuringTheFirstSync(t *testing.T) {
	s := &firstList{Store: storetest.NewMemory()}
	fill(t, s, "d:alice:bob", 9, 10, nil)
	commit(t, s, &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fresh("alice"), Cell: inbox.Line{Newest: 9, Count: 9}.Cell("d:alice:bob")}}})
	trims := func() {
		commit(t, s, &store.Write{Log: inbox.Entries("d:alice:bob"), Trim: 5})
		if err := inbox.TellFronts(ctx, s, "d:alice:bob", 6); err != nil {
			t.Fatal(err)
		}
	}
	s.next = trims
	req := asks("alice", "phone")
	req.Full, req.Later = true, func(func(context.Context)) {} // dropped
	page, err := inbox.New(s).Sync(ctx, req)
	if err != nil || len(page.Summaries) != 1 || s.next != nil {
		t.Fatal(page, err)
	}
	if told := syncsFronts(t, s, asks("alice", "phone")); len(told) == 0 && page.Summaries[0].Front != 6 {
		t.Errorf("the phone was told of the front %d by the list, and then of %q", page.Summaries[0].Front, told)
	}
}

// firstList calls next once, when the user's lines have been read for the first time.
type firstList struct {
	store.Store
	next func()
}

func (s *firstList) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	if f := s.next; f != nil {
		s.next = nil
		f()
	}
	return err
}

// hung is a store that takes writes and tells no outcome.
type hung struct{ store.Store }

func (hung) Begin(context.Context, []*store.Write, store.Durability, func(*store.Write)) {}

// A disk that hangs does not hold up the first sync of a device for long, nor the end of a connection.
func TestAHungStoreHoldsUpNoFirstSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := inbox.New(hung{storetest.NewMemory()})
		req := inbox.SyncRequest{User: "bob", Device: "phone", Fronts: true, Later: func(func(context.Context)) {}}
		begun := time.Now()
		if _, err := x.Sync(t.Context(), req); err != nil || time.Since(begun) > time.Second {
			t.Errorf("the sync ends after %v, %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun = time.Now()
		if _, _ = x.Sync(ctx, req); time.Since(begun) > 0 {
			t.Errorf("the connection has ended, the sync after %v", time.Since(begun))
		}
	})
}
