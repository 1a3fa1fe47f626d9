//go:build unix

package nats

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// BenchmarkIdle counts what three nodes cost that have nothing to say, all in this process.
func BenchmarkIdle(b *testing.B) {
	const nodes, seconds = 3, 10
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	a, done := benchNodes(b)
	defer done()
	third, err := New(Options{Self: self("c"), Listen: "127.0.0.1:0", Join: []string{a.ClusterAddr()}})
	if err == nil {
		err = third.Start(b.Context(), benchHandler(nil))
	}
	if err != nil {
		b.Fatal(err)
	}
	defer third.Close()
	time.Sleep(2 * time.Second)
	runtime.GC()
	runtime.ReadMemStats(&after)
	begin := cpu(b)
	for b.Loop() {
		time.Sleep(seconds * time.Second)
	}
	b.ReportMetric(float64((cpu(b)-begin).Microseconds())/float64(b.N)/nodes/seconds, "cpu-µs/s/node")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/nodes/1024, "heap-KiB/node")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
