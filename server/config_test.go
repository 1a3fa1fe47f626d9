package server

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

func TestDefaultsAreValid(t *testing.T) {
	c := Defaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:7400" || c.MaxConnections != 19000 || c.IdleTimeout != 5*time.Minute {
		t.Errorf("defaults %+v", c)
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if f.Anonymous {
			continue
		}
		name := f.Tag.Get("name")
		if name == "" || f.Tag.Get("help") == "" {
			t.Errorf("%s has no name or no help", f.Name)
		}
		if want := "PIM_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")); f.Tag.Get("env") != want {
			t.Errorf("%s: env %q, want %q", f.Name, f.Tag.Get("env"), want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // in the error; empty: valid
	}{
		{"no TCP", func(c *Config) { c.ListenTCP = "" }, ""},
		{"free ports", func(c *Config) { c.Listen, c.ListenTCP = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		{"IPv6 loopback", func(c *Config) { c.Listen = "[::1]:7400" }, ""},
		{"mapped loopback", func(c *Config) { c.Listen = "[::ffff:127.0.0.1]:7400" }, ""},
		{"localhost", func(c *Config) { c.Listen = "localhost:7400" }, ""},
		{"all of 127/8", func(c *Config) { c.Listen = "127.1.2.3:7400" }, ""},
		{"public", func(c *Config) { c.Listen = "192.0.2.1:7400" }, "setting listen: "},
		{"all interfaces", func(c *Config) { c.Listen = ":7400" }, "nothing would be encrypted"},
		{"all interfaces, spelt out", func(c *Config) { c.Listen = "0.0.0.0:7400" }, "nothing would be encrypted"},
		{"all IPv6 interfaces", func(c *Config) { c.Listen = "[::]:7400" }, "nothing would be encrypted"},
		{"a name", func(c *Config) { c.Listen = "im.example.org:7400" }, "nothing would be encrypted"},
		{"a name like loopback", func(c *Config) { c.Listen = "127.0.0.1.example.org:7400" }, "nothing would be encrypted"},
		{"public TCP", func(c *Config) { c.ListenTCP = ":7401" }, "setting listen-tcp: "},
		{"public, insecure", func(c *Config) { c.Listen, c.Insecure = ":7400", true }, ""},
		{"public, TLS", func(c *Config) { c.Listen, c.TLSCert, c.TLSKey = ":7400", []string{"cert.pem"}, []string{"key.pem"} }, ""},
		{"cert without key", func(c *Config) { c.TLSCert = []string{"cert.pem"} }, "setting tls-key: "},
		{"key without cert", func(c *Config) { c.TLSKey = []string{"key.pem"} }, "setting tls-cert: "},
		{"TLS, and insecure for Cassandra", func(c *Config) {
			c.TLSCert, c.TLSKey, c.Insecure, c.Store = []string{"c"}, []string{"k"}, true, "cql://192.0.2.1/pim"
		}, ""},
		{"TLS and insecure", func(c *Config) { c.TLSCert, c.TLSKey, c.Insecure = []string{"c"}, []string{"k"}, true }, "setting insecure: "},
		{"two certificates, one key", func(c *Config) { c.TLSCert, c.TLSKey = []string{"a", "b"}, []string{"k"} }, "setting tls-key: there are 1 for 2 of tls-cert"},
		{"an empty certificate", func(c *Config) { c.TLSCert, c.TLSKey = []string{"a", ""}, []string{"k", "l"} }, "setting tls-cert: "},
		{"an empty key", func(c *Config) { c.TLSCert, c.TLSKey = []string{"a", "b"}, []string{"k", ""} }, "setting tls-key: "},
		{"too many certificates", func(c *Config) {
			c.TLSCert, c.TLSKey = slices.Repeat([]string{"a"}, 257), slices.Repeat([]string{"k"}, 257)
		}, "setting tls-cert: "},
		{"public, self-signed", func(c *Config) { c.Listen, c.TLSSelfSigned = ":7400", true }, ""},
		{"self-signed, and a certificate", func(c *Config) { c.TLSCert, c.TLSKey, c.TLSSelfSigned = []string{"a"}, []string{"k"}, true }, "setting tls-self-signed: "},
		{"self-signed and insecure", func(c *Config) { c.TLSSelfSigned, c.Insecure = true, true }, "setting insecure: "},
		{"no HSTS", func(c *Config) { c.HSTSMaxAge = 0 }, ""},
		{"HSTS for less than a second", func(c *Config) { c.HSTSMaxAge = time.Millisecond }, "setting hsts-max-age: "},
		{"HSTS for a negative time", func(c *Config) { c.HSTSMaxAge = -time.Hour }, "setting hsts-max-age: "},
		{"proxies", func(c *Config) { c.TrustedProxies = "10.0.0.0/8, fd00::1" }, ""},
		{"a proxy's name", func(c *Config) { c.TrustedProxies = "10.0.0.1,proxy.example.org" }, "setting trusted-proxies: \"proxy.example.org\""},
		{"no address", func(c *Config) { c.Listen = "" }, "setting listen: "},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, "not HOST:PORT"},
		{"a port by name", func(c *Config) { c.Listen = "127.0.0.1:http" }, "the port must be a number"},
		{"a port too high", func(c *Config) { c.ListenTCP = "127.0.0.1:70000" }, "the port must be a number"},
		{"one address twice", func(c *Config) { c.ListenTCP = c.Listen }, "taken by listen"},
		{"public profiler", func(c *Config) { c.PprofListen = ":6060" }, "setting pprof-listen: "},
		{"public profiler, insecure", func(c *Config) { c.PprofListen, c.Insecure = ":6060", true }, "setting pprof-listen: "},
		{"loopback profiler", func(c *Config) { c.PprofListen = "127.0.0.1:6060" }, ""},
		{"no data", func(c *Config) { c.Data = "" }, "setting data: "},
		{"messages for seven days", func(c *Config) { c.Retain = pim.DedupWindow }, ""},
		{"messages for less", func(c *Config) { c.Retain = pim.DedupWindow - 1 }, "setting retain: "},
		{"messages for a negative time", func(c *Config) { c.Retain = -1 }, "setting retain: "},
		{"no connections", func(c *Config) { c.MaxConnections = 0 }, "setting max-connections: "},
		{"a queue below a frame", func(c *Config) { c.QueueBytes = pim.MaxFrame - 1 }, "setting queue-bytes: "},
		{"groups above the protocol", func(c *Config) { c.GroupMembers = pim.MaxGroupMembers + 1 }, "setting group-members: "},
		{"no bound for frames", func(c *Config) { c.ConnectionFrames = 0 }, ""},
		{"so few frames that a read takes a minute", func(c *Config) { c.ConnectionFrames = 100 }, "setting connection-frames: "},
		{"no bound for bytes", func(c *Config) { c.ConnectionBytes = 0 }, ""},
		{"fewer bytes than a frame", func(c *Config) { c.ConnectionBytes = 1000 }, "setting connection-bytes: "},
		{"no bounds of users", func(c *Config) { c.UserGroups, c.UserMembers, c.UserStrangers = 0, 0, 0 }, ""},
		{"negative strangers", func(c *Config) { c.UserStrangers = -1 }, "setting user-strangers: "},
		{"free users", func(c *Config) { c.FreeUsers = "bot-1, bot-2," }, ""},
		{"a free user who cannot be", func(c *Config) { c.FreeUsers = "bot 1" }, "setting free-users: "},
		{"negative shards", func(c *Config) { c.Shards = -1 }, "setting shards: "},
		{"no idle timeout", func(c *Config) { c.IdleTimeout = 0 }, "setting idle-timeout: "},
		{"no announced heartbeats", func(c *Config) { c.MaxHeartbeat = 0 }, ""},
		{"a heartbeat that outlives a clock that is set", func(c *Config) { c.MaxHeartbeat = 13 * time.Minute }, "setting max-heartbeat: "},
		{"half an idle timeout that does", func(c *Config) { c.IdleTimeout = 25 * time.Minute }, "setting idle-timeout: "},
		{"no reconnect window", func(c *Config) { c.ReconnectWindow = 0 }, ""},
		{"a reconnect window that clients cut", func(c *Config) { c.ReconnectWindow = 11 * time.Minute }, "setting reconnect-window: "},
		{"no drain window", func(c *Config) { c.DrainWindow = 0 }, ""},
		{"negative drain window", func(c *Config) { c.DrainWindow = -1 }, "setting drain-window: "},
		{"log level", func(c *Config) { c.LogLevel = "loud" }, "setting log-level: "},
		{"log format", func(c *Config) { c.LogFormat = "xml" }, "setting log-format: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Defaults()
			c.change(&cfg)
			err := cfg.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || pim.KindOf(err) != pim.KindInvalid):
				t.Errorf("error %v, want invalid with %q", err, c.want)
			}
		})
	}
}

