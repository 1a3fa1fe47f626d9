package inbox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

func written(t testing.TB, s store.Store, w store.Write) {
	t.Helper()
	if err := store.Commit(context.Background(), s, []*store.Write{&w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	if w.Err != nil {
		t.Fatal(w.Err)
	}
}

// fillMessages writes a log of n messages of sender, with 100 bytes of payload each.
func fillMessages(t testing.TB, s store.Store, c pim.ConversationID, n int, sender pim.UserID) {
	t.Helper()
	fillLarge(t, s, c, n, sender, 100)
}

// fillLarge is fillMessages with payloads of size bytes.
func fillLarge(t testing.TB, s store.Store, c pim.ConversationID, n int, sender pim.UserID, size int) {
	t.Helper()
	w := store.Write{Log: inbox.Entries(c)}
	for i := range n {
		w.Records = append(w.Records, wire.AppendEntry(nil, &pim.Entry{
			Seq: pim.Seq(i + 1), Kind: pim.EntryMessage, Sender: sender, Device: "d", Count: uint64(i + 1), Payload: make([]byte, size),
		}))
	}
	written(t, s, w)
}

// crowd makes the group c of n members with 60 messages by m00000, which half of the members have
// read to some place.
func crowd(t testing.TB, s store.Store, c pim.ConversationID, n int) {
	t.Helper()
	for at := 0; at < n; at += 500 {
		var w store.Write
		for i := at; i < min(n, at+500); i++ {
			u := pim.UserID(fmt.Sprintf("m%05d", i))
			m := inbox.Membership{Periods: []inbox.Period{{From: 1}}}
			w.Cells = append(w.Cells,
				store.CellWrite{Partition: inbox.Members(c), Cell: store.Cell{Key: string(u), Version: 1, Value: m.Value()}},
				store.CellWrite{Partition: inbox.Fresh(u), Cell: inbox.Line{Newest: 60, Count: 60}.Cell(c)})
			if i%2 == 1 {
				w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Reads(c), Cell: inbox.ReadCell(u, pim.Seq(1+i%60), 1_795_000_000_000)})
			}
		}
		written(t, s, w)
	}
	fillMessages(t, s, c, 60, "m00000")
}

// old makes the group c as crowd does, and lets time pass: all lines are folded, every member has
// left and come back seven times, and ten times as many have left for good.
func old(t testing.TB, s store.Store, c pim.ConversationID, n int) {
	t.Helper()
	crowd(t, s, c, n)
	var often inbox.Membership
	for i := range pim.Seq(7) {
		often.Join(1 + 2*i)
		often.Leave(2 + 2*i)
	}
	gone := inbox.Membership{Periods: []inbox.Period{{From: 1, To: 40}}}
	often.Join(15)
	var w store.Write
	for i := range 11 * n {
		u, m := pim.UserID(fmt.Sprintf("m%05d", i)), &gone
		if i < n {
			m = &often
			fresh := inbox.Line{Newest: 60, Count: 60}.Cell(c)
			line := fresh
			fresh.Value = nil
			w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Lines(u), Cell: line},
				store.CellWrite{Partition: inbox.Fresh(u), Cell: fresh, Forget: true})
		} else {
			w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Reads(c), Cell: inbox.ReadCell(u, 30, 1)})
		}
		w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Members(c), Cell: store.Cell{Key: string(u), Version: 14, Value: m.Value()}})
		if len(w.Cells) > 1000 || i == 11*n-1 {
			written(t, s, w)
			w.Cells = nil
		}
	}
}

