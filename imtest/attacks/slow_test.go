package attacks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// drip is the time between two bytes of a slow connection.
const drip = 200 * time.Millisecond

// dripping writes a byte of text now and then until the other side has closed the connection, or ctx ends; then it reports false.
func dripping(ctx context.Context, nc net.Conn, text []byte) bool {
	defer nc.Close()
	var buf [4 << 10]byte
	for i := 0; ctx.Err() == nil; i++ {
		if i < len(text) {
			if _, err := nc.Write(text[i : i+1]); err != nil {
				return true
			}
		}
		nc.SetReadDeadline(time.Now().Add(drip))
		for {
			if _, err := nc.Read(buf[:]); errors.Is(err, os.ErrDeadlineExceeded) {
				break
			} else if err != nil {
				return true
			}
		}
	}
	return false
}

// each does something n times at once, each time again when it has returned true, until ctx ends. When every one has
// returned true once, the attack has done enough. It returns how often they have.
func (a *arena) each(ctx context.Context, n int, do func(i int) bool) int {
	var total, first atomic.Int64
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			for k := 0; ctx.Err() == nil; {
				if do(i) {
					total.Add(1)
					if k++; k == 1 && first.Add(1) == int64(n) {
						a.enough()
					}
				}
				imtest.Pause(ctx, drip)
			}
		})
	}
	work.Wait()
	return int(total.Load())
}

func (a *arena) slowHandshakes(ctx context.Context, n int) string {
	hello := wire.AppendTCP(nil, wire.Append(nil, &wirepb.Hello{Version: wire.Version, Token: a.token("mallory"), Device: "phone"}))
	head := []byte("GET " + wire.WebSocketPath + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	closed := a.each(ctx, n, func(i int) bool {
		nc, err := net.Dial("tcp", a.address(i%3 == 0))
		if err != nil {
			return false
		}
		switch i % 3 {
		case 0: // a Hello that does not end
			return dripping(ctx, nc, hello[:len(hello)-1])
		case 1: // a request that does not end
			return dripping(ctx, nc, head[:len(head)-1])
		default: // a WebSocket on which a frame does not end
			if _, err := nc.Write(head); err != nil {
				nc.Close()
				return false
			}
			return dripping(ctx, nc, []byte{0x82, 0x80 | 100, 0, 0, 0, 0})
		}
	})
	if got := a.metric("pim_closes_total", `code="handshake"`); got == 0 {
		a.t.Error("no connection is counted as closed because of its handshake")
	}
	return fmt.Sprintf("%d connections at a time; the server has closed %d", n, closed)
}

func (a *arena) slowFrames(ctx context.Context, n int) string {
	var told atomic.Int64
	frame := wire.AppendTCP(nil, make([]byte, 60<<10))
	closed := a.each(ctx, n, func(i int) bool {
		user := pim.UserID(fmt.Sprint("mallory-", i))
		conn, m, err := a.hello(ctx, "", &wirepb.Hello{Token: a.token(user), Device: "phone"})
		if err != nil {
			return false
		}
		if _, ok := m.(*wirepb.Welcome); !ok {
			conn.Close()
			return false
		}
		return a.dripFrame(ctx, conn, frame, &told)
	})
	if told.Load() == 0 {
		a.t.Error("nobody is told why")
	}
	return fmt.Sprintf("%d users at a time; the server has closed %d connections, and told %d of them why", n, closed, told.Load())
}

// dripFrame sends a byte of a frame now and then until the server has closed the connection, and counts in told if it has
// said why. It reports false if ctx ends before.
func (a *arena) dripFrame(ctx context.Context, conn *session, frame []byte, told *atomic.Int64) bool {
	defer conn.Close()
	ended := make(chan bool, 1)
	go func() { // ends with the connection
		for {
			m, err := read(conn)
			if err != nil {
				ended <- false
				return
			}
			if bye, ok := m.(*wirepb.PIMGoAway); ok {
				ended <- wire.Code(bye.Code) == wire.CodeHandshake
				return
			}
		}
	}()
	for i := 0; ; i++ {
		if i < len(frame) {
			conn.nc.Write(frame[i : i+1]) // one that fails is closed
		}
		select {
		case why := <-ended:
			if why {
				told.Add(1)
			}
			return true
		case <-time.After(drip):
		case <-ctx.Done():
			conn.Close()
			<-ended
			return false
		}
	}
}

func (a *arena) silence(ctx context.Context, n, most int) string {
	highest := atomic.Int64{}
	var work sync.WaitGroup
	watching, stop := context.WithCancel(ctx)
	work.Go(func() { // the page is closed as well while there is no place for it
		for imtest.Pause(watching, drip) {
			highest.Store(max(highest.Load(), int64(a.metric("pim_connections", ""))))
		}
	})
	closed := a.each(ctx, n, func(int) bool {
		nc, err := net.Dial("tcp", a.address(true))
		if err != nil {
			return true // closed before the dial was over
		}
		return dripping(ctx, nc, nil)
	})
	stop()
	work.Wait()
	turned := 0
	a.eventually("connections are refused", func() bool {
		turned = a.metric("pim_refusals_total", `reason="connections"`)
		return turned > 0
	})
	if got := highest.Load(); got > int64(most) {
		a.t.Errorf("the server has %d connections, of %d", got, most)
	}
	return fmt.Sprintf("%d at a time, of which the server takes %d; it has refused %d, and closed %d", n, most, turned, closed)
}
