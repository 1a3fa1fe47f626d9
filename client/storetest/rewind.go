package storetest

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// A conversation is taken back: its newest entries are gone, those of the user are
// kept aside until they are forgotten, and new entries with the same seqs are stored.
func testRewind(t *testing.T, open func() client.Store) {
	s := open()
	entries := make([]client.Stored, 6)
	for i := range entries {
		entries[i] = client.Stored{Entry: entry(direct, pim.Seq(i+1), pim.Seq(i+1), 900_000), Number: uint64(i + 1)}
		if i%2 == 1 {
			entries[i].Sender = "bob"
		}
	}
	other := client.Stored{Entry: entry(group, 9, 9, 1), Number: 7}
	set := client.Setting{Entity: "pin/g:abc", Setting: pim.Setting{Command: pim.Command{Kind: pim.CommandPin, Subject: string(group)}, At: 1}}
	apply(t, s, client.Batch{Entries: append(entries, other), Settings: []client.Setting{set}})
	seqs := func(list []pim.Entry, err error) (seqs []pim.Seq) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			seqs = append(seqs, e.Seq)
		}
		return seqs
	}
	below := func(to pim.Seq, limit int) []pim.Seq { return seqs(s.Below(t.Context(), direct, to, limit)) }
	equal(t, "the last two up to 4", below(4, 2), []pim.Seq{3, 4})
	equal(t, "all", below(99, 10), []pim.Seq{1, 2, 3, 4, 5, 6})
	equal(t, "none", below(0, 10), []pim.Seq(nil))

	again := client.Stored{Entry: entry(direct, 3, 3, 900_001), Number: 8} // in the same transaction
	again.ClientID = pim.ClientMessageID{9}
	apply(t, s, client.Batch{
		Rewinds: []client.Rewind{{Conversation: direct, After: 2, Sender: "alice"}},
		Entries: []client.Stored{again},
	})
	s = reopen(t, s, open)
	defer s.Close()
	former := func(skip, limit int) []pim.Seq { return seqs(s.Former(t.Context(), direct, skip, limit)) }
	equal(t, "what is left", below(99, 10), []pim.Seq{1, 2, 3})
	if list, err := s.Below(t.Context(), direct, 3, 1); err != nil || !slices.Equal(list[0].ClientID[:], again.ClientID[:]) {
		t.Errorf("seq 3 is %+v, %v", list, err)
	}
	equal(t, "kept aside", former(0, 10), []pim.Seq{3, 5})
	equal(t, "the second of them", former(1, 10), []pim.Seq{5})
	equal(t, "the first of them", former(0, 1), []pim.Seq{3})
	equal(t, "conversations", load(t, s).Former, []pim.ConversationID{direct})
	equal(t, "the other conversation", seqs(s.Below(t.Context(), group, 99, 10)), []pim.Seq{9})
	equal(t, "settings", load(t, s).Settings, []client.Setting{set})

	apply(t, s, client.Batch{Forget: []client.Former{{Conversation: direct, ID: entries[2].ClientID}, {Conversation: group, ID: pim.ClientMessageID{1}}}})
	equal(t, "one is forgotten", former(0, 10), []pim.Seq{5})
	apply(t, s, client.Batch{Rewinds: []client.Rewind{{Conversation: direct, Sender: "alice"}, {Conversation: pim.Own("alice"), Sender: "alice"}}})
	equal(t, "all is taken back", below(99, 10), []pim.Seq(nil))
	equal(t, "and kept aside", former(0, 10), []pim.Seq{1, 3, 5})
	equal(t, "settings that follow from the own log", len(load(t, s).Settings), 0)
	apply(t, s, client.Batch{Keep: []pim.Entry{entry(direct, 8, 8, 1), entry(group, 2, 2, 1)}})
	equal(t, "and one that was not stored", former(0, 10), []pim.Seq{1, 3, 5, 8})
	apply(t, s, client.Batch{Forget: []client.Former{{Conversation: direct}, {Conversation: group}}})
	equal(t, "all is forgotten", len(load(t, s).Former), 0)
}
