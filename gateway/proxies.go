package gateway

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pires/go-proxyproto"
)

// Proxies are the addresses of trusted proxies. They may name a client's address, by the
// PROXY protocol, versions 1 and 2, on both listeners, and by Forwarded (RFC 7239) or
// X-Forwarded-For in an upgrade. Nobody else is believed. The address goes into the log,
// and the rates of an address and its network go by it.
type Proxies []netip.Prefix

// ParseProxies reads a list of addresses and CIDR blocks, with commas or spaces between
// them. An error is of KindInvalid.
func ParseProxies(list string) (Proxies, error) {
	var p Proxies
	for _, text := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(text); err == nil {
				addr = plainAddr(addr)
				prefix = netip.PrefixFrom(addr, addr.BitLen())
			}
		}
		if err != nil || prefix.Addr().Is4In6() {
			return nil, pim.Errorf(pim.KindInvalid, "%q is neither an address nor a CIDR block such as 10.0.0.0/8 or fd00::/8", text)
		}
		p = append(p, prefix.Masked())
	}
	return p, nil
}

// plainAddr returns addr as an IPv4 address if it is one, and without a zone.
func plainAddr(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func (p Proxies) trusts(addr netip.Addr) bool {
	addr = plainAddr(addr)
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Trusts reports whether peer, an address with its port, is a trusted proxy.
func (p Proxies) Trusts(peer string) bool {
	both, err := netip.ParseAddrPort(peer)
	return err == nil && p.trusts(both.Addr())
}

// Listen returns l with the PROXY protocol: a connection from a trusted proxy may begin
// with a PROXY header, and then has the client's address. From anybody else such a header
// is not read as one, and is refused: it is neither a frame nor HTTP. patience is how long
// a header may take.
func (p Proxies) Listen(l net.Listener, patience time.Duration) net.Listener {
	if len(p) == 0 {
		return l
	}
	return proxiedListener{&proxyproto.Listener{
		Listener:          l,
		ReadHeaderTimeout: patience,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if peer, err := netip.ParseAddrPort(o.Upstream.String()); err == nil && p.trusts(peer.Addr()) {
				return proxyproto.USE, nil
			}
			return proxyproto.SKIP, nil
		},
	}}
}

type proxiedListener struct{ *proxyproto.Listener }

// Accept implements net.Listener.
func (l proxiedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if c, ok := nc.(*proxyproto.Conn); ok {
		return proxiedConn{c}, err
	}
	return nc, err
}

// proxiedConn is a connection from a proxy.
type proxiedConn struct{ *proxyproto.Conn }

// CloseWrite closes the way to the client.
func (c proxiedConn) CloseWrite() error {
	tcp, ok := c.TCPConn()
	if !ok {
		return errors.ErrUnsupported
	}
	return tcp.CloseWrite()
}

// socket returns the connection under TLS and the PROXY protocol.
func socket(nc net.Conn) net.Conn {
	if secured, ok := nc.(*tls.Conn); ok {
		nc = secured.NetConn()
	}
	if proxied, ok := nc.(interface{ Raw() net.Conn }); ok { // proxiedConn, and screened, which has one
		nc = proxied.Raw()
	}
	return nc
}

// client returns the address that r came from, as far as proxies tell it. If Forwarded and
// X-Forwarded-For name different clients it returns both: a proxy may have passed one of
// them on as the client wrote it.
func (p Proxies) client(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !p.trusts(peer.Addr()) {
		return r.RemoteAddr
	}
	standard := p.nearest(forwardedFor(r.Header["Forwarded"]), peer.Addr())
	usual := p.nearest(splitList(r.Header["X-Forwarded-For"], ','), peer.Addr())
	switch unknown := (netip.Addr{}); {
	case standard == usual && standard == unknown:
		return r.RemoteAddr
	case standard == usual || usual == unknown:
		return standard.String()
	case standard == unknown:
		return usual.String()
	}
	return standard.String() + " (Forwarded) or " + usual.String() + " (X-Forwarded-For)"
}

// source returns the address of peer, written with its port, whose rates a connection from it
// counts in. It is the zero Addr if peer is a trusted proxy, since that brings many clients.
func (p Proxies) source(peer string) netip.Addr {
	both, err := netip.ParseAddrPort(peer)
	if err != nil || p.trusts(both.Addr()) {
		return netip.Addr{}
	}
	return plainAddr(both.Addr())
}

// health is the address whose rates a connection counts in by which a trusted proxy asks how the node is:
// its PROXY header says LOCAL, or UNKNOWN in version 1. As all of loopback, it has no rate of its own and may use what is
// left for health checks.
var health = netip.IPv6Loopback()

// contradicted is the address of clients whom proxies name in two ways. No client has it.
var contradicted = netip.IPv6Unspecified()

// SourceOf returns the address of the client in whose rates a request counts, as far as proxies tell it, and the
// zero Addr if it is not known: then it may be any of very many. If Forwarded and
// X-Forwarded-For name different clients, the client has made one of them up, or a proxy is
// wrong. All such requests have one address, contradicted, so nobody gets rid of a rate by one
// more header, or uses up that of somebody else.
func (p Proxies) SourceOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !p.trusts(peer.Addr()) {
		return p.source(r.RemoteAddr)
	}
	standard := p.nearest(forwardedFor(r.Header["Forwarded"]), peer.Addr())
	usual := p.nearest(splitList(r.Header["X-Forwarded-For"], ','), peer.Addr())
	if standard.IsValid() && usual.IsValid() && standard != usual {
		return contradicted
	}
	client := standard
	if !client.IsValid() {
		client = usual
	}
	if !client.IsValid() || p.trusts(client) {
		return netip.Addr{}
	}
	return client
}

