package gateway

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
)

// floodEnv has the address that this test binary floods, when it was started by
// BenchmarkRefusedBeforeTLS. So the flood's own CPU is not counted.
const floodEnv = "PIM_TEST_FLOOD"

// flood connects to addr again and again, until it is killed.
func flood(addr string) {
	for {
		if nc, err := net.Dial("tcp", addr); err == nil {
			nc.Close()
		}
	}
}

// refused returns how many were not let in for a reason.
func (x *lab) refused(r limit.Reason) int {
	x.t.Helper()
	return refused(x.t, x.gw, r)
}

func refused(t testing.TB, g *Gateway, r limit.Reason) int {
	t.Helper()
	all := prometheus.NewRegistry()
	all.MustRegister(g.Metrics.refusals)
	families, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == r.String() {
				return int(m.Counter.GetValue())
			}
		}
	}
	return 0
}

// hears reports whether p's connection is served: whether its Hello is answered with Welcome.
func (p *peer) hears(user, device string) bool {
	p.t.Helper()
	p.nc.Write(p.frame(wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: user, Device: device}))) // fails on a connection that was reset
	_, ok := p.next().(*wirepb.Welcome)
	return ok
}

// turnedAway reports whether a TCP connection is closed at once, without a word. That may come
// before the dial is over.
func (x *lab) turnedAway() bool {
	x.t.Helper()
	nc, err := net.Dial("tcp", x.l.Addr().String())
	if err != nil {
		return errors.Is(err, syscall.ECONNRESET)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(5 * time.Minute))
	return (&peer{t: x.t, nc: nc}).next() == nil
}

// asksFrom asks for an upgrade with headers as a proxy would pass them on, and returns the answer's
// status and Retry-After.
func (x *lab) asksFrom(headers ...string) (status, after int) {
	x.t.Helper()
	resp, _, nc := x.upgrades(x.t, http.MethodGet, append(headers, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")...)
	nc.Close()
	after, _ = strconv.Atoi(resp.Header.Get("Retry-After"))
	return resp.StatusCode, after
}

// still returns a lab whose monotonic clock moves only with ahead: a rate gives nothing because the
// machine is slow.
func still(t *testing.T, limits func(*Limits), change func(*Options)) *lab {
	return newLabWith(t, limits, func(x *lab, o *Options) {
		o.Mono = func() time.Duration { return time.Duration(x.ahead.Load()) }
		if change != nil {
			change(o)
		}
	})
}

// Above the accept rate a TCP connection is closed without a word, and an upgrade is told when to
// come back. Nothing of them is left, and when the rate allows it they are let in.
func TestAcceptRate(t *testing.T) {
	x := still(t, func(l *Limits) { l.Rates = limit.Rates{Accept: 1} }, nil)
	x.connect(false, "alice", "phone")
	x.connect(true, "bob", "phone")
	if !x.turnedAway() {
		t.Error("a third TCP connection is served")
	}
	status, after := x.asksFrom()
	if status != http.StatusServiceUnavailable || after < 1 || after > 60 {
		t.Errorf("a third upgrade: %d, Retry-After %d", status, after)
	}
	if n := x.refused(limit.Accept); n != 2 {
		t.Errorf("%d were refused", n)
	}
	if n := x.gw.Open(); n != 2 {
		t.Errorf("%d are open", n)
	}
	x.ahead.Add(int64(2 * time.Second))
	x.connect(false, "carol", "phone")
	x.connect(true, "dave", "phone")
}

// proxiedLab is a lab that has one more TCP listener, and trusts what comes from this machine to name
// clients.
type proxiedLab struct {
	*lab
	proxied net.Listener
}

func labBehind(t *testing.T, rates limit.Rates) proxiedLab {
	x := still(t, func(l *Limits) { l.Rates = rates }, func(o *Options) { o.Proxies = proxies(t, "127.0.0.0/8") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { x.gw.ServeTCP(x.gw.Proxies.Listen(l, 5*time.Minute), nil) })
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return proxiedLab{x, l}
}

// dialProxied connects as a proxy, which sends first.
func (x proxiedLab) dialProxied(first []byte) *peer {
	x.t.Helper()
	nc, err := net.Dial("tcp", x.proxied.Addr().String())
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(5 * time.Minute))
	p := &peer{t: x.t, nc: nc}
	p.write(first)
	return p
}

// dialFrom connects as a proxy of the client addr would, by the PROXY protocol.
func (x proxiedLab) dialFrom(addr string) *peer {
	x.t.Helper()
	return x.dialProxied(proxyHeader(x.t, addr))
}

// proxyHeader returns the header of the PROXY protocol, version 2, by which a proxy names addr.
func proxyHeader(t *testing.T, addr string) []byte {
	t.Helper()
	client := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 4711))
	header, err := proxyproto.HeaderProxyFromAddrs(2, client, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7401}).Format()
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// Each address has a rate, and so has its network, whichever way a trusted proxy names it, and
// over both transports together. Others are let in as before.
func TestAddressRates(t *testing.T) {
	x := labBehind(t, limit.Rates{Address: 1, Network: 2})
	const burst = 10
	for i := range burst {
		device := strconv.Itoa(i)
		if i%2 == 0 {
			if !x.dialFrom("203.0.113.7").hears("alice", device) {
				t.Fatalf("connection %d is refused", i)
			}
		} else if status, _ := x.asksFrom("Forwarded: for=203.0.113.7"); status != http.StatusSwitchingProtocols {
			t.Fatalf("upgrade %d: %d", i, status)
		}
	}
	if x.dialFrom("203.0.113.7").hears("alice", "more") {
		t.Error("one more TCP connection of the address is served")
	}
	if status, after := x.asksFrom("X-Forwarded-For: 203.0.113.7"); status != http.StatusServiceUnavailable || after < 1 {
		t.Errorf("one more upgrade of the address: %d, Retry-After %d", status, after)
	}
	for i := range burst {
		if !x.dialFrom("203.0.113.8").hears("bob", strconv.Itoa(i)) {
			t.Fatalf("connection %d of its neighbour is refused", i)
		}
	}
	if x.dialFrom("203.0.113.9").hears("carol", "phone") {
		t.Error("their network is over its rate, and another neighbour is served")
	}
	if !x.dialFrom("203.0.114.7").hears("dave", "phone") || !x.dialFrom("2001:db8::7").hears("dave", "laptop") {
		t.Error("another network is refused")
	}
	for range 3 * burst { // through the proxy, but of nobody whom it names
		if status, _ := x.asksFrom(); status != http.StatusSwitchingProtocols {
			t.Fatalf("the proxy's own: %d", status)
		}
	}
	if a, n := x.refused(limit.Address), x.refused(limit.Network); a != 2 || n != 1 {
		t.Errorf("refused for the address %d, for the network %d", a, n)
	}
}

