package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/server"
)

// parsed parses a command line.
func parsed(t *testing.T, args ...string) (*grammar, error) {
	t.Helper()
	var out bytes.Buffer
	g := &grammar{}
	parser, err := newParser(g, streams{strings.NewReader(""), &out, &out})
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return g, err
}

func configuration(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pim.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServeDefaults(t *testing.T) {
	g, err := parsed(t, "serve")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g.Serve.Config, server.Defaults()) {
		t.Errorf("serve has %+v, server.Defaults %+v", g.Serve.Config, server.Defaults())
	}
}

// TestPrecedence gives settings different numbers of sources; the flag wins over the
// environment, that over the file, and that over the default.
func TestPrecedence(t *testing.T) {
	file := configuration(t, `{"listen": "127.0.0.1:3", "shards": 3, "idle-timeout": "3m", "log-level": "warn", "insecure": true}`)
	t.Setenv("PIM_LISTEN", "127.0.0.1:2")
	t.Setenv("PIM_SHARDS", "2")
	t.Setenv("PIM_INSECURE", "false")
	g, err := parsed(t, "--config", file, "serve", "--listen", "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	c := g.Serve.Config
	if c.Listen != "127.0.0.1:1" {
		t.Errorf("listen %q, want the flag's", c.Listen)
	}
	if c.Shards != 2 {
		t.Errorf("shards %d, want the environment's 2", c.Shards)
	}
	if c.Insecure {
		t.Error("insecure is true, want the environment's false")
	}
	if c.IdleTimeout != 3*time.Minute || c.LogLevel != "warn" {
		t.Errorf("idle-timeout %s, log-level %s; want the file's 3m and warn", c.IdleTimeout, c.LogLevel)
	}
	if c.InFlight != server.Defaults().InFlight {
		t.Errorf("in-flight %d, want the default", c.InFlight)
	}
}

func TestConfigTakesNumbers(t *testing.T) {
	file := configuration(t, `{"shards": 3, "from": 7, "speed": 2.5, "insecure": true, "listen": "127.0.0.1:3", "in-flight": "9"}`)
	g, err := parsed(t, "--config", file, "serve")
	if err != nil || g.Serve.Shards != 3 || !g.Serve.Insecure || g.Serve.InFlight != 9 {
		t.Errorf("%+v, %v", g.Serve.Config, err)
	}
	g, err = parsed(t, "--config", file, "tail", "--as", "bob", "--to", "alice")
	if err != nil || g.Tail.From != 7 {
		t.Errorf("from %d, %v; want 7", g.Tail.From, err)
	}
}

func TestEmptyVariableTurnsTCPOff(t *testing.T) {
	t.Setenv("PIM_LISTEN_TCP", "")
	g, err := parsed(t, "--config", configuration(t, `{"listen-tcp": "127.0.0.1:3"}`), "serve")
	if err != nil {
		t.Fatal(err)
	}
	if g.Serve.ListenTCP != "" {
		t.Errorf("listen-tcp %q, want none", g.Serve.ListenTCP)
	}
}

// Several certificates come by several flags, or with commas between them.
func TestSeveralCertificates(t *testing.T) {
	want := func(g *grammar, err error, certs ...string) {
		t.Helper()
		if err != nil || !slices.Equal(g.Serve.TLSCert, certs) {
			t.Errorf("tls-cert %q, %v; want %q", g.Serve.TLSCert, err, certs)
		}
	}
	g, err := parsed(t, "serve", "--tls-cert", "a.pem", "--tls-key", "a.key")
	want(g, err, "a.pem")
	g, err = parsed(t, "serve", "--tls-cert", "a.pem", "--tls-key", "a.key", "--tls-cert", "b.pem", "--tls-key", "b.key")
	want(g, err, "a.pem", "b.pem")
	if !slices.Equal(g.Serve.TLSKey, []string{"a.key", "b.key"}) {
		t.Errorf("tls-key %q", g.Serve.TLSKey)
	}
	g, err = parsed(t, "serve", "--tls-cert", "a.pem,b.pem", "--tls-key", "a.key,b.key")
	want(g, err, "a.pem", "b.pem")
	file := configuration(t, `{"tls-cert": "a.pem,b.pem", "tls-key": "a.key,b.key"}`)
	g, err = parsed(t, "--config", file, "serve")
	want(g, err, "a.pem", "b.pem")
	t.Setenv("PIM_TLS_CERT", "c.pem,d.pem")
	g, err = parsed(t, "--config", file, "serve")
	want(g, err, "c.pem", "d.pem")
	g, err = parsed(t, "serve", "--tls-cert", "a.pem", "--tls-key", "a.key")
	want(g, err, "a.pem")
	t.Setenv("PIM_TLS_CERT", "")
	t.Setenv("PIM_TLS_KEY", "")
	g, err = parsed(t, "--config", file, "serve")
	want(g, err)
}

func TestConfigFromEnvironmentAndAfterTheCommand(t *testing.T) {
	file := configuration(t, `{"shards": 3, "as": "alice", "server": "http://127.0.0.1:1"}`)
	if g, err := parsed(t, "serve", "--config", file); err != nil || g.Serve.Shards != 3 {
		t.Errorf("after the command: shards %d, %v; want 3", g.Serve.Shards, err)
	}
	t.Setenv("PIM_CONFIG", file)
	if g, err := parsed(t, "serve"); err != nil || g.Serve.Shards != 3 {
		t.Errorf("from the environment: shards %d, %v; want 3", g.Serve.Shards, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"no JSON", "listen: x", "invalid character"},
		{"no object", `["listen"]`, "an array stands where an object is expected"},
		{"nothing", "null", "it must hold an object"},
		{"an unknown name", `{"listne": "x"}`, "no such setting: listne"},
		{"another spelling", `{"listen_tcp": "x"}`, "no such setting: listen_tcp"},
		{"a list", `{"listen": ["x"]}`, "must be a string"},
		{"null", `{"listen": null}`, "must be a string"},
		{"two objects", `{} {}`, "something follows"},
		{"a bracket behind it", `{"shards": 1}]x`, "something follows"},
		{"a setting twice", `{"insecure": false, "insecure": true}`, `field "insecure" stands twice`},
		{"another case", `{"Insecure": true}`, "no such setting: Insecure"},
		{"bytes that are not UTF-8", "{\"data\": \"a\xff\"}", "invalid UTF-8"},
		{"half a surrogate pair", `{"data": "\ud83d"}`, "invalid surrogate pair"},
		{"a byte order mark", "\ufeff{}", "byte order mark"},
		{"true for a name", `{"data": true}`, "data must not be true"},
		{"a number for several names", `{"tls-cert": 7}`, "tls-cert must not be 7"},
		{"a number for a name", `{"keys": 7}`, "keys must not be 7"},
		{"a number for a duration", `{"idle-timeout": 300}`, "idle-timeout"},
		{"a number for a switch", `{"insecure": 1}`, "insecure must not be 1"},
		{"a wrong number", `{"shards": 1.5}`, "shards"},
		{"a wrong duration", `{"idle-timeout": "soon"}`, "idle-timeout"},
		{"a wrong choice", `{"log-level": "loud"}`, "log-level"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parsed(t, "--config", configuration(t, c.file), "serve")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := parsed(t, "--config", filepath.Join(t.TempDir(), "none"), "serve"); err == nil {
		t.Error("a file that is missing was skipped")
	}
}
