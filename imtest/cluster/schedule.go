package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim/imtest"
)

// Deck says which sorts of faults schedules have, and how long they last. A schedule's sort follows from its seed: as
// many schedules in a row as a deck has cards contain each card.
type Deck struct {
	sorts []*sort
	long  bool // up to 15 s, else up to 1.5 s
}

// Cards returns how many cards there are.
func (d *Deck) Cards() int { return len(d.sorts) }

var (
	// Short has few of the faults that take long: Cassandra needs some 10 s to start.
	Short = &Deck{sorts: []*sort{
		pimKilled, cassandraPaused, clockSet, pimPaused, slow, oneWay, pimKilled, clockDrifts, reset, cutOff,
		pimKilled, pimPaused, slow, cassandraKilled, clockSet, pimKilled, oneWay, clockDrifts, cassandraPaused, cutOff,
	}}
	// Long has a quorum of the store away, too.
	Long = &Deck{long: true, sorts: []*sort{
		pimKilled, cassandraKilled, cutOff, pimPaused, clockSet, cassandraPaused, oneWay, quorumKilled, reset, slow, clockDrifts,
	}}
	// Clocks has nothing but clocks.
	Clocks = &Deck{sorts: []*sort{clockSet, clockDrifts}}

	network   = []*sort{cutOff, oneWay, reset, slow}
	processes = []*sort{pimKilled, pimPaused}
	clocks    = []*sort{clockSet, clockDrifts}
)

// planned is a fault that is to happen.
type planned struct {
	sort        *sort
	node, other int           // from 0; they differ
	after       time.Duration // since the schedule's beginning
	lasts       time.Duration // until what heals it begins
	vanish      bool          // what is sent is lost, else it comes later
	astray      bool          // a process that is killed starts again with a clock that is wrong by ahead
	beside      bool          // something else happens to another node
	ahead       time.Duration // of a clock that is set; a thousandth of it is how much one that drifts gains in a second
}

func (p *planned) String() string {
	s := fmt.Sprintf("%s: %d", p.sort.name, p.node+1)
	switch p.sort {
	case oneWay, reset, slow, quorumKilled:
		s += fmt.Sprintf(", %d", p.other+1)
	case clockSet, pimKilled:
		if p.sort == pimKilled && !p.astray {
			break
		}
		s += fmt.Sprintf(", by %v", p.ahead)
	case clockDrifts:
		s += fmt.Sprintf(", by %v a second", p.ahead/1000)
	}
	return fmt.Sprintf("%s, after %v, for %v", s, p.after, p.lasts)
}

// Schedule is the faults of a seed, one or two at about the same time. It is soak.Servers.
type Schedule struct {
	*Cluster
	faults []planned
}

// Schedule returns the schedule of a seed.
func (c *Cluster) Schedule(d *Deck, seed uint64) *Schedule {
	random := rand.New(rand.NewPCG(seed, 2))
	lasts := func() time.Duration {
		switch {
		case !d.long:
			return between(random, 300*time.Millisecond, 1500*time.Millisecond)
		case random.IntN(2) == 0:
			return between(random, 500*time.Millisecond, 3*time.Second)
		default:
			return between(random, 3*time.Second, 15*time.Second)
		}
	}
	s := &Schedule{Cluster: c}
	add := func(what *sort, node int, after time.Duration) {
		p := planned{sort: what, node: node, after: after, lasts: lasts(), vanish: random.IntN(2) == 0}
		p.other = (p.node + 1 + random.IntN(Nodes-1)) % Nodes
		p.ahead = between(random, time.Second, 5*time.Minute)
		if random.IntN(2) == 0 {
			p.ahead = -p.ahead
		}
		s.faults = append(s.faults, p)
	}
	first, node := d.sorts[seed%uint64(len(d.sorts))], random.IntN(Nodes)
	add(first, node, 0)
	// Something else happens to another node; but not beside a clock, since the clocks of the two that are left may not
	// tell which of them runs away.
	if random.IntN(3) == 0 && !slices.Contains(clocks, first) {
		others := processes
		if !slices.Contains(network, first) {
			others = slices.Concat(network, processes)
		}
		add(others[random.IntN(len(others))], (node+1+random.IntN(Nodes-1))%Nodes, between(random, 0, time.Second))
	}
	for i := range s.faults {
		s.faults[i].beside = len(s.faults) > 1
	}
	s.faults[0].astray = first == pimKilled && s.Alone() && random.IntN(2) == 0
	return s
}

// between returns a time between two, in full milliseconds.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return (least + time.Duration(random.Int64N(int64(most-least)))).Truncate(time.Millisecond)
}

// String tells the faults.
func (s *Schedule) String() string {
	var all []string
	for i := range s.faults {
		all = append(all, s.faults[i].String())
	}
	return strings.Join(all, "; ")
}

// Sort names the sort of the schedule's first fault.
func (s *Schedule) Sort() string { return s.faults[0].sort.name }

// Alone reports whether the schedule has one fault only.
func (s *Schedule) Alone() bool { return len(s.faults) == 1 }

// Whole waits until all nodes of Cassandra serve again. It is called after the load, before the next schedule.
func (s *Schedule) Whole() error {
	var errs []error
	for i := range s.faults {
		if p := &s.faults[i]; p.sort == cassandraKilled {
			errs = append(errs, s.o.Cassandra.Do(p.node+1, "ready"))
		}
	}
	return errors.Join(errs...)
}

// Break implements soak.Servers: all faults of the schedule happen, each at its time.
func (s *Schedule) Break(ctx context.Context, _ *rand.Rand, _ int) error {
	errs := make([]error, len(s.faults))
	var work sync.WaitGroup
	for i := range s.faults {
		p := &s.faults[i]
		work.Go(func() {
			if imtest.Pause(ctx, p.after) {
				errs[i] = p.sort.do(ctx, s.Cluster, p)
			}
		})
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}
