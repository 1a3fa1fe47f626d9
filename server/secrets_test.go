package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// output gathers what a run shows to anybody.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *output) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *output) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// Neither the log at its most talkative, nor a page, a metric, a refusal, the audit log, a dump of the settings or the
// error of a broken key file has anything of a key or a token.
func TestNothingShowsSecrets(t *testing.T) {
	c := config(t)
	c.PprofListen, c.Roles = "127.0.0.1:0", "gateway,writer,home,lbs"
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("Sesame, open! 39"), 3))
	keys := fmt.Sprintf(`{"keys": [{"id": "shared", "alg": "HS256", "secret": %q}]}`, secret)
	if err := os.WriteFile(c.KeysPath(), []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	var all output
	n := startLogging(t, c, server.Options{Logger: slog.New(slog.NewTextHandler(&all, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	fmt.Fprintf(&all, "%+v %#v\n", c, n.keys.Warnings())
	now := time.Now()
	issue := func(ttl time.Duration, at time.Time) string {
		token, err := n.keys.Issue("alice", ttl, at)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good, expired, early := issue(time.Hour, now), issue(time.Minute, now.Add(-time.Hour)), issue(time.Hour, now.Add(10*time.Minute))
	forged := good[:len(good)-8] + "AAAAAAAA"
	cut := good[:len(good)/2]
	tokens := []string{good, expired, early, forged, cut}
	for _, token := range tokens {
		for _, scheme := range []string{"http", "tcp"} {
			fmt.Fprintln(&all, n.tries(scheme, token))
		}
		for _, path := range []string{"/v1/gateways", "/v1/gateways?token=" + token, "/?" + token, "/metrics", "/v1/ws"} {
			fmt.Fprintln(&all, page(t, "http://"+n.Addr()+path, token))
		}
	}
	n.revokes(server.Revoke{User: "alice"})
	fmt.Fprintln(&all, n.tries("tcp", good))
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/page.json"} {
		fmt.Fprintln(&all, page(t, "http://"+n.Addr()+path, ""))
	}
	for _, path := range []string{"cmdline", "goroutine?debug=2", "heap?debug=1"} {
		fmt.Fprintln(&all, page(t, "http://"+n.PprofAddr()+"/debug/pprof/"+path, ""))
	}
	if err := server.ReadAudit(c.Data, func(a server.Audit) error { return json.NewEncoder(&all).Encode(a) }); err != nil {
		t.Error(err)
	}
	for _, broken := range []string{
		keys[:len(keys)-2], strings.Replace(keys, "HS256", "ES256", 1), strings.Replace(keys, "secret", "private", 1), strings.Replace(keys, "secret", secret, 1),
		strings.Replace(keys, "shared", strings.Repeat("x", 65), 1), "{" + keys, keys + keys, strings.Replace(keys, secret, "!"+secret, 1), secret,
	} {
		if err := os.WriteFile(c.KeysPath(), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		err := n.Reload(t.Context())
		if _, loaded := account.LoadKeys(c.KeysPath()); loaded == nil || err == nil {
			t.Errorf("%s is a key file", broken)
		}
		fmt.Fprintln(&all, err)
	}
	if err := os.WriteFile(c.KeysPath(), []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	text := all.String()
	for _, said := range []string{"handshake refused", "the token has expired", "the token's signature is wrong", "the token was issued in the future", "revoked", "pim_connections", "cannot be read again"} {
		if !strings.Contains(text, said) {
			t.Errorf("the run does not show %q, so this test looks at too little", said)
		}
	}
	pieces := []string{secret[:20], "Sesame"}
	for _, token := range tokens {
		parts := strings.Split(token, ".")
		pieces = append(pieces, parts[1]) // a lease may have the same beginning, and end
		if len(parts) == 3 {
			pieces = append(pieces, parts[2][:20])
		}
	}
	for _, piece := range pieces {
		if at := strings.Index(text, piece); at >= 0 {
			t.Errorf("a piece of a key or a token is shown: …%s…", text[max(0, at-200):min(len(text), at+60)])
		}
	}
}

// tries says Hello with a token, and returns what the server says to that.
func (n *node) tries(scheme, token string) string {
	n.t.Helper()
	d, err := transport.NewDialer(n.url(scheme), nil, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	conn, err := d.Dial(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Write([][]byte{wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: token, Device: "phone", Agent: "test"})}); err != nil {
		return err.Error()
	}
	var said strings.Builder
	for {
		frame, err := conn.Read()
		if err != nil {
			return said.String() + err.Error()
		}
		_, m, err := wire.Decode(frame)
		fmt.Fprintln(&said, m, err)
		if _, in := m.(*wirepb.Welcome); in {
			return said.String()
		}
	}
}

// page returns a page with its headers, asked for with a token.
func page(t *testing.T, url, token string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return fmt.Sprint(answer.Status, answer.Header, string(body), pim.KindOf(err))
}
