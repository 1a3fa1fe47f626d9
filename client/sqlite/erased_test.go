package sqlite_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
)

const chat = pim.ConversationID("d:alice:bob")

// text returns the payload of the message at seq; the longest have pages of their own.
func text(seq pim.Seq) []byte {
	return []byte(fmt.Sprintf("text-%03d%s;", seq, strings.Repeat("+", int(seq)%5*3000)))
}

// erased reports whether erases takes the payload at seq away.
func erased(seq pim.Seq) bool { return seq <= 40 || seq <= 80 && seq%2 == 0 || seq == 100 }

// erases applies 120 messages, and then what takes some of them away.
func erases(t *testing.T, s *sqlite.Store) {
	t.Helper()
	var b client.Batch
	for seq := pim.Seq(1); seq <= 120; seq++ {
		b.Entries = append(b.Entries, client.Stored{Entry: pim.Entry{
			Conversation: chat, Seq: seq, Kind: pim.EntryMessage, Sender: []pim.UserID{"alice", "bob"}[seq%2],
			Device: "phone", ClientID: pim.ClientMessageID{15: byte(seq)}, Payload: text(seq),
		}})
	}
	for _, b := range []client.Batch{
		b,
		{Trims: []client.Trim{{Conversation: chat, Front: 41}}},
		{Erasures: []client.StoredErasure{{Conversation: chat, Erasure: pim.Erasure{By: "alice", UpTo: 80}}}},
		{Folds: []client.StoredFold{{Conversation: chat, Fold: pim.Fold{Target: 100, Recall: pim.Mark{Seq: 121, By: "alice"}}}}},
	} {
		if err := s.Apply(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
}

// holding returns the seqs whose payloads are in one of the files.
func holding(t *testing.T, files ...string) map[pim.Seq]bool {
	t.Helper()
	held := map[pim.Seq]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for seq := pim.Seq(1); seq <= 120; seq++ {
			held[seq] = held[seq] || bytes.Contains(data, text(seq)[:8])
		}
	}
	return held
}

// What was recalled, erased or removed by retention is not in the file any more: SQLite writes over
// what it deletes.
func TestErasedBytesLeaveTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pim.db")
	s := open(t, path)
	erases(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for seq, held := range holding(t, path) {
		if held == erased(seq) {
			t.Errorf("seq %d is in the file: %t", seq, held)
		}
	}
}

// The bytes leave an open file and its write-ahead log within a minute, and those of a program that
// was killed within a minute of the next start.
func TestErasedBytesLeaveAnOpenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "pim.db")
		s := open(t, path)
		time.Sleep(2 * time.Minute) // the checkpoint that follows a start has been done
		check := func(path string) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			for seq, held := range holding(t, path, path+"-wal") {
				if held == erased(seq) {
					t.Errorf("seq %d is in the files: %t", seq, held)
				}
			}
		}
		erases(t, s)
		left := 0
		for seq, held := range holding(t, path, path+"-wal") {
			if held && erased(seq) {
				left++
			}
		}
		if left == 0 {
			t.Error("nothing is left for a checkpoint")
		}
		killed := filepath.Join(dir, "killed.db")
		for _, suffix := range []string{"", "-wal"} {
			data, err := os.ReadFile(path + suffix)
			if err == nil {
				err = os.WriteFile(killed+suffix, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		check(path)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, killed)
		check(killed)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
