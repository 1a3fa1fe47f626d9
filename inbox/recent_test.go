package inbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// The conversations with the newest entries come first, whatever their names, if not all of them
// are on the first page in any case. Twenty of them, whatever is in them, are less than 16 KiB.
func TestRecent(t *testing.T) {
	const many, n = 700, 20
	s := storetest.NewMemory()
	user := pim.UserID(strings.Repeat("u", pim.MaxIDBytes))
	var want []pim.ConversationID
	for i := range many {
		c := pim.Direct(user, pim.UserID(fmt.Sprintf("%0*d", pim.MaxIDBytes, i)))
		at := pim.Millis(1_795_000_000_000 + i*7919%many) // in another order than the names
		if i*7919%many >= many-n {
			want = append(want, c)
		}
		e := pim.Entry{
			Seq: 1, Anchor: 1, Count: 1, Kind: pim.EntryMessage, Sender: user, Device: "d", ClientID: pim.ClientMessageID{1},
			Local: at, Server: at, Payload: []byte(strings.Repeat("é", 150)),
		}
		line := inbox.Line{Newest: 1, Count: 1, Time: at, Mark: inbox.Mark{Own: 1, OwnCount: 1}, All: 1, MentionsOf: inbox.MentionsOf{Named: 1, OwnAll: 1}}
		commit(t, s, &store.Write{
			Log: inbox.Entries(c), Records: [][]byte{wire.AppendEntry(nil, &e)},
			Cells: []store.CellWrite{{Partition: inbox.Fresh(user), Cell: line.Cell(c)}},
		})
	}
	slices.Sort(want)
	x := inbox.New(s)
	req := inbox.SyncRequest{User: user, Device: "d", Brief: true, Recent: n}
	list, err := x.Recent(ctx, req)
	var got []pim.ConversationID
	size := 0
	for i := range list {
		got = append(got, list[i].Conversation)
		size += list[i].Size()
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%d conversations, %v: %q\nwant %q", len(got), err, got, want)
	}
	if size > 15<<10 {
		t.Errorf("%d bytes", size)
	}
	for _, none := range []inbox.SyncRequest{
		{User: user, Device: "d", Recent: 0},
		{User: user, Device: "d", Recent: n, After: "d:a:b"},
		{User: "eve", Device: "d", Recent: n},
	} {
		if list, err := x.Recent(ctx, none); err != nil || len(list) > 0 {
			t.Errorf("%+v: %d, %v", none, len(list), err)
		}
	}
}

// A brief Summary whose numbers, names and text are as long as they can be.
func TestTheLongestSummaryOfRecent(t *testing.T) {
	const most = 1<<63 - 1
	s := storetest.NewMemory()
	user, other := pim.UserID(strings.Repeat("u", pim.MaxIDBytes)), strings.Repeat("v", pim.MaxIDBytes-2)
	for i := range 3 {
		c := pim.Direct(user, pim.UserID(fmt.Sprintf("%s%02d", other, i)))
		line := inbox.Line{Newest: most, Count: most, Time: most, Mark: inbox.Mark{Own: most, OwnCount: most}, All: most, MentionsOf: inbox.MentionsOf{Named: most, OwnAll: most}}
		commit(t, s, &store.Write{Cells: []store.CellWrite{{Partition: inbox.Fresh(user), Cell: line.Cell(c)}}})
	}
	list, err := inbox.New(s).Recent(ctx, inbox.SyncRequest{User: user, Device: "d", Brief: true, Recent: 1})
	if err != nil || len(list) != 1 {
		t.Fatal(len(list), err)
	}
	brief, _ := wire.BriefEntry(&wirepb.Entry{
		Kind: wirepb.EntryKind_ENTRY_KIND_PIN, Sender: string(user), LocalMs: -1, ServerMs: most, AheadMs: most, Payload: make([]byte, pim.MaxPayload),
	})
	if size := list[0].Size() + brief.SizeVT(); size > 768 {
		t.Errorf("%d bytes", size)
	}
}
