package route

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of a Router. No label holds a user, a conversation or a node.
type Metrics struct {
	forwarded prometheus.Counter
	answered  prometheus.Counter
	waiting   prometheus.Gauge
	held      prometheus.Gauge
	repeats   *prometheus.CounterVec // by reason
	refusals  *prometheus.CounterVec // by reason
	here      prometheus.Counter
	late      prometheus.Counter
	pushed    prometheus.Counter
	gaveUp    prometheus.Counter
	malformed prometheus.Counter
	unsent    prometheus.Counter

	handedOver prometheus.Counter
}

// NewMetrics registers the metrics with r, or with nothing if r is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		forwarded: counter("pim_route_forwarded_total", "Requests sent to the nodes that write their conversations, repeats included."),
		answered:  counter("pim_route_answered_total", "Answers sent to the nodes that asked."),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_route_waiting", Help: "Requests of this node's connections that wait for another node, or are written here instead.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_route_held", Help: "Of pim_route_waiting: requests that wait until their node has answered some of the 8 MiB that it was sent before.",
		}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_route_repeats_total", Help: "Requests sent again, by reason: silence, gap, moved, refused, withdrawn.",
		}, []string{"reason"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_route_refusals_total", Help: "Requests refused because a bound was reached, by the bound: table, user_share, node_queue.",
		}, []string{"reason"}),
		here:      counter("pim_route_here_total", "Requests of other nodes' conversations that were written here."),
		late:      counter("pim_route_late_answers_total", "Answers to requests that were answered already."),
		pushed:    counter("pim_route_pushed_first_total", "Requests answered by their entries, which came before the answers."),
		gaveUp:    counter("pim_route_unanswered_total", "Requests refused because no node has answered in time."),
		malformed: counter("pim_route_malformed_total", "Messages of other nodes that could not be decoded."),
		unsent:    counter("pim_route_unsent_answers_total", "Messages with answers that the bus did not take."),

		handedOver: counter("pim_route_handed_over_total", "Conversations that other nodes were told to load, since they take them over from this one."),
	}
	if r != nil {
		r.MustRegister(m.forwarded, m.answered, m.waiting, m.held, m.repeats, m.refusals, m.here, m.late, m.pushed, m.gaveUp, m.malformed, m.unsent, m.handedOver)
	}
	return m
}

func (m *Metrics) again(reason string)   { m.repeats.WithLabelValues(reason).Inc() }
func (m *Metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }
