package transport

import (
	"io"
	"net"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// tcp carries frames over a byte stream. Each frame follows its length.
type tcp struct {
	arrival
	line *departure
	conn net.Conn // line, or TLS over it
	in   []byte   // in[next:] was read, and is not handed out yet
	next int
	out  []byte
}

const (
	firstBuffer = 4 << 10
	keptBuffer  = 64 << 10 // a larger one is given back when it is empty
)

// NewTCP returns a Conn over conn, a stream such as a TCP or TLS connection. The Conn
// owns conn.
func NewTCP(conn net.Conn) Conn { return newTCP(conn) }

func newTCP(conn net.Conn) *tcp {
	line := newDeparture(conn)
	return &tcp{line: line, conn: line}
}

func (t *tcp) Read() ([]byte, error) {
	for {
		frame, rest, need, err := wire.CutTCP(t.in[t.next:], readLimit)
		if err != nil {
			if t.next == 0 && t.conn == net.Conn(t.line) && looksLikeTLS(t.in) {
				e := errRequired()
				return nil, &pim.Error{Op: "read", Kind: pim.KindUnavailable, Text: e.Text, Err: e}
			}
			return nil, err
		}
		if frame != nil {
			t.next = len(t.in) - len(rest)
			t.done()
			return frame, nil
		}
		t.makeRoom(need)
		n, err := t.conn.Read(t.in[len(t.in):cap(t.in)])
		t.in = t.in[:len(t.in)+n]
		if n > 0 {
			t.more()
		}
		if err == io.EOF && n == 0 && len(t.in) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && n == 0 {
			return nil, err
		}
	}
}

// makeRoom moves the bytes that are not handed out yet to the front of a buffer of need
// bytes or more.
func (t *tcp) makeRoom(need int) {
	left := t.in[t.next:]
	switch {
	case need > cap(t.in):
		t.in = append(make([]byte, 0, max(need, firstBuffer)), left...)
	case len(left) == 0 && cap(t.in) > keptBuffer && need <= firstBuffer:
		t.in = make([]byte, 0, firstBuffer)
	default:
		t.in = t.in[:copy(t.in[:cap(t.in)], left)]
	}
	t.next = 0
}

func (t *tcp) Write(frames [][]byte) error {
	t.out = t.out[:0]
	for _, f := range frames {
		t.out = wire.AppendTCP(t.out, f)
	}
	_, err := t.conn.Write(t.out)
	if cap(t.out) > keptBuffer {
		t.out = nil
	}
	return err
}

// Close closes the stream at once. A TLS connection's own Close would wait until the
// network takes its close_notify.
func (t *tcp) Close() error { return t.line.Close() }

// Written implements Conn.
func (t *tcp) Written() time.Time { return *t.line.at.Load() }
