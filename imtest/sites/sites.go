// Package sites measures what several nodes of pim cost, and what they do when whole sites die: processes of this
// machine, over one to five nodes of Cassandra. Sites that are apart have proxies between them, which delay what
// passes. Its tests take minutes and print tables; make bench-cluster and make five-sites run them.
package sites

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/fault"
	"github.com/pim-im/pim/imtest/loopback"
	"github.com/pim-im/pim/imtest/process"
)

// Options says what a pim is made of.
type Options struct {
	Pim   string // the program
	Nodes int
	Dir   string // for the nodes' data; it must be empty

	// Cassandra has the messages, in Keyspace, which must not be there yet. nil: the embedded store of one node.
	Cassandra   *cassandra.Cluster
	Stores      int // nodes of Cassandra
	Replication string
	Keyspace    string

	// Sites makes each node of pim a site of its own, with one node of Cassandra, of the data centre dc1, dc2 …
	Sites bool
	Delay time.Duration // of what a node of pim sends to another, until it arrives
}

// Pim is several nodes of pim, or one. Start makes one.
type Pim struct {
	o     Options
	keys  *account.Keys
	nodes []*process.Process
	pprof []string       // the nodes' addresses for Go's profiler
	links []*fault.Proxy // between nodes; none without a delay
}

// Start makes the keyspace, starts the nodes, and waits until they are ready. Who starts them stops them.
func Start(ctx context.Context, o Options) (*Pim, error) {
	p := &Pim{o: o, nodes: make([]*process.Process, o.Nodes)}
	if err := p.start(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Pim) start(ctx context.Context) error {
	if p.o.Cassandra != nil {
		init := exec.CommandContext(ctx, p.o.Pim, "cluster", "init", "--store", p.store(0), "--replication", p.o.Replication)
		if out, err := init.CombinedOutput(); err != nil {
			return fmt.Errorf("cluster init: %w: %s", err, out)
		}
	}
	var err error
	if p.keys, err = account.CreateDevelopmentKey(filepath.Join(p.o.Dir, "keys.json")); err != nil {
		return err
	}
	token := filepath.Join(p.o.Dir, "token")
	if err := os.WriteFile(token, []byte("the token of a test\n"), 0o600); err != nil {
		return err
	}
	commands, err := p.commands(token)
	if err != nil {
		return err
	}
	// All at once: each is ready before it has found the others.
	var work sync.WaitGroup
	errs := make([]error, p.o.Nodes)
	for i, command := range commands {
		work.Go(func() {
			errs[i] = again(ctx, func() (err error) {
				p.nodes[i], err = process.Start(ctx, command, filepath.Join(p.o.Dir, fmt.Sprintf("node%d", i+1)))
				return err
			})
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// again calls start, which starts a process, until that succeeds, for at most mostStarts times: as a service manager does.
// A node of pim ends if Cassandra does not answer when it starts.
func again(ctx context.Context, start func() error) error {
	for n := 1; ; n++ {
		err := start()
		if err == nil || n == mostStarts || !imtest.Pause(ctx, time.Second) {
			return err
		}
	}
}

const mostStarts = 20

// commands returns what starts each node.
func (p *Pim) commands(token string) ([][]string, error) {
	var listen []string // for the other nodes
	for range p.o.Nodes {
		own, err := loopback.Addresses(2)
		if err != nil {
			return nil, err
		}
		listen, p.pprof = append(listen, own[0]), append(p.pprof, own[1])
	}
	commands := make([][]string, p.o.Nodes)
	for i := range commands {
		c := []string{p.o.Pim, "serve", "--keys", filepath.Join(p.o.Dir, "keys.json"), "--drain-window", "0s", "--no-consent", "--pprof-listen", p.pprof[i]}
		if p.o.Cassandra != nil {
			c = append(c, "--store", p.store(i))
		}
		if p.o.Sites {
			c = append(c, "--site", centre(i), "--store-dc", centre(i))
		}
		if p.o.Nodes > 1 {
			join, err := p.join(i, listen)
			if err != nil {
				return nil, err
			}
			c = append(c, "--node", fmt.Sprintf("node%d", i+1), "--cluster-listen", listen[i], "--join", join, "--cluster-token-file", token)
		}
		commands[i] = c
	}
	return commands, nil
}

// join returns where node i reaches the others. If there is a delay, that is a proxy for each of them. NATS tells a node
// under which address each other one is seen; behind a proxy that is the proxy's own, where no node listens. So
// nothing goes past the proxies.
func (p *Pim) join(i int, listen []string) (string, error) {
	var addresses []string
	for j, address := range listen {
		if p.o.Delay > 0 && j != i {
			link, err := fault.New(address, uint64(i*p.o.Nodes+j))
			if err != nil {
				return "", err
			}
			p.links = append(p.links, link)
			if err := link.Set(fault.Symmetric(fault.Path{Delay: p.o.Delay})); err != nil {
				return "", err
			}
			address = link.Addr()
		}
		if j != i {
			addresses = append(addresses, address)
		}
	}
	return strings.Join(addresses, ","), nil
}

// store returns the URL of the store for node i, from 0: its own site's node of Cassandra comes first.
func (p *Pim) store(i int) string {
	var hosts []string
	for n := range p.o.Stores {
		hosts = append(hosts, p.o.Cassandra.Host((i+n)%p.o.Stores+1))
	}
	return fmt.Sprintf("cql://%s/%s", strings.Join(hosts, ","), p.o.Keyspace)
}

// centre returns the name of site i, from 0, and of its data centre.
func centre(i int) string { return fmt.Sprintf("dc%d", i+1) }

// Stop ends the nodes.
func (p *Pim) Stop() {
	for _, n := range p.nodes {
		if n != nil {
			n.Stop()
		}
	}
	for _, l := range p.links {
		l.Close()
	}
}

// Keys returns the keys with which the nodes know users.
func (p *Pim) Keys() *account.Keys { return p.keys }

// URLs returns where clients connect to each node.
func (p *Pim) URLs(tcp bool) (urls []string) {
	for _, n := range p.nodes {
		urls = append(urls, n.URL(tcp))
	}
	return urls
}

// Said returns what the nodes wrote to standard error last.
func (p *Pim) Said() string {
	var b strings.Builder
	for i, n := range p.nodes {
		fmt.Fprintf(&b, "node %d of pim said: %s\n", i+1, n.Said())
	}
	return b.String()
}