// In a flood a proxy still gets in with connections of its own, by which it asks whether the node is
// well, but not with those of a client that it does not name.
func TestProxyAsksForItself(t *testing.T) {
	x := labBehind(t, limit.Rates{Accept: 8})
	for i := range 14 { // the burst is 16, of which an eighth is left
		if !x.dialFrom("203.0.113.7").hears("user"+strconv.Itoa(i), "phone") {
			t.Fatalf("connection %d is refused", i)
		}
	}
	if x.dialFrom("203.0.113.8").hears("bob", "phone") || x.dialProxied(nil).hears("bob", "laptop") {
		t.Error("one more client is served")
	}
	own, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	if err != nil {
		t.Fatal(err)
	}
	for i, header := range [][]byte{own, []byte("PROXY UNKNOWN\r\n")} {
		if !x.dialProxied(header).hears("carol", strconv.Itoa(i)) {
			t.Errorf("%q: the proxy's own connection is refused", header)
		}
	}
	if x.dialProxied(own).hears("carol", "more") {
		t.Error("what is left has no end")
	}
}

// A client that adds a header of its own gets rid of no rate by it, and uses up nobody else's.
func TestForgedAddresses(t *testing.T) {
	x := labBehind(t, limit.Rates{Address: 1, Network: 100})
	refused := 0
	for i := range 20 { // the proxy writes X-Forwarded-For, and passes Forwarded on
		if status, _ := x.asksFrom("X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.114."+strconv.Itoa(i)); status == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d of 20 were refused", refused)
	}
	if status, _ := x.asksFrom("X-Forwarded-For: 203.0.114.1"); status != http.StatusSwitchingProtocols {
		t.Errorf("the one who was named: %d", status)
	}
}

