package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/lbs"

	"github.com/prometheus/client_golang/prometheus"
)

// gatewaysPath is where clients ask an LBS which gateway to dial.
const gatewaysPath = "/v1/gateways"

// ownAddress is a node's own gateway, as a URL relative to that of gatewaysPath: what a node that does not
// know its own address tells those who have reached it, by whatever name and behind whatever path.
const ownAddress = "../"

// loadEvery is how often a node says how busy it is, and looks at how busy the others are.
const loadEvery = time.Second

// balance is what a node knows of all gateways, if it has the role lbs, and says of its own.
type balance struct {
	s         *Server
	leases    *lbs.Leases
	usualRate float64 // of a gateway that does not say its accept rate

	mu       sync.Mutex
	balancer *lbs.Balancer // guarded by mu; nil: the node has not the role

	assigned, told prometheus.Counter
	refused        *prometheus.CounterVec // leases, by reason
}

// newBalance returns a balance that signs leases by the secret of all nodes; "": this is the only node.
func newBalance(s *Server, secret string) (*balance, error) {
	leases, err := lbs.NewLeases(secret)
	if err != nil {
		return nil, err
	}
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pim_lbs_answers_total", Help: "Clients answered at /v1/gateways, by outcome."}, []string{"outcome"})
	b := &balance{
		s: s, leases: leases, usualRate: float64(Defaults().AcceptRate), assigned: answers.WithLabelValues("assigned"), told: answers.WithLabelValues("come_back"),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pim_lease_refusals_total", Help: "Connections refused for their lease, by reason."}, []string{"reason"}),
	}
	if s.config.has(bus.RoleLBS) {
		b.balancer = lbs.New(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	}
	s.metrics.MustRegister(answers, b.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pim_lbs_waiting", Help: "Clients that this LBS told to come back and that have not come yet, about.",
	}, b.waiting))
	return b, nil
}

func (b *balance) waiting() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.balancer == nil {
		return 0
	}
	return float64(b.balancer.Waiting())
}

// run looks every loadEvery, until stop is closed.
func (b *balance) run(stop <-chan struct{}) {
	t := time.NewTicker(loadEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			b.look()
		case <-stop:
			return
		}
	}
}

// look tells the other nodes how busy this one is, and the Balancer how busy all are.
func (b *balance) look() {
	load := b.load()
	if b.s.cluster != nil {
		b.s.cluster.bus.Update(func(n *bus.Node) { n.Load = load })
	}
	if b.balancer == nil {
		return
	}
	v := b.view(load)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.balancer.Update(v, b.s.clock.Mono())
}

// load returns how busy this node is. A node that is no gateway has no load.
func (b *balance) load() bus.Load {
	s := b.s
	if !s.config.has(bus.RoleGateway) {
		return bus.Load{}
	}
	return bus.Load{
		Connections: int(s.gateway.Open()), MaxConnections: s.files.connections, AcceptRate: s.config.AcceptRate, Memory: freeMemory(),
		Bytes:    bus.Cost{WebSocket: int(lbs.DefaultCosts[lbs.WebSocket]), TCP: int(lbs.DefaultCosts[lbs.TCP]), QUIC: int(lbs.DefaultCosts[lbs.QUIC])},
		NotReady: s.Ready() != nil,
	}
}

// freeMemory returns how many bytes are left below GOMEMLIMIT, at least 1; 0: there is no such limit.
func freeMemory() int {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return 0
	}
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(sample)
	used := sample[0].Value.Uint64() - sample[1].Value.Uint64() - sample[2].Value.Uint64()
	return int(max(1, limit-int64(used)))
}

// view returns what is known of all gateways. own is this node's load.
func (b *balance) view(own bus.Load) lbs.View {
	nodes := []bus.Node{{Name: b.s.name(), Site: b.s.config.Site, Roles: bus.AllRoles, Address: b.s.config.Advertise}}
	if b.s.cluster != nil {
		nodes = b.s.cluster.bus.View().Nodes
	}
	var v lbs.View
	for _, n := range nodes {
		if n.Roles.Has(bus.RoleLBS) {
			v.LBS++
		}
		if n.Name == b.s.name() {
			n.Load = own // the view may have an older one
			n.Address = cmp.Or(n.Address, ownAddress)
		}
		if n.Roles.Has(bus.RoleGateway) && n.Address != "" {
			v.Gateways = append(v.Gateways, b.gatewayOf(&n))
		}
	}
	return v
}

// name returns the node's name, as the others know it.
func (s *Server) name() string {
	if s.cluster != nil {
		return s.cluster.bus.Self()
	}
	return s.config.NodeName()
}

