package server

import (
	"context"
	"regexp"
	"time"

	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
)

// Recheck has s read once what was revoked in the last minutes, as if it had not for so long.
func (s *Server) Recheck(away time.Duration) {
	r := rechecker{server: s, newest: pim.MillisOf(s.clock.Relied()), read: s.clock.Mono() - away}
	r.look(context.Background(), s.stopping)
}

// FlushDevices stores when devices came.
func (s *Server) FlushDevices() { s.flushDevices(context.Background()) }

// MetricNames returns the names of all metrics that s registered, also of those that have counted nothing.
func (s *Server) MetricNames() (names []string) {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		s.metrics.Describe(descs)
	}()
	name := regexp.MustCompile(`fqName: "([^"]*)"`)
	for d := range descs {
		names = append(names, name.FindStringSubmatch(d.String())[1])
	}
	return names
}
