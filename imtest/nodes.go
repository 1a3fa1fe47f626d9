package imtest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

var quiet = slog.New(slog.DiscardHandler)

// node is one node of a Lab's server.
type node struct {
	name     string
	roles    bus.Role
	config   server.Config
	http     string // where it listens now
	tcp      string
	observer *observer
	server   *server.Server
}

func (l *Lab) newNode(roles bus.Role) *node {
	n := &node{name: fmt.Sprintf("node-%d", len(l.nodes)+1), roles: roles, config: server.Defaults()}
	n.config.Roles = roles.String()
	n.config.Consent = false // people here are strangers
	free := net.JoinHostPort(loopback.Own(), "0")
	n.config.Data, n.config.Listen, n.config.ListenTCP = l.t.TempDir(), free, free
	n.config.IdleTimeout, n.config.MaxHeartbeat, n.config.DrainWindow, n.config.Shards = 2*heartbeat, 0, 20*time.Millisecond, 2
	n.config.UserLogins, n.config.DeviceLogins = 0, 0 // the devices come back after some milliseconds
	n.config.ShedTarget = 0                           // a test's machine may be too busy for all of it
	if len(l.nodes) > 0 {
		n.config.Keys = l.nodes[0].config.KeysPath()
	}
	return n
}

// startNode starts a node on the lab's store, at the address that it had before, unless
// LabOptions.Moves is set.
func (l *Lab) startNode(n *node) {
	l.t.Helper()
	o := l.o.Break
	o.Logger, o.Store = quiet, lent{l.engine}
	if l.Network != nil {
		o.Bus = l.Network.Join(bus.Node{Name: n.name, Roles: n.roles})
	}
	o.WrapStore = func(s store.Store) store.Store {
		n.observer = &observer{Store: s, history: l.history}
		if l.o.Break.WrapStore != nil {
			return l.o.Break.WrapStore(n.observer)
		}
		return n.observer
	}
	rng := rand.New(rand.NewPCG(l.o.Seed, l.rng.Uint64()))
	o.WrapOutlet = func(out conv.Outlet) conv.Outlet {
		out = &dropper{Outlet: out, history: l.history, share: l.o.DropPushes, rng: rng}
		if l.o.Break.WrapOutlet != nil {
			return l.o.Break.WrapOutlet(out)
		}
		return out
	}
	var err error
	if n.server, err = server.New(n.config, o); err != nil {
		l.t.Fatal(err)
	}
	if err := n.server.Start(context.Background()); err != nil {
		l.t.Fatal(err)
	}
	n.http, n.tcp = n.server.Addr(), n.server.TCPAddr()
	if !l.o.Moves {
		n.config.Listen = n.http
		if n.tcp != "" {
			n.config.ListenTCP = n.tcp
		}
	}
}

// lent is a store that other nodes use, too. It stays open when a server closes it.
type lent struct{ store.Store }

// Close implements store.Store.
func (lent) Close() error { return nil }

// Node returns the name of a node, as the Network knows it.
func (l *Lab) Node(number int) string { return l.nodes[number].name }

// Kill ends one of several nodes as SIGKILL does, and starts it again. Its devices go to other nodes
// meanwhile.
func (l *Lab) Kill(number int) {
	l.t.Helper()
	n := l.nodes[number]
	n.observer.kill()
	l.Network.Kill(n.name)
	n.end()
	l.startNode(n)
	l.online()
}

// Replace stops one of several nodes, as an operator would, and starts it again.
func (l *Lab) Replace(number int) {
	l.t.Helper()
	n := l.nodes[number]
	n.stop(l.t)
	l.startNode(n)
	l.online()
}

// stop stops the node, as an operator would.
func (n *node) stop(t T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// end ends the node without grace.
func (n *node) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.server.Shutdown(ctx)
	// On a busy machine the first call may return before the addresses are free.
	ctx, cancel = context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = n.server.Shutdown(ctx)
}

// servers returns the addresses of all nodes that take connections, in an order made at random.
func (l *Lab) servers(tcp bool) []string {
	var urls []string
	for _, i := range l.places.Perm(len(l.nodes)) {
		if l.nodes[i].roles.Has(bus.RoleGateway) {
			urls = append(urls, l.nodes[i].url(tcp))
		}
	}
	return urls
}

// addr returns where the node listens now, for WebSockets or for raw TCP.
func (n *node) addr(tcp bool) string {
	if tcp {
		return n.tcp
	}
	return n.http
}

// url returns the node's address, for the SDK.
func (n *node) url(tcp bool) string {
	if tcp {
		return "tcp://" + n.tcp
	}
	return "http://" + n.http
}
