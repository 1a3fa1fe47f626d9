package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/pim-im/pim/server"
)

// ofServer names a running server by its data directory, on whose socket it takes orders.
type ofServer struct {
	Data string `name:"data" env:"PIM_DATA" default:"./pim-data" placeholder:"DIR" help:"Data directory of one of the nodes, on this machine. Be its server's user, or root."`
}

// clusterStatusCmd shows how all nodes are.
type clusterStatusCmd struct {
	ofServer
	JSON bool `name:"json" help:"Print one JSON object."`
}

// errWrong ends a command that found something wrong, which it has printed.
var errWrong = errors.New("something is wrong, see above")

// Run asks a node, which asks the others.
func (c *clusterStatusCmd) Run(ctx context.Context, s streams) error {
	status, err := server.Status(ctx, server.Config{Data: c.Data})
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(status)
	} else {
		err = printStatus(s.out, &status)
	}
	if err == nil && len(status.Wrong) > 0 {
		err = errWrong
	}
	return err
}

// printStatus prints a table of the nodes, what they have for a store, and what is wrong.
func printStatus(w io.Writer, c *server.ClusterStatus) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tSITE\tROLES\tWEIGHT\tWRITES\tUSERS\tCONNECTIONS\tSENDS\tROUTED\tBUS\tCLOCK\tSTORE\tUP\tVERSION\tSTATE")
	for _, n := range c.Nodes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.1f%%\t%.1f%%\t", n.Node, n.Site, n.Roles, n.Weight, 100*n.Conversations, 100*n.Users)
		r := n.Report
		if r == nil {
			fmt.Fprintln(table, "\t\t\t\t\t\t\t\tno answer")
			continue
		}
		clock := "-" // it is what the others are compared with
		if n.Node != c.Asked {
			clock = fmt.Sprintf("%+.1fms", 1000*n.ClockOffset)
		}
		fmt.Fprintf(table, "%d/%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", r.Connections, r.MaxConnections, r.Sends, r.Routed, r.BusBytes, clock,
			storeText(r.Store), time.Duration(r.Uptime)*time.Second, r.Version, stateText(&n))
	}
	table.Flush()
	if c.More > 0 {
		fmt.Fprintf(w, "%d more nodes are there, and were not asked\n", c.More)
	}
	if len(c.Wrong) == 0 {
		_, err := fmt.Fprintln(w, "nothing is wrong")
		return err
	}
	for _, line := range c.Wrong {
		fmt.Fprintln(w, "WRONG "+line)
	}
	return nil
}

// storeText returns a node's store in a word or two.
func storeText(s server.StoreReport) string {
	if all := s.Up + s.Silent + s.Down; all > 0 {
		return fmt.Sprintf("%s %d/%d", s.Engine, s.Up, all)
	}
	return s.Engine
}

// stateText returns in a word how a node that has answered is.
func stateText(n *server.NodeStatus) string {
	switch {
	case n.Report.NotReady != "":
		return n.Report.NotReady
	case n.Draining:
		return "draining"
	}
	return "ready"
}

// clusterDrainCmd has a node drain.
type clusterDrainCmd struct {
	ofServer
	Node string `arg:"" help:"Name of the node."`
}

// Run has the node drain.
func (c *clusterDrainCmd) Run(ctx context.Context, s streams) error {
	return drain(ctx, s, c.Data, c.Node, true, "drains: others take over what it has, and its devices as fast as they can")
}

// clusterUndrainCmd ends that.
type clusterUndrainCmd struct {
	ofServer
	Node string `arg:"" help:"Name of the node."`
}

// Run has the node drain no longer.
func (c *clusterUndrainCmd) Run(ctx context.Context, s streams) error {
	return drain(ctx, s, c.Data, c.Node, false, "takes its share again")
}

func drain(ctx context.Context, s streams, data, node string, drain bool, done string) error {
	if err := server.Drain(ctx, server.Config{Data: data}, node, drain); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s %s\n", node, done)
	return err
}
