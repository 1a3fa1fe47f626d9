package server_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/wire"
)

// A node that is no gateway has pages, and takes no connections of clients on either address.
func TestNodeWithoutGateway(t *testing.T) {
	c := config(t)
	c.Roles = "writer,home"
	n := start(t, c, server.Options{Bus: bustest.NewNetwork().Join(bus.Node{Name: "a", Roles: bus.RoleWriter | bus.RoleHome})})
	if addr := n.TCPAddr(); addr != "" {
		t.Errorf("it listens on %s for raw TCP", addr)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, wire.WebSocketPath: 404} {
		resp, err := http.Get(n.url("http") + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
}
