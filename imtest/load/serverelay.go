package load

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServeRelay serves a relay until ctx ends: the floor that a server is measured against.
// It takes connections over TCP and WebSocket at listen, joins two of them to a room,
// and writes to each what it reads from the other, without looking at it. It stores
// nothing and promises nothing. The same port answers /metrics over HTTP. ServeRelay
// calls ready with its address once it listens.
func ServeRelay(ctx context.Context, listen string, ready func(addr string)) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return pim.Errorf(pim.KindUnavailable, "listening: %w", err)
	}
	r := &relay{
		http:  &queueListener{Listener: ln, conns: make(chan net.Conn), closed: make(chan struct{})},
		open:  map[net.Conn]struct{}{},
		rooms: map[uint32]net.Conn{},
	}
	web := &http.Server{Handler: r.handler(), ReadHeaderTimeout: relayTimeout}
	r.work.Go(func() { web.Serve(r.http) })
	stop := context.AfterFunc(ctx, func() {
		r.closeAll()
		ln.Close()
		web.Close()
		r.http.Close()
	})
	defer stop()
	ready(ln.Addr().String())
	for {
		nc, err := ln.Accept()
		if err != nil {
			break
		}
		r.serve(nc, func() { r.greet(nc) })
	}
	r.work.Wait()
	return nil
}

// relay is the state of ServeRelay.
type relay struct {
	http *queueListener
	work sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]struct{} // all connections
	rooms  map[uint32]net.Conn   // by room, the connection that waits for the other
	closed bool
}

// relayTimeout bounds how long a connection may take to say what it wants.
const relayTimeout = 30 * time.Second

func (r *relay) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET "+relayPath, func(w http.ResponseWriter, req *http.Request) {
		nc, _, _, err := ws.UpgradeHTTP(req, w)
		if err != nil {
			return // the upgrader has answered
		}
		plain := nc.(*sniffed).Conn
		r.serve(plain, func() { r.join(plain, make([]byte, 0, wsFraming.roomSize()), wsFraming) })
	})
	return mux
}

// serve runs work in a goroutine and notes nc as one of the connections that the end of
// the relay closes. After that end, serve closes nc at once: handlers of the web server
// outlive its Close, and nobody would wait for a goroutine that they start.
func (r *relay) serve(nc net.Conn, work func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		nc.Close()
		return
	}
	r.open[nc] = struct{}{}
	r.work.Go(work)
}

func (r *relay) drop(nc net.Conn) {
	nc.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, nc)
}

func (r *relay) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for nc := range r.open {
		nc.Close()
	}
}

// greet finds out from the first bytes of a connection whether it speaks HTTP.
// It reads no further than it must: the bytes that follow are for the partner.
func (r *relay) greet(nc net.Conn) {
	first := make([]byte, 4, tcpFraming.roomSize())
	nc.SetReadDeadline(time.Now().Add(relayTimeout))
	if _, err := io.ReadFull(nc, first); err != nil {
		r.drop(nc)
		return
	}
	if string(first) == "GET " {
		nc.SetReadDeadline(time.Time{})
		r.http.put(&sniffed{Conn: nc, relay: r, first: first})
		return
	}
	r.join(nc, first, tcpFraming)
}

// join reads the rest of the first frame and puts the connection into the room
// that the frame names. If the room is complete then, join hands on what either side
// sends until one of the connections ends.
func (r *relay) join(nc net.Conn, first []byte, f framing) {
	had := len(first)
	first = first[:cap(first)]
	nc.SetReadDeadline(time.Now().Add(relayTimeout))
	_, err := io.ReadFull(nc, first[had:])
	nc.SetReadDeadline(time.Time{})
	if err != nil {
		r.drop(nc)
		return
	}
	_, frame, _, err := f.cut(first)
	if err != nil || len(frame) != 5 || frame[0] != typeRoom {
		r.drop(nc)
		return
	}
	if other := r.meet(binary.BigEndian.Uint32(frame[1:]), nc); other != nil {
		r.serve(nc, func() { r.copy(nc, other) })
		r.copy(other, nc)
	}
}

// meet returns the connection that waits in room. If there is none, it returns nil, and
// nc waits there.
func (r *relay) meet(room uint32, nc net.Conn) net.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	other := r.rooms[room]
	if other == nil {
		r.rooms[room] = nc
	} else {
		delete(r.rooms, room)
	}
	return other
}

// copy writes to dst what it reads from src. The bytes pass through this process, as they
// must in any server that looks at them. splice would be cheaper, but could not even tell
// one message from the next.
func (r *relay) copy(dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if err == nil {
			_, err = dst.Write(buf[:n])
		}
		if err != nil {
			r.drop(src)
			r.drop(dst)
			return
		}
	}
}

// sniffed is a connection of which the first bytes were read already.
type sniffed struct {
	net.Conn
	relay *relay
	first []byte
}

func (s *sniffed) Read(b []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(b, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	return s.Conn.Read(b)
}

func (s *sniffed) Close() error {
	s.relay.drop(s.Conn)
	return nil
}

// queueListener is a listener whose connections somebody else has accepted.
type queueListener struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *queueListener) put(nc net.Conn) {
	select {
	case l.conns <- nc:
	case <-l.closed:
		nc.Close()
	}
}

func (l *queueListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *queueListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}