// Logins that come too often are told when to come back: in PIMError, and with the window of
// PIMGoAway, by which clients go.
func TestLoginRates(t *testing.T) {
	const burst = 20
	for name, c := range map[string]struct {
		rates  limit.Rates
		device func(i int) string
		want   limit.Reason
		others string // a device that is let in
	}{
		"device": {limit.Rates{Device: 1, User: 100}, func(int) string { return "phone" }, limit.DeviceLogins, "laptop"},
		"user":   {limit.Rates{User: 1, Device: 100}, func(i int) string { return strconv.Itoa(i % 3) }, limit.UserLogins, ""},
	} {
		t.Run(name, func(t *testing.T) {
			x := still(t, func(l *Limits) { l.Rates, l.Drain = c.rates, 0 }, nil)
			for i := range burst {
				if !x.dial(i%2 == 0).hears("alice", c.device(i)) {
					t.Fatalf("login %d is refused", i)
				}
			}
			p := x.dial(false)
			p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: c.device(0)})
			e := expect[*wirepb.PIMError](p)
			if e.Kind != wirepb.ErrorKind_ERROR_KIND_OVERLOADED || !e.Retryable || e.RetryAfterMs < 1000 || e.RetryAfterMs > 11_000 {
				t.Errorf("the login is answered with %v", e)
			}
			bye := expect[*wirepb.PIMGoAway](p)
			if bye.Code != uint32(wire.CodeOverloaded) || !bye.Reconnect || bye.WindowMs != 2*e.RetryAfterMs {
				t.Errorf("it ends with %v, after %d ms", bye, e.RetryAfterMs)
			}
			if n := x.refused(c.want); n != 1 {
				t.Errorf("%d were refused", n)
			}
			if !x.dial(false).hears("bob", "phone") || c.others != "" && !x.dial(false).hears("alice", c.others) {
				t.Error("somebody else is refused")
			}
			x.ahead.Add(int64(time.Second))
			if !x.dial(false).hears("alice", c.device(0)) {
				t.Error("it is refused still")
			}
		})
	}
}

// A user who has as many connections as one may have is told when to come back.
func TestTooManyConnectionsOfAUser(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.User, l.Drain = 1, 0 })
	x.connect(false, "alice", "phone")
	p := x.dial(true)
	p.send(&wirepb.Hello{Version: wire.Version, Token: "alice", Device: "laptop"})
	e, bye := expect[*wirepb.PIMError](p), expect[*wirepb.PIMGoAway](p)
	if e.RetryAfterMs < 5000 || bye.WindowMs < 2*e.RetryAfterMs || x.refused(limit.UserConnections) != 1 {
		t.Errorf("%v, then %v, %d refused", e, bye, x.refused(limit.UserConnections))
	}
}

// While more memory is alive than the bound allows, nobody is let in, and who is there stays.
func TestMemory(t *testing.T) {
	var live atomic.Uint64
	x := still(t, func(l *Limits) { l.Memory = 1600 }, func(o *Options) { o.Live = live.Load })
	there := x.connect(false, "alice", "phone")
	set := func(bytes uint64, above bool) {
		t.Helper()
		live.Store(bytes)
		x.ahead.Add(int64(watermarkLook))
		x.eventually("the janitor has looked", func() bool { return x.gw.memory.above.Load() == above })
	}
	set(1601, true)
	if !x.turnedAway() {
		t.Error("a TCP connection is served")
	}
	if status, after := x.asksFrom(); status != http.StatusServiceUnavailable || after < 5 {
		t.Errorf("an upgrade: %d, Retry-After %d", status, after)
	}
	if n := x.refused(limit.Memory); n != 2 {
		t.Errorf("%d were refused", n)
	}
	there.send(&wirepb.PIMPing{})
	expect[*wirepb.PIMPong](there)
	set(1500, false)
	x.connect(false, "bob", "phone")
}

// Memory that has fallen only just below the bound is still too much: else a node at its bound
// lets a few in each time that garbage is collected. What the runtime says is plausible.
func TestWatermark(t *testing.T) {
	var w watermark
	var live uint64
	at := int64(1)
	look := func(bytes uint64, want bool) {
		t.Helper()
		at += watermarkLook.Milliseconds()
		live = bytes
		if w.tick(func() uint64 { return live }, 1600, at, inPlace); w.above.Load() != want {
			t.Errorf("with %d bytes: %t", bytes, !want)
		}
	}
	for _, s := range []struct {
		bytes uint64
		above bool
	}{{1600, false}, {1601, true}, {1501, true}, {1500, false}, {1600, false}, {5000, true}} {
		look(s.bytes, s.above)
	}
	w = watermark{}
	if w.tick(func() uint64 { return 1 << 60 }, 0, 1, inPlace); w.above.Load() {
		t.Error("without a bound there is too much")
	}
	if n := liveMemory(); n < 1<<16 || n > 1<<40 {
		t.Errorf("%d bytes are alive", n)
	}
}

