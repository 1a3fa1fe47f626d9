//go:build unix

package gateway

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim/limit"
)

// What a connection costs that is refused before TLS: CPU of this process, the kernel's share of it
// included, for each.
func BenchmarkRefusedBeforeTLS(b *testing.B) {
	x := &lab{begun: time.Now()}
	x.gw = New(x.options(func(l *Limits) { l.Rates = limit.Rates{Accept: 1, Address: 200, Network: 400} }))
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", "127.0.0.1:0") // as server.Listen
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { x.gw.ServeTCP(l, nil) })
	defer func() {
		l.Close()
		serving.Wait()
		x.gw.Close()
	}()
	cmd := exec.Command(os.Args[0], "-test.run", "^$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s", floodEnv, l.Addr()))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	count := func() int { return refused(b, x.gw, limit.Accept) }
	for count() < 100 {
		time.Sleep(time.Millisecond)
	}
	first, cpu := count(), cpuTime(b)
	b.ResetTimer()
	for count() < first+b.N {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1e3/float64(count()-first), "cpu-µs/refusal")
}

// cpuTime returns the CPU time that this process has taken.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
