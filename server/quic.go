package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"net"
	"os"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
)

// quicTries is how often Listen looks for a port that is free for HTTP and for QUIC, if it may
// choose one.
const quicTries = 8

// quicBuffer is how many bytes of packets the kernel should keep for the server at least, while it is
// busy: what comes while it is full is lost, and comes again later.
const quicBuffer = 2 << 20

// wantsQUIC reports whether the node serves QUIC.
func (c *Config) wantsQUIC() bool { return c.QUIC && c.Encrypts() && c.has(bus.RoleGateway) }

// listenQUIC opens the UDP port of the number that HTTP has. Without it the server does as before, so an error
// is kept for the log.
func (l *Listeners) listenQUIC(ctx context.Context) {
	var lc net.ListenConfig
	l.QUIC, l.quicErr = lc.ListenPacket(ctx, "udp", l.HTTP.Addr().String())
}

// serveQUIC takes QUIC connections, if the node has a UDP port. What keeps it from that is in the log: the
// node then serves the other transports.
func (s *Server) serveQUIC() {
	if s.quicErr != nil {
		s.log.Warn("no QUIC: the UDP port of listen cannot be had; clients come over TCP. --no-quic is for a node that is to have none", "err", s.quicErr)
	}
	if s.packets == nil {
		return
	}
	reset, err := s.resetKey()
	if err == nil {
		s.fitBuffer()
		s.quic, err = s.gateway.ListenQUIC(s.packets, s.certs.config(), reset)
	}
	if err != nil {
		s.log.Warn("no QUIC: clients come over TCP", "err", err)
		s.packets.Close()
		s.packets = nil
		return
	}
	s.serving.Go(func() { s.fail(s.quic.Serve()) })
}

// fitBuffer has the kernel keep more for the UDP socket than it does by itself.
func (s *Server) fitBuffer() {
	udp, ok := s.packets.(*net.UDPConn)
	if !ok {
		return
	}
	udp.SetReadBuffer(quicBuffer)
	udp.SetWriteBuffer(quicBuffer)
	// Else package quic writes to standard error if it finds less than the 7 MiB that it likes to have.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
}

// resetKey returns the secret by which this node tells clients that it has forgotten their connections. It comes from
// the key of the first certificate: it must stay over restarts, and needs no file of its own. Nodes that
// share a certificate have different ones, or packets for one that are sent to another would tell strangers how to end
// its connections.
func (s *Server) resetKey() (key [32]byte, err error) {
	private, err := x509.MarshalPKCS8PrivateKey(s.certs.served.Load().all[0].PrivateKey)
	if err != nil {
		return key, pim.Errorf(pim.KindInternal, "the key of the certificate: %w", err)
	}
	h := hmac.New(sha256.New, private)
	host, _ := os.Hostname() // without a name the rest must do
	h.Write([]byte(strings.Join([]string{"pim QUIC stateless reset", host, s.config.NodeName(), s.packets.LocalAddr().String()}, "\x00")))
	return [32]byte(h.Sum(nil)), nil
}

// closeQUIC ends what is left of QUIC, and closes its socket.
func (s *Server) closeQUIC() {
	switch {
	case s.quic != nil:
		s.quic.Close()
	case s.packets != nil:
		s.packets.Close()
	}
}

// QUICAddr returns the UDP address for QUIC, "" if there is none.
func (s *Server) QUICAddr() string {
	if s.quic == nil {
		return ""
	}
	return s.quic.Addr().String()
}