// gatewayOf returns what a node says of its gateway. What a node of an earlier version does not say is
// taken to be as with this version, and as if its memory never ended.
func (b *balance) gatewayOf(n *bus.Node) lbs.Gateway {
	g := lbs.Gateway{
		Name: n.Name, Site: n.Site, Addresses: []string{n.Address}, Transports: lbs.Of(lbs.WebSocket), Costs: lbs.DefaultCosts,
		Connections: n.Load.Connections, MaxConnections: n.Load.MaxConnections, Memory: math.MaxInt64, AcceptRate: float64(n.Load.AcceptRate),
		Draining: n.Draining, Ready: !n.Load.NotReady,
	}
	if scheme, _, _ := strings.Cut(n.Address, "://"); scheme == "tcp" || scheme == "tls" {
		g.Transports = lbs.Of(lbs.TCP)
	}
	for t, bytes := range map[lbs.Transport]int{lbs.WebSocket: n.Load.Bytes.WebSocket, lbs.TCP: n.Load.Bytes.TCP, lbs.QUIC: n.Load.Bytes.QUIC} {
		if bytes > 0 {
			g.Costs[t] = int64(bytes)
		}
	}
	if n.Load.Memory > 0 {
		g.Memory = int64(n.Load.Memory)
	}
	if n.Load.AcceptRate == 0 {
		g.AcceptRate = b.usualRate
	}
	return g
}

// gatewaysAnswer is the answer at gatewaysPath. The names in JSON are stable, and documented in docs/protocol.md.
type gatewaysAnswer struct {
	Gateways []gatewayAnswer `json:"gateways"`
	Lease    string          `json:"lease,omitempty"`
	LeaseMS  int64           `json:"lease_ms,omitempty"`
	WindowMS int64           `json:"window_ms"`
	AloneMS  int64           `json:"alone_window_ms"`
}

type gatewayAnswer struct {
	Address    string   `json:"address"`
	Site       string   `json:"site"`
	Transports []string `json:"transports"`
	Weight     uint32   `json:"weight"`
}

// page answers a client that asks which gateway to dial.
func (b *balance) page(w http.ResponseWriter, r *http.Request) {
	select {
	case <-b.s.stopping:
		w.Header().Set("Retry-After", "1")
		http.Error(w, errStopping.Error(), http.StatusServiceUnavailable)
		return
	default:
	}
	request, err := gatewaysRequest(r)
	if err != nil {
		http.Error(w, text(err), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	now := b.s.clock.Mono()
	a := b.balancer.Ask(request, now)
	b.mu.Unlock()
	answer := gatewaysAnswer{Gateways: []gatewayAnswer{}, WindowMS: a.Window.Milliseconds(), AloneMS: a.Alone.Milliseconds()}
	lease := lbs.Lease{}
	for _, c := range a.Candidates {
		lease.Gateways = append(lease.Gateways, c.Gateway.Name)
		for _, address := range c.Gateway.Addresses {
			answer.Gateways = append(answer.Gateways, gatewayAnswer{Address: address, Site: c.Gateway.Site, Transports: c.Transports.Names(), Weight: c.Weight})
		}
	}
	outcome := b.told
	if len(a.Candidates) > 0 {
		outcome = b.assigned
		valid := a.Expires - now
		wall := b.s.clock.Relied()
		lease.Expires, lease.Network = wall.Add(valid), networkOf(b.s.proxies.Client(r))
		if answer.Lease, err = b.leases.Issue(lease, wall); err != nil {
			b.s.log.Error("a lease was not issued", "err", err)
		}
		answer.LeaseMS = valid.Milliseconds()
	}
	outcome.Inc()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	// An answer is one client's place, so no cache but the client's own may keep it.
	h.Set("Cache-Control", "private, max-age=1")
	h.Set("Access-Control-Allow-Origin", "*") // as with WebSockets: pages of every origin may ask
	_ = json.NewEncoder(w).Encode(answer)
}

// networkOf returns the network that a lease is good in. It is not valid, and the lease is good everywhere, for an address of
// this machine or of a private network: that may be a proxy's, and the gateway's proxy may be another.
func networkOf(client netip.Addr) netip.Prefix {
	if client = client.Unmap(); !client.IsGlobalUnicast() || client.IsPrivate() {
		return netip.Prefix{}
	}
	return lbs.Network(client)
}

// gatewaysRequest returns what a client asks. The error is a *pim.Error of KindInvalid.
func gatewaysRequest(r *http.Request) (lbs.Request, error) {
	query := r.URL.Query()
	request := lbs.Request{Site: query.Get("site")}
	if request.Site != "" {
		if err := bus.CheckName("site", request.Site); err != nil {
			return request, err
		}
	}
	if list := query.Get("transports"); list != "" {
		for _, name := range commas(list) {
			request.Transports |= lbs.Named(name) // later versions may have others
		}
		if request.Transports == 0 {
			return request, pim.Errorf(pim.KindInvalid, "transports: none of %s is known: %s", list, strings.Join(lbs.AllTransports.Names(), ", "))
		}
	}
	return request, nil
}

// lease returns the check of leases for the gateway; nil: clients need none.
func (b *balance) lease() func(string, pim.UserID, netip.Addr, time.Time) error {
	if !b.s.config.RequireLease {
		return nil
	}
	return func(lease string, user pim.UserID, from netip.Addr, now time.Time) error {
		err := b.leases.Verify(lease, b.s.name(), user, from, now)
		if errors.Is(err, lbs.ErrExpired) && b.s.clock.Gate() != nil {
			return nil // the node doubts its clock, and the signature is right
		}
		if err != nil {
			b.refused.WithLabelValues(lbs.Reason(err)).Inc()
		}
		return err
	}
}
