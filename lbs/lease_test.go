package lbs_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

var (
	secret   = bytes.Repeat([]byte{7}, lbs.MinSecretBytes)
	leasedAt = time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)
)

func signer(t testing.TB, secret []byte) *lbs.Signer {
	t.Helper()
	s, err := lbs.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lease(t testing.TB, s *lbs.Signer, gateways ...string) string {
	t.Helper()
	signed, err := s.IssueLease(lbs.Lease{User: "alice", Gateways: gateways, Expires: leasedAt.Add(lbs.LeaseTime)}, leasedAt)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func ticket(t testing.TB, s *lbs.Signer, shown, now, expires time.Time) string {
	t.Helper()
	signed, err := s.IssueTicket(lbs.Ticket{User: "alice", Shown: shown, Expires: expires}, now)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestLeases(t *testing.T) {
	s := signer(t, secret)
	valid := lease(t, s, "g1", "g2")
	ends := leasedAt.Add(lbs.LeaseTime + lbs.Leeway)
	for _, c := range []struct {
		name, lease, gateway string
		user                 pim.UserID
		now                  time.Time
		want                 error
	}{
		{"valid", valid, "g1", "alice", leasedAt, nil},
		{"the second gateway", valid, "g2", "alice", leasedAt, nil},
		{"an LBS whose clock is ahead", valid, "g1", "alice", leasedAt.Add(-lbs.Leeway), nil},
		{"at its end", valid, "g1", "alice", ends, nil},
		{"none", "", "g1", "alice", leasedAt, lbs.ErrNoLease},
		{"expired", valid, "g1", "alice", ends.Add(time.Second), lbs.ErrExpired},
		{"from the future", valid, "g1", "alice", leasedAt.Add(-lbs.Leeway - time.Second), lbs.ErrExpired},
		{"another gateway", valid, "g3", "alice", leasedAt, lbs.ErrForeign},
		{"another user", valid, "g1", "bob", leasedAt, lbs.ErrForeign},
		{"nobody", valid, "g1", "", leasedAt, lbs.ErrForeign},
		{"another system's", lease(t, signer(t, bytes.Repeat([]byte{8}, 32)), "g1"), "g1", "alice", leasedAt, lbs.ErrForged},
		{"a ticket", ticket(t, s, leasedAt, leasedAt, leasedAt.Add(time.Hour)), "g1", "alice", leasedAt, lbs.ErrForged},
		{"a line break", valid + "\n", "g1", "alice", leasedAt, lbs.ErrForged},
		{"too long", valid + strings.Repeat("A", lbs.MaxSignedBytes), "g1", "alice", leasedAt, lbs.ErrForged},
		{"no JWT", "abc", "g1", "alice", leasedAt, lbs.ErrForged},
		{"unsigned", unsigned(valid), "g1", "alice", leasedAt, lbs.ErrForged},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := s.CheckLease(c.lease, c.gateway, c.user, c.now)
			if !errors.Is(err, c.want) {
				t.Errorf("CheckLease says %v, not %v", err, c.want)
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

func TestTickets(t *testing.T) {
	s := signer(t, secret)
	expires := leasedAt.Add(10 * time.Minute)
	first := ticket(t, s, leasedAt, leasedAt, expires)
	got, err := s.OpenTicket(first, leasedAt.Add(time.Minute))
	if err != nil || got.User != "alice" || !got.Shown.Equal(leasedAt) || !got.Expires.Equal(expires) {
		t.Errorf("the ticket says %+v, %v", got, err)
	}
	if _, err := s.OpenTicket(first, expires.Add(lbs.Leeway+time.Second)); !errors.Is(err, lbs.ErrExpired) {
		t.Errorf("an expired ticket: %v", err)
	}
	if _, err := s.OpenTicket(lease(t, s, "g1"), leasedAt); !errors.Is(err, lbs.ErrForged) {
		t.Errorf("a lease as a ticket: %v", err)
	}
	if _, err := s.OpenTicket("", leasedAt); !errors.Is(err, lbs.ErrForged) {
		t.Errorf("no ticket: %v", err)
	}
}

// A ticket is given for a ticket, but not for ever.
func TestTicketsEndWithTheirToken(t *testing.T) {
	s := signer(t, secret)
	now := leasedAt
	for opened := 0; ; opened++ {
		got, err := s.OpenTicket(ticket(t, s, leasedAt, now, now.Add(lbs.MaxWindow)), now)
		if errors.Is(err, lbs.ErrExpired) && now.Sub(leasedAt) > lbs.MaxTicketTime && opened > 0 {
			return
		}
		if err != nil || got.Expires.Sub(leasedAt) > lbs.MaxTicketTime || now.Sub(leasedAt) > 2*lbs.MaxTicketTime {
			t.Fatalf("%v after the token was shown: %+v, %v", now.Sub(leasedAt), got, err)
		}
		now = now.Add(10 * time.Minute)
	}
}

// What is signed with the key of leases is no lease unless it says so.
func TestATokenIsNoLease(t *testing.T) {
	s := signer(t, secret)
	for typ, want := range map[string]error{"JWT": lbs.ErrForged, "pim-lease+jwt": nil} {
		signed, err := s.Resign(lease(t, s, "g1"), typ)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckLease(signed, "g1", "alice", leasedAt); !errors.Is(err, want) {
			t.Errorf("%s: CheckLease says %v", typ, err)
		}
	}
}

// Whatever is changed in a lease makes it a forged one.
func TestAChangedLeaseIsForged(t *testing.T) {
	s := signer(t, secret)
	sound := lease(t, s, "g1")
	rapid.Check(t, func(t *rapid.T) {
		changed := []byte(sound)
		changed[rapid.IntRange(0, len(changed)-1).Draw(t, "at")] ^= rapid.ByteRange(1, 255).Draw(t, "by")
		if err := s.CheckLease(string(changed), "g1", "alice", leasedAt); !errors.Is(err, lbs.ErrForged) {
			t.Fatalf("CheckLease says %v of %q", err, changed)
		}
	})
}

func TestWhatIsNotSigned(t *testing.T) {
	if _, err := lbs.NewSigner(secret[1:]); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a short secret: %v", err)
	}
	s := signer(t, secret)
	for name, l := range map[string]lbs.Lease{
		"no user":    {Gateways: []string{"g1"}},
		"no gateway": {User: "alice"},
		"too long":   {User: "alice", Gateways: []string{strings.Repeat("n", lbs.MaxSignedBytes)}},
	} {
		if signed, err := s.IssueLease(l, leasedAt); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%s: %q, %v", name, signed, err)
		}
	}
	if signed, err := s.IssueTicket(lbs.Ticket{}, leasedAt); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a ticket for no user: %q, %v", signed, err)
	}
	// The longest names of nodes and users fit.
	long := strings.Repeat("n", 64)
	if _, err := s.IssueLease(lbs.Lease{User: pim.UserID(strings.Repeat("u", pim.MaxIDBytes)), Gateways: []string{long, long, long, long, long}}, leasedAt); err != nil {
		t.Error(err)
	}
}

// BenchmarkLease is what a lease costs the LBS and the gateway.
func BenchmarkLease(b *testing.B) {
	s := signer(b, secret)
	b.Run("issue", func(b *testing.B) {
		for b.Loop() {
			lease(b, s, "g1", "g2", "g3", "g4", "g5")
		}
	})
	b.Run("check", func(b *testing.B) {
		signed := lease(b, s, "g1", "g2", "g3", "g4", "g5")
		for b.Loop() {
			if err := s.CheckLease(signed, "g1", "alice", leasedAt); err != nil {
				b.Fatal(err)
			}
		}
	})
}
