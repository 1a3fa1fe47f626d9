package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Which servers are tried, and in which order, after a PIMGoAway that names others.
func TestRouteAfterGoAway(t *testing.T) {
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprintf("tls://other:%d", i))
	}
	long := "wss://" + strings.Repeat("n", maxServerURL-len("wss://"))
	for name, test := range map[string]struct {
		servers, named, want []string
	}{
		"none":                      {[]string{"wss://a", "wss://b"}, nil, []string{"wss://a", "wss://b"}},
		"one":                       {[]string{"wss://a", "wss://b"}, []string{"tls://c:1"}, []string{"tls://c:1", "wss://a", "wss://b"}},
		"one that is configured":    {[]string{"wss://a", "wss://b"}, []string{"wss://b"}, []string{"wss://b", "wss://a"}},
		"twice the same":            {[]string{"wss://a"}, []string{"wss://b", "wss://b"}, []string{"wss://b", "wss://a"}},
		"many":                      {[]string{"wss://a"}, many, append(slices.Clone(many[:8]), "wss://a")},
		"a long one":                {[]string{"wss://a"}, []string{long}, []string{long, "wss://a"}},
		"one that is too long":      {[]string{"wss://a"}, []string{long + "n"}, []string{"wss://a"}},
		"without TLS":               {[]string{"WSS://a"}, []string{"ws://c", "WS://c", "tcp://c:1", "http://c", "//c", "c", "", "Wss://b"}, []string{"Wss://b", "WSS://a"}},
		"without TLS, on a desk":    {[]string{"wss://a", "ws://b"}, []string{"ws://c", "tcp://d:1"}, []string{"ws://c", "tcp://d:1", "wss://a", "ws://b"}},
		"an empty one, on a desk":   {[]string{"ws://a"}, []string{"", "ws://b"}, []string{"ws://b", "ws://a"}},
		"all of the TLS transports": {[]string{"https://a", "wss://a", "tls://a:1"}, []string{"tcp://a:1"}, []string{"https://a", "wss://a", "tls://a:1"}},
	} {
		r := route{servers: test.servers}
		r.divert(test.named)
		for round := range 2 {
			for i, want := range test.want {
				if got := r.take(0); got != want {
					t.Errorf("%s: attempt %d of round %d goes to %q, want %q", name, i+1, round+1, got, want)
				}
			}
		}
	}
}

// The last good server is tried first, alternatives are forgotten after a Welcome, and a
// server that sends clients away without naming another does not get the next attempt.
func TestRoute(t *testing.T) {
	r := route{servers: []string{"wss://a", "wss://b"}}
	goes := func(want string) {
		t.Helper()
		if got := r.take(0); got != want {
			t.Fatalf("the next attempt goes to %q, want %q", got, want)
		}
	}
	goes("wss://a")
	goes("wss://b")
	r.arrived("wss://b")
	goes("wss://b")
	r.divert(nil)
	goes("wss://a")
	r.reset()
	goes("wss://b")
	r.divert([]string{"wss://c"})
	goes("wss://c")
	r.arrived("wss://c")
	r.divert(nil)
	for _, want := range []string{"wss://c", "wss://a", "wss://b", "wss://c"} {
		goes(want)
	}
	r.arrived("") // of a server that nobody dialled
	goes("wss://c")
}
