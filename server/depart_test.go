package server_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/server"
)

// A node that drains by order sends its devices to the others, as fast as these accept them. They know no other node before, no send of
// theirs fails, and they spread. A device that the others do not let in soon enough comes back and stays (decision 60), which a
// busy machine decides.
func TestDrainSendsDevicesToOtherNodes(t *testing.T) {
	const devices, accept, talking = 48, 10, 8
	buses := map[string]bus.Bus{}
	nodes := startNodes(t, bustest.NewNetwork(), func(name string, c *server.Config, o *server.Options) {
		if buses[name] = o.Bus; name != "b" {
			c.AcceptRate = accept
		}
	}, "a", "b", "c")
	for i, name := range []string{"a", "b", "c"} {
		buses[name].Update(func(n *bus.Node) { n.Address = nodes[i].url("http") + "," + nodes[i].url("tcp") })
	}
	var moved atomic.Int64 // devices that have connected a second time
	var apps []*app
	for i := range devices {
		a := nodes[1].connect(fmt.Sprint("user-", i), "1", []string{"http", "tcp"}[i%2])
		apps = append(apps, a)
		go func() { // or the client reads no answers; how many events there are depends on how long the others take
			connected := 0
			for ev := range a.Events() {
				if s, ok := ev.(client.StateEvent); ok && s.State == client.Connected {
					if connected++; connected == 2 {
						moved.Add(1)
					}
				}
			}
		}()
	}
	talk := func(text string) {
		for i, a := range apps[:talking] {
			a.says(pim.Direct(a.user, apps[(i+1)%talking].user), text)
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
	for end := time.Now().Add(5 * time.Minute); moved.Load() < devices; talk("meanwhile") {
		if time.Now().After(end) {
			t.Fatalf("%d of %d devices have left", moved.Load(), devices)
		}
	}
	nodes[0].until("the devices to be spread", func(s server.ClusterStatus) bool {
		at := connections(s)
		return at[0] > 0 && at[2] > 0 && at[0]+at[1]+at[2] == devices // all at one of a and c by chance once in 2⁴⁷ runs
	})
	talk("after")
}
