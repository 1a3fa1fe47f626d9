package migrate_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// device is a device that goes on over several servers.
type device struct {
	*client.Client
	texts  chan string
	behind chan client.RewoundEvent
	ended  chan struct{}
}

// connect opens a device, and hands over what it is told.
func connect(t *testing.T, keys *account.Keys, addr string, user pim.UserID, memory client.Store) *device {
	t.Helper()
	c, err := client.Open(t.Context(), client.Options{
		Server: "tcp://" + addr, User: user, Device: "phone", Store: memory,
		Token:      func(context.Context) (string, error) { return keys.Issue(user, time.Hour, time.Now()) },
		BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &device{c, make(chan string, 1024), make(chan client.RewoundEvent, 1024), make(chan struct{})}
	go func() {
		defer close(d.ended)
		for ev := range c.Events() {
			switch ev := ev.(type) {
			case client.EntryEvent:
				d.texts <- string(ev.Entry.Payload)
			case client.RewoundEvent:
				d.behind <- ev
			}
		}
	}()
	t.Cleanup(d.close)
	return d
}

func (d *device) close() {
	d.Client.Close()
	<-d.ended
}

// says sends a message and waits until it is stored.
func (d *device) says(t *testing.T, c pim.ConversationID, text string) {
	t.Helper()
	m, err := d.Send(t.Context(), c, []byte(text))
	if err == nil {
		_, err = m.Wait(t.Context())
	}
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}

// sees waits for n texts, and returns all that came.
func (d *device) sees(t *testing.T, n int) (texts []string) {
	t.Helper()
	for len(texts) < n {
		select {
		case text := <-d.texts:
			texts = append(texts, text)
		case <-time.After(5 * time.Minute):
			t.Fatalf("%d of %d texts have come", len(texts), n)
		}
	}
	return texts
}

// welcome says hello for a device that remembers nothing, and returns the answer.
func welcome(t *testing.T, keys *account.Keys, addr string, user pim.UserID) *wirepb.Welcome {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	token, err := keys.Issue(user, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	hello := &wirepb.Hello{Version: wire.Version, Token: token, Device: "phone"}
	if _, err := conn.Write(wire.AppendTCP(nil, wire.Append(nil, hello))); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, frame); err != nil {
		t.Fatal(err)
	}
	_, m, err := wire.Decode(frame)
	w, ok := m.(*wirepb.Welcome)
	if err != nil || !ok {
		t.Fatalf("the answer to a hello is %v, %v", m, err)
	}
	return w
}

// serves starts a server, and returns what stops it.
func serves(t *testing.T, c server.Config, wrap func(store.Store) store.Store) (s *server.Server, stop func()) {
	t.Helper()
	s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler), WrapStore: wrap})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			http.DefaultClient.CloseIdleConnections()
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, stop
}

// watched is a store that tells when something is written to a partition.
type watched struct {
	store.Store
	partition store.Partition
	written   chan struct{} // closed then
	once      *sync.Once
}

func (w watched) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, write := range writes {
		for i := range write.Cells {
			if write.Cells[i].Partition == w.partition {
				w.once.Do(func() { close(w.written) })
			}
		}
	}
	w.Store.Begin(ctx, writes, d, done)
}

