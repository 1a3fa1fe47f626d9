package transport_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/transport"
	"github.com/pim-im/pim/wire"
)

// script is what a server sends, and the pim frames that lie in it.
type script struct {
	bytes  []byte
	frames [][]byte
	ends   []int // where in bytes each frame is complete
}

func (s *script) add(frame []byte) {
	s.frames, s.ends = append(s.frames, frame), append(s.ends, len(s.bytes))
}

func streamScript(sizes ...int) *script {
	s := new(script)
	for i, n := range sizes {
		frame := bytes.Repeat([]byte{byte(i + 1)}, n)
		s.bytes = wire.AppendTCP(s.bytes, frame)
		s.add(frame)
	}
	return s
}

const (
	opContinuation, opBinary = 0, 2
	opPing, opPong           = 9, 10
)

func (s *script) socketFrame(op byte, final bool, payload []byte) {
	if final {
		op |= 0x80
	}
	s.bytes = append(s.bytes, op)
	switch n := len(payload); {
	case n < 126:
		s.bytes = append(s.bytes, byte(n))
	case n < 1<<16:
		s.bytes = binary.BigEndian.AppendUint16(append(s.bytes, 126), uint16(n))
	default:
		s.bytes = binary.BigEndian.AppendUint64(append(s.bytes, 127), uint64(n))
	}
	s.bytes = append(s.bytes, payload...)
}

// message adds a WebSocket message whose fragments have the given sizes, with control
// frames between them.
func (s *script) message(sizes ...int) {
	var whole []byte
	for i, n := range sizes {
		op := byte(opContinuation)
		if i == 0 {
			op = opBinary
		} else {
			s.socketFrame(opPing, true, []byte("ping"))
			s.socketFrame(opPong, true, nil)
		}
		part := bytes.Repeat([]byte{byte(len(s.frames)*8 + i + 1)}, n)
		s.socketFrame(op, i == len(sizes)-1, part)
		whole = append(whole, part...)
	}
	s.add(whole)
}

// near returns the cuts of s at and around the ends of read buffers and TLS records:
// headers move the payload by up to 10 bytes.
func (s *script) near() []int {
	at := map[int]bool{}
	for _, block := range []int{4096, 16 << 10, len(s.bytes)} {
		for n := block; n <= len(s.bytes); n += block {
			for cut := n - 2; cut <= min(n+10, len(s.bytes)); cut++ {
				at[cut] = true
			}
		}
	}
	var cuts []int
	for cut := range at {
		cuts = append(cuts, cut)
	}
	return cuts
}

func (s *script) all() []int {
	var cuts []int
	for cut := range len(s.bytes) + 1 {
		cuts = append(cuts, cut)
	}
	return cuts
}

// sendCut plays the server: it sends the script up to cut, and ends the connection.
func sendCut(nc net.Conn, scheme string, config *tls.Config, orderly bool, sent []byte) error {
	defer nc.Close()
	stream := nc
	if scheme == "tls" || scheme == "wss" {
		secured := tls.Server(nc, config)
		if err := secured.Handshake(); err != nil {
			return err
		}
		stream = secured
	}
	in := bufio.NewReader(stream)
	if scheme == "ws" || scheme == "wss" {
		r, err := http.ReadRequest(in)
		if err != nil {
			return err
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
			base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
		if _, err := io.WriteString(stream, answer); err != nil {
			return err
		}
	}
	var drained sync.WaitGroup
	defer drained.Wait()
	defer nc.Close()
	drained.Go(func() { io.Copy(io.Discard, in) }) // the answers to pings
	_, err := stream.Write(sent)
	if orderly {
		stream.Close() // over TLS with a close_notify
	}
	return err
}

// toNobody is a connection whose other end may have gone: what is written then is
// lost, as it is in a real network.
type toNobody struct{ net.Conn }

func (c toNobody) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, io.ErrClosedPipe) {
		return len(p), nil
	}
	return n, err
}

