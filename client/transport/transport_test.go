package transport_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// echo serves the WebSocket path, and sends every frame back.
func echo(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	for {
		kind, p, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		if string(p) == "replace me" {
			ws.Close(websocket.StatusCode(wire.CodeReplaced), "another connection")
			return
		}
		if ws.Write(r.Context(), kind, p) != nil {
			return
		}
	}
}

func servers(t *testing.T) (url map[string]string, config *tls.Config) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/chat"+wire.WebSocketPath, echo)
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	overTLS := tls.NewListener(must(net.Listen("tcp", "127.0.0.1:0"))(t), secure.TLS)
	for _, l := range []net.Listener{tcp, overTLS} {
		done := make(chan struct{})
		go func() { defer close(done); echoStream(l) }()
		t.Cleanup(func() { l.Close(); <-done })
	}
	return map[string]string{
		"quic":  "quic://" + echoQUIC(t, secure.TLS),
		"ws":    "ws://" + plain.Listener.Addr().String() + "/chat",
		"https": secure.URL + "/chat/",
		"tcp":   "tcp://" + tcp.Addr().String(),
		"tls":   "tls://" + overTLS.Addr().String(),
	}, secure.Client().Transport.(*http.Transport).TLSClientConfig
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// echoStream sends back the bytes of one connection after the other.
func echoStream(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.Copy(c, c)
		c.Close()
	}
}

func TestFramesOfAllSizes(t *testing.T) {
	urls, config := servers(t)
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			d := must(transport.NewDialer(url, config, nil))(t)
			c := must(d.Dial(t.Context()))(t)
			defer c.Close()
			var frames [][]byte
			for _, size := range []int{1, 100, 4096, pim.MaxFrame, 2, 70_000} {
				frames = append(frames, bytes.Repeat([]byte{byte(size)}, size))
			}
			wrote := make(chan error, 1)
			go func() { wrote <- c.Write(frames) }()
			for i, want := range frames {
				got, err := c.Read()
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("frame %d: %d bytes, %v; want %d", i, len(got), err, len(want))
				}
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			c.Close()
			if _, err := c.Read(); err == nil {
				t.Error("read after close")
			}
		})
	}
}

func TestCloseCode(t *testing.T) {
	urls, _ := servers(t)
	c := must(must(transport.NewDialer(urls["ws"], nil, nil))(t).Dial(t.Context()))(t)
	defer c.Close()
	if err := c.Write([][]byte{[]byte("replace me")}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read()
	var closed *transport.CloseError
	if !errors.As(err, &closed) || closed.Code != wire.CodeReplaced || closed.Text != "another connection" {
		t.Errorf("read: %v", err)
	}
}

func TestFrameTooLarge(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := transport.NewTCP(near)
	defer c.Close()
	go far.Write([]byte{0, 5, 0, 0, 1})
	if _, err := c.Read(); pim.KindOf(err) != pim.KindTooLarge {
		t.Errorf("read: %v", err)
	}
}

func TestHalfFrame(t *testing.T) {
	near, far := net.Pipe()
	c := transport.NewTCP(near)
	defer c.Close()
	go func() { far.Write([]byte{0, 0, 0, 9, 1}); far.Close() }()
	if _, err := c.Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read: %v", err)
	}
}

// While a frame is on its way, Arriving says when its last bytes came.
func TestArriving(t *testing.T) {
	const size = 200_000
	for name, serve := range map[string]func(t *testing.T, half, rest <-chan struct{}) transport.Conn{
		"stream":    halvesOverStream,
		"WebSocket": halvesOverWebSocket,
	} {
		t.Run(name, func(t *testing.T) {
			half, rest := make(chan struct{}), make(chan struct{})
			c := serve(t, half, rest)
			defer c.Close()
			if at := c.Arriving(); !at.IsZero() {
				t.Errorf("before anything has come: %v", at)
			}
			read := make(chan error, 1)
			go func() {
				frame, err := c.Read()
				if err == nil && len(frame) != size {
					err = fmt.Errorf("a frame of %d bytes", len(frame))
				}
				read <- err
			}()
			begun := time.Now()
			close(half)
			for limit := begun.Add(5 * time.Minute); c.Arriving().IsZero(); time.Sleep(time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatal("half a frame has come, and nobody can tell")
				}
			}
			if at := c.Arriving(); at.Before(begun) || at.After(time.Now()) {
				t.Errorf("bytes came at %v, after %v", at, begun)
			}
			close(rest)
			if err := <-read; err != nil {
				t.Fatal(err)
			}
			if at := c.Arriving(); !at.IsZero() {
				t.Errorf("after the frame: %v", at)
			}
		})
	}
}

