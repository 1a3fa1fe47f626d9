package server

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/store/pebble"
)

// NodeReport is what a node says of itself. The names in JSON are stable.
type NodeReport struct {
	Version  string `json:"version"`
	Uptime   int64  `json:"uptime_seconds"`
	NotReady string `json:"not_ready,omitempty"` // why, in a word, as /readyz says it; "": it is ready

	Connections    int `json:"connections"`
	MaxConnections int `json:"max_connections"`

	Sends    int `json:"sends"`     // that wait for a writer of this node, or for their commit
	Routed   int `json:"routed"`    // sends of this node's connections that wait for another node
	BusBytes int `json:"bus_bytes"` // that wait to be sent to other nodes
	Devices  int `json:"devices"`   // that the node knows as their users' home

	Store StoreReport `json:"store"`
	Sees  []string    `json:"sees,omitempty"` // nodes, its own among them; 64 at most
}

// StoreReport is a node's store as that node sees it.
type StoreReport struct {
	Engine   string `json:"engine"` // pebble, cassandra, or other in tests
	Identity string `json:"identity"`
	Up       int    `json:"up"`     // nodes of Cassandra; 0 if the store is another one
	Silent   int    `json:"silent"` // that take requests and say nothing
	Down     int    `json:"down"`
	Unsafe   bool   `json:"unsafe,omitempty"` // settings of Cassandra would lose messages, and nothing is written
}

// statusAnswer is the answer to wantReport.
type statusAnswer struct {
	clockAnswer
	NodeReport
}

// mostAsked is how many nodes are asked for a report, and named in one.
const mostAsked = 64

// report returns what this node says of itself.
func (s *Server) report() NodeReport {
	value := s.values()
	r := NodeReport{
		Version: s.version, Uptime: int64(time.Since(s.begun).Seconds()),
		Connections: value("pim_connections", ""), Sends: value("pim_send_queue", ""), Routed: value("pim_route_waiting", ""),
		BusBytes: value("pim_bus_queue_bytes", ""), Devices: value("pim_home_devices", ""),
		Store: StoreReport{
			Engine: "other", Identity: s.identity,
			Up: value("pim_store_nodes", "up"), Silent: value("pim_store_nodes", "silent"), Down: value("pim_store_nodes", "down"),
		},
	}
	if s.config.has(bus.RoleGateway) {
		r.MaxConnections = s.files.connections
	}
	if err := s.Ready(); err != nil {
		r.NotReady = reason(err)
	}
	if _, embedded := s.engine.(*pebble.Store); embedded {
		r.Store.Engine = "pebble"
	} else if s.config.Store != "" {
		r.Store.Engine, r.Store.Unsafe = "cassandra", value("pim_store_safe", "") == 0
	}
	if s.cluster != nil {
		for _, n := range s.cluster.bus.View().Nodes {
			if len(r.Sees) < mostAsked {
				r.Sees = append(r.Sees, n.Name)
			}
		}
	}
	return r
}

// values returns a function that returns the value of a gauge, 0 if the node does not have it. label is the
// value of the gauge's label, "" if it has none. So the status and /metrics never differ.
func (s *Server) values() func(name, label string) int {
	all := make(map[[2]string]float64)
	families, _ := s.metrics.Gather() // what could be gathered comes beside the error
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := ""
			if l := m.GetLabel(); len(l) == 1 {
				label = l[0].GetValue()
			}
			if g := m.GetGauge(); g != nil {
				all[[2]string{f.GetName(), label}] = g.GetValue()
			}
		}
	}
	return func(name, label string) int { return int(all[[2]string{name, label}]) }
}

// answerStatus answers a request of bus.KindStatus.
func (s *Server) answerStatus(ctx context.Context, from string, body []byte) ([]byte, error) {
	came := s.clock.Now()
	var q statusRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, pim.Errorf(pim.KindInvalid, "a request for the status: %w", err)
	}
	var answer statusAnswer
	switch q.Want {
	case wantClock:
		return json.Marshal(clockAnswer{came.UnixNano(), s.clock.Now().UnixNano()})
	case wantReport:
		answer.NodeReport = s.report()
		answer.Came, answer.Left = came.UnixNano(), s.clock.Now().UnixNano()
		return json.Marshal(answer)
	case wantDrain, wantUndrain:
		s.cluster.order(ctx, q.Want == wantDrain)
		s.log.Info("this node drains by order, or no longer", "drain", q.Want == wantDrain, "from", from)
		return json.Marshal(clockAnswer{came.UnixNano(), s.clock.Now().UnixNano()})
	}
	if q.Want == wantHeed {
		ended, err := s.heed(ctx, q.User)
		if err != nil {
			return nil, err
		}
		return json.Marshal(revokedAnswer{clockAnswer{came.UnixNano(), s.clock.Now().UnixNano()}, ended})
	}
	return nil, pim.Errorf(pim.KindUnsupported, "a request for %q, which this version does not know", q.Want)
}