// A keyspace or a directory is not copied to itself, by whatever name, and is left as it was. Nor is it compared
// with itself, which would prove nothing.
func TestNothingIsCopiedToItself(t *testing.T) {
	there := keyspace(t, "pim_itself").(onNode)
	same := strings.Replace(there.URL(), there.Hosts[0], there.Hosts[0]+":9042,127.0.0.1:9042", 1)
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	refused := func(from, to string) {
		t.Helper()
		for _, verify := range []bool{false, true} {
			m := server.Migration{From: from, To: to, VerifyOnly: verify, Logger: slog.New(slog.DiscardHandler)}
			_, err := server.Migrate(t.Context(), m)
			if pim.KindOf(err) != pim.KindInvalid || !strings.Contains(fmt.Sprint(err), "the store itself") {
				t.Errorf("%s to %s, verify %v: %v", from, to, verify, err)
			}
		}
	}
	refused(there.URL(), same)
	refused(same, there.URL())
	refused(dir, link)
	refused(link, dir)
	s := opens(t, there, false) // it was not made a copy that is not complete
	if _, err := store.Identity(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	closes(t, s)
	refused(there.URL(), same)

	another := keyspace(t, "pim_another").(onNode)
	m := server.Migration{From: there.URL(), To: another.URL(), Logger: slog.New(slog.DiscardHandler)}
	if c, err := server.Migrate(t.Context(), m); err != nil || !c.Equal() || !c.Copied {
		t.Errorf("another keyspace of the cluster: %+v, %v", c, err)
	}
}

// People chat over a server with the embedded store. Its store is copied to Cassandra, they chat on, and
// it is copied back. To their devices all of it is one store: none of them hears that it knows more than
// the server, or less, and each message comes once and in order. One device is away all the time in
// between.
func TestChatGoesOn(t *testing.T) {
	there := keyspace(t, "pim_chat").(onNode)
	c := server.Defaults()
	c.Consent = false // people here are strangers
	c.Data, c.Listen, c.ListenTCP, c.DrainWindow = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", 0
	c.ShedTarget = 0 // the machine may be too busy
	c.Keys = ""      // in the data directory
	acked := watched{partition: "acks/bob/phone", written: make(chan struct{}), once: new(sync.Once)}
	n, stop := serves(t, c, func(s store.Store) store.Store {
		acked.Store = s
		return acked
	})
	keys, err := account.LoadKeys(c.KeysPath())
	if err != nil {
		t.Fatal(err)
	}
	c.ListenTCP, c.Keys = n.TCPAddr(), c.KeysPath() // devices stay connected to where they are
	bobs, carols := client.NewMemory(client.MemoryOptions{}), client.NewMemory(client.MemoryOptions{})
	alice := connect(t, keys, c.ListenTCP, "alice", client.NewMemory(client.MemoryOptions{}))
	bob := connect(t, keys, c.ListenTCP, "bob", bobs)
	carol := connect(t, keys, c.ListenTCP, "carol", carols)
	create, err := alice.CreateGroup(t.Context(), []pim.UserID{"bob", "carol"})
	if err != nil {
		t.Fatal(err)
	}
	made, err := create.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	direct, group := pim.Direct("alice", "bob"), made.Conversation
	number := 0
	chat := func() (said []string) {
		for range 10 {
			number++
			for _, c := range []pim.ConversationID{direct, group} {
				text := fmt.Sprint(number, " ", c)
				alice.says(t, c, text)
				said = append(said, text)
			}
		}
		return said
	}
	want := append([]string{""}, chat()...) // the group's creation has no text
	got := bob.sees(t, len(want))
	carol.sees(t, 11)
	carol.close()
	<-acked.written
	bob.close()
	stop() // then all that bob has acknowledged is stored
	_, stop = serves(t, c, nil)
	before := welcome(t, keys, c.ListenTCP, "bob")
	if before.AckSerial == 0 || before.Store == "" {
		t.Fatalf("bob is welcomed with %v", before)
	}
	stop()

	moves := func(from, to string) {
		t.Helper()
		m := server.Migration{From: from, To: to, Logger: slog.New(slog.DiscardHandler)}
		c, err := server.Migrate(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, from+" to "+to, c.Comparison)
		if !c.Copied {
			t.Errorf("%s to %s: nothing was copied", from, to)
		}
		m.VerifyOnly = true
		if c, err = server.Migrate(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		equal(t, "once more", c.Comparison)
		if c.Copied {
			t.Errorf("%s to %s: something was copied to verify it", from, to)
		}
	}
	url := there.URL()
	moves(c.Data, url)
	c.Store = url
	_, stop = serves(t, c, nil)
	if after := welcome(t, keys, c.ListenTCP, "bob"); after.Store != before.Store || after.AckSerial != before.AckSerial {
		t.Errorf("bob is welcomed with %v, and was with %v", after, before)
	}
	bob = connect(t, keys, c.ListenTCP, "bob", bobs)
	said := chat()
	want, got = append(want, said...), append(got, bob.sees(t, len(said))...)
	stop()

	c.Data, c.Store = filepath.Join(t.TempDir(), "back"), ""
	moves(url, c.Data)
	serves(t, c, nil)
	said = chat()
	want, got = append(want, said...), append(got, bob.sees(t, len(said))...)
	carol = connect(t, keys, c.ListenTCP, "carol", carols)
	if texts := carol.sees(t, 20); !slices.IsSorted(texts) && texts[0] != fmt.Sprint("11 ", group) {
		t.Errorf("carol, who was away, sees %q", texts)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("bob has seen %q, and should have seen %q", got, want)
	}
	for name, d := range map[string]*device{"alice": alice, "bob": bob, "carol": carol} {
		d.close()
		if len(d.behind) > 0 {
			t.Errorf("to %s the server's store seemed to have gone back: %+v", name, <-d.behind)
		}
		if name != "alice" && len(d.texts) > 0 {
			t.Errorf("%s has seen %q, and %d more", name, <-d.texts, len(d.texts))
		}
	}
}