func (c toNobody) SetWriteDeadline(at time.Time) error {
	if err := c.Conn.SetWriteDeadline(at); !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil
}

// readCut reads from a server that ends the connection at cut. It wants all frames before
// the cut, nothing else, and then an error.
func readCut(t *testing.T, scheme string, server, client *tls.Config, orderly bool, s *script, cut int) {
	t.Helper()
	near, far := net.Pipe()
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		if err := sendCut(far, scheme, server, orderly, s.bytes[:cut]); err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	dial := func(context.Context, string, string) (net.Conn, error) { return toNobody{near}, nil }
	c, err := must(transport.NewDialer(scheme+"://example.com:1", client, dial))(t).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, end := range s.ends {
		got, err := c.Read()
		if end > cut {
			if err == nil {
				t.Fatalf("cut at %d of %d: a frame of %d bytes, where one of %d ends early", cut, len(s.bytes), len(got), len(s.frames[i]))
			}
			return
		}
		if err != nil || !bytes.Equal(got, s.frames[i]) {
			t.Fatalf("cut at %d: frame %d of %d bytes that ends at %d is read as %d bytes, %v", cut, i, len(s.frames[i]), end, len(got), err)
		}
	}
	if got, err := c.Read(); err == nil {
		t.Fatalf("cut at %d: a frame of %d bytes after the last", cut, len(got))
	}
}

// If the end of the connection cuts a frame, Read fails, on every transport and wherever
// the cut is: a cut frame is never taken for a shorter one.
func TestEveryCut(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	client := web.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	small, large := new(script), new(script)
	small.message(1)
	small.message(5, 0, 7)
	small.message(126, 3)
	small.message(40)
	large.message(10_000)
	large.message(4096-4, 4096, 1)
	large.message(20_000, 4088, 3)
	for _, scheme := range []string{"ws", "wss", "tcp", "tls"} {
		for _, orderly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,orderly=%t", scheme, orderly), func(t *testing.T) {
				small, large := small, large
				if scheme == "tcp" || scheme == "tls" {
					small, large = streamScript(1, 12, 129, 40), streamScript(10_000, 4088, 8193, 20_000)
				}
				for _, s := range []*script{small, large} {
					cuts := s.all()
					if s == large {
						cuts = s.near()
					}
					for i, cut := range cuts {
						if secured := scheme == "wss" || scheme == "tls"; !secured || i%7 == 0 { // handshakes take their time
							readCut(t, scheme, web.TLS, client, orderly, s, cut)
						}
					}
				}
			})
		}
	}
}

// The server's end of a WebSocket is read like the client's.
func TestCutAtTheServer(t *testing.T) {
	read := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := transport.Accept(w, r)
		if err != nil {
			read <- err
			return
		}
		defer c.Close()
		frame, err := c.Read()
		if err == nil {
			err = fmt.Errorf("a frame of %d bytes", len(frame))
		} else {
			err = nil
		}
		read <- err
	}))
	defer server.Close()
	for _, sent := range []int{0, 1, 4096 - 8, 4096, 8192, 9999} {
		nc := must(net.Dial("tcp", server.Listener.Addr().String()))(t)
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(nc), nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		nc.Write(append([]byte{0x82, 0x80 | 126, 10_000 >> 8, 10_000 & 0xff, 0, 0, 0, 0}, make([]byte, sent)...))
		nc.Close()
		if err := <-read; err != nil {
			t.Errorf("%d of 10,000 bytes: %v", sent, err)
		}
	}
	if c := must(must(transport.NewDialer(server.URL, nil, nil))(t).Dial(t.Context()))(t); c.Write([][]byte{make([]byte, pim.MaxFrame)}) != nil {
		t.Error("a frame of the greatest size cannot be written")
	} else if err := <-read; err == nil || err.Error() != fmt.Sprintf("a frame of %d bytes", pim.MaxFrame) {
		t.Error(err)
	} else {
		c.Close()
	}
}
