package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/wire"
	"github.com/quic-go/quic-go"
)

// echoQUIC sends back the bytes of QUIC connections, each until its stream ends. It returns its address.
func echoQUIC(t *testing.T, config *tls.Config) string {
	t.Helper()
	return serveQUIC(t, config, func(conn *quic.Conn, s *quic.Stream) {
		io.Copy(s, s)
		conn.CloseWithError(0, "")
	})
}

// serveQUIC has serve serve the one stream of each QUIC connection.
func serveQUIC(t *testing.T, config *tls.Config, serve func(*quic.Conn, *quic.Stream)) string {
	t.Helper()
	config = config.Clone()
	config.NextProtos = []string{wire.QUICProtocol}
	packets := must(net.ListenPacket("udp", "127.0.0.1:0"))(t)
	tr := &quic.Transport{Conn: packets}
	l := must(tr.Listen(config, nil))(t)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			serving.Go(func() {
				if s, err := conn.AcceptStream(context.Background()); err == nil {
					serve(conn, s)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		tr.Close()
		packets.Close()
		serving.Wait()
	})
	return packets.LocalAddr().String()
}

// What was written before Close arrives, however much the network has not taken yet.
func TestQUICCloseLosesNothing(t *testing.T) {
	_, config := servers(t)
	got := make(chan int, 1)
	url := "quic://" + serveQUIC(t, secured(t), func(conn *quic.Conn, s *quic.Stream) {
		b, err := io.ReadAll(s)
		if err != nil {
			t.Errorf("cut: %v", err)
		}
		got <- len(b)
		conn.CloseWithError(0, "")
	})
	for range 20 {
		c := must(must(transport.NewDialer(url, config, nil))(t).Dial(t.Context()))(t)
		if err := c.Write([][]byte{make([]byte, 10_000), make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if n := <-got; n != 10_108 {
			t.Fatalf("%d bytes arrived", n)
		}
	}
}

// Close ends a Read, and a Write that the server takes nothing of.
func TestQUICCloseEndsAll(t *testing.T) {
	_, config := servers(t)
	url := "quic://" + serveQUIC(t, secured(t), func(conn *quic.Conn, s *quic.Stream) { <-conn.Context().Done() })
	c := must(must(transport.NewDialer(url, config, nil))(t).Dial(t.Context()))(t)
	ended := make(chan error, 2)
	go func() {
		_, err := c.Read()
		ended <- err
	}()
	go func() {
		var err error
		for err == nil { // until the server's window is full
			err = c.Write([][]byte{make([]byte, 200_000)})
		}
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond) // mostly, both wait by now
	c.Close()
	for range 2 {
		if err := <-ended; err == nil {
			t.Error("no error")
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A server whose key is another one than the pinned is told apart over QUIC as it is over TCP.
func TestQUICTellsOfTLS(t *testing.T) {
	urls, _ := servers(t)
	_, err := must(transport.NewDialer(urls["quic"], nil, nil))(t).Dial(t.Context())
	var e *transport.TLSError
	if !errors.As(err, &e) || e.Reason != transport.TLSUnknownAuthority {
		t.Error(err)
	}
}

// Packets go through what the app dials with, if it does.
func TestQUICThroughDial(t *testing.T) {
	urls, config := servers(t)
	var asked string
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		asked = network
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	c := must(must(transport.NewDialer(urls["quic"], config, dial))(t).Dial(t.Context()))(t)
	defer c.Close()
	if err := c.Write([][]byte{{1, 2, 3}}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Read(); err != nil || len(got) != 3 || asked != "udp" {
		t.Error(got, err, asked)
	}
	if _, err := must(transport.NewDialer("quic://127.0.0.1:1", config, dial))(t).Dial(t.Context()); err == nil {
		t.Error("a connection to nobody")
	}
}

// secured returns the settings of a server whose certificate the config of servers trusts.
func secured(t *testing.T) *tls.Config {
	t.Helper()
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	return h.TLS
}
