package server

import (
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
)

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
