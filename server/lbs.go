package server

import (
	"bytes"
	crand "crypto/rand"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/account"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/limit"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// questionsOfCore is how many questions a second one core answers, with CPU left for messages: one takes 0.1 ms, most of it
	// for the signature of its token.
	questionsOfCore = 2000
	// earlierRate is the accept rate of a gateway of an earlier version, which does not say its own: that of one core with TLS.
	earlierRate = acceptTLS
)

// balance is the role lbs: package lbs with a clock, a lock, and the nodes that the bus knows.
type balance struct {
	signer *lbs.Signer
	gate   *limit.Gate // whose questions are heard
	mono   func() time.Duration
	nodes  func() (nodes []bus.Node, self string)

	mu       sync.Mutex
	balancer *lbs.Balancer

	answers, refusals *prometheus.CounterVec
	gateways          *prometheus.GaugeVec
}

// newBalance returns the role, which knows no gateways before its first look.
func (s *Server) newBalance(signer *lbs.Signer) *balance {
	var seed [32]byte
	crand.Read(seed[:]) // never fails
	b := &balance{
		signer: signer, mono: s.clock.Mono, nodes: s.nodes, balancer: lbs.New(rand.New(rand.NewChaCha8(seed))),
		gate: limit.NewGate(limit.Rates{
			Accept: questionsOfCore * runtime.GOMAXPROCS(0), Address: s.config.AddressRate, Network: s.config.NetworkRate,
		}, rand.Float64),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_lbs_answers_total", Help: "Clients that were told which gateways to dial, or to wait, by outcome.",
		}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_lbs_refusals_total", Help: "Questions for gateways that were refused, by reason.",
		}, []string{"reason"}),
		gateways: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pim_lbs_gateways", Help: "Gateways that this LBS knows, by state.",
		}, []string{"state"}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pim_lbs_waiting", Help: "Clients that this LBS expects to ask again, about.",
	}, func() float64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return float64(b.balancer.Waiting())
	})
	s.metrics.MustRegister(b.answers, b.refusals, b.gateways, waiting)
	return b
}

// leaseCheck returns what refuses a client whose Hello has no good lease; nil without require-lease.
func (s *Server) leaseCheck() func(string, pim.UserID) error {
	if !s.config.RequireLease {
		return nil
	}
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pim_lease_refusals_total", Help: "Clients that were refused because of their lease, by reason (missing, forged, expired, foreign).",
	}, []string{"reason"})
	for _, err := range []error{lbs.ErrNoLease, lbs.ErrForged, lbs.ErrExpired, lbs.ErrForeign} {
		refusals.WithLabelValues(lbs.Reason(err))
	}
	s.metrics.MustRegister(refusals)
	node := s.config.NodeName()
	return func(lease string, user pim.UserID) error {
		err := s.signer.CheckLease(lease, node, user, s.clock.Relied())
		if err != nil {
			refusals.WithLabelValues(lbs.Reason(err)).Inc()
			return err
		}
		return nil
	}
}

// nodes returns the nodes that are there and the name of this one, of whose load it has the newest.
func (s *Server) nodes() ([]bus.Node, string) {
	load := s.load()
	if s.cluster == nil {
		self := bus.Node{Name: s.config.NodeName(), Site: s.config.Site, Roles: bus.AllRoles, Address: s.config.Advertise, Load: load}
		return []bus.Node{self}, self.Name
	}
	self := s.cluster.bus.Self()
	nodes := append([]bus.Node(nil), s.cluster.bus.View().Nodes...)
	for i := range nodes {
		if nodes[i].Name == self {
			nodes[i].Load = load
		}
	}
	return nodes, self
}

// look takes note of the nodes that are there.
func (b *balance) look() {
	v := viewOf(b.nodes())
	states := map[string]int{"open": 0, "full": 0, "draining": 0, "unready": 0}
	for i := range v.Gateways {
		states[stateOf(&v.Gateways[i])]++
	}
	b.mu.Lock()
	b.balancer.Update(v, b.mono())
	b.mu.Unlock()
	for state, n := range states {
		b.gateways.WithLabelValues(state).Set(float64(n))
	}
}

