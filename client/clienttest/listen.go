package clienttest

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Listener serves a Server on loopback ports, over TCP and WebSocket.
type Listener struct {
	TCP string // tcp://127.0.0.1:port
	URL string // http://127.0.0.1:port

	server *Server
	tcp    net.Listener
	http   *http.Server
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	conns  map[*conn]bool
	refuse bool
	page   http.HandlerFunc
}

// conn is one connection.
type conn struct {
	frames transport.Conn
	out    chan wire.Message
	gone   chan struct{}
	once   sync.Once
}

// maxOut is how many frames may wait to be written to a connection. A frame that finds
// no room ends the connection.
const maxOut = 4096

// Listen starts to serve s. The caller must Close the listener.
func Listen(s *Server) (*Listener, error) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tcp.Close()
		return nil, err
	}
	l := &Listener{
		TCP: "tcp://" + tcp.Addr().String(), URL: "http://" + web.Addr().String(),
		server: s, tcp: tcp, conns: make(map[*conn]bool),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc(wire.WebSocketPath, l.upgrade)
	mux.HandleFunc("/", l.show)
	l.http = &http.Server{Handler: mux}
	l.wg.Go(func() { l.http.Serve(web) })
	l.wg.Go(l.accept)
	return l, nil
}

// Close ends the listener and all its connections.
func (l *Listener) Close() {
	l.cancel()
	l.tcp.Close()
	l.http.Close()
	l.Cut() // under mu, so that begin has either added its handler or sees the end
	l.wg.Wait()
}

// Cut ends all connections, as a network would.
func (l *Listener) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.end()
	}
}

// Refuse makes new connections end at once, or no longer.
func (l *Listener) Refuse(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = on
}

// Tell sends m on every connection.
func (l *Listener) Tell(m wire.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.send(m)
	}
}

func (l *Listener) accept() {
	for {
		nc, err := l.tcp.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(transport.NewTCP(nc)) })
	}
}

func (l *Listener) upgrade(w http.ResponseWriter, r *http.Request) {
	if !l.begin() {
		return
	}
	defer l.wg.Done()
	if frames, err := transport.Accept(w, r); err == nil {
		l.serve(frames)
	}
}

// Show has page answer the requests that are for no WebSocket. Before that the answer is 404.
func (l *Listener) Show(page http.HandlerFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page = page
}

func (l *Listener) show(w http.ResponseWriter, r *http.Request) {
	if !l.begin() {
		return
	}
	defer l.wg.Done()
	l.mu.Lock()
	page := l.page
	l.mu.Unlock()
	if page == nil {
		page = http.NotFound
	}
	page(w, r)
}

// begin adds a handler of the web server to l.wg, because Close waits for handlers and
// http.Server.Close does not. After Close begin reports false: nothing may be added to
// l.wg while Close waits for it.
func (l *Listener) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.wg.Add(1)
	return true
}

// serve reads frames until the connection ends. Its goroutine is one of l.wg.
func (l *Listener) serve(frames transport.Conn) {
	c := &conn{frames: frames, out: make(chan wire.Message, maxOut), gone: make(chan struct{})}
	defer c.end()
	l.mu.Lock()
	refuse := l.refuse || l.ctx.Err() != nil
	if !refuse {
		l.conns[c] = true
	}
	l.mu.Unlock()
	if refuse {
		return
	}
	x := l.server.Connect(c.send)
	defer x.Close()
	defer func() {
		l.mu.Lock()
		delete(l.conns, c)
		l.mu.Unlock()
	}()
	l.wg.Go(c.write)
	for {
		frame, err := frames.Read()
		if err != nil {
			return
		}
		_, m, err := wire.Decode(frame)
		if err != nil {
			return
		}
		x.Handle(m)
	}
}

func (c *conn) send(m wire.Message) {
	select {
	case c.out <- m:
	default:
		c.end()
	}
}

func (c *conn) write() {
	for {
		select {
		case m := <-c.out:
			if c.frames.Write([][]byte{wire.Append(nil, m)}) != nil {
				c.end()
				return
			}
			if away, ok := m.(*wirepb.PIMGoAway); ok && away.Code != 0 {
				c.end()
				return
			}
		case <-c.gone:
			return
		}
	}
}

func (c *conn) end() {
	c.once.Do(func() {
		close(c.gone)
		c.frames.Close()
	})
}