func halvesOverStream(t *testing.T, half, rest <-chan struct{}) transport.Conn {
	near, far := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		frame := wire.AppendTCP(nil, make([]byte, 200_000))
		<-half
		far.Write(frame[:100_000])
		<-rest
		far.Write(frame[100_000:])
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { far.Close() })
	return transport.NewTCP(near)
}

func halvesOverWebSocket(t *testing.T, half, rest <-chan struct{}) transport.Conn {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		out, err := ws.Writer(r.Context(), websocket.MessageBinary)
		if err != nil {
			return
		}
		<-half
		out.Write(make([]byte, 100_000))
		<-rest
		out.Write(make([]byte, 100_000))
		out.Close()
		ws.Read(r.Context())
	}))
	t.Cleanup(server.Close)
	return must(must(transport.NewDialer(server.URL, nil, nil))(t).Dial(t.Context()))(t)
}

// narrow is the far end of a connection that takes 1 kB a second, and after limit bytes
// nothing more until it is cut.
type narrow struct {
	net.Conn
	limit int
	cut   chan struct{}
}

func (n *narrow) Read(p []byte) (int, error) {
	if n.limit <= 0 {
		<-n.cut
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	done, err := n.Conn.Read(p[:min(len(p), 1000)])
	n.limit -= done
	return done, err
}

// once is a listener with one connection.
type once struct {
	net.Listener
	conn chan net.Conn
}

func (o once) Accept() (net.Conn, error) {
	if c, ok := <-o.conn; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (o once) Addr() net.Addr { return &net.TCPAddr{} }
func (o once) Close() error   { return nil }

// Write may take as long as it needs while bytes go out. When no more go out, it fails
// after WriteTimeout.
func TestSlowWrite(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	discard := func(c net.Conn) {
		io.Copy(io.Discard, c)
		c.Close()
	}
	for scheme, serve := range map[string]func(net.Conn){
		"tcp": discard,
		"tls": func(c net.Conn) { discard(tls.Server(c, secure.TLS)) },
		"ws": func(c net.Conn) {
			mux, l := http.NewServeMux(), once{conn: make(chan net.Conn, 1)}
			mux.HandleFunc(wire.WebSocketPath, func(w http.ResponseWriter, r *http.Request) {
				defer close(l.conn)
				ws, err := websocket.Accept(w, r, nil)
				if err != nil {
					return
				}
				defer ws.CloseNow()
				for err == nil {
					_, _, err = ws.Read(r.Context())
				}
			})
			l.conn <- c
			(&http.Server{Handler: mux}).Serve(l)
		},
	} {
		t.Run(scheme, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				line := &narrow{far, 100_000, make(chan struct{})}
				var wg sync.WaitGroup
				defer wg.Wait()
				defer close(line.cut)
				wg.Go(func() { serve(line) })
				config := secure.Client().Transport.(*http.Transport).TLSClientConfig
				d := must(transport.NewDialer(scheme+"://example.com:1", config, func(context.Context, string, string) (net.Conn, error) { return near, nil }))(t)
				c := must(d.Dial(t.Context()))(t)
				defer c.Close()
				begun := time.Now()
				frames := [][]byte{make([]byte, 20_000), make([]byte, 20_000)}
				if err := c.Write(frames); err != nil {
					t.Fatalf("after %v: %v", time.Since(begun), err)
				}
				took := time.Since(begun)
				if took < 30*time.Second || took > 60*time.Second || time.Since(c.Written()) > time.Second {
					t.Errorf("took %v; bytes last went out %v ago", took, time.Since(c.Written()))
				}
				for err := error(nil); err == nil; {
					err = c.Write(frames)
				}
				if stuck := time.Since(c.Written()); stuck < transport.WriteTimeout || stuck > 2*transport.WriteTimeout {
					t.Errorf("fails %v after the last bytes", stuck)
				}
			})
		})
	}
}

