package server

import (
	"bytes"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	readHeaderBytes = 16 << 10
	pageTimeout     = 30 * time.Second // to read a request, and to take an answer; not for WebSocket
	sparePages      = 64               // HTTP connections above max-connections: health checks of a full node
)

func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s.pages(),
		ReadHeaderTimeout: s.config.HandshakeTimeout,
		ReadTimeout:       pageTimeout,
		WriteTimeout:      pageTimeout,
		IdleTimeout:       time.Minute,
		ConnState:         s.boundPages(),
		MaxHeaderBytes:    readHeaderBytes,
		ErrorLog:          log.New(httpLog{s.log}, "", 0),
	}
}

// boundPages closes HTTP connections that are more than the node takes, together
// with the gateway's, which admits those that become WebSocket.
func (s *Server) boundPages() func(net.Conn, http.ConnState) {
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if s.web.Add(1); s.full() {
				c.Close() // it goes on to StateClosed
			}
		case http.StateHijacked, http.StateClosed:
			s.web.Add(-1)
		}
	}
}

// httpLog takes the HTTP server's log, most of which is about what clients do wrong.
// That none can be accepted is about the node.
type httpLog struct{ log *slog.Logger }

func (l httpLog) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	if bytes.HasPrefix(line, []byte("http: Accept error")) {
		l.log.Warn(text)
	} else {
		l.log.Debug(text)
	}
	return len(line), nil
}
