package cql_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store/cql"
)

// person is a device that stays while its server goes back to a snapshot.
type person struct {
	*client.Client
	t *testing.T
}

func appears(t *testing.T, url, data string, user pim.UserID) person {
	t.Helper()
	keys := server.Config{Data: data}
	c, err := client.Open(t.Context(), client.Options{
		Servers: []string{url}, User: user, Device: "phone", Store: client.NewMemory(client.MemoryOptions{}),
		Token: func(context.Context) (string, error) {
			k, _, err := keys.LoadKeys()
			if err != nil {
				return "", err
			}
			return k.Issue(user, time.Hour, time.Now())
		},
		BackoffMin: 10 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for range c.Events() { // what it has is asked for
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-read
	})
	return person{c, t}
}

// has waits until the device has exactly these messages of the conversation.
func (p person) has(c pim.ConversationID, want ...string) {
	p.t.Helper()
	var got []string
	for range 3000 {
		entries, err := p.Messages(p.t.Context(), c, 100)
		if err != nil {
			p.t.Fatal(err)
		}
		got = nil
		for i := range entries {
			got = append(got, string(entries[i].Payload))
		}
		if strings.Join(got, " ") == strings.Join(want, " ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.t.Errorf("the device has %q, want %q", got, want)
}

func (p person) sends(c pim.ConversationID, text string) {
	p.t.Helper()
	sending, err := p.Send(p.t.Context(), c, []byte(text))
	if err == nil {
		_, err = sending.Wait(p.t.Context())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// logged waits until the server's log has so many entries.
func (p person) logged(c pim.ConversationID, want int) {
	p.t.Helper()
	var log []pim.Entry
	var err error
	for range 3000 {
		if log, err = imtest.ReadAll(p.t.Context(), p.Client, c, pim.MaxPageEntries); err == nil && len(log) == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.t.Errorf("%d entries are in the log, want %d, %v", len(log), want, err)
}

// A snapshot is taken of every table while the server runs, the keyspace is dropped, made anew, and the snapshot put back, by the commands of
// docs/operations.md. Who wrote what came after the snapshot sends it again, once. PIM_SNAPSHOT=1 plays it, and make soak-cluster.
func TestSnapshotIsPutBack(t *testing.T) {
	if os.Getenv("PIM_SNAPSHOT") == "" {
		t.Skip("PIM_SNAPSHOT is not set")
	}
	o, quiet := keyspace(t, "pim_snapshot", 0), slog.New(slog.DiscardHandler)
	address, err := loopback.Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	c := server.Defaults()
	c.Consent = false // people here are strangers
	c.Listen, c.ListenTCP, c.Data, c.Store, c.DrainWindow = address[0], "", t.TempDir(), o.URL(), 0
	serve := func() (stop func()) {
		s, err := server.New(c, server.Options{Logger: quiet})
		if err == nil {
			err = s.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	nodetool := func(args ...string) {
		t.Helper()
		if _, err := cluster(t).Nodetool(1, args...); err != nil {
			t.Fatal(err)
		}
	}
	stop := serve()
	chat := pim.Direct("alice", "bob")
	alice, bob := appears(t, "http://"+address[0], c.Data, "alice"), appears(t, "http://"+address[0], c.Data, "bob")
	alice.sends(chat, "one")
	bob.sends(chat, "two")
	nodetool("snapshot", "-t", "backup", o.Keyspace)
	alice.sends(chat, "three")
	bob.has(chat, "one", "two", "three")
	alice.has(chat, "one", "two", "three")

	backup := t.TempDir()
	taken, err := filepath.Glob(filepath.Join(cluster(t).Tables(1, o.Keyspace), "*", "snapshots", "backup"))
	if err != nil || len(taken) == 0 {
		t.Fatalf("%d tables in the snapshot, %v", len(taken), err)
	}
	for _, dir := range taken {
		table, _, _ := strings.Cut(filepath.Base(filepath.Dir(filepath.Dir(dir))), "-")
		if err := os.CopyFS(filepath.Join(backup, table), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	nodetool("clearsnapshot", "-t", "backup", o.Keyspace)
	stop()
	drop(t, o)

	if _, _, err := cql.Init(t.Context(), o, copies(t, "1")); err != nil {
		t.Fatal(err)
	}
	tables, err := os.ReadDir(backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		nodetool("import", "--copy-data", o.Keyspace, table.Name(), filepath.Join(backup, table.Name()))
	}
	nodetool("repair", "--full", o.Keyspace)
	if _, err := server.ClusterRestored(t.Context(), server.ClusterStore{StoreConfig: c.StoreConfig}, quiet); err != nil {
		t.Fatal(err)
	}
	stop = serve()
	defer stop()
	bob.logged(chat, 3)
	alice.has(chat, "one", "two", "three")
	bob.has(chat, "one", "two", "three")
	bob.sends(chat, "four")
	alice.has(chat, "one", "two", "three", "four")
	bob.logged(chat, 4)
}

// drop drops the keyspace.
func drop(t *testing.T, o cql.Options) {
	t.Helper()
	config := gocql.NewCluster(o.Hosts...)
	config.Timeout = time.Minute
	session, err := config.CreateSession()
	if err == nil {
		defer session.Close()
		err = session.Query("DROP KEYSPACE " + o.Keyspace).ExecContext(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}
