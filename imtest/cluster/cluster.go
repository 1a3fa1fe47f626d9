// Package cluster runs several nodes of pim over several nodes of Cassandra, as processes of this
// machine, and breaks them one after the other, for package soak: SIGKILL and SIGSTOP of either.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/imtest/process"
)

// Nodes is how many nodes a cluster has, of pim and of Cassandra each. One of Cassandra may be away.
const Nodes = 3

// Options says what a cluster is made of.
type Options struct {
	Pim       string             // the program
	Cassandra *cassandra.Cluster // of Nodes nodes
	Keyspace  string             // it must not be there yet
	Dir       string             // for the nodes' data; it must be empty
	Log       *slog.Logger       // faults; default none
}

// Cluster is a running cluster. It is soak.Servers.
type Cluster struct {
	o     Options
	keys  *account.Keys
	nodes []*process.Process

	order [EveryFault]int // of the faults in this round
}

// Start makes the keyspace, starts the nodes of pim and waits until they are ready. Who starts a
// cluster stops it.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{o: o, nodes: make([]*process.Process, Nodes)}
	store := fmt.Sprintf("cql://%s,%s,%s/%s", o.Cassandra.Host(1), o.Cassandra.Host(2), o.Cassandra.Host(3), o.Keyspace)
	init := exec.CommandContext(ctx, o.Pim, "cluster", "init", "--store", store, "--replication", fmt.Sprintf("dc1:%d", Nodes))
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cluster init: %w: %s", err, out)
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
	// All at once: each is ready before it has found the others.
	var work sync.WaitGroup
	errs := make([]error, Nodes)
	for i := range c.nodes {
		command := []string{
			o.Pim, "serve", "--store", store, "--keys", keys, "--node", fmt.Sprintf("node%d", i+1), "--drain-window", "0s",
			"--cluster-listen", addresses[i], "--join", strings.Join(addresses, ","), "--cluster-token-file", token,
		}
		work.Go(func() {
			c.nodes[i], errs[i] = process.Start(ctx, command, filepath.Join(o.Dir, fmt.Sprintf("node%d", i+1)))
		})
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// Stop ends the nodes of pim.
func (c *Cluster) Stop() {
	for _, n := range c.nodes {
		if n != nil {
			n.Stop()
		}
	}
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

// EveryFault is how many sorts of faults there are. The first so many faults contain each of them.
const EveryFault = 4

// fault is one sort of fault. It happens to node i, from 0, lasts for the time given or until ctx
// ends, and is healed when do returns.
type fault struct {
	name string
	do   func(ctx context.Context, c *Cluster, i int, lasts time.Duration) error
}

var faults = [EveryFault]fault{
	{"a node of pim is killed", func(ctx context.Context, c *Cluster, i int, lasts time.Duration) error {
		return c.nodes[i].Kill(context.WithoutCancel(ctx), func() error {
			imtest.Pause(ctx, lasts)
			return nil
		})
	}},
	{"a node of pim is paused", func(ctx context.Context, c *Cluster, i int, lasts time.Duration) error {
		err := c.nodes[i].Signal(syscall.SIGSTOP)
		imtest.Pause(ctx, lasts)
		return errors.Join(err, c.nodes[i].Signal(syscall.SIGCONT))
	}},
	{"a node of Cassandra is killed", func(ctx context.Context, c *Cluster, i int, lasts time.Duration) error {
		return c.cassandra(ctx, i, lasts, "kill", "begin", "ready")
	}},
	{"a node of Cassandra is paused", func(ctx context.Context, c *Cluster, i int, lasts time.Duration) error {
		return c.cassandra(ctx, i, lasts, "pause", "resume", "ready")
	}},
}

// cassandra does something to a node of Cassandra, and after a while what heals it.
func (c *Cluster) cassandra(ctx context.Context, i int, lasts time.Duration, hurt string, heal ...string) error {
	err := c.o.Cassandra.Do(i+1, hurt)
	imtest.Pause(ctx, lasts)
	for _, what := range heal {
		err = errors.Join(err, c.o.Cassandra.Do(i+1, what))
	}
	return err
}

// Break makes a fault of 1 to 5 s, and as long as a node needs to start. Each sort has its turn in each round of EveryFault faults.
func (c *Cluster) Break(ctx context.Context, random *rand.Rand, number int) error {
	turn := (number - 1) % EveryFault
	if turn == 0 {
		copy(c.order[:], random.Perm(EveryFault))
	}
	f, i := faults[c.order[turn]], random.IntN(Nodes)
	lasts := time.Second + time.Duration(random.Int64N(int64(4*time.Second)))
	begun := time.Now()
	if err := f.do(ctx, c, i, lasts); err != nil {
		return fmt.Errorf("%s, %d: %w", f.name, i+1, err)
	}
	c.o.Log.Info(f.name, "node", i+1, "for", lasts.Round(time.Millisecond), "healed after", time.Since(begun).Round(time.Millisecond))
	return nil
}
