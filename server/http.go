package server

import (
	"bytes"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	readHeaderBytes = 16 << 10
	pageTimeout     = 30 * time.Second // to read a request, and to take an answer; not for WebSocket
	sparePages      = 64               // HTTP connections above max-connections: health checks of a full node
)

func (s *Server) httpServer() *http.Server {
	h := s.serverFor(s.pages())
	h.ConnState = s.boundPages()
	return h
}

// serverFor returns a server of pages, with its bounds.
func (s *Server) serverFor(pages http.Handler) *http.Server {
	return &http.Server{
		Handler:           pages,
		ReadHeaderTimeout: s.config.HandshakeTimeout,
		ReadTimeout:       pageTimeout,
		WriteTimeout:      pageTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    readHeaderBytes,
		ErrorLog:          log.New(httpLog{s.log, s.gateway.TLSFailed}, "", 0),
	}
}

// boundPages counts HTTP connections and closes new ones while the node is full. Those that
// become WebSockets are the gateway's to count.
func (s *Server) boundPages() func(net.Conn, http.ConnState) {
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if s.web.Add(1); s.full() {
				c.Close() // its next state is StateClosed
			}
		case http.StateHijacked, http.StateClosed:
			s.web.Add(-1)
		}
	}
}

// httpLog takes the HTTP server's log. Most of it is about what clients do wrong, and is for
// debugging; a failed accept is about the node, and is a warning.
type httpLog struct {
	log       *slog.Logger
	tlsFailed func(why string) // told of every failed TLS handshake; nil for a server without TLS
}

func (l httpLog) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	if from, ok := strings.CutPrefix(text, "http: TLS handshake error from "); ok {
		if _, why, ok := strings.Cut(from, ": "); ok {
			l.tlsFailed(why)
		}
	}
	if bytes.HasPrefix(line, []byte("http: Accept error")) {
		l.log.Warn(text)
	} else {
		l.log.Debug(text)
	}
	return len(line), nil
}
