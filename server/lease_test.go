package server_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// leased is a node that wants a lease of everybody, and the secret of its leases.
type leased struct {
	*node
	signer *lbs.Signer
}

func startLeased(t *testing.T) *leased {
	t.Helper()
	secret := bytes.Repeat([]byte("secret"), 8)
	c := config(t)
	c.Node, c.RequireLease, c.LBSSecretFile = "one", true, filepath.Join(c.Data, "secret")
	c.UserLogins, c.DeviceLogins = 1_000_000, 1_000_000
	if err := os.WriteFile(c.LBSSecretFile, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := lbs.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	n := &leased{start(t, c, server.Options{}), signer}
	n.knows(1, "open")
	return n
}

// lease returns a lease that an LBS of this system signs.
func (n *leased) lease(user pim.UserID, expires time.Duration, gateways ...string) string {
	n.t.Helper()
	now := time.Now()
	lease, err := n.signer.IssueLease(lbs.Lease{User: user, Gateways: gateways, Expires: now.Add(expires)}, now.Add(min(expires, 0)))
	if err != nil {
		n.t.Fatal(err)
	}
	return lease
}

// bad returns leases that are good for nothing for mallory at the node one, by the reason in metrics.
func (n *leased) bad() map[string][]string {
	n.t.Helper()
	good := n.lease("mallory", 10*time.Second, "one")
	other, err := lbs.NewSigner(bytes.Repeat([]byte("guess"), 8))
	if err != nil {
		n.t.Fatal(err)
	}
	guessed, err := other.IssueLease(lbs.Lease{User: "mallory", Gateways: []string{"one"}, Expires: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		n.t.Fatal(err)
	}
	ticket, err := n.signer.IssueTicket(lbs.Ticket{User: "mallory", Shown: time.Now(), Expires: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		n.t.Fatal(err)
	}
	head, rest, _ := strings.Cut(good, ".")
	return map[string][]string{
		"missing": {""},
		"forged":  {guessed, ticket, "x", head + "." + rest[1:], good + "x", "eyJhbGciOiJub25lIiwidHlwIjoicGltLWxlYXNlK2p3dCJ9" + "." + rest, strings.Repeat("a", 2000)},
		"expired": {n.lease("mallory", -time.Hour, "one")},
		"foreign": {n.lease("alice", 10*time.Second, "one"), n.lease("mallory", 10*time.Second, "two", "three")},
	}
}

// hello says Hello with a lease and returns what the server answers first.
func (n *leased) hello(user pim.UserID, token, lease string) (wire.Message, error) {
	d, err := transport.NewDialer(n.url("tcp"), nil, nil)
	if err != nil {
		return nil, err
	}
	conn, err := d.Dial(n.t.Context())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	hello := &wirepb.Hello{Version: wire.Version, Token: token, Device: "phone", Lease: lease}
	if err := conn.Write([][]byte{wire.Append(nil, hello)}); err != nil {
		return nil, err
	}
	frame, err := conn.Read()
	if err != nil {
		return nil, err
	}
	_, m, err := wire.Decode(bytes.Clone(frame))
	return m, err
}

// A gateway that wants leases lets in whom an LBS has sent, and nobody else: it says why, and when to
// come back. The SDK asks the LBS by itself.
func TestRequireLease(t *testing.T) {
	t.Parallel()
	n := startLeased(t)
	token, err := n.keys.Issue("mallory", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for reason, leases := range n.bad() {
		for _, lease := range leases {
			m, err := n.hello("mallory", token, lease)
			e, ok := m.(*wirepb.PIMError)
			if err != nil || !ok || wire.ErrorOf(e).Kind != pim.KindForbidden || e.RetryAfterMs < 1000 || !strings.Contains(e.Text, "ask an LBS") {
				t.Errorf("%s %q: %v, %v", reason, lease, m, err)
			}
		}
		if got := n.metric(fmt.Sprintf("pim_lease_refusals_total{reason=%q}", reason)); got != len(leases) {
			t.Errorf("%d refusals are %s, want %d", got, reason, len(leases))
		}
	}
	m, err := n.hello("mallory", token, n.lease("mallory", 10*time.Second, "two", "one"))
	if _, ok := m.(*wirepb.Welcome); err != nil || !ok {
		t.Errorf("with a good lease: %v, %v", m, err)
	}
	if err := n.comesIn("alice", "phone"); err != nil { // it asks
		t.Errorf("alice: %v", err)
	}
	for ev := range n.connect("bob", "phone", "tcp").Events() { // it does not
		if ev, ok := ev.(client.StateEvent); ok && ev.Err != nil {
			if pim.KindOf(ev.Err) != pim.KindForbidden || ev.State != client.Waiting || ev.RetryIn < time.Second {
				t.Errorf("bob is told %+v", ev)
			}
			break
		}
	}
}

func TestRequireLeaseInVain(t *testing.T) {
	c := config(t)
	c.RequireLease, c.Roles, c.ClusterListen, c.Store = true, "gateway,writer,home", "127.0.0.1:0", "cql://127.0.0.1/pim"
	if _, err := server.New(c, server.Options{}); err == nil || !strings.Contains(err.Error(), "require-lease") {
		t.Errorf("a node for which no lease is good: %v", err)
	}
}

// On a single node nobody waits for more places than one user may have: whoever comes again and again,
// as a script does, dials the node itself.
func TestOneNodeForAScript(t *testing.T) {
	t.Parallel()
	n := start(t, config(t), server.Options{})
	n.knows(1, "open")
	for i := range 40 {
		begun := time.Now()
		if err := n.comesIn("alice", pim.DeviceID(fmt.Sprint("run-", i))); err != nil {
			t.Fatalf("run %d, after %v: %v", i, time.Since(begun), err)
		}
	}
	if got := n.metric(`pim_lbs_refusals_total{reason="alone"}`); got < 20 {
		t.Errorf("%d of 40 runs were told to dial the node", got)
	}
}