// What a screen of 50 messages costs: at most 4 KiB, and of CPU what ns/op says. Nobody else works
// meanwhile, so that is all that it costs.
func BenchmarkReceipts(b *testing.B) {
	for _, n := range []int{2, 200, 2000} {
		b.Run(fmt.Sprint(n, " members"), func(b *testing.B) { benchmarkReceipts(b, n, crowd) })
	}
	b.Run("2000 members, and 20000 who left", func(b *testing.B) { benchmarkReceipts(b, 2000, old) })
	b.Run("2000 members, and 5000 users who have switched", func(b *testing.B) {
		benchmarkReceipts(b, 2000, func(t testing.TB, s store.Store, c pim.ConversationID, n int) {
			crowd(t, s, c, n)
			var w store.Write
			for i := range 5000 {
				w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Hidden, Cell: inbox.HiddenCell(pim.UserID(fmt.Sprintf("h%05d", i)), 1, true)})
			}
			written(t, s, w)
		})
	})
}

func benchmarkReceipts(b *testing.B, n int, fill func(testing.TB, store.Store, pim.ConversationID, int)) {
	s := openQuietly(b, b.TempDir())
	defer s.Close()
	c := pim.ConversationID("g:crowd")
	fill(b, s, c, n)
	x := inbox.New(s)
	x.Restless()
	req := inbox.ReceiptRequest{Conversation: c, From: 11, To: 60}
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = screen(b, x, req, n)
	}
	b.ReportMetric(float64(size), "B/answer")
}

// What it costs to tell all members of a busy group, each of whom looks at it, that somebody has
// read. The server does so once a second at most.
func BenchmarkLive(b *testing.B) {
	for _, n := range []int{200, 2000, 10_000} {
		b.Run(fmt.Sprint(n, " members"), func(b *testing.B) {
			s := openQuietly(b, b.TempDir())
			defer s.Close()
			c := pim.ConversationID("g:crowd")
			crowd(b, s, c, n)
			var users []pim.UserID
			for i := range n {
				users = append(users, pim.UserID(fmt.Sprintf("m%05d", i)))
			}
			x := inbox.New(s)
			x.Restless()
			for b.Loop() {
				told, _, err := x.Live(context.Background(), c, users, new(inbox.Screen))
				if err != nil || told[n-1] == nil || len(told[n-1].Messages) != 50 {
					b.Fatal(told[n-1], err)
				}
			}
		})
	}
}

// screen asks for a screen, and returns how many bytes the answer has on the wire.
func screen(t testing.TB, x *inbox.Inbox, req inbox.ReceiptRequest, members int) int {
	r, err := x.Receipts(context.Background(), "m00000", req)
	if err != nil || len(r.Messages) != 50 || r.Messages[49].Members != members-1 {
		t.Fatalf("%+v, %v", r, err)
	}
	m := wirepb.PIMReceiptResp{RequestId: 1 << 30, Conversation: string(req.Conversation)}
	for _, x := range r.Messages {
		m.Receipts = append(m.Receipts, &wirepb.Receipt{Seq: uint64(x.Seq) + 1<<40, Read: uint32(x.Read), Members: uint32(x.Members)})
	}
	return m.SizeVT()
}

// The answer for a screen fits into 4 KiB, also in a group of 2,000 with long seqs.
func TestReceiptsAreSmall(t *testing.T) {
	s := storetest.NewMemory()
	crowd(t, s, "g:crowd", 2000)
	if n := screen(t, inbox.New(s), inbox.ReceiptRequest{Conversation: "g:crowd", From: 11, To: 60}, 2000); n > 4<<10 {
		t.Errorf("an answer of %d bytes", n)
	}
}