// stateOf returns whether clients may be sent to a gateway, and else why not, as metrics name it.
func stateOf(g *lbs.Gateway) string {
	switch {
	case g.Draining:
		return "draining"
	case !g.Ready:
		return "unready"
	case g.Connections >= g.MaxConnections || g.Memory < min(g.Costs[lbs.WebSocket], g.Costs[lbs.TCP]):
		return "full"
	}
	return "open"
}

// ask asks the Balancer, and returns with its answer when it was given, as its times count.
func (b *balance) ask(r lbs.Request) (lbs.Answer, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.mono() // with the lock, since times must not decrease
	return b.balancer.Ask(r, now), now
}

// viewOf returns the gateways among nodes that clients can dial, as an LBS on the node self sees them. A gateway that advertises no
// address is dialled where its own LBS was asked, and named by that alone.
func viewOf(nodes []bus.Node, self string) (v lbs.View) {
	shares := 0
	for i := range nodes {
		if nodes[i].Roles.Has(bus.RoleLBS) {
			shares++
		}
	}
	for _, g := range gatewaysOf(nodes) {
		g.Shares = shares
		if g.Transports == 0 {
			if g.Name != self {
				continue
			}
			g.Addresses, g.Transports, g.Shares = nil, lbs.Of(lbs.WebSocket), 1
		}
		v.Gateways = append(v.Gateways, g)
	}
	return v
}

// gatewaysOf returns all gateways among nodes.
func gatewaysOf(nodes []bus.Node) (list []lbs.Gateway) {
	for i := range nodes {
		n := &nodes[i]
		if !n.Roles.Has(bus.RoleGateway) {
			continue
		}
		g := lbs.Gateway{
			Name: n.Name, Site: n.Site, Addresses: commas(n.Address),
			Connections: n.Load.Connections, MaxConnections: n.Load.MaxConnections, Memory: n.Load.Memory, Costs: lbs.DefaultCosts,
			AcceptRate: float64(n.Load.AcceptRate), Draining: n.Draining, Ready: !n.Load.Unready,
		}
		for _, address := range g.Addresses {
			if t, ok := transportOf(address); ok {
				g.Transports |= lbs.Of(t)
			}
		}
		if n.Load.AcceptRate == 0 { // of an earlier version
			g.Connections, g.AcceptRate, g.Memory = -1, earlierRate, math.MaxInt64
		}
		if n.Load.WebSocket > 0 {
			g.Costs[lbs.WebSocket] = n.Load.WebSocket
		}
		if n.Load.TCP > 0 {
			g.Costs[lbs.TCP] = n.Load.TCP
		}
		list = append(list, g)
	}
	return list
}

// transportOf returns the transport of an address, and whether this version knows it.
func transportOf(address string) (lbs.Transport, bool) {
	scheme, _, _ := strings.Cut(address, "://")
	t, ok := transportsOf[strings.ToLower(scheme)]
	return t, ok
}

// leaseSigner returns what signs leases and tickets: with the secret that all nodes have, or with one that only this process has.
func (c *ClusterConfig) leaseSigner(log *slog.Logger) (*lbs.Signer, error) {
	secret := make([]byte, lbs.MinSecretBytes)
	if c.LBSSecretFile == "" {
		crand.Read(secret) // never fails
		return lbs.NewSigner(secret)
	}
	secret, err := account.ReadFile(c.LBSSecretFile, maxSecret)
	if err != nil {
		return nil, wrong("lbs-secret-file", "%v", err)
	}
	if mode := openTo(c.LBSSecretFile); mode&0o007 != 0 {
		log.Warn("every user of this machine may read the secret of leases; run: chmod 600 " + c.LBSSecretFile)
	}
	signer, err := lbs.NewSigner(bytes.TrimRight(secret, "\r\n"))
	if err != nil {
		return nil, wrong("lbs-secret-file", "%s: %s", c.LBSSecretFile, text(err))
	}
	return signer, nil
}
