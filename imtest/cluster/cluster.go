// Package cluster runs several nodes of pim over several nodes of Cassandra, as processes of this
// machine, and breaks them while package soak loads them: SIGKILL and SIGSTOP of either, the network between
// the nodes of pim, and the nodes' clocks. What a schedule breaks follows from its seed.
//
// What can't be tried here is a wrong clock of a node of Cassandra: its timestamps of Paxos come from the JVM's
// clock, which no setting moves, and all processes of a machine share the machine's.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/imtest/process"
)

// Nodes is how many nodes a cluster has, of pim and of Cassandra each. One of Cassandra may be away.
const Nodes = 3

// Options says what a cluster is made of.
type Options struct {
	Pim       string             // the program; its clock can be set if it was built with the tag pimfaults
	Cassandra *cassandra.Cluster // of Nodes nodes
	Keyspace  string             // it must not be there yet
	Dir       string             // for the nodes' data; it must be empty
	Log       *slog.Logger       // faults; default none
}

// Cluster is a running cluster.
type Cluster struct {
	o     Options
	keys  *account.Keys
	nodes []*process.Process
	links *links

	aheads [Nodes]time.Duration // of the nodes' clocks
	clocks sync.Mutex           // guards aheads, and the files that tell it to the nodes
}

// Start makes the keyspace, starts the nodes of pim and waits until they are ready. Who starts a
// cluster stops it.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{o: o, nodes: make([]*process.Process, Nodes)}
	store := fmt.Sprintf("cql://%s,%s,%s/%s", o.Cassandra.Host(1), o.Cassandra.Host(2), o.Cassandra.Host(3), o.Keyspace)
	if err := initialise(ctx, o.Pim, store); err != nil {
		return nil, err
	}
	keys, token := filepath.Join(o.Dir, "keys.json"), filepath.Join(o.Dir, "token")
	var err error
	if c.keys, err = account.CreateDevelopmentKey(keys); err != nil {
		return nil, err
	}
	if err := os.WriteFile(token, []byte("the token of a test\n"), 0o600); err != nil {
		return nil, err
	}
	var addresses []string
	for range Nodes {
		own, err := loopback.Addresses(1)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, own...)
	}
	if c.links, err = newLinks(addresses, 0); err != nil {
		return nil, err
	}
	for i := range c.nodes {
		if err := os.MkdirAll(c.dir(i), 0o700); err != nil {
			c.Stop()
			return nil, err
		}
	}
	// All at once: each is ready before it has found the others.
	var work sync.WaitGroup
	errs := make([]error, Nodes)
	for i := range c.nodes {
		command := []string{
			o.Pim, "serve", "--store", store, "--keys", keys, "--node", fmt.Sprintf("node%d", i+1), "--drain-window", "0s", "--no-consent",
			"--cluster-listen", addresses[i], "--join", strings.Join(c.links.from(i), ","), "--cluster-token-file", token,
		}
		work.Go(func() {
			c.nodes[i], errs[i] = process.Start(ctx, command, c.dir(i))
		})
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// tryAgain is the exit status of a program that would succeed later.
const tryAgain = 3

// initialise makes the keyspace. A node of Cassandra that is busy may not know yet of a table that another one has
// made; then the command says that it is to be run again.
func initialise(ctx context.Context, program, store string) error {
	for attempt := 1; ; attempt++ {
		command := exec.CommandContext(ctx, program, "cluster", "init", "--store", store, "--replication", fmt.Sprintf("dc1:%d", Nodes))
		out, err := command.CombinedOutput()
		if err == nil {
			return nil
		}
		if attempt == 5 || command.ProcessState.ExitCode() != tryAgain {
			return fmt.Errorf("cluster init: %w: %s", err, out)
		}
	}
}

// Stop ends the nodes of pim.
func (c *Cluster) Stop() {
	for _, n := range c.nodes {
		if n != nil {
			n.Stop()
		}
	}
	c.links.close()
}

// dir returns the data directory of a node, from 0.
func (c *Cluster) dir(i int) string { return filepath.Join(c.o.Dir, fmt.Sprintf("node%d", i+1)) }

// SetClock sets the clock of node i of pim, from 0, so far ahead of the machine's, or behind it. The node sees
// it some milliseconds later.
func (c *Cluster) SetClock(i int, ahead time.Duration) error {
	c.clocks.Lock()
	defer c.clocks.Unlock()
	return c.setClock(i, ahead)
}

// setClock is SetClock. c.clocks is held.
func (c *Cluster) setClock(i int, ahead time.Duration) error {
	c.aheads[i] = ahead
	path := filepath.Join(c.dir(i), "clock")
	if err := os.WriteFile(path+".new", []byte(ahead.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// rightClocks sets all clocks right but that of node i; Nodes: all.
func (c *Cluster) rightClocks(i int) (err error) {
	c.clocks.Lock()
	defer c.clocks.Unlock()
	for other, ahead := range c.aheads {
		if other != i && ahead != 0 {
			err = errors.Join(err, c.setClock(other, 0))
		}
	}
	return err
}

// ahead returns by how much the clock of node i is ahead.
func (c *Cluster) ahead(i int) time.Duration {
	c.clocks.Lock()
	defer c.clocks.Unlock()
	return c.aheads[i]
}

// Replace stops node i of pim, from 0, as an operator does, and starts the program in its place. It returns when that
// is ready.
func (c *Cluster) Replace(ctx context.Context, i int, program string) error {
	return c.nodes[i].Replace(ctx, program)
}

// Keys returns the keys with which the nodes know users.
func (c *Cluster) Keys() *account.Keys { return c.keys }

// URLs returns where clients connect.
func (c *Cluster) URLs(tcp bool) (urls []string) {
	for _, n := range c.nodes {
		urls = append(urls, n.URL(tcp))
	}
	return urls
}

// Said returns what the nodes of pim wrote to standard error last.
func (c *Cluster) Said() string {
	var b strings.Builder
	for i, n := range c.nodes {
		fmt.Fprintf(&b, "node %d of pim said: %s\n", i+1, n.Said())
	}
	return b.String()
}
