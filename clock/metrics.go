package clock

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	drift, error, synchronised, healthy, carried prometheus.Gauge
	jumps                                        prometheus.Counter
}

// newMetrics registers with r, or with nothing if r is nil.
func newMetrics(r prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		drift:        gauge("pim_clock_drift_seconds", "Wall clock against monotonic clock since the start."),
		error:        gauge("pim_clock_error_seconds", "The kernel's estimate of its clock's error; 0 if it is not synchronised."),
		synchronised: gauge("pim_clock_synchronised", "1 if the kernel says that a time service keeps its clock."),
		healthy:      gauge("pim_clock_healthy", "0 while the node does not write because of its clock."),
		carried:      gauge("pim_clock_carried", "1 while the node goes by the time of other nodes because its own clock is off."),
		jumps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_clock_jumps_total", Help: "Jumps of the wall clock by more than 400 ms.",
		}),
	}
	if r != nil {
		r.MustRegister(m.drift, m.error, m.synchronised, m.healthy, m.carried, m.jumps)
	}
	return m
}

// report sets each gauge once, because a gauge that is first set to 0 and then to its
// value may be scraped in between.
func (m *metrics) report(r Reading, drift time.Duration, s *state, jumps int) {
	var offBy, synchronised, well, carried float64
	if r.Kernel.Synchronised {
		offBy, synchronised = r.Kernel.Error.Seconds(), 1
	}
	if s.trouble == nil {
		well = 1
	}
	if s.carried {
		carried = 1
	}
	m.drift.Set(drift.Seconds())
	m.error.Set(offBy)
	m.synchronised.Set(synchronised)
	m.healthy.Set(well)
	m.carried.Set(carried)
	m.jumps.Add(float64(jumps))
}
