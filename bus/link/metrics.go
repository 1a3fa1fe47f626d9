package link

import (
	"strings"

	"github.com/pim-im/pim/bus"
	"github.com/prometheus/client_golang/prometheus"
)

// dropReason says why something was not sent or taken; it is a label.
type dropReason string

const (
	dropUnknown   dropReason = "not_there"  // the receiver is not in the view
	dropTooLarge  dropReason = "too_large"  // above bus.MaxBody
	dropSendQueue dropReason = "send_queue" // too much waits to be sent
	dropNetwork   dropReason = "network"    // the network did not take it
	dropSlow      dropReason = "slow"       // too much of the sender waits for the Handler
	dropKind      dropReason = "kind"       // nobody handles the kind
	dropAnswers   dropReason = "answers"    // too many requests of the node are being answered
	dropOtherRun  dropReason = "other_run"  // for or from an earlier run of a node
	dropDouble    dropReason = "double"     // the number has come already
	dropLate      dropReason = "late"       // an answer that nobody waits for
	dropMalformed dropReason = "malformed"  // not understood
)

var dropReasons = []dropReason{
	dropUnknown, dropTooLarge, dropSendQueue, dropNetwork, dropSlow, dropKind, dropAnswers, dropOtherRun, dropDouble, dropLate, dropMalformed,
}

type metrics struct {
	members prometheus.Gauge
	waiting prometheus.Gauge // bytes
	gaps    prometheus.Counter
	drops   map[dropReason]prometheus.Counter
	out, in [256]traffic // by bus.Kind
}

// traffic counts the messages and requests of one kind in one direction.
type traffic struct{ messages, bytes prometheus.Counter }

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		members: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_bus_members", Help: "Nodes that this node sees, itself among them.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_bus_queue_bytes", Help: "Bytes that wait to be sent to other nodes, with 256 for each message.",
		}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_bus_gaps_total", Help: "Times that messages from a node may have been lost, or the node was gone or started again.",
		}),
		drops: map[dropReason]prometheus.Counter{},
	}
	drops := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pim_bus_dropped_total", Help: "Messages, requests and answers between nodes that were dropped by this node.",
	}, []string{"reason"})
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pim_bus_messages_total", Help: "Messages and requests to other nodes (out) and from them (in).",
	}, []string{"direction", "kind"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pim_bus_bytes_total", Help: "Bytes of the bodies of messages and requests to other nodes (out) and from them (in).",
	}, []string{"direction", "kind"})
	for _, reason := range dropReasons {
		m.drops[reason] = drops.WithLabelValues(string(reason))
	}
	for k := range m.out {
		kind := bus.Kind(k).String()
		if strings.HasPrefix(kind, "kind_") {
			kind = "other"
		}
		m.out[k] = traffic{messages.WithLabelValues("out", kind), bytes.WithLabelValues("out", kind)}
		m.in[k] = traffic{messages.WithLabelValues("in", kind), bytes.WithLabelValues("in", kind)}
	}
	if r != nil {
		r.MustRegister(m.members, m.waiting, m.gaps, drops, messages, bytes)
	}
	return m
}

func (m *metrics) dropped(reason dropReason) { m.drops[reason].Inc() }

func (m *metrics) sent(k bus.Kind, n int) {
	m.out[k].messages.Inc()
	m.out[k].bytes.Add(float64(n))
}

func (m *metrics) received(k bus.Kind, n int) {
	m.in[k].messages.Inc()
	m.in[k].bytes.Add(float64(n))
}
