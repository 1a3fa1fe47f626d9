package pebble

import (
	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// work collects figures about the database's work behind the commits: how often it writes
// the committed bytes, and whether its compactions keep up. It takes all of them from one
// look at Pebble's metrics.
type work struct {
	s                               *Store
	taken, written, sublevels, debt *prometheus.Desc
	unpurged                        *prometheus.Desc
}

func newWork(s *Store) *work {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &work{
		s:         s,
		taken:     desc("pim_store_taken_bytes_total", "Bytes of keys and values that were committed."),
		written:   desc("pim_store_written_bytes_total", "Bytes written to the disk for them: write-ahead log, tables, and tables written anew."),
		sublevels: desc("pim_store_l0_sublevels", "How many overlapping tables wait to be merged. At 40, writes wait."),
		debt:      desc("pim_store_compaction_debt_bytes", "Bytes that compactions have yet to write, about."),
		unpurged:  desc("pim_store_unpurged_seconds", "For how long erased bytes have waited until they are purged, the oldest; what was erased before the start counts from it."),
	}
}

var _ prometheus.Collector = (*work)(nil)

// Describe implements prometheus.Collector.
func (w *work) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{w.taken, w.written, w.sublevels, w.debt, w.unpurged} {
		c <- d
	}
}

// Collect implements prometheus.Collector. A store that is closed collects nothing.
func (w *work) Collect(c chan<- prometheus.Metric) {
	if w.s.enter(1) != nil {
		return
	}
	m := w.s.db.Metrics()
	w.s.leave(1)
	send := func(d *prometheus.Desc, t prometheus.ValueType, v uint64) {
		c <- prometheus.MustNewConstMetric(d, t, float64(v))
	}
	send(w.taken, prometheus.CounterValue, m.WAL.BytesIn)
	send(w.written, prometheus.CounterValue, writtenBytes(m))
	send(w.sublevels, prometheus.GaugeValue, uint64(max(m.Levels[0].Sublevels, 0)))
	send(w.debt, prometheus.GaugeValue, m.Compact.EstimatedDebt)
	send(w.unpurged, prometheus.GaugeValue, uint64(w.s.purge.waiting(w.s.age.mono()).Seconds()))
}

// writtenBytes returns how many bytes were written to the disk since Open.
func writtenBytes(m *crdb.Metrics) uint64 {
	n := m.WAL.BytesWritten
	for i := range m.Levels {
		n += m.Levels[i].TableBytesFlushed + m.Levels[i].TableBytesCompacted
	}
	return n
}
