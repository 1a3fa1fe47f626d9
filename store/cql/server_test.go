package cql_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/process"
	"github.com/pim-im/pim/imtest/replay"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// firstLines returns the first lines of the real log that replay is tested with.
func firstLines(t *testing.T, lines int) io.Reader {
	t.Helper()
	log, err := os.ReadFile("../../imtest/replay/testdata/ubuntu-irc-2016-11-02.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.SplitAfterN(string(log), "\n", lines+1)
	return strings.NewReader(strings.Join(all[:lines], ""))
}

// A real log is played through a server on Cassandra that is killed with SIGKILL and started again, and
// every member gets every entry of its membership, once, in one order.
func TestServerIsKilled(t *testing.T) {
	o := keyspace(t, "pim_server", 0)
	bin := filepath.Join(t.TempDir(), "pim")
	if err := process.Build(bin); err != nil {
		t.Fatal(err)
	}
	report, err := replay.Run(t.Context(), replay.Config{
		Log: firstLines(t, 90), Lurkers: 3, TCP: true,
		ServerCommand: []string{bin, "serve", "--no-consent", "--store", o.URL()}, KillEvery: 3 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil || report.Kills == 0 || report.Deliveries != report.ExpectedDeliveries || report.Deliveries == 0 {
		t.Errorf("%v: %+v", err, report)
	}
	t.Logf("%d messages, %d deliveries, killed %d times, ack p50 %.0f ms", report.Messages, report.Deliveries, report.Kills, report.AckP50)
}

// page returns a page of a server.
func page(t *testing.T, s *server.Server, path string) (status int, text string) {
	t.Helper()
	r, err := http.Get("http://" + s.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// serves starts a server with a data directory of its own, and stops it at the end.
func serves(t *testing.T, c server.Config) (*server.Server, error) {
	t.Helper()
	s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, s.Start(t.Context())
}

// Two nodes serve one store. The second one needs the first one's keys, and is the same store to devices.
func TestServersOnOneStore(t *testing.T) {
	o := keyspace(t, "pim_nodes", 0)
	config := func(data string) server.Config {
		c := server.Defaults()
		c.Consent = false // people here are strangers
		c.Listen, c.ListenTCP, c.Data, c.Store, c.DrainWindow = "127.0.0.1:0", "", data, o.URL(), 0
		return c
	}
	first := config(t.TempDir())
	s, err := serves(t, first)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := page(t, s, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz is %d, %s", status, text)
	}
	second := config(t.TempDir())
	_, err = serves(t, second)
	refuses(t, "a node without the other's keys", err, pim.KindNotFound, "copy their key file")
	second.Keys = first.KeysPath()
	if _, err := serves(t, second); err != nil {
		t.Error(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	_, err = server.Backup(t.Context(), server.Config{Data: first.Data}, filepath.Join(t.TempDir(), "b"), quiet)
	refuses(t, "a backup by the running node", err, pim.KindUnsupported, "nodetool snapshot")
	_, err = server.Backup(t.Context(), first, filepath.Join(t.TempDir(), "b"), quiet)
	refuses(t, "a backup", err, pim.KindUnsupported, "nodetool snapshot")
	_, err = server.Restore(t.Context(), first, quiet)
	refuses(t, "a restore", err, pim.KindUnsupported, "nodetool snapshot")

	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text := page(t, s, "/metrics")
	for _, want := range []string{"pim_store_call_seconds_count{kind=\"append\"} 1", "pim_store_nodes{state=\"up\"} 1", "pim_store_safe 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s on the page of metrics", want)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^# HELP (pim_\w+) `).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`\b` + m[1] + `\b`).Match(doc) {
			t.Errorf("docs/operations.md does not have %s", m[1])
		}
	}
	direct := open(t, o)
	defer closes(t, direct)
	if _, used, err := store.KnownIdentity(t.Context(), direct); !used || err != nil {
		t.Errorf("the store has an identity: %v, %v", used, err)
	}
}

// A keyspace that was put back from a snapshot has its old identity, so devices would not notice. After the
// order it is another store to them.
func TestClusterRestored(t *testing.T) {
	o := keyspace(t, "pim_restored", 0)
	quiet := slog.New(slog.DiscardHandler)
	c := server.Defaults()
	c.Consent = false // people here are strangers
	c.Listen, c.ListenTCP, c.Data, c.Store, c.DrainWindow = "127.0.0.1:0", "", t.TempDir(), o.URL(), 0
	_, err := server.ClusterRestored(t.Context(), server.ClusterStore{}, quiet)
	refuses(t, "no store", err, pim.KindInvalid, "setting store")
	_, err = server.ClusterRestored(t.Context(), server.ClusterStore{StoreConfig: c.StoreConfig}, quiet)
	refuses(t, "a store that nothing was put back to", err, pim.KindNotFound, "is empty")

	direct := open(t, o)
	defer closes(t, direct)
	served := func() (identity string) {
		s, err := server.New(c, server.Options{Logger: quiet})
		if err == nil {
			err = s.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		identity, _, err = store.KnownIdentity(t.Context(), direct)
		if err != nil {
			t.Fatal(err)
		}
		return identity
	}
	before := served()
	if again := served(); again != before {
		t.Fatalf("a restart makes %s of %s", again, before)
	}
	told, err := server.ClusterRestored(t.Context(), server.ClusterStore{StoreConfig: c.StoreConfig}, quiet)
	if after := served(); err != nil || after == before || after != told {
		t.Errorf("%v: the store was %s, is to be %s, and is %s", err, before, told, after)
	}
}
