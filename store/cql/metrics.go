package cql

import (
	"errors"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what calls come to. Those that a store on a disk has, too, have the same names.
type metrics struct {
	calls                                *prometheus.HistogramVec
	transactions, rows                   prometheus.Counter
	retries, conflicts, unknown, refused prometheus.Counter
	allCopies                            prometheus.Counter

	registry   prometheus.Registerer
	registered []prometheus.Collector
}

// kinds are the values of the label kind of pim_store_call_seconds.
var kinds = []string{"append", "erase", "raise", "trim", "cells", "read", "get", "list"}

func (m *metrics) init() {
	m.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "pim_store_call_seconds",
		Help:    "Time of a call to the store, with all that it sends again, by kind: append, erase, raise, trim and cells write; read, get and list read.",
		Buckets: prometheus.ExponentialBuckets(0.5e-3, 2, 16),
	}, []string{"kind"})
	for _, kind := range kinds {
		m.calls.WithLabelValues(kind)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m.transactions = counter("pim_store_transactions_total", "Lightweight transactions that were sent to Cassandra.")
	m.rows = counter("pim_store_rows_total", "Rows that were sent to Cassandra to be written, in transactions and beside them.")
	m.retries = counter("pim_store_retries_total", "Requests that were sent to Cassandra again, after an error or because others were faster.")
	m.allCopies = counter("pim_store_reads_of_all_copies_total", "Reads that asked all copies, because those that Cassandra would have asked did not answer.")
	m.conflicts = counter("pim_store_conflicts_total", "Appends that did not follow the log's last record.")
	m.unknown = counter("pim_store_unknown_total", "Writes that ended although nobody had told what became of them.")
	m.refused = counter("pim_store_refused_total", "Writes that the cluster refused, because too few nodes were there or the settings of one would lose messages.")
}

// register registers the metrics of s with r. If r is nil, it does nothing.
func (m *metrics) register(r prometheus.Registerer, s *Store) error {
	if r == nil {
		return nil
	}
	m.registry = r
	for _, c := range []prometheus.Collector{
		m.calls, m.transactions, m.rows, m.retries, m.conflicts, m.unknown, m.refused, m.allCopies, &nodes{
			session: s.session,
			desc:    prometheus.NewDesc("pim_store_nodes", "Nodes of Cassandra as this process sees them, by state: up, silent (asked last, because it does not answer), down.", []string{"state"}, nil),
		},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pim_store_safe", Help: "0 while the settings of a node of Cassandra, or of the keyspace, would lose messages, and nothing is written; the log says what to set.",
		}, func() float64 {
			if s.safety.err() != nil {
				return 0
			}
			return 1
		}),
	} {
		if err := r.Register(c); err != nil {
			m.unregister()
			return pim.Errorf(pim.KindInvalid, "metrics of the store: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registry.Unregister(c)
	}
}

// called notes a call of a kind that began at begun.
func (m *metrics) called(kind string, begun time.Time) {
	m.calls.WithLabelValues(kind).Observe(time.Since(begun).Seconds())
}

// wrote notes the end of a write that began at begun.
func (m *metrics) wrote(w *store.Write, begun time.Time) {
	kind := "cells"
	switch {
	case len(w.Records) > 0:
		kind = "append"
	case len(w.Erase) > 0:
		kind = "erase"
	case w.Raise:
		kind = "raise"
	case w.Trim != 0:
		kind = "trim"
	}
	m.called(kind, begun)
	m.ended(w.Err)
}

// ended counts the outcome of a write.
func (m *metrics) ended(err error) {
	var conflict *store.ConflictError
	switch {
	case err == nil:
	case errors.As(err, &conflict):
		m.conflicts.Inc()
	case errors.Is(err, store.ErrUnknown):
		m.unknown.Inc()
	case pim.KindOf(err) == pim.KindUnavailable:
		m.refused.Inc()
	}
}

// nodes tells how many nodes there are in which state.
type nodes struct {
	session *session
	desc    *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (n *nodes) Describe(descs chan<- *prometheus.Desc) { descs <- n.desc }

// Collect implements prometheus.Collector.
func (n *nodes) Collect(metrics chan<- prometheus.Metric) {
	states := map[string]int{"up": 0, "silent": 0, "down": 0}
	for _, host := range n.session.GetHosts() {
		switch {
		case !host.IsUp():
			states["down"]++
		case n.session.gate.silent(host):
			states["silent"]++
		default:
			states["up"]++
		}
	}
	for state, count := range states {
		metrics <- prometheus.MustNewConstMetric(n.desc, prometheus.GaugeValue, float64(count), state)
	}
}
