package load

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// deaf is a handler that no frame may reach.
type deaf struct{ t *testing.T }

func (d deaf) wake()        {}
func (d deaf) flush() error { return nil }
func (d deaf) frame(f []byte) error {
	d.t.Errorf("a frame of %d bytes", len(f))
	return nil
}

// If the connection ends within a frame, that frame is not handed on. The end is noticed
// even if it came together with the last bytes.
func TestFrameCutByTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, f := range []framing{tcpFraming, wsFraming} {
		whole, start := f.begin(nil, 10_000, ws.OpBinary)
		whole = append(whole, make([]byte, 10_000)...)
		for _, cut := range []int{1, start, start + 1, 4096, start + 4096, len(whole) - 1} {
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			server.Write(whole[:cut])
			server.Close()
			link := &link{framing: f, nc: nc}
			if link.raw, err = nc.(*net.TCPConn).SyscallConn(); err != nil {
				t.Fatal(err)
			}
			nc.SetReadDeadline(time.Now().Add(5 * time.Minute)) // only ends a test that hangs
			if err := link.serve(deaf{t}); !errors.Is(err, io.EOF) {
				t.Errorf("cut at %d: %v", cut, err)
			}
			nc.Close()
		}
	}
}
