package conv

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the writers. No label holds a user or a conversation.
type Metrics struct {
	Sends   *prometheus.CounterVec // by result: ok, duplicate, or an error kind
	Entries prometheus.Counter
	Batch   prometheus.Histogram // entries in one commit
	Commit  prometheus.Histogram // seconds
	Loads   prometheus.Counter
	Live    prometheus.Gauge

	ok, duplicate prometheus.Counter
}

// NewMetrics registers the writers' metrics with r, or with nothing if r is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		Sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_sends_total", Help: "Send requests answered, by result.",
		}, []string{"result"}),
		Entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_entries_total", Help: "Entries appended to conversations.",
		}),
		Batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pim_commit_entries", Help: "Entries in one commit.", Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		Commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pim_commit_seconds", Help: "Duration of one commit, fsync included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		Loads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_conversation_loads_total", Help: "Conversations loaded from the store.",
		}),
		Live: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_conversations_live", Help: "Conversations held in memory.",
		}),
	}
	m.ok = m.Sends.WithLabelValues("ok")
	m.duplicate = m.Sends.WithLabelValues("duplicate")
	if r != nil {
		r.MustRegister(m.Sends, m.Entries, m.Batch, m.Commit, m.Loads, m.Live)
	}
	return m
}

func (m *Metrics) committed(groups []*group, d time.Duration) {
	n := 0
	for _, g := range groups {
		n += len(g.entries)
	}
	m.Entries.Add(float64(n))
	m.Batch.Observe(float64(n))
	m.Commit.Observe(d.Seconds())
}

func (m *Metrics) answered(answers []Answer) {
	ok, duplicates := 0, 0
	for i := range answers {
		switch a := &answers[i]; {
		case a.Err != nil:
			m.Sends.WithLabelValues(pim.KindOf(a.Err).String()).Inc()
		case a.Duplicate:
			duplicates++
		default:
			ok++
		}
	}
	m.ok.Add(float64(ok))
	m.duplicate.Add(float64(duplicates))
}
