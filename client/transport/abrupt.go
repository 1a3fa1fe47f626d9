package transport

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// abrupt is the stream below a WebSocket. At the end of the stream, Read returns
// io.ErrUnexpectedEOF instead of io.EOF: the library takes io.EOF for the end of a
// message, so it would take a message that was cut for a whole one. A WebSocket that ends
// in order says so in a close frame. abrupt lies above TLS, which returns io.EOF both
// for a cut and for an orderly end.
type abrupt struct{ io.ReadWriteCloser }

func (a abrupt) Read(p []byte) (int, error) { return readAbruptly(a.ReadWriteCloser, p) }

func readAbruptly(r io.Reader, p []byte) (int, error) {
	n, err := r.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// upgrades is an http.Transport that makes the stream of an upgraded connection abrupt.
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

// hijacking does for a server what upgrades does for a client: it makes the connection
// that is taken from the web server abrupt. It also sets that connection as socket.line.
type hijacking struct {
	http.ResponseWriter
	socket *socket
}

// Unwrap gives http.ResponseController the web server's own ResponseWriter.
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