// A dial ends with its context, TLS below 1.3 is refused, and the error of a server that
// answers with something else than a WebSocket says so.
func TestDialErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	urls, _ := servers(t)
	if _, err := must(transport.NewDialer(urls["tcp"], nil, nil))(t).Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("dial with a context that is over: %v", err)
	}
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	old.Config.ErrorLog = nil
	old.StartTLS()
	defer old.Close()
	config := old.Client().Transport.(*http.Transport).TLSClientConfig
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, url := range []string{old.URL, strings.Replace(old.URL, "https://", "tls://", 1)} {
		_, err := must(transport.NewDialer(url, config, nil))(t).Dial(ctx)
		var e *transport.TLSError
		if !errors.As(err, &e) || e.Reason != transport.TLSTooOld {
			t.Errorf("a server of TLS 1.2: %v", err)
		}
	}
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	if _, err := must(transport.NewDialer(web.URL, nil, nil))(t).Dial(ctx); pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("dialled a web server: %v", err)
	}
}

// A server that answers 429 or 503 and says when to come back is busy. The time is bounded, and a
// date is one of the server's clock.
func TestBusyServer(t *testing.T) {
	date := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	at := func(d time.Duration) string { return date.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		status int
		after  string
		kind   pim.Kind
		want   time.Duration
	}{
		{503, "60", pim.KindOverloaded, time.Minute},
		{429, "7", pim.KindOverloaded, 7 * time.Second},
		{503, "0", pim.KindOverloaded, 0},
		{503, at(90 * time.Second), pim.KindOverloaded, 90 * time.Second},
		{429, at(-time.Second), pim.KindOverloaded, 0},
		{503, at(100 * 365 * 24 * time.Hour), pim.KindOverloaded, time.Hour},
		{503, "86400", pim.KindOverloaded, time.Hour},
		{503, "99999999999999999999999999", pim.KindOverloaded, time.Hour},
		{429, "", pim.KindOverloaded, 0},
		{429, "soon", pim.KindOverloaded, 0},
		{503, "", pim.KindUnavailable, 0}, // a proxy without a server
		{503, "-5", pim.KindUnavailable, 0},
		{503, "+5", pim.KindUnavailable, 0},
		{404, "60", pim.KindUnavailable, 0},
	} {
		full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", date.Format(http.TimeFormat))
			if test.after != "" {
				w.Header().Set("Retry-After", test.after)
			}
			http.Error(w, "full", test.status)
		}))
		_, err := must(transport.NewDialer(full.URL, nil, nil))(t).Dial(t.Context())
		var refused *pim.Error
		if !errors.As(err, &refused) || refused.Kind != test.kind || refused.RetryAfter != test.want {
			t.Errorf("%d, Retry-After %q: %#v, want %v and %v", test.status, test.after, refused, test.kind, test.want)
		}
		full.Close()
	}
}

// Every kind of connection is made by the hook, if there is one.
func TestDialHook(t *testing.T) {
	urls, config := servers(t)
	for name, url := range urls {
		var asked []string
		d := must(transport.NewDialer(url, config, func(ctx context.Context, network, address string) (net.Conn, error) {
			asked = append(asked, network+" "+address)
			return new(net.Dialer).DialContext(ctx, network, address)
		}))(t)
		c := must(d.Dial(t.Context()))(t)
		defer c.Close()
		if err := c.Write([][]byte{[]byte("hi")}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(); err != nil || string(got) != "hi" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		host := must(neturl.Parse(url))(t).Host
		network := "tcp "
		if name == "quic" {
			network = "udp "
		}
		if len(asked) != 1 || asked[0] != network+host {
			t.Errorf("%s: asked for %q", name, asked)
		}
	}
}
