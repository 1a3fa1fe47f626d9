package fault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/fault"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// patience bounds what must come; it measures nothing.
const patience = 5 * time.Minute

// lab is a proxy in front of a listener. The test accepts the listener's connections.
type lab struct {
	t      *testing.T
	proxy  *fault.Proxy
	target *net.TCPListener
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, target: listen(t)}
	var err error
	if l.proxy, err = fault.New(l.target.Addr().String(), 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Close)
	return l
}

func listen(t *testing.T) *net.TCPListener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// end is one end of a connection, with the words of a script.
type end struct {
	t *testing.T
	*net.TCPConn
}

func (l *lab) dials() end {
	l.t.Helper()
	conn, err := net.DialTimeout("tcp", l.proxy.Addr(), patience)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	return end{l.t, conn.(*net.TCPConn)}
}

func accepts(t *testing.T, from *net.TCPListener) end {
	t.Helper()
	if err := from.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	conn, err := from.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return end{t, conn}
}

// connects returns both ends of a connection through the proxy, which is known
// to work.
func (l *lab) connects() (client, server end) {
	l.t.Helper()
	client = l.dials()
	server = accepts(l.t, l.target)
	client.says("hello")
	server.hears("hello")
	return client, server
}

func (l *lab) set(c fault.Conditions) {
	l.t.Helper()
	if err := l.proxy.Set(c); err != nil {
		l.t.Fatal(err)
	}
}

// until waits until cond holds. The proxy handles bytes in its own time, by the
// conditions of that time, so a test waits here before it changes the conditions.
func (l *lab) until(cond func() bool) {
	l.t.Helper()
	for begun := time.Now(); !cond(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > patience {
			l.t.Fatal("waited in vain")
		}
	}
}

func (e end) says(text string) {
	e.t.Helper()
	if _, err := e.Write([]byte(text)); err != nil {
		e.t.Fatal(err)
	}
}

func (e end) hears(text string) {
	e.t.Helper()
	got := make([]byte, len(text))
	e.within(patience)
	if _, err := io.ReadFull(e, got); err != nil || string(got) != text {
		e.t.Fatalf("heard %q and %v, not %q", got, err, text)
	}
}

// ends reads to the end, and returns what came and how it ended.
func (e end) ends() (string, error) {
	e.within(patience)
	got, err := io.ReadAll(e)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e.t.Helper()
		e.t.Fatalf("no end, after %q", got)
	}
	return string(got), err
}

// isReset expects a reset after text.
func (e end) isReset(text string) {
	e.t.Helper()
	if got, err := e.ends(); !errors.Is(err, syscall.ECONNRESET) || got != text {
		e.t.Fatalf("heard %q and then %v, not %q and a reset", got, err, text)
	}
}

// hearsNothing expects silence for 60 ms, which can't prove that nothing would come
// later.
func (e end) hearsNothing() {
	e.t.Helper()
	e.within(60 * time.Millisecond)
	if n, err := e.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		e.t.Fatalf("not silent: %d bytes, %v", n, err)
	}
}

func (e end) within(d time.Duration) {
	if err := e.SetReadDeadline(time.Now().Add(d)); err != nil {
		e.t.Fatal(err)
	}
}

func TestPassesEverything(t *testing.T) {
	client, server := newLab(t).connects()
	server.says("hi")
	client.hears("hi")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := server.ends(); got != "" || err != nil {
		t.Fatal(got, err)
	}
	server.says("one way is still open")
	server.Close()
	if got, err := client.ends(); got != "one way is still open" || err != nil {
		t.Fatal(got, err)
	}
}

// Whatever the conditions, the bytes are the same, in the same order.
func TestKeepsTheOrder(t *testing.T) {
	l := newLab(t)
	l.set(fault.Symmetric(fault.Path{
		Delay: 3 * time.Millisecond, Jitter: 3 * time.Millisecond, Loss: 0.2, Stall: 5 * time.Millisecond, Rate: 4 << 20,
	}))
	sent := make([]byte, 600<<10)
	rng := rand.NewChaCha8([32]byte{1})
	if _, err := rng.Read(sent); err != nil {
		t.Fatal(err)
	}
	client := l.dials()
	server := accepts(t, l.target)
	go func() {
		_, _ = client.Write(sent) // the reader sees what is missing
		_ = client.CloseWrite()
	}()
	if got, err := server.ends(); err != nil || !bytes.Equal([]byte(got), sent) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(sent), err)
	}
}