// Each message of a screen has its receipt, however large the messages are.
func TestReceiptsOfLargeMessages(t *testing.T) {
	s := storetest.NewMemory()
	c := pim.ConversationID("g:large")
	m := inbox.Membership{Periods: []inbox.Period{{From: 1}}}
	written(t, s, store.Write{Cells: []store.CellWrite{
		{Partition: inbox.Members(c), Cell: store.Cell{Key: "ann", Version: 1, Value: m.Value()}},
		{Partition: inbox.Members(c), Cell: store.Cell{Key: "bob", Version: 1, Value: m.Value()}},
		{Partition: inbox.Reads(c), Cell: inbox.ReadCell("bob", 50, 1)},
	}})
	fillLarge(t, s, c, 50, "ann", pim.MaxPayload)
	r, err := inbox.New(s).Receipts(t.Context(), "ann", inbox.ReceiptRequest{Conversation: c, From: 1, To: 50})
	if err != nil || len(r.Messages) != 50 {
		t.Fatalf("%d receipts, %v", len(r.Messages), err)
	}
	for i, m := range r.Messages {
		if m != (inbox.Receipt{Seq: pim.Seq(i + 1), Read: 1, Members: 1}) {
			t.Errorf("receipt %d is %+v", i, m)
		}
	}
}

// The readers of a message come in pages, and each user once.
func TestReadersInPages(t *testing.T) {
	s := storetest.NewMemory()
	crowd(t, s, "g:crowd", 1201)
	req := inbox.ReceiptRequest{Conversation: "g:crowd", From: 30, Readers: true}
	all, read := 0, 0
	for last := pim.UserID(""); ; req.After = last {
		page, err := inbox.New(s).Receipts(t.Context(), "m00007", req)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Readers {
			if r.User <= last || r.User == "m00000" {
				t.Fatalf("%s after %s", r.User, last)
			}
			last = r.User
			all++
			if r.Read {
				read++
			}
		}
		if page.Next == "" {
			break
		}
		if page.Next != last {
			t.Fatalf("the page ends with %s, and the next one begins behind %s", last, page.Next)
		}
	}
	if all != 1200 || read != 320 {
		t.Errorf("%d readers, %d have read", all, read)
	}
}

// Delivered is what any device of the other user has acknowledged. Nobody else is told.
func TestDirectReceipts(t *testing.T) {
	s := storetest.NewMemory()
	c := pim.Direct("ann", "bob")
	fillMessages(t, s, c, 5, "ann")
	x := inbox.New(s)
	told := func(want inbox.Receipts) {
		t.Helper()
		if r, err := x.Receipts(t.Context(), "ann", inbox.ReceiptRequest{Conversation: c, From: 1}); err != nil || fmt.Sprint(r) != fmt.Sprint(want) {
			t.Errorf("ann is told %+v, %v; want %+v", r, err, want)
		}
		live, _, err := x.Live(t.Context(), c, []pim.UserID{"ann"}, new(inbox.Screen))
		if err != nil || fmt.Sprint(*live[0]) != fmt.Sprint(want) {
			t.Errorf("ann, who looks, is told %+v, %v; want %+v", live[0], err, want)
		}
	}
	told(inbox.Receipts{})
	for device, seq := range map[pim.DeviceID]uint64{"phone": 2, "laptop": 4} {
		written(t, s, store.Write{Cells: []store.CellWrite{
			{Partition: inbox.Devices("bob"), Cell: store.Cell{Key: string(device), Version: 1}},
			{Partition: inbox.Acked("bob", device), Cell: store.Cell{Key: string(c), Version: seq}},
		}})
	}
	told(inbox.Receipts{Delivered: 4})
	written(t, s, store.Write{Cells: []store.CellWrite{{Partition: inbox.Reads(c), Cell: inbox.ReadCell("bob", 3, 9)}}})
	told(inbox.Receipts{Delivered: 4, Read: 3, ReadAt: 9})
	written(t, s, store.Write{Cells: []store.CellWrite{{Partition: inbox.Reads(c), Cell: inbox.ReadCell("bob", 3, 10)}}})
	told(inbox.Receipts{Delivered: 4, Read: 3, ReadAt: 9}) // the earlier of two times stays
	written(t, s, store.Write{Cells: []store.CellWrite{{Partition: inbox.Reads(c), Cell: inbox.ReadCell("bob", 5, 11)}}})
	told(inbox.Receipts{Delivered: 5, Read: 5, ReadAt: 11}) // what is read is delivered
	hides := pim.Command{Kind: pim.CommandNoReceipts, Subject: "bob"}
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("bob", hides, 5)}})
	told(inbox.Receipts{Delivered: 5}) // and stays delivered, while bob does not tell what is read
	hides.Removed = true
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("bob", hides, 6)}})
	told(inbox.Receipts{Delivered: 5, Read: 5, ReadAt: 11})
	block := pim.Command{Kind: pim.CommandBlock, Subject: "ann"}
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("bob", block, 7)}})
	told(inbox.Receipts{}) // whom bob blocks is told nothing of bob
	block.Removed = true
	written(t, s, store.Write{Cells: []store.CellWrite{settingCell("bob", block, 8)}})
	told(inbox.Receipts{Delivered: 5, Read: 5, ReadAt: 11})
	for user, kind := range map[pim.UserID]pim.Kind{"eve": pim.KindNotMember, "bob": pim.KindUnknown} {
		if _, err := x.Receipts(t.Context(), user, inbox.ReceiptRequest{Conversation: c, From: 1}); pim.KindOf(err) != kind {
			t.Errorf("%s is told %v", user, err)
		}
	}
	for _, req := range []inbox.ReceiptRequest{
		{Conversation: c}, {Conversation: c, From: 2, To: 1}, {Conversation: c, From: 1, To: 51}, {Conversation: pim.Own("ann"), From: 1},
	} {
		if _, err := x.Receipts(t.Context(), "ann", req); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%+v: %v", req, err)
		}
	}
}

