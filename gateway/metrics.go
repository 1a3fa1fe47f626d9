package gateway

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the gateway. Reasons are the names of kinds, close codes and the
// constants below.
type Metrics struct {
	connections prometheus.Gauge
	sends       prometheus.Counter
	answers     prometheus.Counter
	pushes      prometheus.Counter
	pushAcks    prometheus.Counter
	pulls       prometheus.Counter
	pulled      prometheus.Counter
	syncs       prometheus.Counter
	drops       *prometheus.CounterVec
	closes      *prometheus.CounterVec
	refusals    *prometheus.CounterVec
}

// dropReason is why a frame was not passed on.
type dropReason string

const (
	dropSlow         dropReason = "slow_device"   // its queue was full: from here on it is behind
	dropBehind       dropReason = "behind"        // it is behind and will sync
	dropUnknownFrame dropReason = "unknown_frame" // of a type this version does not know
)

// NewMetrics registers the gateway's metrics with r, or with nothing if r is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &Metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pim_connections", Help: "Open connections, handshakes included."}),
		sends:       counter("pim_send_requests_total", "PIMSendReq frames read."),
		answers:     counter("pim_send_answers_total", "Sends answered, with PIMSendAck or PIMError."),
		pushes:      counter("pim_pushes_total", "PIMPush frames queued for a connection."),
		pushAcks:    counter("pim_push_acks_total", "PIMPushAck frames read."),
		pulls:       counter("pim_pulls_total", "PIMPullReq frames served."),
		pulled:      counter("pim_pulled_entries_total", "Entries handed out by pulls."),
		syncs:       counter("pim_syncs_total", "PIMSyncReq frames served."),
		drops:       vec("pim_drops_total", "Frames not passed on, by reason.", "reason"),
		closes:      vec("pim_closes_total", "Connections closed by the server, by code.", "code"),
		refusals:    vec("pim_refusals_total", "Connections refused before the handshake, by kind.", "kind"),
	}
	if r != nil {
		r.MustRegister(m.connections, m.sends, m.answers, m.pushes, m.pushAcks, m.pulls, m.pulled, m.syncs, m.drops, m.closes, m.refusals)
	}
	return m
}

func (m *Metrics) answered(n int)        { m.answers.Add(float64(n)) }
func (m *Metrics) drop(r dropReason)     { m.drops.WithLabelValues(string(r)).Inc() }
func (m *Metrics) closed(code wire.Code) { m.closes.WithLabelValues(code.String()).Inc() }
func (m *Metrics) refused(err error)     { m.refusals.WithLabelValues(pim.KindOf(err).String()).Inc() }
