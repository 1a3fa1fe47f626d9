package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// socket carries each frame as one binary message of a WebSocket.
type socket struct {
	arrival
	line *departure
	conn *websocket.Conn
	in   []byte
}

func (d *Dialer) dialWebSocket(ctx context.Context) (Conn, error) {
	s := new(socket)
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		s.line = newDeparture(conn)
		return s.line, nil
	}
	client := &http.Client{CheckRedirect: guarded, Transport: upgrades{&http.Transport{
		Proxy: d.proxy, DialContext: dial, TLSClientConfig: d.tls, DisableKeepAlives: true,
	}}}
	conn, resp, err := websocket.Dial(ctx, d.address, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			if body, err := io.ReadAll(io.LimitReader(resp.Body, 1024)); err == nil && saysTLS(resp.StatusCode, string(body)) {
				return nil, errRequired()
			}
			refused := pim.Errorf(pim.KindUnavailable, "%s answers %s instead of a WebSocket: %w", d.address, resp.Status, err)
			if after, said := retryAfter(resp, time.Now()); said || resp.StatusCode == http.StatusTooManyRequests {
				refused.Kind, refused.RetryAfter = pim.KindOverloaded, after
				refused.Text = d.address + " is busy and takes no more connections now: " + resp.Status
			}
			return nil, refused
		}
		return nil, err
	}
	s.take(conn)
	return s, nil
}

// retryAfter returns how long a server that answers 429 or 503 wants to be left alone by its
// Retry-After, at most maxRetryAfter; said is false if it does not say that. A date counts from the
// time of the answer as the server has it, or else from now.
func retryAfter(resp *http.Response, now time.Time) (after time.Duration, said bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	value := resp.Header.Get("Retry-After")
	if at, err := http.ParseTime(value); err == nil {
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			now = date
		}
		return min(max(at.Sub(now), 0), maxRetryAfter), true
	}
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return maxRetryAfter, true // more seconds than that
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter), true
}

// maxRetryAfter is the longest time that a server is taken to mean by Retry-After.
const maxRetryAfter = time.Hour

// Accept upgrades a request that has not been answered, and returns the server's
// end of the WebSocket, which the caller owns. If it fails, it has answered the request.
//
// It takes pages of every origin: apps have servers of their own, and a client says who it is
// by the token in its Hello. A browser adds nothing to that by itself, as it does with cookies.
func Accept(w http.ResponseWriter, r *http.Request) (Conn, error) {
	s := new(socket)
	conn, err := websocket.Accept(&hijacking{ResponseWriter: w, socket: s}, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	s.take(conn)
	return s, nil
}

func (s *socket) take(conn *websocket.Conn) {
	conn.SetReadLimit(readLimit + 1)
	s.conn = conn
}

func (s *socket) Read() ([]byte, error) {
	kind, r, err := s.conn.Reader(context.Background())
	if err != nil {
		return nil, closeError(err)
	}
	if kind != websocket.MessageBinary {
		return nil, pim.Errorf(pim.KindInvalid, "a frame that is not a binary message")
	}
	if cap(s.in) > keptBuffer || cap(s.in) == 0 {
		s.in = make([]byte, 0, firstBuffer)
	}
	s.in = s.in[:0]
	s.more()
	defer s.done()
	for {
		if len(s.in) == cap(s.in) {
			s.in = append(s.in, 0)[:len(s.in)]
		}
		n, err := r.Read(s.in[len(s.in):cap(s.in)])
		s.in = s.in[:len(s.in)+n]
		if n > 0 {
			s.more()
		}
		if err == io.EOF {
			return s.in, nil
		}
		if err != nil {
			return nil, closeError(err)
		}
	}
}

func (s *socket) Write(frames [][]byte) error {
	for _, f := range frames {
		if err := s.conn.Write(context.Background(), websocket.MessageBinary, f); err != nil {
			return closeError(err)
		}
	}
	return nil
}

func (s *socket) Close() error { return s.conn.CloseNow() }

// Written implements Conn.
func (s *socket) Written() time.Time { return *s.line.at.Load() }

// closeError returns err as a *CloseError if it holds one of pim's close codes
// (docs/protocol.md, section 13).
func closeError(err error) error {
	var c websocket.CloseError
	if errors.As(err, &c) && c.Code >= 4000 {
		return &CloseError{Code: wire.Code(c.Code), Text: c.Reason}
	}
	return err
}
