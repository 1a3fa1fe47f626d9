package lbs_test

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

const secret = "a secret of all nodes"

var leasedAt = time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)

func leases(t testing.TB, secret string) *lbs.Leases {
	t.Helper()
	l, err := lbs.NewLeases(secret)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func issue(t testing.TB, l *lbs.Leases, lease lbs.Lease) string {
	t.Helper()
	text, err := l.Issue(lease, leasedAt)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestLeases(t *testing.T) {
	l := leases(t, secret)
	home := netip.MustParseAddr("192.0.2.7")
	lease := lbs.Lease{Gateways: []string{"g1", "g2"}, Expires: leasedAt.Add(lbs.LeaseTime), Network: lbs.Network(home), User: "alice"}
	bound, open := issue(t, l, lease), issue(t, l, lbs.Lease{Gateways: []string{"g1"}, Expires: lease.Expires})
	ends := lease.Expires.Add(lbs.Leeway)
	for _, c := range []struct {
		name, lease, gateway string
		user                 pim.UserID
		from                 string
		now                  time.Time
		want                 error
	}{
		{"valid", bound, "g1", "alice", "192.0.2.7", leasedAt, nil},
		{"the second gateway", bound, "g2", "alice", "192.0.2.200", leasedAt, nil},
		{"mapped into IPv6", bound, "g1", "alice", "::ffff:192.0.2.7", leasedAt, nil},
		{"the other IP", bound, "g1", "alice", "2001:db8::1", leasedAt, nil},
		{"an LBS whose clock is ahead", bound, "g1", "alice", "192.0.2.7", leasedAt.Add(-lbs.Leeway), nil},
		{"at its end", bound, "g1", "alice", "192.0.2.7", ends, nil},
		{"nobody's", open, "g1", "bob", "198.51.100.1", leasedAt, nil},
		{"none", "", "g1", "alice", "192.0.2.7", leasedAt, lbs.ErrNoLease},
		{"expired", bound, "g1", "alice", "192.0.2.7", ends.Add(time.Second), lbs.ErrExpired},
		{"from the future", bound, "g1", "alice", "192.0.2.7", leasedAt.Add(-lbs.Leeway - time.Second), lbs.ErrExpired},
		{"another gateway", bound, "g3", "alice", "192.0.2.7", leasedAt, lbs.ErrForeign},
		{"another user", bound, "g1", "bob", "192.0.2.7", leasedAt, lbs.ErrForeign},
		{"another network", bound, "g1", "alice", "192.0.3.7", leasedAt, lbs.ErrForeign},
		{"another system's", issue(t, leases(t, "another secret"), lease), "g1", "alice", "192.0.2.7", leasedAt, lbs.ErrForged},
		{"another process's", issue(t, leases(t, ""), lease), "g1", "alice", "192.0.2.7", leasedAt, lbs.ErrForged},
		{"a line break", bound + "\n", "g1", "alice", "192.0.2.7", leasedAt, lbs.ErrForged},
		{"too long", bound + strings.Repeat("A", lbs.MaxLeaseBytes), "g1", "alice", "192.0.2.7", leasedAt, lbs.ErrForged},
		{"no JWT", "abc", "g1", "alice", "192.0.2.7", leasedAt, lbs.ErrForged},
		{"unsigned", unsigned(bound), "g1", "alice", "192.0.2.7", leasedAt, lbs.ErrForged},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := l.Verify(c.lease, c.gateway, c.user, netip.MustParseAddr(c.from), c.now)
			if !errors.Is(err, c.want) {
				t.Errorf("Verify says %v, not %v", err, c.want)
			}
			if err != nil && (pim.KindOf(err) != pim.KindForbidden || lbs.Reason(err) == "") {
				t.Errorf("%v is of kind %v, its reason is %q", err, pim.KindOf(err), lbs.Reason(err))
			}
		})
	}
}

// unsigned returns the lease with alg none.
func unsigned(lease string) string {
	body := strings.Split(lease, ".")[1]
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"pim-lease+jwt"}`)) + "." + body + "."
}

// A token that is signed with the key of leases is none: only its typ tells.
func TestATokenIsNoLease(t *testing.T) {
	l := leases(t, secret)
	text, err := l.Resign(issue(t, l, lbs.Lease{Gateways: []string{"g1"}, Expires: leasedAt.Add(time.Hour)}), "JWT")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Verify(text, "g1", "alice", netip.Addr{}, leasedAt); !errors.Is(err, lbs.ErrForged) {
		t.Errorf("Verify says %v", err)
	}
}

// Whatever is changed in a lease makes it a forged one.
func TestAChangedLeaseIsForged(t *testing.T) {
	l := leases(t, secret)
	lease := issue(t, l, lbs.Lease{Gateways: []string{"g1"}, Expires: leasedAt.Add(time.Minute), User: "alice"})
	rapid.Check(t, func(t *rapid.T) {
		changed := []byte(lease)
		i := rapid.IntRange(0, len(changed)-1).Draw(t, "at")
		changed[i] = rapid.Byte().Draw(t, "byte")
		if string(changed) == lease {
			t.Skip("not changed")
		}
		if err := l.Verify(string(changed), "g1", "alice", netip.Addr{}, leasedAt); !errors.Is(err, lbs.ErrForged) {
			t.Fatalf("Verify says %v of %q", err, changed)
		}
	})
}

func TestALeaseIsShort(t *testing.T) {
	long := strings.Repeat("n", 64)
	l := leases(t, secret)
	lease := lbs.Lease{
		Gateways: []string{long, long, long, long, long}, Expires: leasedAt, User: pim.UserID(strings.Repeat("u", pim.MaxIDBytes)),
		Network: lbs.Network(netip.MustParseAddr("2001:db8:aaaa::1")),
	}
	if text := issue(t, l, lease); len(text) > lbs.MaxLeaseBytes {
		t.Errorf("%d bytes", len(text))
	}
	if lbs.Network(netip.Addr{}).IsValid() || lbs.Network(netip.MustParseAddr("fe80::1%eth0")).String() != "fe80::/48" {
		t.Error("Network of no address, or of one with a zone")
	}
}

// BenchmarkLease is what a lease costs the LBS and the gateway.
func BenchmarkLease(b *testing.B) {
	l := leases(b, secret)
	lease := lbs.Lease{Gateways: []string{"g1", "g2", "g3", "g4", "g5"}, Expires: leasedAt.Add(time.Hour)}
	b.Run("issue", func(b *testing.B) {
		for b.Loop() {
			issue(b, l, lease)
		}
	})
	b.Run("verify", func(b *testing.B) {
		text := issue(b, l, lease)
		for b.Loop() {
			if err := l.Verify(text, "g1", "alice", netip.Addr{}, leasedAt); err != nil {
				b.Fatal(err)
			}
		}
	})
}
