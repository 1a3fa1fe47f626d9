package client_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/sqlite"
)

// Bob's phone has all that was written, and nothing new comes. Retention removes the beginning: the
// phone hears of it with its next sync, drops it, and keeps the rest, over restarts too.
func TestTrimmedAndNothingNew(t *testing.T) {
	for name, open := range map[string]func(path string) (client.Store, error){
		"memory": func(string) (client.Store, error) { return client.NewMemory(client.MemoryOptions{}), nil },
		"sqlite": func(path string) (client.Store, error) { return sqlite.Open(t.Context(), path) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i := range 4 {
				if err := w.server.Append(chat, "alice", pim.ClientMessageID{1, byte(i)}, fmt.Append(nil, "old ", i)); err != nil {
					t.Fatal(err)
				}
			}
			store, err := open(filepath.Join(t.TempDir(), "bob.db"))
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := store.(interface{ Close() error }); ok {
				defer c.Close()
			}
			o := w.options("bob", "phone")
			o.Store = store
			begin := func() (*device, *client.View) {
				bob := w.opens(o).reads()
				return bob, bob.views(chat, 10)
			}
			bob, v := begin()
			comesToShow(t, v, "old 0", "old 1", "old 2", "old 3")
			bob.synced()
			w.server.Trim(chat, 2)
			bob.NetworkChanged("another") // it connects anew, and syncs
			comesToShow(t, v, "old 2", "old 3")
			for end := time.Now().Add(5 * time.Minute); w.server.Untold("bob", "phone", chat) != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the phone does not acknowledge the front")
				}
			}
			bob.Close()
			bob, v = begin()
			comesToShow(t, v, "old 2", "old 3")
			if info, err := bob.Conversation(chat).Info(t.Context()); err != nil || info.Front != 3 || info.Newest != 4 {
				t.Errorf("%+v, %v", info, err)
			}
			bob.Close()
		})
	}
}