// nearest walks over hops from the last, which is the one nearest to the proxy peer, to the
// first. It returns the first address that is not a trusted proxy, since that one may have
// made up all that stand before it. If a hop tells no address it returns the last one that
// is known; without hops it returns the zero Addr.
func (p Proxies) nearest(hops []string, peer netip.Addr) netip.Addr {
	if len(hops) == 0 {
		return netip.Addr{}
	}
	at := plainAddr(peer)
	for i := len(hops) - 1; i >= 0; i-- {
		addr, ok := parseNode(hops[i])
		if !ok {
			return at
		}
		if at = addr; !p.trusts(at) {
			return at
		}
	}
	return at
}

// parseNode reads an address with or without a port and brackets.
func parseNode(text string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return plainAddr(addr), true
	}
	if both, err := netip.ParseAddrPort(text); err == nil {
		return plainAddr(both.Addr()), true
	}
	return netip.Addr{}, false
}

// forwardedFor returns the for= of each element of Forwarded headers, "" where there is
// none.
func forwardedFor(lines []string) []string {
	var hops []string
	for _, element := range splitList(lines, ',') {
		hop := ""
		for _, pair := range splitList([]string{element}, ';') {
			if name, value, _ := strings.Cut(pair, "="); strings.EqualFold(strings.TrimSpace(name), "for") {
				hop = unquote(strings.TrimSpace(value))
			}
		}
		hops = append(hops, hop)
	}
	return hops
}

// splitList returns the elements of a header, which may come in several lines, without the
// spaces around them. It leaves out empty elements, and does not split within quotes.
func splitList(lines []string, separator byte) []string {
	var elements []string
	for _, line := range lines {
		begin, quoted := 0, false
		for i := 0; i <= len(line); i++ {
			switch {
			case i == len(line), line[i] == separator && !quoted:
				if element := strings.TrimSpace(line[begin:i]); element != "" {
					elements = append(elements, element)
				}
				begin = i + 1
			case line[i] == '"':
				quoted = !quoted
			case line[i] == '\\' && quoted && i+1 < len(line):
				i++
			}
		}
	}
	return elements
}

// unquote returns the content of a quoted string, and any other text as it is.
func unquote(text string) string {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return text
	}
	var b strings.Builder
	for i := 1; i < len(text)-1; i++ {
		if text[i] == '\\' && i+1 < len(text)-1 {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
