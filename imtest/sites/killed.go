package sites

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim/imtest"
)

// phase is a time in which the same sites are there.
type phase int

const (
	together phase = iota // all sites
	failing               // two sites were just killed
	without               // the others go on
	back                  // the two are being started again
	phases
)

// The lengths of the phases that do not end by themselves.
const (
	failingFor = 6 * time.Second
	withoutFor = 8 * time.Second
	backFor    = 4 * time.Second // after the two are ready
)

// Pairs is how many pairs there are of five sites.
const Pairs = 10

// Killed is a Pim of five sites of which two die at a time, node of pim and node of Cassandra both. It is soak.Servers.
type Killed struct {
	*Pim
	Log *slog.Logger

	pairs [][2]int // in the order of this run

	mu     sync.Mutex
	began  []change  // of phases, in their order
	last   time.Time // of the acknowledgements
	waits  [phases][]time.Duration
	silent [phases]time.Duration // the longest time without an acknowledgement that ended in the phase
}

// change is the begin of a phase.
type change struct {
	to phase
	at time.Time
}

// Break kills two sites, another pair each time, and starts them again. The first time it kills nobody: what was before
// warmed up the nodes, and is not counted.
func (k *Killed) Break(ctx context.Context, random *rand.Rand, number int) error {
	if number == 1 {
		for a := range k.o.Nodes {
			for b := range a {
				k.pairs = append(k.pairs, [2]int{b, a})
			}
		}
		random.Shuffle(len(k.pairs), func(i, j int) { k.pairs[i], k.pairs[j] = k.pairs[j], k.pairs[i] })
		k.enter(together)
		return nil
	}
	pair := k.pairs[(number-2)%len(k.pairs)]
	k.enter(failing)
	var work sync.WaitGroup
	errs := make([]error, 2)
	for n, site := range pair {
		work.Go(func() { errs[n] = k.kill(ctx, site) })
	}
	imtest.Pause(ctx, failingFor)
	k.enter(without)
	imtest.Pause(ctx, withoutFor)
	k.enter(back)
	work.Wait()
	imtest.Pause(ctx, backFor)
	_, silent := k.in(failing)
	k.Log.Info("two sites were killed and are back", "sites", centre(pair[0])+" "+centre(pair[1]), "longest silence so far", silent.Round(time.Millisecond))
	k.enter(together)
	return errors.Join(errs...)
}

// kill kills a site, and starts it again when its time is over.
func (k *Killed) kill(ctx context.Context, site int) error {
	whole := context.WithoutCancel(ctx)
	err := k.nodes[site].Kill(whole, func() error {
		err := k.o.Cassandra.Do(site+1, "kill")
		imtest.Pause(ctx, failingFor+withoutFor)
		return errors.Join(err, k.o.Cassandra.Do(site+1, "begin"), k.o.Cassandra.Do(site+1, "ready"))
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	k.Log.Info("a node did not start", "site", centre(site), "err", err)
	return again(whole, func() error { return k.nodes[site].Kill(whole, nil) })
}

// enter begins a phase.
func (k *Killed) enter(p phase) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.began = append(k.began, change{p, time.Now()})
}

// at returns the phase at a time; ok is false before the first one. k.mu is held.
func (k *Killed) at(t time.Time) (p phase, ok bool) {
	for _, c := range slices.Backward(k.began) {
		if !t.Before(c.at) {
			return c.to, true
		}
	}
	return 0, false
}

// Answered notes an acknowledgement. It counts for the phase in which the message was sent.
func (k *Killed) Answered(sent, told time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p, ok := k.at(told); ok {
		k.silent[p] = max(k.silent[p], told.Sub(k.last))
	}
	k.last = told
	if p, ok := k.at(sent); ok {
		k.waits[p] = append(k.waits[p], told.Sub(sent))
	}
}

// waited is the times that messages waited for their acknowledgements.
type waited struct {
	messages               int
	p50, p90, p99, longest time.Duration
}

// in returns what was measured in a phase, and the longest time without an acknowledgement that ended in it.
func (k *Killed) in(p phase) (w waited, silent time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := slices.Sorted(slices.Values(k.waits[p]))
	if len(all) == 0 {
		return waited{}, k.silent[p]
	}
	at := func(share float64) time.Duration { return all[min(len(all)-1, int(share*float64(len(all))))] }
	return waited{len(all), at(0.5), at(0.9), at(0.99), all[len(all)-1]}, k.silent[p]
}
