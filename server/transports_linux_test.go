package server_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim/server"
)

// BenchmarkTransports measures what an idle connection takes of the server's memory, and a message with its answer of its CPU, over
// each transport. The clients are another process.
func BenchmarkTransports(b *testing.B) {
	const users, rounds = 1000, 20
	for _, scheme := range []string{"tls", "https", "quic"} {
		b.Run(scheme, func(b *testing.B) {
			c := server.Defaults()
			c.Data, c.Listen, c.ListenTCP, c.TLSSelfSigned, c.AcceptRate, c.ShedTarget = b.TempDir(), "127.0.0.1:0", "127.0.0.1:0", true, 100_000, 0
			s, err := server.New(c, server.Options{})
			if err == nil {
				err = s.Start(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
			defer s.Shutdown(context.Background())
			address := map[string]string{"tls": s.TCPAddr(), "https": s.Addr(), "quic": s.QUICAddr()}[scheme]
			spec, err := json.Marshal(crowd{scheme + "://" + address, c.KeysPath(), users})
			if err != nil {
				b.Fatal(err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env, cmd.Stderr = append(os.Environ(), crowdEnv+"="+string(spec)), os.Stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			hears := func(want string) {
				b.Helper()
				got := make([]byte, len(want)+1)
				if _, err := io.ReadFull(out, got); err != nil || strings.TrimSpace(string(got)) != want {
					b.Fatalf("the clients say %q, %v", got, err)
				}
			}
			before := resident(b)
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			hears("ready")
			time.Sleep(20 * time.Second) // silent connections give back what they do not need
			idle := resident(b)
			burnt := cpu(b)
			for range rounds {
				if _, err := in.Write([]byte("\n")); err != nil {
					b.Fatal(err)
				}
				hears("sent")
			}
			b.ReportMetric(float64(idle-before)/users, "idle-B/conn")
			b.ReportMetric(float64((cpu(b)-burnt).Microseconds())/(users*rounds), "cpu-µs/msg")
			b.ReportMetric(0, "ns/op")
			in.Close()
			if err := cmd.Wait(); err != nil {
				b.Error(err)
			}
		})
	}
}

// resident returns how many bytes this process has in memory, without garbage.
func resident(b *testing.B) int {
	debug.FreeOSMemory()
	stat, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(stat))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// cpu returns the CPU time that this process has taken.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
