package server_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/server"
)

// Settings of a store that is elsewhere, and what a server says before it has reached that store.
func TestStoreSettings(t *testing.T) {
	refuses := func(what string, err error, kind pim.Kind, says string) {
		t.Helper()
		if pim.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v, want %v and %q", what, err, kind, says)
		}
	}
	for says, change := range map[string]func(*server.Config){
		"store-user is given without it":          func(c *server.Config) { c.StoreUser = "pim" },
		"store-password-file is given without it": func(c *server.Config) { c.StorePasswordFile = "f" },
		"names no store":                          func(c *server.Config) { c.Store = "postgres://x" },
		`"10.0.0.2" is another machine`:           func(c *server.Config) { c.Store = "cql://127.0.0.1,10.0.0.2/pim" },
		`"cassandra" is another machine`:          func(c *server.Config) { c.Store = "cql://cassandra:9142/pim" },
		"given without store":                     func(c *server.Config) { c.Store, c.StoreCA = "", "system" },
	} {
		c := server.Defaults()
		c.Store = "cql://127.0.0.1/pim"
		change(&c)
		refuses(says, c.Validate(), pim.KindInvalid, says)
	}
	for name, change := range map[string]func(*server.Config){
		"encrypted":        func(c *server.Config) { c.StoreCA = "system" },
		"insecure":         func(c *server.Config) { c.Insecure = true },
		"on this machine":  func(c *server.Config) { c.Store = "cql://127.0.0.1:9142,localhost:9142/pim" },
		"on this, by IPv6": func(c *server.Config) { c.Store = "cql://[::1]/pim" },
	} {
		c := server.Defaults()
		c.Store = "cql://10.0.0.1/pim"
		change(&c)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	exposed := server.ClusterStore{StoreConfig: server.StoreConfig{Store: "cql://10.0.0.1/pim"}}
	quiet := slog.New(slog.DiscardHandler)
	_, _, err := server.InitCluster(t.Context(), exposed, "", quiet)
	refuses("cluster init", err, pim.KindInvalid, "is another machine")
	_, err = server.ClusterRestored(t.Context(), exposed, quiet)
	refuses("cluster restored", err, pim.KindInvalid, "is another machine")
	_, err = server.Migrate(t.Context(), server.Migration{From: exposed.Store, To: t.TempDir(), Logger: quiet})
	refuses("migrate", err, pim.KindInvalid, "is another machine")
	fails := func(c server.Config) error {
		s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.Shutdown(t.Context())
		}
		return err
	}
	c := server.Defaults()
	c.Data, c.Store, c.StoreCA = t.TempDir(), "cql://127.0.0.1/pim", filepath.Join(t.TempDir(), "ca.pem")
	err = fails(c)
	refuses("a file of authorities that is not there", err, pim.KindInvalid, "setting store-ca")
	if err := os.WriteFile(c.StoreCA, bytes.Repeat([]byte("x"), 10), 0o600); err != nil {
		t.Fatal(err)
	}
	err = fails(c)
	refuses("a file without authorities", err, pim.KindInvalid, "no certificate")
	c.StoreCA, c.Store = "", "cql://127.0.0.1:1/pim"
	err = fails(c)
	refuses("no Cassandra", err, pim.KindUnavailable, "no connection to any of [127.0.0.1]")
}
