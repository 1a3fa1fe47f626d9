package transport

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"testing"
)

// A dialer is direct unless a proxy or the app's own dialling is in between.
func TestDirect(t *testing.T) {
	own := func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	for _, x := range []struct {
		server string
		dial   DialFunc
		want   bool
	}{
		{"wss://free.example", nil, true},
		{"https://free.example", nil, true},
		{"ws://free.example", nil, true},
		{"tls://behind.example:1", nil, true},
		{"wss://behind.example", nil, false},
		{"https://behind.example", nil, false},
		{"http://behind.example", nil, true},
		{"wss://free.example", own, false},
		{"tls://free.example:1", own, false},
	} {
		d, err := NewDialer(x.server, nil, x.dial)
		if err != nil {
			t.Fatal(err)
		}
		if d.proxy != nil {
			d.proxy = func(r *http.Request) (*url.URL, error) {
				if r.URL.Scheme == "https" && r.URL.Hostname() == "behind.example" {
					return &url.URL{Scheme: "http", Host: "proxy.example:3128"}, nil
				}
				return nil, nil
			}
		}
		if got := d.Direct(); got != x.want {
			t.Errorf("%s: %v", x.server, got)
		}
	}
}
