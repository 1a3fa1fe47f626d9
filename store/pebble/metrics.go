package pebble

import (
	"errors"
	"sync/atomic"

	"github.com/pim-im/pim/store"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are counts since Open.
type Metrics struct {
	Commits   uint64 // batches of writes
	Records   uint64 // appended
	Cells     uint64 // written
	Conflicts uint64 // appends that did not follow the log's last record
	DiskSlow  uint64 // operations that the disk took long for
	Purges    uint64 // of erased bytes, that have ended without an error
	FreeBytes uint64 // on the disk; 0 if not known
}

// Metrics returns the store's counts. Latencies are in Options.Registerer.
func (s *Store) Metrics() Metrics {
	m := &s.metrics
	return Metrics{
		Commits: m.commits.Load(), Records: m.records.Load(), Cells: m.cells.Load(),
		Conflicts: m.conflicts.Load(), DiskSlow: m.diskSlow.Load(), Purges: m.purges.Load(), FreeBytes: m.free.Load(),
	}
}

type metrics struct {
	commits, records, cells, conflicts, diskSlow, free atomic.Uint64
	purges, purgedBytes                                atomic.Uint64

	commitSeconds, fsyncSeconds prometheus.Histogram

	registry   prometheus.Registerer
	registered []prometheus.Collector
}

func (m *metrics) init() {
	m.commitSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "pim_store_commit_seconds",
		Help:    "Time to apply a batch of writes, fsync included.",
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
	})
	m.fsyncSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "pim_store_fsync_seconds",
		Help:    "Time of one fsync of the write-ahead log.",
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
	})
}

// register registers the metrics, and work, with r. If r is nil, it does nothing.
func (m *metrics) register(r prometheus.Registerer, work prometheus.Collector) error {
	if r == nil {
		return nil
	}
	m.registry = r
	for _, c := range []prometheus.Collector{
		m.commitSeconds, m.fsyncSeconds, work,
		counter("pim_store_commits_total", "Batches of writes, each with one fsync at most.", &m.commits),
		counter("pim_store_records_total", "Records appended to logs.", &m.records),
		counter("pim_store_cells_total", "Cells written.", &m.cells),
		counter("pim_store_conflicts_total", "Appends that did not follow the log's last record.", &m.conflicts),
		counter("pim_store_purges_total", "Times that files were purged of erased bytes.", &m.purges),
		counter("pim_store_purged_bytes_total", "Bytes of tables that were compacted for that, about.", &m.purgedBytes),
		counter("pim_store_disk_slow_total", "Operations that the disk took long for.", &m.diskSlow),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pim_store_free_bytes", Help: "Free bytes on the store's disk.",
		}, func() float64 { return float64(m.free.Load()) }),
	} {
		if err := r.Register(c); err != nil {
			m.unregister()
			return err
		}
		m.registered = append(m.registered, c)
	}
	return nil
}

func counter(name, help string, v *atomic.Uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
		func() float64 { return float64(v.Load()) })
}

// wrote counts a write that has its outcome.
func (m *metrics) wrote(w *store.Write) {
	if w.Err == nil {
		m.records.Add(uint64(len(w.Records)))
		m.cells.Add(uint64(len(w.Cells)))
		return
	}
	var conflict *store.ConflictError
	if errors.As(w.Err, &conflict) {
		m.conflicts.Add(1)
	}
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registry.Unregister(c)
	}
	m.registered = nil
}