func TestDelay(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.set(fault.Conditions{Up: fault.Path{Delay: 80 * time.Millisecond}})
	begun := time.Now()
	client.says("late")
	server.hears("late")
	if took := time.Since(begun); took < 80*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestRate(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.set(fault.Conditions{Down: fault.Path{Rate: 100_000}})
	begun := time.Now()
	server.says(string(make([]byte, 20_000)))
	client.hears(string(make([]byte, 20_000)))
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

// A lost chunk comes late, and so does everything behind it.
func TestLossIsAStall(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.set(fault.Conditions{Up: fault.Path{Loss: 1, Stall: 80 * time.Millisecond}})
	begun, before := time.Now(), l.proxy.Taken(true)
	client.says("lost")
	l.until(func() bool { return l.proxy.Taken(true) > before })
	l.set(fault.Conditions{})
	client.says("behind")
	server.hears("lostbehind")
	if took := time.Since(begun); took < 80*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

// Both sides are reset, in the middle of a frame.
func TestCutMidFrame(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	if n := l.proxy.CutAfter(4, true); n != 1 {
		t.Errorf("%d connections", n)
	}
	client.says("\x08a frame!")
	server.isReset("\x08a f")
	client.isReset("")
}

func TestCut(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.proxy.Cut(fault.Both)
	client.isReset("")
	server.isReset("")
	l.connects() // the next one is as good as ever
}

// The end of one side is hidden from the other side, whose bytes vanish.
func TestHalfOpen(t *testing.T) {
	l := newLab(t)
	for name, kill := range map[string]func(client end){
		"the proxy cuts": func(end) { l.proxy.Cut(fault.ClientSide) },
		"the client ends": func(client end) {
			l.set(fault.Conditions{HalfOpen: true})
			client.Close()
		},
		"the client dies": func(client end) {
			l.set(fault.Conditions{HalfOpen: true})
			if err := client.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			client.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := l.connects()
			kill(client)
			l.until(func() bool { return l.proxy.Doomed(true) && l.proxy.Doomed(false) })
			server.hearsNothing()
			l.set(fault.Conditions{})
			server.says("to nobody")
			server.hearsNothing()
		})
	}
	t.Run("the server's side", func(t *testing.T) {
		client, server := l.connects()
		l.proxy.Cut(fault.ServerSide)
		server.isReset("")
		client.says("to nobody")
		client.hearsNothing()
	})
}

// Bytes that were lost in one direction never arrive, nor does anything after them.
func TestBlackHole(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.set(fault.Conditions{Up: fault.Path{BlackHole: true}})
	client.says("lost")
	server.says("the other way is open")
	client.hears("the other way is open")
	l.until(func() bool { return l.proxy.Doomed(true) })
	server.hearsNothing()
	l.set(fault.Conditions{})
	client.says("lost too")
	server.hearsNothing()
	again, there := l.connects()
	again.says("hi")
	there.hears("hi")
}

func TestForget(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.proxy.Forget()
	l.connects()
	client.says("lost")
	server.says("lost")
	server.hearsNothing()
	client.hearsNothing()
}

func TestHold(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.set(fault.Symmetric(fault.Path{Hold: true}))
	client.says("in the tunnel")
	server.hearsNothing()
	l.set(fault.Conditions{})
	server.hears("in the tunnel")
}

func TestRefuse(t *testing.T) {
	l := newLab(t)
	for range 3 {
		l.set(fault.Conditions{Accept: fault.Refuse})
		if _, err := net.DialTimeout("tcp", l.proxy.Addr(), patience); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
		l.set(fault.Conditions{})
		l.connects()
	}
}

func TestSilent(t *testing.T) {
	l := newLab(t)
	l.set(fault.Conditions{Accept: fault.Silent})
	client := l.dials()
	client.says("anybody?")
	l.until(func() bool { return l.proxy.Accepted() == 1 })
	client.hearsNothing()
	l.set(fault.Conditions{})
	client.hearsNothing()
	l.connects()
}

// The server has come back on another port.
func TestTargetMoves(t *testing.T) {
	l := newLab(t)
	l.target.Close()
	if conn, err := net.DialTimeout("tcp", l.proxy.Addr(), patience); err == nil {
		end{t, conn.(*net.TCPConn)}.isReset("")
		conn.Close()
	}
	other := listen(t)
	l.proxy.SetTarget(other.Addr().String())
	l.target = other
	l.connects()
}

// A receiver that does not read stops the sender: nothing is buffered without
// bound.
func TestBackPressure(t *testing.T) {
	l := newLab(t)
	client, _ := l.connects()
	if err := client.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := client.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were taken, %v", n, err)
	}
}

func TestPlay(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	var done []string
	note := func(name string) fault.Step {
		return fault.Step{Name: name, Do: func(*fault.Proxy) error {
			done = append(done, name)
			return nil
		}}
	}
	failed := errors.New("failed")
	err := l.proxy.Play(t.Context(), []fault.Step{
		note("first"),
		{Do: func(p *fault.Proxy) error { return p.Set(fault.Symmetric(fault.Path{Hold: true})) }},
		fault.Heal(time.Millisecond), note("second"),
		{Name: "third", Do: func(*fault.Proxy) error { return failed }},
		note("never"),
	})
	if !errors.Is(err, failed) || len(done) != 2 {
		t.Errorf("%v, %q", err, done)
	}
	client.says("hi")
	server.hears("hi")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.proxy.Play(ctx, []fault.Step{fault.Heal(time.Hour)}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A random schedule ends with good conditions, whatever was drawn, and the same seed
// draws the same schedule.
func TestRandomScheduleHeals(t *testing.T) {
	l := newLab(t)
	steps := fault.Random(rand.New(rand.NewPCG(7, 7)), 20*time.Second)
	again := fault.Random(rand.New(rand.NewPCG(7, 7)), 20*time.Second)
	for i := range steps {
		if steps[i].String() != again[i].String() {
			t.Errorf("%v became %v", steps[i], again[i])
		}
		steps[i].After = 0
	}
	if err := l.proxy.Play(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	if got := l.proxy.Conditions(); got != (fault.Conditions{}) {
		t.Errorf("%+v", got)
	}
	l.connects()
}

// Close ends what is held, stalled, silent or half-open; goleak sees to the rest.
func TestCloseEndsEverything(t *testing.T) {
	l := newLab(t)
	client, server := l.connects()
	l.set(fault.Conditions{Up: fault.Path{Hold: true}, Down: fault.Path{Delay: time.Hour}, Accept: fault.Silent})
	client.says("held")
	server.says("late")
	silent := l.dials()
	l.until(func() bool { return l.proxy.Accepted() == 2 })
	l.proxy.Close()
	client.isReset("")
	silent.isReset("")
	if err := l.proxy.Set(fault.Conditions{}); err == nil {
		t.Error("a closed proxy listens again")
	}
}
