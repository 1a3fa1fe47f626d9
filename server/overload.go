package server

import (
	"math/rand/v2"
	"runtime/metrics"
	"time"

	"github.com/pim-im/pim/limit"
	"github.com/prometheus/client_golang/prometheus"
)

// newOverload returns what says when the node sheds work, nil if it never does.
func (s *Server) newOverload() *limit.Overload {
	if s.config.ShedTarget == 0 {
		return nil
	}
	o := limit.NewOverload(s.config.ShedTarget, rand.Float64)
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f))
	}
	gauge("pim_overload_level", "What the node sheds: 0 nothing, 1 typing and presence, 2 receipts too, 3 pulls of history, 4 logins, 5 new sends.", nil,
		func() float64 { return float64(o.Level()) })
	for _, q := range limit.Queues() {
		gauge("pim_queue_wait_seconds", "How long work has waited in a queue of the node, at least, in the last 50 ms.", prometheus.Labels{"queue": q.String()},
			func() float64 { return o.Wait(q).Seconds() })
	}
	for _, c := range limit.Classes() {
		s.metrics.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "pim_shed_total", Help: "What the node has shed because it had more to do than it can, by class.", ConstLabels: prometheus.Labels{"class": c.String()},
		}, func() float64 { return float64(o.Count(c)) }))
	}
	return o
}

// watchOverload ends the intervals of s.overload until stop is closed.
func (s *Server) watchOverload(stop <-chan struct{}) {
	var p processor
	t := time.NewTicker(limit.OverloadInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if wait, ok := p.wait(); ok {
				s.overload.Waited(limit.Processor, wait)
			}
			s.overload.Tick(time.Since(s.begun))
		case <-stop:
			return
		}
	}
}

// processor tells how long goroutines wait for a CPU.
type processor struct {
	sample [1]metrics.Sample
	before []uint64 // counts of the histogram, when it was read last
}

// waiters is the share of the goroutines that wait for at least as long as processor.wait says. Those that
// are woken by one that runs come next, however many others wait; those that are woken since there is something to
// read come last.
const waiters = 0.1

// wait returns how long a tenth of the goroutines that have begun to run since the last call had waited for that, or longer. ok is false if
// none have.
func (p *processor) wait() (d time.Duration, ok bool) {
	p.sample[0].Name = "/sched/latencies:seconds"
	metrics.Read(p.sample[:])
	if p.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0, false
	}
	h := p.sample[0].Value.Float64Histogram()
	if len(p.before) != len(h.Counts) {
		p.before = append(p.before[:0], h.Counts...)
		return 0, false
	}
	total := uint64(0)
	for i, n := range h.Counts {
		total += n - p.before[i]
	}
	above := uint64(0)
	for i := len(h.Counts) - 1; i >= 0 && total > 0 && !ok; i-- {
		if above += h.Counts[i] - p.before[i]; float64(above) >= waiters*float64(total) {
			d, ok = time.Duration(max(h.Buckets[i], 0)*float64(time.Second)), true
		}
	}
	copy(p.before, h.Counts)
	return d, ok
}
