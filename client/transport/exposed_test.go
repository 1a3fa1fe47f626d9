package transport_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pim-im/pim/client/transport"
)

func TestExposed(t *testing.T) {
	for server, want := range map[string]bool{
		"http://chat.example": true, "ws://chat.example:80/path": true, "tcp://192.0.2.1:7401": true, "TCP://10.0.0.1:1": true,
		"http://0.0.0.0:7400": true, "http://localhost.example": true, "http://[2001:db8::1]": true, "tcp://[::ffff:192.0.2.1]:1": true,
		"https://chat.example": false, "wss://chat.example": false, "tls://192.0.2.1:7401": false, "quic://192.0.2.1:7400": false,
		"http://127.0.0.1:7400": false, "ws://LOCALHOST:7400": false, "tcp://[::1]:7401": false, "tcp://127.8.9.1:7401": false,
		"tcp://[::ffff:127.0.0.1]:1": false,
		"localhost":                  false, "ftp://chat.example": false, // NewDialer refuses them
	} {
		if got := transport.Exposed(server); got != want {
			t.Errorf("%s: %v", server, got)
		}
	}
}

// A redirect does not lead from a server that is not exposed to one that is.
func TestRedirects(t *testing.T) {
	var asked []string
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Host)
		http.Redirect(w, r, "ws://chat.example/elsewhere", http.StatusFound)
	}))
	defer h.Close()
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, h.Listener.Addr().String())
	}
	for server, want := range map[string]string{
		"http://127.0.0.1:1": "not encrypted", // from here to another machine
		"http://chat.test":   "ten times",     // exposed from the beginning
	} {
		asked = nil
		d, err := transport.NewDialer(server, nil, dial)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, asked %v", server, err, asked)
		}
	}
}
