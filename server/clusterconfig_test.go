package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/prometheus/client_golang/prometheus"
)

func TestValidateCluster(t *testing.T) {
	certified := func(c *Config) { c.ClusterCA, c.ClusterCert, c.ClusterKey = "ca.pem", "cert.pem", "key.pem" }
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // in the error; empty: valid
	}{
		{"one of several", func(*Config) {}, ""},
		{"two to join", func(c *Config) { c.Join = "127.0.0.1:7411, im-2.example.org:7410" }, ""},
		{"joining no port", func(c *Config) { c.Join = "im-2.example.org" }, "setting join: "},
		{"joining nobody", func(c *Config) { c.Join = "127.0.0.1:7411," }, "setting join: "},
		{"joining port 0", func(c *Config) { c.Join = "127.0.0.1:0" }, "setting join: "},
		{"listening on no port", func(c *Config) { c.ClusterListen = "127.0.0.1" }, "setting cluster-listen: "},
		{"listening for all", func(c *Config) { c.ClusterListen = ":7410" }, "nothing would be encrypted"},
		{"listening for all, TLS", func(c *Config) { c.ClusterListen = ":7410"; certified(c) }, ""},
		{"listening for all, insecure", func(c *Config) { c.ClusterListen, c.Insecure = ":7410", true }, "setting cluster-token-file: "},
		{"listening for all, insecure, with a token", func(c *Config) {
			c.ClusterListen, c.Insecure, c.ClusterTokenFile = ":7410", true, "token"
		}, ""},
		{"a CA alone", func(c *Config) { c.ClusterCA = "ca.pem" }, "setting cluster-cert: "},
		{"no CA", func(c *Config) { c.ClusterKey = "key.pem" }, "setting cluster-ca: "},
		{"NATS", func(c *Config) { c.ClusterListen, c.Bus = "", "nats://127.0.0.1:4222,nats://localhost:4223" }, ""},
		{"NATS elsewhere", func(c *Config) { c.ClusterListen, c.Bus = "", "nats://127.0.0.1:4222,nats://192.0.2.1:4222" }, "setting bus: "},
		{"NATS elsewhere, by its URL", func(c *Config) { c.ClusterListen, c.Bus = "", "tls://192.0.2.1:4222" }, ""},
		{"NATS elsewhere, TLS", func(c *Config) { c.ClusterListen, c.Bus = "", "nats://192.0.2.1:4222"; certified(c) }, ""},
		{"NATS and an address", func(c *Config) { c.Bus = "nats://127.0.0.1:4222" }, "setting bus: "},
		{"NATS and a node", func(c *Config) { c.ClusterListen, c.Bus, c.Join = "", "nats://127.0.0.1:4222", "127.0.0.1:7411" }, "setting join: "},
		{"another URL", func(c *Config) { c.ClusterListen, c.Bus = "", "http://127.0.0.1:4222" }, "setting bus: "},
		{"an embedded store", func(c *Config) { c.Store = "" }, "setting store: "},
		{"a free port and no name", func(c *Config) { c.Listen = "127.0.0.1:0" }, "setting node: "},
		{"a free port and a name", func(c *Config) { c.Listen, c.Node = "127.0.0.1:0", "n1" }, ""},
		{"a name in capitals", func(c *Config) { c.Node = "N1" }, "setting node: "},
		{"a site with a space", func(c *Config) { c.Site = "west 1" }, "setting site: "},
		{"one role", func(c *Config) { c.Roles = "gateway" }, ""},
		{"no gateway", func(c *Config) { c.Roles = "writer,home,lbs" }, ""},
		{"nothing to do", func(c *Config) { c.Roles = "lbs" }, "setting roles: "},
		{"no role", func(c *Config) { c.Roles = "" }, "setting roles: "},
		{"an unknown role", func(c *Config) { c.Roles = "gateway,admin" }, "setting roles: "},
		{"a role twice", func(c *Config) { c.Roles = "home,home" }, "setting roles: "},
		{"no weight", func(c *Config) { c.Weight = 0 }, ""},
		{"less than no weight", func(c *Config) { c.Weight = -1 }, "setting weight: "},
		{"advertised", func(c *Config) { c.Advertise = "https://im-1.example.org" }, ""},
		{"advertised TCP", func(c *Config) { c.Advertise = "tls://im-1.example.org" }, "setting advertise: "},
		{"advertised twice", func(c *Config) { c.Advertise = "https://im-1.example.org, tls://im-1.example.org:7401" }, ""},
		{"advertised twice for one transport", func(c *Config) { c.Advertise = "https://im-1.example.org,ws://im-1.example.org" }, "another address for websocket"},
		{"advertised at length", func(c *Config) { c.Advertise = "https://" + strings.Repeat("a", 1024) }, "setting advertise: "},
		{"advertised no URL", func(c *Config) { c.Advertise = "im-1.example.org:7400" }, "setting advertise: "},
		{"alone", func(c *Config) { c.ClusterListen, c.Store = "", "" }, ""},
		{"alone, joining", func(c *Config) { c.ClusterListen, c.Join = "", "127.0.0.1:7411" }, "setting join: "},
		{"alone, with a token", func(c *Config) { c.ClusterListen, c.ClusterTokenFile = "", "token" }, "setting cluster-token-file: "},
		{"alone, with roles missing", func(c *Config) { c.ClusterListen, c.Roles = "", "gateway" }, "setting roles: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Defaults()
			config.ClusterListen, config.Store = "127.0.0.1:7410", "cql://127.0.0.1/pim"
			c.change(&config)
			err := config.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestNodeName(t *testing.T) {
	for host, want := range map[string]string{
		"im-1": "im-1-7400", "IM_1.example.org": "im-1-example-org-7400", "-": "node-7400", "": "node-7400",
		strings.Repeat("x", 100): strings.Repeat("x", 58) + "-7400", "é": "node-7400",
	} {
		got := nodeName(host, "7400")
		if got != want {
			t.Errorf("host %q: %q, want %q", host, got, want)
		}
		if err := bus.CheckName("node", nodeName(host, "65535")); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []Config{Defaults(), {ClusterConfig: ClusterConfig{Node: "n1"}}} {
		if err := bus.CheckName("node", c.NodeName()); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenBus has two nodes meet that were made of settings.
func TestOpenBus(t *testing.T) {
	alone := Defaults()
	if b, err := alone.openBus(time.Now(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); b != nil || err != nil {
		t.Fatalf("without other nodes: %v, %v", b, err)
	}
	token := filepath.Join(t.TempDir(), "token")
	open := func(name, join string) (bus.Bus, error) {
		c := Defaults()
		c.Node, c.ClusterListen, c.Join, c.ClusterTokenFile, c.Store = name, "127.0.0.1:0", join, token, "cql://127.0.0.1/pim"
		c.Roles, c.Site, c.Weight, c.Advertise = "gateway,home", "west", 7, "http://127.0.0.1:7400"
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		return c.openBus(time.Now(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	}
	for _, content := range []string{"short", "two lines, each of them\nof more than 16 characters"} {
		if err := os.WriteFile(token, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open("a", ""); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("the token %q: %v", content, err)
		}
	}
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	met := make(chan *bus.View, 16)
	start := func(name, join string) bus.Bus {
		b, err := open(name, join)
		if err == nil {
			err = b.Start(context.Background(), &bus.Handler{Changed: []func(*bus.View){func(v *bus.View) { met <- v }}})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	a := start("a", "")
	start("b", a.(interface{ ClusterAddr() string }).ClusterAddr())
	view := <-met
	for len(view.Nodes) < 2 {
		view = <-met
	}
	b := view.Node("b")
	if b == nil {
		t.Fatalf("the view %v", view.Nodes)
	}
	want := bus.Node{
		Name: "b", Run: b.Run, Protocol: 1, Site: "west", Roles: bus.RoleGateway | bus.RoleHome, Weight: 7, Address: "http://127.0.0.1:7400",
		Load: bus.Load{MaxConnections: 19000},
	}
	if *b != want || b.Run == 0 {
		t.Errorf("node b is %+v, want %+v", *b, want)
	}
}
