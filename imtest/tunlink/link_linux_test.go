package tunlink_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/tunlink"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// patience bounds what must come; it measures nothing.
const patience = 5 * time.Minute

// newLink returns a link, nil if this machine cannot have one.
func newLink(t *testing.T) *tunlink.Link {
	if err := tunlink.Available(); err != nil {
		t.Logf("nothing was tested: %v", err)
		return nil
	}
	l, err := tunlink.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// connect returns both ends of a TCP connection over l.
func connect(t *testing.T, l *tunlink.Link) (client, server net.Conn) {
	listener, err := l.Server.Listen(t.Context(), "tcp", l.ServerAddr().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = l.Client.Dial(t.Context(), "tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, server} {
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("heard %.20q, %v", got, err)
	}
}

// silent expects nothing for a while.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("not silent: %d bytes, %v", n, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func TestPingPong(t *testing.T) {
	l := newLink(t)
	if l == nil {
		return
	}
	client, server := connect(t, l)
	path := tunlink.Path{Delay: 20 * time.Millisecond}
	l.Set(path, path)
	begun := time.Now()
	for range 5 {
		say(t, client, "ping")
		hear(t, server, "ping")
		say(t, server, "pong")
		hear(t, client, "pong")
	}
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("5 round trips of 40 ms took %v", took)
	}
	if up, down := l.Stats(); up.Passed < 5 || down.Passed < 5 {
		t.Errorf("%+v, %+v", up, down)
	}
}

// The kernel's TCP delivers everything in order over a link that loses, reorders and
// doubles packets.
func TestTCPOverABadLink(t *testing.T) {
	l := newLink(t)
	if l == nil {
		return
	}
	path := tunlink.Path{
		Delay: 5 * time.Millisecond, Jitter: 3 * time.Millisecond,
		Loss: 0.05, Reorder: 0.2, Late: 5 * time.Millisecond, Duplicate: 0.05, Rate: 4 << 20,
	}
	l.Set(path, path)
	client, server := connect(t, l)
	text := strings.Repeat("0123456789abcdef", 20<<10)
	go func() { _, _ = io.WriteString(client, text) }() // the reader sees what is missing
	hear(t, server, text)
	up, _ := l.Stats()
	if up.Lost == 0 || up.Reordered == 0 || up.Duplicated == 0 {
		t.Errorf("%+v", up)
	}
}

// The loss and reordering that the test measures are those that Stats tells of.
func TestLossAndReorderAsMeasured(t *testing.T) {
	l := newLink(t)
	if l == nil {
		return
	}
	const packets = 1000
	l.Set(tunlink.Path{Delay: 5 * time.Millisecond, Loss: 0.2, Reorder: 0.2, Late: 10 * time.Millisecond}, tunlink.Path{})
	var to net.PacketConn
	if err := l.Server.Do(func() (err error) {
		to, err = net.ListenPacket("udp4", l.ServerAddr().String()+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	from, err := l.Client.Dial(t.Context(), "udp4", to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	defer to.Close()
	read := make(chan struct{})
	arrived, late := 0, 0
	go func() {
		defer close(read)
		buf, last := make([]byte, 64), uint32(0)
		for {
			if _, _, err := to.ReadFrom(buf); err != nil {
				return // closed: the test has failed
			}
			n := binary.BigEndian.Uint32(buf)
			if n == packets {
				return // the last one
			}
			if arrived++; n < last {
				late++
			}
			last = max(last, n)
		}
	}()
	send := func(n uint32) {
		if _, err := from.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(packets) {
		send(n)
		time.Sleep(200 * time.Microsecond) // spreads them, so that some can overtake
	}
	deadline := time.Now().Add(patience)
	for up, _ := l.Stats(); up.Passed+up.Lost < packets && time.Now().Before(deadline); up, _ = l.Stats() {
		time.Sleep(5 * time.Millisecond)
	}
	up, _ := l.Stats()
	l.Set(tunlink.Path{}, tunlink.Path{})
	for ended := false; !ended; { // until the reader has taken what came before it
		send(packets)
		select {
		case <-read:
			ended = true
		case <-time.After(5 * time.Millisecond): // the socket had no room for it
			if time.Now().After(deadline) {
				t.Fatal("the last packet does not arrive")
			}
		}
	}
	t.Logf("%d sent, %d arrived, %d late; %+v", packets, arrived, late, up)
	if up.Passed+up.Lost != packets || up.Lost < packets/8 || up.Lost > packets*3/10 {
		t.Errorf("loss: %+v", up)
	}
	// The socket may have dropped some if the machine is slow, never added any.
	if arrived > up.Passed || arrived < up.Passed*8/10 || late > up.Reordered || late < up.Reordered/2 || late == 0 {
		t.Errorf("%d arrived and %d were late; the link says %+v", arrived, late, up)
	}
}

// A cut is silent; TCP goes on after it.
func TestCut(t *testing.T) {
	l := newLink(t)
	if l == nil {
		return
	}
	client, server := connect(t, l)
	l.Cut()
	say(t, client, "in the tunnel")
	silent(t, server)
	l.Mend()
	hear(t, server, "in the tunnel")
}

// When the client's address changes, its connections die without a word, and new
// ones are good.
func TestMoveClient(t *testing.T) {
	l := newLink(t)
	if l == nil {
		return
	}
	client, server := connect(t, l)
	was := client.LocalAddr()
	if err := l.MoveClient(); err != nil {
		t.Fatal(err)
	}
	say(t, server, "to the old address")
	silent(t, client)
	again, there := connect(t, l)
	if now := again.LocalAddr(); now.String() == was.String() || strings.Split(now.String(), ":")[0] == strings.Split(was.String(), ":")[0] {
		t.Errorf("%v became %v", was, now)
	}
	say(t, again, "hi")
	hear(t, there, "hi")
}

// Close ends everything, also with packets on their way.
func TestClose(t *testing.T) {
	l := newLink(t)
	if l == nil {
		return
	}
	client, _ := connect(t, l)
	l.Set(tunlink.Path{Delay: time.Hour}, tunlink.Path{})
	say(t, client, "never")
	l.Close()
	l.Close()
}