func TestLoadKeys(t *testing.T) {
	c := Defaults()
	c.Data = filepath.Join(t.TempDir(), "data")
	if _, created, err := c.LoadKeys(); err != nil || !created {
		t.Fatalf("first start: created %v, %v", created, err)
	}
	if keys, created, err := c.LoadKeys(); err != nil || created || !keys.Development() {
		t.Fatalf("second start: created %v, %v", created, err)
	}

	// A file that was named must be there: a typing error makes no new key.
	c.Keys = filepath.Join(c.Data, "typo.json")
	if _, _, err := c.LoadKeys(); pim.KindOf(err) != pim.KindNotFound {
		t.Errorf("a named file that is missing: %v, want not found", err)
	}
	if _, err := os.Stat(c.Keys); err == nil {
		t.Error("it was made")
	}

	// A broken default file is never replaced.
	c.Keys = ""
	if err := os.WriteFile(c.KeysPath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.LoadKeys(); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a broken file: %v, want invalid", err)
	}

	// Beside a store a file that is gone is not made anew.
	if err := os.Remove(c.KeysPath()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.storePath(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, created, err := c.LoadKeys(); err != nil || !created { // there is a directory, and no store
		t.Fatalf("an empty store directory: created %v, %v", created, err)
	}
	if err := os.Remove(c.KeysPath()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.storePath(), "000001.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.LoadKeys(); pim.KindOf(err) != pim.KindNotFound || !strings.Contains(err.Error(), "put it back") || !strings.Contains(err.Error(), c.KeysPath()) {
		t.Errorf("no key file beside a store: %v, want not found, and what to do", err)
	}
	if _, err := os.Stat(c.KeysPath()); err == nil {
		t.Error("a key was made beside a store")
	}
}
