package sqlite_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// What was recalled, erased or removed by retention is not in the file any more: SQLite writes over
// what it deletes.
func TestErasedBytesLeaveTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	s := open(t, path)
	const chat = pim.ConversationID("d:alice:bob")
	text := func(seq pim.Seq) []byte { // the longest have pages of their own
		return []byte(fmt.Sprintf("text-%03d%s;", seq, strings.Repeat("+", int(seq)%5*3000)))
	}
	var b client.Batch
	for seq := pim.Seq(1); seq <= 120; seq++ {
		b.Entries = append(b.Entries, client.Stored{Entry: pim.Entry{
			Conversation: chat, Seq: seq, Kind: pim.EntryMessage, Sender: []pim.UserID{"alice", "bob"}[seq%2],
			Device: "phone", ClientID: pim.ClientMessageID{15: byte(seq)}, Payload: text(seq),
		}})
	}
	apply := func(b client.Batch) {
		t.Helper()
		if err := s.Apply(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	apply(b)
	apply(client.Batch{Trims: []client.Trim{{Conversation: chat, Front: 41}}})
	apply(client.Batch{Erasures: []client.StoredErasure{{Conversation: chat, Erasure: pim.Erasure{By: "alice", UpTo: 80}}}})
	apply(client.Batch{Folds: []client.StoredFold{{Conversation: chat, Fold: pim.Fold{Target: 100, Recall: pim.Mark{Seq: 121, By: "alice"}}}}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for seq := pim.Seq(1); seq <= 120; seq++ {
		gone := seq <= 40 || seq <= 80 && seq%2 == 0 || seq == 100
		if bytes.Contains(data, text(seq)[:8]) == gone {
			t.Errorf("seq %d is gone: %t", seq, !gone)
		}
	}
}
