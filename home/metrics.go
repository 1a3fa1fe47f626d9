package home

import "github.com/prometheus/client_golang/prometheus"

// metrics are the Home's counts and gauges.
type metrics struct {
	joins        prometheus.Counter
	unanswered   prometheus.Counter
	announced    prometheus.Counter
	replaced     prometheus.Counter
	gaps         prometheus.Counter
	unsent       prometheus.Counter
	homeless     prometheus.Counter
	damaged      prometheus.Counter
	published    prometheus.Counter
	pushed       prometheus.Counter
	hints        prometheus.Counter
	looksRefused prometheus.Counter
}

func newMetrics(r prometheus.Registerer, d *directory, l *looks) *metrics {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		all = append(all, c)
		return c
	}
	m := &metrics{
		joins:        counter("pim_home_joins_total", "Connections of this node that were told to the homes of their users."),
		unanswered:   counter("pim_home_joins_unanswered_total", "Connections of this node whose homes were not there or did not answer in time: they are told to sync when their homes know them."),
		announced:    counter("pim_home_announced_total", "Connections of this node that were told to homes again, because a home has changed or a message was lost."),
		replaced:     counter("pim_home_replaced_total", "Connections that were replaced because their devices had connected to another node."),
		gaps:         counter("pim_home_gaps_total", "Gaps in what comes from other nodes, each of which has devices sync."),
		unsent:       counter("pim_home_unsent_total", "Messages to other nodes that could not be sent."),
		homeless:     counter("pim_home_pushes_without_home_total", "Pushes to users for whom no node is a home."),
		damaged:      counter("pim_home_damaged_total", "Messages of other nodes that could not be read."),
		published:    counter("pim_home_publishes_total", "Messages with entries to other nodes as homes."),
		pushed:       counter("pim_home_pushes_total", "Messages with entries to other nodes as gateways."),
		hints:        counter("pim_home_hints_total", "Messages to other nodes about what screens show."),
		looksRefused: counter("pim_home_looks_refused_total", "Looks of gateways for which this home had no room: what changes on other nodes is not told there."),
	}
	all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pim_home_devices", Help: "Connected devices that this home knows.",
	}, func() float64 { return float64(d.count.Load()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pim_home_subjects", Help: "Conversations and users that are looked at and whose home this is.",
	}, func() float64 { return float64(l.known.Load()) }))
	if r != nil {
		r.MustRegister(all...)
	}
	return m
}