// Who gives no receipts is left out, whether few users have ever switched theirs or many, and
// whether most who ever were members are present or have left.
func TestHiddenReaders(t *testing.T) {
	for name, c := range map[string]struct {
		switched, left int
	}{
		"few have switched": {3, 0}, "many have switched": {5000, 0}, "many have left": {3, 4000}, "many of both": {5000, 4000},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.NewMemory()
			crowd(t, s, "g:crowd", 1201)
			var w store.Write
			for i := range c.switched {
				w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Hidden, Cell: inbox.HiddenCell(pim.UserID(fmt.Sprintf("h%05d", i)), 1, true)})
			}
			gone := inbox.Membership{Periods: []inbox.Period{{From: 1, To: 40}}}
			for i := range c.left {
				u := pim.UserID(fmt.Sprintf("l%05d", i))
				w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Reads("g:crowd"), Cell: inbox.ReadCell(u, 35, 1)},
					store.CellWrite{Partition: inbox.Members("g:crowd"), Cell: store.Cell{Key: string(u), Version: 40, Value: gone.Value()}})
			}
			for _, hidden := range []inbox.Receipt{{Seq: 30, Read: 320, Members: 1200}, {Seq: 30, Read: 319, Members: 1198}, {Seq: 30, Read: 320, Members: 1199}} {
				written(t, s, w)
				r, err := inbox.New(s).Receipts(t.Context(), "m00000", inbox.ReceiptRequest{Conversation: "g:crowd", From: 30})
				if err != nil || len(r.Messages) != 1 || r.Messages[0] != hidden {
					t.Errorf("%+v, %v; want %+v", r.Messages, err, hidden)
				}
				w = store.Write{Cells: []store.CellWrite{
					{Partition: inbox.Hidden, Cell: inbox.HiddenCell("m01199", 1, true)}, // has read up to 60
					{Partition: inbox.Hidden, Cell: inbox.HiddenCell("m00012", 1, true)}, // has read nothing
				}}
				if hidden.Members < 1200 {
					w.Cells = []store.CellWrite{{Partition: inbox.Hidden, Cell: inbox.HiddenCell("m01199", 2, false)}}
				}
			}
		})
	}
}

func settingCell(user pim.UserID, c pim.Command, at pim.Seq) store.CellWrite {
	set := pim.Setting{Command: c, At: at}
	return store.CellWrite{Partition: inbox.Settings(user), Cell: inbox.SettingCell(&set, inbox.SettingVersion(&set))}
}
