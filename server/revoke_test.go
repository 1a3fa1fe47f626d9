package server_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/access"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// revokes has n carry out an order.
func (n *node) revokes(r server.Revoke) server.Revoked {
	n.t.Helper()
	done, err := server.RevokeAccess(n.t.Context(), n.config, r)
	if err != nil {
		n.t.Fatal(err)
	}
	return done
}

// holds connects with a token that was issued a minute ago, and one more that is asked for later only.
func (n *node) holds(user pim.UserID, device pim.DeviceID) (*app, chan struct{}) {
	n.t.Helper()
	asked, first := make(chan struct{}, 100), true
	c, err := client.Open(n.t.Context(), client.Options{
		Server: n.url("tcp"), Direct: true, User: user, Device: device,
		Token: func(context.Context) (string, error) {
			if first {
				first = false
			} else {
				asked <- struct{}{}
			}
			return n.keys.Issue(user, time.Hour, n.wall().Add(-time.Minute))
		},
		BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return &app{Client: c, t: n.t, user: user}, asked
}

// state waits for a state that ok takes.
func (a *app) state(what string, ok func(client.StateEvent) bool) {
	a.t.Helper()
	late := time.After(5 * time.Minute)
	for {
		select {
		case e := <-a.Events():
			if s, is := e.(client.StateEvent); is && ok(s) {
				return
			}
		case <-late:
			a.t.Fatalf("waited in vain until the client was %s", what)
		}
	}
}

func (a *app) online() {
	a.t.Helper()
	a.state("online", func(s client.StateEvent) bool { return s.State == client.Connected })
}

func (a *app) isRevoked() {
	a.t.Helper()
	a.state("told", func(s client.StateEvent) bool { return pim.KindOf(s.Err) == pim.KindRevoked })
}

// What one node is told is in force on all of them at once; the client asks its app for another token,
// and comes back when that is newer.
func TestRevokedOnAllNodes(t *testing.T) {
	nodes := startNodes(t, bustest.NewNetwork(), func(_ string, _ *server.Config, o *server.Options) {}, "a", "b", "c")
	phone, asked := nodes[1].holds("alice", "phone")
	laptop, _ := nodes[2].holds("alice", "laptop")
	bob, _ := nodes[2].holds("bob", "phone")
	for _, a := range []*app{phone, laptop, bob} {
		a.online()
	}
	if done := nodes[0].revokes(server.Revoke{User: "alice", Device: "phone"}); done.Ended != 1 || len(done.Missed) != 0 {
		t.Errorf("a device: %+v", done)
	}
	phone.isRevoked()
	<-asked
	phone.isRevoked() // the new token is as old
	if done := nodes[0].revokes(server.Revoke{User: "alice"}); done.Ended != 1 {
		t.Errorf("the user: %+v", done)
	}
	laptop.isRevoked()
	bob.says(pim.Direct("alice", "bob"), "still here")
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // tokens are dated in full seconds
	nodes[1].connect("alice", "phone", "tcp").online()
	st, err := server.AccessOf(t.Context(), nodes[2].config, "alice") // whichever node is asked
	if err != nil || st.Before == 0 || st.Devices["phone"] == 0 || st.Blocked {
		t.Errorf("%+v: %v", st, err)
	}
}

// A user who is blocked comes in with no token, also after a restart; until unblocked.
func TestBlockedUsers(t *testing.T) {
	c := config(t)
	n := start(t, c, server.Options{})
	alice := n.connect("alice", "phone", "tcp")
	alice.online()
	if done := n.revokes(server.Revoke{User: "alice", Block: true}); done.Ended != 1 {
		t.Errorf("%+v", done)
	}
	alice.isRevoked()
	alice.Close()
	n.stop()
	n = start(t, c, server.Options{})
	alice = n.connect("alice", "phone", "tcp")
	alice.isRevoked()
	n.revokes(server.Revoke{User: "alice", Unblock: true})
	alice.Reconnect()
	alice.online()
	for _, r := range []server.Revoke{{}, {User: "alice", Block: true, Unblock: true}, {User: "alice", Before: pim.MillisOf(time.Now().Add(time.Hour))}} {
		if _, err := server.RevokeAccess(t.Context(), c, r); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// A node that the bus does not reach is named, and finds out from the store.
func TestRevokedBehindTheBus(t *testing.T) {
	network := bustest.NewNetwork()
	var st store.Store
	nodes := startNodes(t, network, func(_ string, _ *server.Config, o *server.Options) { st = o.Store }, "a", "b")
	alice, _ := nodes[1].holds("alice", "phone")
	alice.online()
	network.Cut("a", "b")
	if done := nodes[0].revokes(server.Revoke{User: "alice"}); !slices.Equal(done.Missed, []string{"b"}) || done.Ended != 0 {
		t.Errorf("%+v", done)
	}
	network.Heal()
	nodes[1].Recheck(0)
	alice.isRevoked()

	bob, _ := nodes[1].holds("bob", "phone")
	bob.online()
	at := pim.MillisOf(time.Now())
	if err := access.New(st).Do(t.Context(), access.Act{User: "bob", At: at, Before: at}); err != nil {
		t.Fatal(err)
	}
	if err := access.New(st).Forget(t.Context(), at+pim.Millis(2*access.Kept.Milliseconds())); err != nil {
		t.Fatal(err)
	}
	nodes[1].Recheck(access.Kept) // the journal has forgotten
	bob.isRevoked()
}

// A user sees all devices, and signs one out that is connected to another node.
func TestAUserSignsADeviceOut(t *testing.T) {
	nodes := startNodes(t, bustest.NewNetwork(), nil, "a", "b")
	phone, _ := nodes[1].holds("alice", "phone")
	phone.online()
	laptop, _ := nodes[0].holds("alice", "laptop")
	laptop.online()
	go func() {
		for range laptop.Events() {
		}
	}()
	for device, kind := range map[pim.DeviceID]pim.Kind{"laptop": pim.KindInvalid, "tablet": pim.KindNotFound, "a/b": pim.KindInvalid} {
		if err := laptop.SignOut(t.Context(), device); pim.KindOf(err) != kind {
			t.Errorf("%s: %v", device, err)
		}
	}
	for _, n := range nodes {
		n.FlushDevices()
	}
	if err := laptop.SignOut(t.Context(), "phone"); err != nil {
		t.Fatal(err)
	}
	phone.isRevoked()
	page, err := laptop.Devices(t.Context(), "")
	if err != nil || len(page.Devices) != 2 || page.Next != "" {
		t.Fatalf("%+v: %v", page, err)
	}
	hour := pim.Millis(access.UsedEvery)
	for _, d := range page.Devices {
		if ago := pim.MillisOf(time.Now()) - d.Used; ago < 0 || ago > 3*hour || d.Used%hour != 0 || (d.SignedOut != 0) != (d.ID == "phone") {
			t.Errorf("%+v", d)
		}
	}
	if err := laptop.SignOut(t.Context(), "phone"); err != nil { // waits a second, as it is told
		t.Error(err)
	}
	if page, err := laptop.Devices(t.Context(), "laptop"); err != nil || len(page.Devices) != 1 || page.Devices[0].ID != "phone" {
		t.Errorf("%+v: %v", page, err)
	}
}
