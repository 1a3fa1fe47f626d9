package conv

import (
	"errors"
	"time"

	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of the writers. No label holds a user or a conversation.
type Metrics struct {
	Sends   *prometheus.CounterVec // by result: ok, duplicate, or an error kind
	Refused *prometheus.CounterVec // by reason: the bound that was reached
	Queue   prometheus.Gauge       // requests without an answer
	Bytes   prometheus.Gauge       // memory of the requests in Queue, in bytes, about
	Entries prometheus.Counter
	Batch   prometheus.Histogram // entries in one batch
	Commit  prometheus.Histogram // seconds from the begin of a batch's write to its outcome
	Loads   prometheus.Counter   // since a request asked for them
	Warmed  prometheus.Counter   // loaded by Warm, and kept
	Forward prometheus.Counter   // of Warmed: brought forward for their first request
	Live    prometheus.Gauge
	Weight  prometheus.Gauge   // memory of the conversations in Live, in bytes, about
	Settled prometheus.Counter // intents that another process left and this one settled
	Skipped prometheus.Counter // loads of trimmed conversations whose snapshot was lost

	ok, duplicate prometheus.Counter
}

// NewMetrics registers the writers' metrics with r, or with nothing if r is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		Sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_sends_total", Help: "Send requests answered, by result.",
		}, []string{"result"}),
		Refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_send_refusals_total", Help: "Send requests refused because a bound was reached, by the bound.",
		}, []string{"reason"}),
		Queue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_send_queue", Help: "Send requests that wait for a writer or are being committed.",
		}),
		Bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_send_queue_bytes", Help: "Memory that the requests of pim_send_queue take up, about.",
		}),
		Entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_entries_total", Help: "Entries appended to conversations.",
		}),
		Batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pim_commit_entries", Help: "Entries of one conversation that share a batch.", Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		Commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pim_commit_seconds", Help: "Time from the hand-over of a conversation's batch to the store until its outcome, fsync included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		Loads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_conversation_loads_total", Help: "Conversations loaded from the store.",
		}),
		Live: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_conversations_live", Help: "Conversations held in memory.",
		}),
		Weight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_conversations_live_bytes", Help: "Memory that the conversations of pim_conversations_live take up, about.",
		}),
	}
	m.Settled = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pim_intents_settled_total", Help: "Logs whose effects on others were written again, because an intent stayed: a process has died, or was slow.",
	})
	m.Skipped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pim_snapshots_lost_total", Help: "Trimmed conversations that were loaded without their snapshot: it is lost. Their state was taken from their members' cells.",
	})
	m.Warmed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pim_conversations_warmed_total", Help: "Conversations loaded before their first request, since another node has handed them over.",
	})
	m.Forward = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pim_conversations_brought_forward_total", Help: "Of pim_conversations_warmed_total: first requests that needed one read, of what was written since, and no load.",
	})
	m.ok = m.Sends.WithLabelValues("ok")
	m.duplicate = m.Sends.WithLabelValues("duplicate")
	for _, reason := range reasons {
		m.Refused.WithLabelValues(string(reason)) // so that it is exported as 0 before the first refusal
	}
	if r != nil {
		r.MustRegister(m.Sends, m.Refused, m.Queue, m.Bytes, m.Entries, m.Batch, m.Commit, m.Loads, m.Warmed, m.Forward, m.Live, m.Weight, m.Settled, m.Skipped)
	}
	return m
}

// unanswered notes that requests have come, or have been answered if requests is negative. bytes
// is their size.
func (m *Metrics) unanswered(requests int, bytes int64) {
	m.Queue.Add(float64(requests))
	m.Bytes.Add(float64(bytes))
}

// written notes at now that writes of b have their outcomes.
func (m *Metrics) written(b *batch, now time.Time) {
	if b.affecting {
		return
	}
	m.Commit.Observe(now.Sub(b.begun).Seconds())
	if b.write.Err == nil && len(b.entries) > 0 {
		m.Entries.Add(float64(len(b.entries)))
		m.Batch.Observe(float64(len(b.entries)))
	}
}

func (m *Metrics) answered(answers []Answer) {
	ok, duplicates := 0, 0
	for i := range answers {
		switch a := &answers[i]; {
		case a.Err != nil:
			m.Sends.WithLabelValues(pim.KindOf(a.Err).String()).Inc()
			if r := reason(""); errors.As(a.Err, &r) {
				m.Refused.WithLabelValues(string(r)).Inc()
			}
		case a.Duplicate:
			duplicates++
		default:
			ok++
		}
	}
	m.ok.Add(float64(ok))
	m.duplicate.Add(float64(duplicates))
}
