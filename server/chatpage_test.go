package server_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/pim-im/pim/server"
)

// pickName asks the server for a token as the chat page does, and returns the status. What a plain
// proxy on this machine passes on for anybody looks the same: no header says that there is one.
func pickName(t *testing.T, n *node) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+n.Addr()+"/login", strings.NewReader(`{"user":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "http://"+n.Addr())
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}

// A name can be picked if that was asked for, and not where a proxy may pass on what others ask, nor
// with the keys of an app.
func TestPickName(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*server.Config)
		want   int
	}{
		{"for development", func(*server.Config) {}, 200},
		{"by default", func(c *server.Config) { c.DevLogin = server.Defaults().DevLogin }, 404},
		{"insecure", func(c *server.Config) { c.Insecure = true }, 404},
		{"behind a proxy", func(c *server.Config) { c.TrustedProxies = "192.0.2.0/24" }, 404},
		{"the keys of an app", func(c *server.Config) {
			c.Keys = c.Data + "/app.json"
			secret := `{"keys":[{"id":"app","alg":"HS256","created":"2026-11-01T00:00:00Z","secret":"WnI4IWtxIzBXbTFecFhvMiZ0WXYzKnVOYjQoY0RlNSk="}]}`
			if err := os.WriteFile(c.Keys, []byte(secret), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 404},
		{"no page", func(c *server.Config) { c.Page = false }, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := config(t)
			conf.DevLogin = true
			c.change(&conf)
			n := start(t, conf, server.Options{})
			if got := pickName(t, n); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}
