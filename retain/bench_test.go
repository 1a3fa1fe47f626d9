package retain_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/retain"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

const (
	benchChats    = 1000
	benchMessages = 20 // in each
)

// BenchmarkPass measures the processor time of ten passes over 1,000 chats of 20 messages that are 30 days
// old, on the embedded store: if nobody has set a time, if the server's has not come, and with a trim
// of all. The writers and the sweeper are all that runs.
func BenchmarkPass(b *testing.B) {
	for _, bench := range []struct {
		name string
		age  time.Duration
		trim bool
	}{{"nobody", 0, false}, {"not-due", 60 * day, false}, {"all-due", 20 * day, true}} {
		b.Run(bench.name, func(b *testing.B) {
			for range b.N {
				n := filled(b)
				o := n.options(bench.age)
				s := retain.New(o)
				n.waits(b, n.passes.Load()+1) // by a clock that begins now
				before, passes := cpu(b), n.passes.Load()
				n.later.Store(int64(30 * day))
				if bench.trim {
					for n.trimmed.Load() < benchChats*benchMessages {
						time.Sleep(50 * time.Millisecond)
					}
					b.ReportMetric(float64((cpu(b)-before).Microseconds())/(benchChats*benchMessages), "µs-CPU/trimmed")
				} else {
					n.waits(b, passes+10)
					b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(n.passes.Load()-passes), "ms-CPU/pass")
				}
				s.Close()
				n.writers.Close()
				if err := n.store.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// cpu returns the processor time of the process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bench has writers and a sweeper over a store on disk, with clocks that are set ahead together.
type bench struct {
	store.Store
	store   *pebble.Store
	writers *conv.Writers
	began   time.Time
	later   atomic.Int64 // in ns
	answers chan error
	passes  atomic.Int64
	trimmed atomic.Int64
}

func filled(b *testing.B) *bench {
	b.Helper()
	st, err := pebble.Open(b.TempDir(), pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	n := &bench{Store: st, store: st, began: time.Now(), answers: make(chan error, benchMessages)}
	n.writers = conv.New(st, conv.Options{Outlet: n, Shards: 2, Logger: slog.New(slog.DiscardHandler), Now: n.now})
	for i := range benchChats {
		var some []*conv.Request
		for range benchMessages {
			some = append(some, &conv.Request{
				Conversation: pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), Kind: pim.EntryMessage, Sender: "alice", Device: "d",
				ClientID: pim.NewClientMessageID(n.now()), Local: pim.MillisOf(n.now()), Payload: make([]byte, 100),
			})
		}
		n.writers.Submit(some)
		for range some {
			if err := <-n.answers; err != nil {
				b.Fatal(err)
			}
		}
	}
	return n
}

// Deliver implements conv.Outlet.
func (n *bench) Deliver(answers []conv.Answer, _ []conv.Published) {
	for _, a := range answers {
		n.answers <- a.Err
	}
}

func (n *bench) now() time.Time { return time.Now().Add(time.Duration(n.later.Load())) }

func (n *bench) options(age time.Duration) retain.Options {
	return retain.Options{
		Store: n, Age: age, Every: time.Millisecond, Now: n.now,
		Mono: func() time.Duration { return time.Since(n.began) + time.Duration(n.later.Load()) },
		Trim: func(ctx context.Context, c pim.ConversationID, upTo pim.Seq) error {
			err := n.writers.Trim(ctx, c, upTo)
			n.trimmed.Add(int64(upTo)) // of each chat all at once
			return err
		},
		Gate: func() error { return nil }, Logger: slog.New(slog.DiscardHandler),
	}
}

// Begin counts the passes that end.
func (n *bench) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		for _, c := range w.Cells {
			if c.Partition == "sweeper" && c.Key == "place" && string(c.Value) == "\x00" {
				n.passes.Add(1)
			}
		}
	}
	n.Store.Begin(ctx, writes, d, done)
}

// waits returns when as many passes have ended.
func (n *bench) waits(b *testing.B, passes int64) {
	b.Helper()
	for n.passes.Load() < passes {
		time.Sleep(50 * time.Millisecond)
	}
}
