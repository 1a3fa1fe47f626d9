package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pim-im/pim/server"
)

func TestClusterStatusText(t *testing.T) {
	report := func(n *server.NodeReport) *server.NodeReport {
		n.Version, n.Uptime, n.MaxConnections = "v1.2.0", 93784, 19000
		n.Store = server.StoreReport{Engine: "cassandra", Up: 2, Down: 1}
		return n
	}
	status := server.ClusterStatus{
		Asked: "pim-a", More: 2,
		Nodes: []server.NodeStatus{
			{
				Node: "pim-a", Site: "dc1", Roles: "gateway,writer,home,lbs", Weight: 100, Conversations: 2.0 / 3, Users: 2.0 / 3,
				Report: report(&server.NodeReport{Connections: 1203, Sends: 4, Routed: 17, BusBytes: 5120}),
			},
			{Node: "pim-b", Site: "dc1", Roles: "gateway,writer,home,lbs", Weight: 100, Draining: true, Report: report(&server.NodeReport{}), ClockOffset: -0.0004},
			{Node: "pim-c", Site: "dc2", Roles: "writer", Weight: 50, Conversations: 1.0 / 3, Error: "no answer within 2s"},
			{Node: "pim-d", Site: "dc2", Roles: "gateway", Weight: 0, Report: report(&server.NodeReport{NotReady: "clock_unhealthy"}), ClockOffset: 1.25},
		},
		Wrong: []string{"pim-c: the node does not answer: no answer within 2s", "pim-d: the node is not ready: clock_unhealthy"},
	}
	const want = `
NODE   SITE  ROLES                    WEIGHT  WRITES  USERS  CONNECTIONS  SENDS  ROUTED  BUS   CLOCK      STORE          UP       VERSION  STATE
pim-a  dc1   gateway,writer,home,lbs  100     66.7%   66.7%  1203/19000   4      17      5120  -          cassandra 2/3  26h3m4s  v1.2.0   ready
pim-b  dc1   gateway,writer,home,lbs  100     0.0%    0.0%   0/19000      0      0       0     -0.4ms     cassandra 2/3  26h3m4s  v1.2.0   draining
pim-c  dc2   writer                   50      33.3%   0.0%                                                                                 no answer
pim-d  dc2   gateway                  0       0.0%    0.0%   0/19000      0      0       0     +1250.0ms  cassandra 2/3  26h3m4s  v1.2.0   clock_unhealthy
2 more nodes are there, and were not asked
WRONG pim-c: the node does not answer: no answer within 2s
WRONG pim-d: the node is not ready: clock_unhealthy
`
	var b strings.Builder
	if err := printStatus(&b, &status); err != nil {
		t.Fatal(err)
	}
	if got := "\n" + b.String(); got != want {
		t.Errorf("%s\nwant%s", got, want)
	}
}

// A server by itself is a cluster of one node, and has nobody to take over what it has.
func TestClusterStatusOfOneNode(t *testing.T) {
	n := serve(t)
	stdout, stderr, status := pimWith(t.Context(), "", "cluster", "status", "--data", n.data)
	if status != exitOK || !strings.Contains(stdout, "ready\nnothing is wrong\n") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	stdout, _, _ = pimWith(t.Context(), "", "cluster", "status", "--data", n.data, "--json")
	var c server.ClusterStatus
	if err := json.Unmarshal([]byte(stdout), &c); err != nil || len(c.Nodes) != 1 || c.Nodes[0].Node != c.Asked || c.Nodes[0].Report.Store.Engine != "pebble" {
		t.Errorf("%v\n%s", err, stdout)
	}
	if _, stderr, status := pimWith(t.Context(), "", "cluster", "drain", "--data", n.data, c.Asked); status == exitOK || !strings.Contains(stderr, "the only node") {
		t.Errorf("drain: status %d, %s", status, stderr)
	}
	if _, stderr, status := pimWith(t.Context(), "", "cluster", "status", "--data", t.TempDir()); status != exitUnavailable || !strings.Contains(stderr, "no server runs") {
		t.Errorf("where no server runs: status %d, %s", status, stderr)
	}
}
