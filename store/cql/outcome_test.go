package cql_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/fault"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/cql"
)

// behind returns a proxy in front of the node, and o for a store that knows no other way to it.
func behind(t *testing.T, o cql.Options) (*fault.Proxy, cql.Options) {
	t.Helper()
	p, err := fault.New(net.JoinHostPort(cluster(t).Host(1), "9042"), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, cql.By(o, p.Addr())
}

func closes(t *testing.T, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// commits commits one write and returns its outcome.
func commits(s store.Store, w *store.Write) error {
	_ = store.Commit(context.Background(), s, []*store.Write{w}, store.Durable)
	return w.Err
}

func appendTo(log store.Log, after pim.Seq, record string) *store.Write {
	return &store.Write{Log: log, After: after, Records: [][]byte{[]byte(record)}}
}

// all returns the records of a log.
func all(t *testing.T, s store.Store, log store.Log) (records []string) {
	t.Helper()
	for {
		some, err := store.ReadLog(context.Background(), s, log, pim.Seq(len(records))+1, 0, store.Limit{Records: 1000, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return records
		}
		for _, r := range some {
			records = append(records, string(r))
		}
	}
}

// Connections break while two writers append to one log. An append that was acknowledged is in the
// log, at its seq; one that has ended in a conflict is not; none is there twice. Each writer goes on until enough of its appends
// were acknowledged, and every third cut waits for one: on a slow machine an append takes longer than cuts are apart.
func TestConnectionsBreak(t *testing.T) {
	o := fresh(keyspace(t, "pim_tiny", 7))
	o.Timeout = 2 * time.Second
	seed := seeds.First(t)
	var mu sync.Mutex
	outcomes := map[string]error{} // of each record
	seqs := map[string]pim.Seq{}
	var writing, cutting sync.WaitGroup
	over := make(chan struct{})
	const enough = 20
	for writer := range 2 {
		p, o := behind(t, o)
		s := open(t, o)
		defer closes(t, s)
		rng := rand.New(rand.NewPCG(seed, uint64(writer)))
		acked := make(chan struct{}, 1) // an append was acknowledged since this was empty
		cutting.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-over:
					return
				case <-time.After(time.Duration(rng.IntN(300)) * time.Millisecond):
				}
				if n%3 == 0 {
					select {
					case <-acked: // perhaps long ago
					default:
					}
					select {
					case <-over:
						return
					case <-acked:
					}
				}
				switch up := rng.IntN(2) == 0; rng.IntN(3) {
				case 0:
					p.Cut(fault.Both)
				default:
					p.CutAfter(rng.IntN(400), up)
				}
			}
		})
		writing.Go(func() {
			last := pim.Seq(0)
			for n, done := 0, 0; done < enough; n++ {
				record := fmt.Sprintf("%d by %d", n, writer)
				err := commits(s, appendTo("log", last, record))
				mu.Lock()
				outcomes[record], seqs[record] = err, last+1
				mu.Unlock()
				var conflict *store.ConflictError
				switch {
				case err == nil:
					last++
					done++
					select {
					case acked <- struct{}{}:
					default:
					}
				case errors.As(err, &conflict):
					last = conflict.Last
				case pim.KindOf(err) != pim.KindUnavailable:
					t.Errorf("append: %v", err)
					return
				default: // the driver may be without a connection for a while
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	writing.Wait()
	close(over)
	cutting.Wait()
	s := open(t, o)
	defer closes(t, s)
	found := map[string]bool{}
	for i, record := range all(t, s, "log") {
		err := outcomes[record]
		if found[record] || seqs[record] != pim.Seq(i)+1 || err != nil && !errors.Is(err, store.ErrUnknown) {
			t.Errorf("at seq %d there is %q, twice: %v; the append behind seq %d ended with %v", i+1, record, found[record], seqs[record]-1, err)
		}
		found[record] = true
	}
	acked, unknown := 0, 0
	for record, err := range outcomes {
		if err == nil && !found[record] {
			t.Errorf("%q was acknowledged at seq %d and is not there", record, seqs[record])
		}
		if err == nil {
			acked++
		} else if errors.Is(err, store.ErrUnknown) {
			unknown++
		}
	}
	t.Logf("%d acknowledged, %d unknown, %d in conflict or refused", acked, unknown, len(outcomes)-acked-unknown)
}

// A request waits on its way for longer than the write may take, and comes late. It has no effect if
// the log has gone on, or its fence was raised.
func TestLateAppend(t *testing.T) {
	o := fresh(keyspace(t, "pim", 0))
	direct := open(t, o)
	defer closes(t, direct)
	for _, test := range []struct {
		name      string
		meanwhile *store.Write
		want      []string
	}{
		{"nothing", nil, []string{"first", "second", "late"}},
		{"an append", appendTo("an append", 2, "other"), []string{"first", "second", "other"}},
		{"a raise", &store.Write{Log: "a raise", Raise: true}, []string{"first", "second"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, slow := behind(t, o)
			slow.Timeout, slow.WriteWithin = time.Second, 2*time.Second
			s := open(t, slow)
			log := store.Log(test.name)
			for i, record := range []string{"first", "second"} { // afterwards the driver has prepared all statements
				waits(t, "it is appended", func() bool {
					commits(s, appendTo(log, pim.Seq(i), record)) // within 2 s a busy machine may not do it
					last, _, err := store.LogEnd(context.Background(), direct, log)
					return err == nil && last > pim.Seq(i)
				})
			}
			hold := fault.Conditions{Up: fault.Path{Hold: true}}
			if err := p.Set(hold); err != nil {
				t.Fatal(err)
			}
			w := appendTo(log, 2, "late")
			w.Cells = []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: test.name, Version: 1}}}
			if err := commits(s, w); !errors.Is(err, store.ErrUnknown) || pim.KindOf(err) != pim.KindUnavailable {
				t.Fatalf("append: %v, want an unknown outcome", err)
			}
			if got := all(t, direct, log); len(got) != 2 {
				t.Fatalf("%q before the request has come", got)
			}
			if test.meanwhile != nil {
				if err := commits(direct, test.meanwhile); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Set(fault.Conditions{}); err != nil {
				t.Fatal(err)
			}
			if test.meanwhile == nil {
				waits(t, "the request comes", func() bool { return len(all(t, direct, log)) > 2 })
			}
			waits(t, "a later request on the same connections is answered", func() bool {
				_, _, err := store.LogEnd(context.Background(), s, log)
				return err == nil
			})
			closes(t, s)
			if got := all(t, direct, log); fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("the log has %q, want %q", got, test.want)
			}
			if _, there, err := store.Lookup(context.Background(), direct, "p", test.name); there || err != nil {
				t.Errorf("the cell of a write of unknown outcome: %v, %v", there, err)
			}
		})
	}
}

// The node stands still: writes end with an unknown outcome in time, and reads fail. Then it goes on.
func TestNodePauses(t *testing.T) {
	o := fresh(keyspace(t, "pim", 0))
	o.Timeout, o.WriteWithin = time.Second, 3*time.Second
	s := open(t, o)
	defer closes(t, s)
	waits(t, "the first record is appended", func() bool {
		commits(s, appendTo("log", 0, "first")) // within 3 s a busy machine may not do it
		last, _, err := store.LogEnd(context.Background(), s, "log")
		return err == nil && last == 1
	})
	if err := cluster(t).Do(1, "pause"); err != nil {
		t.Fatal(err)
	}
	resumed := false
	resume := func() {
		if !resumed {
			resumed = true
			if err := cluster(t).Do(1, "resume"); err != nil {
				t.Error(err)
			}
		}
	}
	defer resume()
	writes := []*store.Write{
		appendTo("log", 1, "second"),
		{Log: "log", After: 1, Erase: []store.Erasure{{Seq: 1, Rest: []byte("r")}}},
		{Log: "raised", Raise: true},
		{Cells: []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: "k", Version: 1}}}},
	}
	begun := time.Now()
	_ = store.Commit(context.Background(), s, writes, store.Durable)
	if took := time.Since(begun); took > 2*time.Minute { // they ought to take some 3 s
		t.Errorf("the writes took %v", took)
	}
	for i, w := range writes {
		if pim.KindOf(w.Err) != pim.KindUnavailable || i == 3 && !errors.Is(w.Err, store.ErrUnknown) {
			t.Errorf("write %d ended with %v", i, w.Err)
		}
	}
	// The first two wait for each other. The erasure is not sent before it knows where the log ends; so the
	// append's outcome is unknown, unless the erasure went first and the append was never sent.
	if !errors.Is(writes[0].Err, store.ErrUnknown) && !strings.Contains(writes[0].Err.Error(), "an earlier write") {
		t.Errorf("the append ended with %v", writes[0].Err)
	}
	if _, _, err := store.LogEnd(context.Background(), s, "log"); pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("a read of a node that is paused: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := store.LogEnd(ctx, s, "log"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a read whose context ends: %v", err)
	}
	resume()
	waits(t, "the node answers, and takes an append", func() bool { // the second record may come meanwhile
		last, _, err := store.LogEnd(context.Background(), s, "log")
		return err == nil && commits(s, appendTo("log", last, "third")) == nil
	})
	waits(t, "the store is well", func() bool { return s.Health() == nil })
}
