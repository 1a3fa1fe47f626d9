package sqlite_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
)

// full returns the path of a closed store with an entry, a message in the outbox and a
// setting.
func full(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	e := pim.Entry{Conversation: "d:a:b", Seq: 1, Anchor: 1, Kind: pim.EntryMessage, Sender: "a", Device: "x", ClientID: pim.ClientMessageID{1}, Local: 1, Server: 1, Payload: bytes.Repeat([]byte("x"), 10_000)}
	if err := s.Apply(t.Context(), &client.Batch{
		Meta:          &client.Meta{User: "a", Device: "x"},
		Entries:       []client.Stored{{Entry: e}},
		Conversations: []client.ConversationRow{{ID: "d:a:b", Known: 1, Newest: 1, Count: 1, Last: e}},
		Outbox:        []client.Outgoing{{ID: pim.ClientMessageID{2}, Number: 1, Conversation: "d:a:b", Kind: pim.EntryMessage}},
		Settings:      []client.Setting{{Entity: "contact/b", Setting: pim.Setting{At: 1, Command: pim.Command{Kind: pim.CommandContact, Subject: "b"}}}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whatever is wrong with a file, and whenever that is found, the error is of
// KindCorrupt and names the file.
func TestAMalformedStoreIsNamed(t *testing.T) {
	edit := func(statement string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, harm := range map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 4096), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a page overwritten": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(info.Size())-4096), 4096); err != nil {
				t.Fatal(err)
			}
		},
		"a half": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, info.Size()/2)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"a table gone":              edit("DROP TABLE settings"),
		"a column of another type":  edit("UPDATE conversations SET known = 'many'"),
		"an entry that is none":     edit("UPDATE entries SET data = x'ffff'"),
		"a message without an ID":   edit("UPDATE outbox SET id = x'01'"),
		"a setting that is none":    edit("UPDATE settings SET command = x'ffff'"),
		"another program's version": edit("DROP TABLE outbox; PRAGMA user_version = 1"),
	} {
		t.Run(name, func(t *testing.T) {
			path := full(t)
			harm(t, path)
			s, err := sqlite.Open(t.Context(), path)
			if err == nil {
				defer s.Close()
				_, err = s.Load(t.Context())
			}
			if err == nil {
				_, err = s.Entries(t.Context(), "d:a:b", nil, 10)
			}
			if pim.KindOf(err) != pim.KindCorrupt || !strings.Contains(err.Error(), path) {
				t.Errorf("%v: want corrupt, and %s", err, path)
			}
		})
	}
}
