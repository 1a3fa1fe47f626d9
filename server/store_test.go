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
		"given without store":                     func(c *server.Config) { c.Store, c.StoreCA = "", "system" },
	} {
		c := server.Defaults()
		c.Store = "cql://127.0.0.1/pim"
		change(&c)
		refuses(says, c.Validate(), pim.KindInvalid, says)
	}
	fails := func(c server.Config) error {
		s, err := server.New(c, server.Options{Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.Shutdown(t.Context())
		}
		return err
	}
	c := server.Defaults()
	c.Data, c.Store, c.StoreCA = t.TempDir(), "cql://127.0.0.1/pim", filepath.Join(t.TempDir(), "ca.pem")
	err := fails(c)
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
