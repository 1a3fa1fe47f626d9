package conv

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// An erase behind the snapshot erases an edit of a message that is there, so another erase passes over
// the edit. It does not note that nothing is left: the message may be trimmed first. It does not pass
// over the edit of a message that was trimmed, since nobody else erases that.
func TestAnErasePassesOverEditsOfAnEraseBefore(t *testing.T) {
	chat := pim.Direct("ann", "bob")
	for name, test := range map[string]struct{ front, first pim.Seq }{
		"the message is there":    {front: 1, first: 0},
		"the message was trimmed": {front: 2, first: 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.NewMemory()
			var records [][]byte
			for i, e := range []pim.Entry{
				{Kind: pim.EntryMessage, Sender: "ann", Payload: []byte("one")},
				{Kind: pim.EntryEdit, Sender: "ann", Refers: 1, Payload: []byte("uno")},
				{Kind: pim.EntryErase, Sender: "ann", Refers: 1},
			} {
				e.Conversation, e.Seq, e.Anchor = chat, pim.Seq(i+1), pim.Seq(i+1)
				records = append(records, wire.AppendEntry(nil, &e))
			}
			writes := []*store.Write{{Log: inbox.Entries(chat), Records: records}}
			if test.front > 1 {
				writes = append(writes, &store.Write{Log: inbox.Entries(chat), Trim: test.front - 1})
			}
			for _, w := range writes {
				if err := store.Commit(t.Context(), s, []*store.Write{w}, store.Durable); err != nil || w.Err != nil {
					t.Fatal(err, w.Err)
				}
			}
			l := &live{conversation: newConversation(chat, 2), front: test.front}
			l.unerased = []erasing{erasingOf(&pim.Entry{Kind: pim.EntryErase, Sender: "ann", Refers: 1, Seq: 3}, 1)}
			r := &Request{Conversation: chat, Kind: pim.EntryErase, Sender: "ann", Refers: 2}
			first, search, err := l.lookUpErased(t.Context(), s, r)
			if first != test.first || search || err != nil {
				t.Errorf("the first entry is at seq %d, search: %t, %v; want seq %d", first, search, err, test.first)
			}
			if cell, _, err := store.Lookup(t.Context(), s, inbox.Erasures(chat), "ann"); cell.Version != 0 || err != nil {
				t.Errorf("it is noted that nothing is left up to seq %d, %v", cell.Version, err)
			}
		})
	}
}