func inPlace(f func()) bool {
	f()
	return true
}

// While memory is short garbage is collected now and then, by a goroutine of its own, and by one at a
// time. When the gateway closes and starts no goroutine, nothing is held up.
func TestWatermarkCollects(t *testing.T) {
	var w watermark
	at, collect := int64(1), []func(){}
	starts := true
	ticks := func(n int) (begun int) {
		before := len(collect)
		for range n {
			w.tick(func() uint64 { return 2000 }, 1600, at, func(f func()) bool {
				if starts {
					collect = append(collect, f)
				}
				return starts
			})
			at += watermarkCollect.Milliseconds()
		}
		return len(collect) - before
	}
	if n := ticks(1); n != 0 {
		t.Errorf("%d collections began before memory was short", n)
	}
	if n := ticks(3); n != 1 {
		t.Errorf("%d collections are under way", n)
	}
	collect[0]()
	if n := ticks(1); n != 1 {
		t.Errorf("%d collections began when the first was over", n)
	}
	collect[1]()
	starts = false
	ticks(2)
	starts = true
	if n := ticks(1); n != 1 {
		t.Errorf("%d collections began after some that could not", n)
	}
}

// A TCP connection that waits for its PROXY header holds up no other, and is over when the
// gateway closes.
func TestProxyThatSaysNothing(t *testing.T) {
	x := labBehind(t, limit.Rates{Accept: 100})
	silent := x.dialProxied(nil)
	if !x.dialFrom("203.0.113.7").hears("alice", "phone") {
		t.Error("another connection is refused")
	}
	x.gw.Close()
	if m := silent.next(); m != nil {
		t.Errorf("it hears %v", m)
	}
	if n := x.gw.Open(); n != 0 {
		t.Errorf("%d are open", n)
	}
}

// An HTTP server with TLS behind Screen: what the rates refuse is closed before TLS, as from a
// proxy that names the client, and is asked about once. A proxy that names nobody has its upgrades
// asked about one by one.
func TestScreen(t *testing.T) {
	x := labBehind(t, limit.Rates{Address: 1, Network: 100})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(x.gw)
	h.Listener.Close()
	h.Listener = x.gw.Screen(x.gw.Proxies.Listen(l, 5*time.Minute))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	config := h.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "example.com"
	x.proxied = l

	// upgrades reports whether an upgrade is done; secure is false if that fails before TLS is up.
	upgrades := func(first []byte, headers ...string) (secure, ok bool) {
		t.Helper()
		nc := tls.Client(x.dialProxied(first).nc, config)
		if nc.Handshake() != nil {
			return false, false
		}
		lines := append([]string{"GET / HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="}, headers...)
		io.WriteString(nc, strings.Join(lines, "\r\n")+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		nc.NetConn().Close()
		return true, resp.StatusCode == http.StatusSwitchingProtocols
	}
	for i := range 10 {
		if _, ok := upgrades(proxyHeader(t, "203.0.113.7")); !ok {
			t.Fatalf("upgrade %d of the address fails", i)
		}
		if _, ok := upgrades(nil, "Forwarded: for=203.0.114.7"); !ok {
			t.Fatalf("upgrade %d of another address fails", i)
		}
	}
	if secure, _ := upgrades(proxyHeader(t, "203.0.113.7")); secure {
		t.Error("what the PROXY protocol names too often gets TLS")
	}
	if secure, ok := upgrades(nil, "Forwarded: for=203.0.114.7"); !secure || ok {
		t.Errorf("what Forwarded names too often: TLS %t, upgrade %t", secure, ok)
	}
	if _, ok := upgrades(proxyHeader(t, "203.0.115.7")); !ok {
		t.Error("a third address is refused")
	}
	if n := x.refused(limit.Address); n != 2 {
		t.Errorf("%d were refused", n)
	}
}
