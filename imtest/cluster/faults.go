package cluster

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/fault"
)

// sort is a sort of fault. It happens to node i, from 0, lasts for the time of its plan or until ctx ends, and is
// healed when do returns.
type sort struct {
	name string
	do   func(ctx context.Context, c *Cluster, p *planned) error
}

var (
	pimKilled       = &sort{"a node of pim is killed", killPim}
	pimPaused       = &sort{"a node of pim is paused", pausePim}
	cassandraKilled = &sort{"a node of Cassandra is killed", killCassandra}
	cassandraPaused = &sort{"a node of Cassandra is paused", pauseCassandra}
	quorumKilled    = &sort{"two nodes of Cassandra are killed", killQuorum}
	cutOff          = &sort{"a node of pim is cut off from the others", cutOffPim}
	oneWay          = &sort{"one node of pim does not hear another", deafen}
	reset           = &sort{"the connections between two nodes of pim break", resetLinks}
	slow            = &sort{"the network between two nodes of pim is slow and stalls", slowLinks}
	clockSet        = &sort{"the clock of a node of pim is set", setClock}
	clockDrifts     = &sort{"the clock of a node of pim drifts", driftClock}
)

// killPim starts the node again with the clock that it had, or with one that is minutes off. Beside another fault the clock is right: the node may
// hear only one of the others for longer than it waits for a majority, and what is displayed in which order then is not promised.
func killPim(ctx context.Context, c *Cluster, p *planned) error {
	return c.nodes[p.node].Kill(context.WithoutCancel(ctx), func() error {
		imtest.Pause(ctx, p.lasts)
		switch {
		case p.astray:
			return errors.Join(c.rightClocks(p.node), c.SetClock(p.node, p.ahead))
		case p.beside:
			return c.SetClock(p.node, 0)
		}
		return nil
	})
}

func pausePim(ctx context.Context, c *Cluster, p *planned) error {
	err := c.nodes[p.node].Signal(syscall.SIGSTOP)
	imtest.Pause(ctx, p.lasts)
	return errors.Join(err, c.nodes[p.node].Signal(syscall.SIGCONT))
}

// killCassandra does not wait until the node serves again, which takes a busy machine a minute: Schedule.Whole does.
func killCassandra(ctx context.Context, c *Cluster, p *planned) error {
	return c.cassandra(ctx, p.lasts, "kill", []string{"begin"}, p.node)
}

func pauseCassandra(ctx context.Context, c *Cluster, p *planned) error {
	return c.cassandra(ctx, p.lasts, "pause", []string{"resume", "ready"}, p.node)
}

func killQuorum(ctx context.Context, c *Cluster, p *planned) error {
	return c.cassandra(ctx, p.lasts, "kill", []string{"begin", "ready"}, p.node, p.other)
}

// cassandra does something to nodes of Cassandra, and after a while what heals it.
func (c *Cluster) cassandra(ctx context.Context, lasts time.Duration, hurt string, heal []string, nodes ...int) (err error) {
	for _, i := range nodes {
		err = errors.Join(err, c.o.Cassandra.Do(i+1, hurt))
	}
	imtest.Pause(ctx, lasts)
	for _, what := range heal {
		for _, i := range nodes {
			err = errors.Join(err, c.o.Cassandra.Do(i+1, what))
		}
	}
	return err
}

// cutOffPim has all that goes between a node and the others vanish, or wait, as the plan says. It is cut off from
// the others, and not from clients and the store.
func cutOffPim(ctx context.Context, c *Cluster, p *planned) error {
	return c.during(ctx, p, func(path fault.Path) (err error) {
		for other := range Nodes {
			if other != p.node {
				err = errors.Join(err, c.links.pass(p.node, other, path), c.links.pass(other, p.node, path))
			}
		}
		return err
	})
}

// deafen has all that one node sends another vanish, or wait, as the plan says.
func deafen(ctx context.Context, c *Cluster, p *planned) error {
	return c.during(ctx, p, func(path fault.Path) error { return c.links.pass(p.node, p.other, path) })
}

// during sets what becomes of the plan's messages, and heals it later.
func (c *Cluster) during(ctx context.Context, p *planned, set func(fault.Path) error) error {
	err := set(fault.Path{BlackHole: p.vanish, Hold: !p.vanish})
	imtest.Pause(ctx, p.lasts)
	err = errors.Join(err, set(fault.Path{}))
	if p.vanish { // what has lost bytes does not come back; a real network would have said so by now, or will in some seconds
		for other := range Nodes {
			if other != p.node {
				c.links.reset(p.node, other)
			}
		}
	}
	return err
}

// resetLinks has all connections between two nodes end, and nobody accept new ones for a while.
func resetLinks(ctx context.Context, c *Cluster, p *planned) error {
	err := c.links.accept(p.node, p.other, fault.Refuse)
	c.links.reset(p.node, p.other)
	imtest.Pause(ctx, p.lasts)
	return errors.Join(err, c.links.accept(p.node, p.other, fault.Serve))
}

func slowLinks(ctx context.Context, c *Cluster, p *planned) error {
	bad := fault.Path{Delay: 100 * time.Millisecond, Jitter: 80 * time.Millisecond, Loss: 0.05, Stall: 400 * time.Millisecond}
	err := errors.Join(c.links.pass(p.node, p.other, bad), c.links.pass(p.other, p.node, bad))
	imtest.Pause(ctx, p.lasts)
	return errors.Join(err, c.links.pass(p.node, p.other, fault.Path{}), c.links.pass(p.other, p.node, fault.Path{}))
}

// setClock sets a node's clock. It stays so until the next fault of a clock, through other faults; the clock that was off before is set right first, so that most are right.
func setClock(ctx context.Context, c *Cluster, p *planned) error {
	err := errors.Join(c.rightClocks(p.node), c.SetClock(p.node, p.ahead))
	imtest.Pause(ctx, p.lasts) // of the load
	return err
}

// driftClock has a node's clock run too fast or too slow, as far as it gets. It stays there, as in setClock.
func driftClock(ctx context.Context, c *Cluster, p *planned) error {
	err, at := c.rightClocks(p.node), c.ahead(p.node)
	for begun := time.Now(); time.Since(begun) < p.lasts; {
		if !imtest.Pause(ctx, 20*time.Millisecond) {
			break
		}
		err = errors.Join(err, c.SetClock(p.node, at+time.Duration(time.Since(begun).Seconds()*float64(p.ahead)/1000)))
	}
	return err
}
