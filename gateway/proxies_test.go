package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/pim-im/pim"
)

func proxies(t testing.TB, list string) Proxies {
	t.Helper()
	p, err := ParseProxies(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseProxies(t *testing.T) {
	p := proxies(t, " 10.0.0.7/8,192.0.2.1 fd00::/8\t,, ::1")
	for addr, want := range map[string]bool{
		"10.255.0.1": true, "::ffff:10.1.2.3": true, "192.0.2.1": true, "fd12::1%eth0": true, "::1": true,
		"192.0.2.2": false, "11.0.0.1": false, "fe80::1": false, "::ffff:192.0.2.2": false,
	} {
		if p.trusts(netip.MustParseAddr(addr)) != want {
			t.Errorf("%s is trusted: %t", addr, !want)
		}
	}
	if p := proxies(t, " "); len(p) != 0 || p.trusts(netip.MustParseAddr("127.0.0.1")) {
		t.Error("an empty list trusts somebody")
	}
	for _, wrong := range []string{"10.0.0.0/33", "proxy.example.org", "10.0.0", "10.0.0.1:80", "::ffff:10.0.0.0/104", "*", "10.0.0.0/8;10.1.0.0/16"} {
		if _, err := ParseProxies(wrong); pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "CIDR") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// The client's address is the one from which the first trusted proxy was reached, whatever
// the client itself wrote into the headers. A stranger's headers are not believed at all.
func TestClientBehindProxies(t *testing.T) {
	p := proxies(t, "10.0.0.0/8, fd00::/8")
	for _, c := range []struct {
		peer, forwarded, xff, want string
	}{
		{"10.0.0.1:99", "", "", "10.0.0.1:99"},
		{"10.0.0.1:99", "", "203.0.113.7", "203.0.113.7"},
		{"10.0.0.1:99", "", "1.1.1.1, 203.0.113.7", "203.0.113.7"},
		{"10.0.0.1:99", "", "1.1.1.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"},
		{"10.0.0.1:99", "", "1.1.1.1|203.0.113.7|10.0.0.2", "203.0.113.7"},
		{"10.0.0.1:99", "", "203.0.113.7:4711", "203.0.113.7"},
		{"10.0.0.1:99", "", "[2001:db8::1]:4711", "2001:db8::1"},
		{"10.0.0.1:99", "", "2001:db8::1", "2001:db8::1"},
		{"10.0.0.1:99", "", "::ffff:203.0.113.7", "203.0.113.7"},
		{"[::ffff:10.0.0.1]:99", "", "203.0.113.7", "203.0.113.7"},
		{"[fd00::1]:99", "", "203.0.113.7", "203.0.113.7"},
		{"10.0.0.1:99", "", "203.0.113.7, unknown", "10.0.0.1"},
		{"10.0.0.1:99", "", "203.0.113.7, unknown, 10.0.0.3", "10.0.0.3"},
		{"10.0.0.1:99", "", "10.0.0.3, 10.0.0.2", "10.0.0.3"},
		{"203.0.113.9:99", "for=1.1.1.1", "1.1.1.1", "203.0.113.9:99"},
		{"10.0.0.1:99", "for=203.0.113.7", "", "203.0.113.7"},
		{"10.0.0.1:99", `proto=https; For="[2001:db8::1]:4711";by=10.0.0.1`, "", "2001:db8::1"},
		{"10.0.0.1:99", `for=1.1.1.1, for=203.0.113.7;host="a,b;for=2.2.2.2", for=10.0.0.2`, "", "203.0.113.7"},
		{"10.0.0.1:99", `for=1.1.1.1|for="203.0.113.7"`, "", "203.0.113.7"},
		{"10.0.0.1:99", `for="203.0\.113.7"`, "", "203.0.113.7"},
		{"10.0.0.1:99", `for=203.0.113.7, for=_hidden`, "", "10.0.0.1"},
		{"10.0.0.1:99", `for=203.0.113.7, proto=https`, "", "10.0.0.1"},
		{"10.0.0.1:99", `for="203.0.113.7`, "", "10.0.0.1"},
		{"10.0.0.1:99", "for=203.0.113.7", "203.0.113.7", "203.0.113.7"},
		{"10.0.0.1:99", "for=1.1.1.1", "203.0.113.7", "1.1.1.1 (Forwarded) or 203.0.113.7 (X-Forwarded-For)"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		for name, value := range map[string]string{"Forwarded": c.forwarded, "X-Forwarded-For": c.xff} {
			for _, line := range strings.FieldsFunc(value, func(r rune) bool { return r == '|' }) {
				r.Header.Add(name, line)
			}
		}
		if got := p.client(r); got != c.want {
			t.Errorf("from %s, Forwarded %q, X-Forwarded-For %q: %s, want %s", c.peer, c.forwarded, c.xff, got, c.want)
		}
	}
}

// Whatever the headers hold, the result is an address, so that nothing else of what a client
// wrote comes into the log.
func FuzzForwarded(f *testing.F) {
	f.Add("for=203.0.113.7", "1.1.1.1, 10.0.0.2")
	f.Add(`for="[2001:db8::1]:4711";by="a\"b", for=_x`, "unknown")
	f.Add(`for="\`, `",",`)
	p := proxies(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, forwarded, xff string) {
		r := &http.Request{RemoteAddr: "10.0.0.1:99", Header: http.Header{"Forwarded": {forwarded}, "X-Forwarded-For": {xff}}}
		got := p.client(r)
		if got == r.RemoteAddr {
			return
		}
		a, b, _ := strings.Cut(strings.TrimSuffix(got, " (X-Forwarded-For)"), " (Forwarded) or ")
		for _, text := range []string{a, b} {
			if _, err := netip.ParseAddr(text); err != nil && text != "" {
				t.Errorf("%q and %q come to %q", forwarded, xff, got)
			}
		}
		r.RemoteAddr = "203.0.113.9:99"
		if got := p.client(r); got != r.RemoteAddr {
			t.Errorf("a stranger's headers come to %q", got)
		}
	})
}
