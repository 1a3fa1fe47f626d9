package transport

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// abrupt is the stream below a WebSocket. Its end is an error: the library takes
// io.EOF for the end of a message, and would hand out as whole a message that the
// stream's end has cut. A WebSocket that ends in order says so in a close frame.
// abrupt lies over TLS, which calls both a cut and an orderly end io.EOF.
type abrupt struct{ io.ReadWriteCloser }

func (a abrupt) Read(p []byte) (int, error) { return readAbruptly(a.ReadWriteCloser, p) }

func readAbruptly(r io.Reader, p []byte) (int, error) {
	n, err := r.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// upgrades makes the stream of a connection that was upgraded abrupt.
type upgrades struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (u upgrades) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if stream, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = abrupt{stream}
	}
	return resp, nil
}

// hijacking is upgrades for a server: it makes the connection that is taken from
// the web server abrupt, and the socket's line.
type hijacking struct {
	http.ResponseWriter
	socket *socket
}

// Unwrap lets the web server's own features through.
func (h *hijacking) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Hijack implements http.Hijacker.
func (h *hijacking) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.socket.line = newDeparture(conn)
	buffered.Writer.Reset(h.socket.line)
	return abruptConn{h.socket.line}, buffered, nil
}

type abruptConn struct{ net.Conn }

func (c abruptConn) Read(p []byte) (int, error) { return readAbruptly(c.Conn, p) }
