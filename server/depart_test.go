package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/server"
)

// A node that drains by order sends its devices to the others. They know no other node before, and no send of theirs fails.
// They spread, and neither of the others is reached by more than it accepts, although all at once would be too many for both: a node takes what comes in
// two seconds at once.
func TestDrainSendsDevicesToOtherNodes(t *testing.T) {
	const devices, accept, talking = 48, 10, 8
	if devices <= 2*2*accept {
		t.Fatal("two nodes take so many at once")
	}
	buses := map[string]bus.Bus{}
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, c *server.Config, o *server.Options) {
		if buses[name] = o.Bus; name != "b" {
			c.AcceptRate = accept
		}
	}, "a", "b", "c")
	for i, name := range []string{"a", "b", "c"} {
		buses[name].Update(func(n *bus.Node) { n.Address = nodes[i].url("http") + "," + nodes[i].url("tcp") })
	}
	var apps []*app
	for i := range devices {
		apps = append(apps, nodes[1].connect(fmt.Sprint("user-", i), "1", []string{"http", "tcp"}[i%2]))
	}
	talk := func(text string) {
		for i, a := range apps[:talking] {
			a.says(pim.Direct(a.user, apps[(i+1)%talking].user), text)
		}
		for _, a := range apps[:talking] {
			a.sees(text, text) // its own, and that of the one before it
		}
	}
	talk("before")
	connections := func(s server.ClusterStatus) (list [3]int) {
		for i, n := range s.Nodes {
			if n.Report == nil {
				return [3]int{-1}
			}
			list[i] = n.Report.Connections
		}
		return list
	}
	nodes[0].until("all devices to be on b", func(s server.ClusterStatus) bool { return connections(s) == [3]int{0, devices, 0} })
	if err := server.Drain(t.Context(), nodes[0].config, "b", true); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Minute); ; talk("meanwhile") {
		at := connections(nodes[0].status())
		if at[1] == 0 && at[0]+at[2] == devices {
			if at[0] == 0 || at[2] == 0 { // by chance once in 2⁴⁷ runs
				t.Errorf("the nodes have %v connections, all of them went to the same one", at)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the nodes have %v connections", at)
		}
	}
	for _, n := range nodes {
		_, metrics := n.page("/metrics")
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "pim_refusals_total{") && !strings.HasSuffix(line, " 0\n") {
				t.Errorf("%s has refused devices: %s", n.Addr(), line)
			}
		}
	}
	talk("after")
}
