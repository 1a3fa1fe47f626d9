package cql_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/cql"
)

// hang is how long a test waits for what must happen. It measures nothing.
const hang = 5 * time.Minute

// waits waits until what has happened.
func waits(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for begun := time.Now(); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > hang {
			t.Fatalf("waited %v until %s", hang, what)
		}
	}
}

// load is some writers, each of which appends to a log of its own, one record after the other.
type load struct {
	s    store.Store
	over chan struct{}
	all  sync.WaitGroup

	mu      sync.Mutex
	acked   []map[string]pim.Seq // of each writer
	unknown []map[string]bool
	acks    []int         // of each writer
	last    []time.Time   // of each writer's last ack
	gap     time.Duration // the longest time that a writer had none
	strange error         // an outcome that no caller can deal with
}

func logOf(writer int) store.Log { return store.Log(fmt.Sprint("load ", writer)) }

func begins(s store.Store, writers int) *load {
	l := &load{s: s, over: make(chan struct{}), acks: make([]int, writers)}
	for writer := range writers {
		l.last = append(l.last, time.Now())
		l.acked, l.unknown = append(l.acked, map[string]pim.Seq{}), append(l.unknown, map[string]bool{})
		l.all.Go(func() { l.write(writer) })
	}
	return l
}

func (l *load) write(writer int) {
	last := pim.Seq(0)
	for n := 0; ; n++ {
		select {
		case <-l.over:
			return
		default:
		}
		record := fmt.Sprintf("%d by %d", n, writer)
		err := commits(l.s, appendTo(logOf(writer), last, record))
		var conflict *store.ConflictError
		l.mu.Lock()
		switch {
		case err == nil:
			last++
			l.acked[writer][record] = last
			l.acks[writer]++
			l.gap = max(l.gap, time.Since(l.last[writer]))
			l.last[writer] = time.Now()
		case errors.As(err, &conflict): // one of unknown outcome has come
			last = conflict.Last
		case errors.Is(err, store.ErrUnknown):
			l.unknown[writer][record] = true
		case pim.KindOf(err) != pim.KindUnavailable:
			l.strange = err
		}
		l.mu.Unlock()
		if err != nil {
			time.Sleep(50 * time.Millisecond)
		} else {
			time.Sleep(40 * time.Millisecond) // the nodes need the CPU to start
		}
	}
}

// more waits until so many further appends of each writer are acknowledged, and returns the longest time
// that a writer was without an acknowledgement meanwhile.
func (l *load) more(t *testing.T, n int) (gap time.Duration) {
	t.Helper()
	l.mu.Lock()
	from := slices.Clone(l.acks)
	l.gap = 0
	l.mu.Unlock()
	waits(t, fmt.Sprintf("%d appends of each writer are acknowledged", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for writer := range from {
			if l.acks[writer] < from[writer]+n {
				return false
			}
		}
		gap = l.gap
		return true
	})
	return gap
}

// ends ends the load, and compares what is in the logs with what was acknowledged.
func (l *load) ends(t *testing.T) {
	t.Helper()
	close(l.over)
	l.all.Wait()
	if l.strange != nil {
		t.Errorf("an append ended with %v", l.strange)
	}
	acked, unknown, lost := 0, 0, 0
	for writer := range l.acked {
		records := all(t, l.s, logOf(writer))
		seen := map[string]bool{}
		for i, record := range records {
			if seq := l.acked[writer][record]; seen[record] || seq != pim.Seq(i+1) && !l.unknown[writer][record] {
				t.Errorf("%q is at seq %d of %q, twice: %v; acknowledged at %d", record, i+1, logOf(writer), seen[record], seq)
			}
			seen[record] = true
		}
		for record := range l.acked[writer] {
			if acked++; !seen[record] {
				lost++
			}
		}
		unknown += len(l.unknown[writer])
	}
	t.Logf("%d acknowledged, %d of unknown outcome, %d lost", acked, unknown, lost)
	if lost > 0 {
		t.Errorf("%d acknowledged records are lost", lost)
	}
}

// does does something to a node, see Cluster.Do.
func does(t *testing.T, c *cassandra.Cluster, node int, what ...string) {
	t.Helper()
	for _, what := range what {
		if err := c.Do(node, what); err != nil {
			t.Fatal(err)
		}
	}
}

// Three nodes with three copies. One stands still; one is killed; two are; one comes back with settings that
// would lose messages. Nothing that was acknowledged is lost; with two nodes writes go on, with one they
// are refused at once; all heals by itself.
func TestThreeNodes(t *testing.T) {
	c, err := cassandra.Start(3)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	do := func(node int, what ...string) { does(t, c, node, what...) }
	o := cql.Options{Hosts: []string{c.Host(1), c.Host(2), c.Host(3)}, Keyspace: "pim", Logger: slog.New(slog.DiscardHandler)}
	o.WriteWithin = 2 * hang // so that only a refusal ends a write
	if _, _, err := cql.Init(context.Background(), o, copies(t, "dc1:3")); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	defer closes(t, s)
	l := begins(s, 8)
	l.more(t, 10)

	do(2, "pause")
	gap := l.more(t, 40)
	begun := time.Now()
	closes(t, open(t, o)) // another process starts
	t.Logf("beside a node that stands still a process starts after %v", time.Since(begun).Round(time.Millisecond))
	do(2, "resume")
	t.Logf("a node stands still: %v without an acknowledgement", gap.Round(time.Millisecond))
	l.more(t, 10)

	do(3, "kill")
	gap = l.more(t, 40)
	t.Logf("a node is killed: %v without an acknowledgement", gap.Round(time.Millisecond))

	do(2, "kill")
	refused := func() bool {
		begun := time.Now()
		err := commits(s, appendTo("refused", 0, "r"))
		took := time.Since(begun)
		if err == nil || errors.Is(err, store.ErrUnknown) || pim.KindOf(err) != pim.KindUnavailable {
			return false // a node is taken for dead after some seconds
		}
		if took > hang/2 {
			t.Errorf("with the quorum gone a write is refused only after %v", took)
		}
		t.Logf("with the quorum gone a write is refused after %v", took.Round(time.Millisecond))
		return true
	}
	waits(t, "a write is refused", refused)
	if err := s.Health(); pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("health with the quorum gone: %v", err)
	}
	do(2, "begin", "ready")
	begun = time.Now()
	l.more(t, 10)
	t.Logf("two nodes are there again: 10 appends of each writer after %v", time.Since(begun).Round(time.Millisecond))

	if err := c.Set(3, "paxos_variant", "v1"); err != nil {
		t.Fatal(err)
	}
	do(3, "begin", "ready")
	waits(t, "the node with paxos_variant v1 is noticed", func() bool { return strings.Contains(fmt.Sprint(s.Health()), "paxos_variant: v1") })
	if err := commits(s, appendTo("refused", 0, "r")); pim.KindOf(err) != pim.KindUnavailable || !strings.Contains(err.Error(), c.Host(3)+" has paxos_variant: v1") {
		t.Errorf("a write beside such a node: %v", err)
	}
	refuses(t, "a cluster with such a node", opens(o), pim.KindInvalid, "set v2 in cassandra.yaml")
	do(3, "kill")
	if err := c.Set(3, "paxos_variant", "v2"); err != nil {
		t.Fatal(err)
	}
	do(3, "begin", "ready")
	l.more(t, 10)
	l.ends(t)
}

// Five data centres with one node and one copy each. Two of them go at once. It is no part of
// make test: PIM_FIVE_CENTRES=1 go test -v -run TestFiveCentres ./store/cql
func TestFiveCentres(t *testing.T) {
	if os.Getenv("PIM_FIVE_CENTRES") == "" {
		t.Skip("it starts five nodes: PIM_FIVE_CENTRES=1")
	}
	c, err := cassandra.StartCentres(5)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	o := cql.Options{Hosts: []string{c.Host(1), c.Host(2)}, Keyspace: "pim", DC: "dc1", Logger: slog.New(slog.DiscardHandler)}
	if _, _, err := cql.Init(context.Background(), o, copies(t, "dc1:1,dc2:1,dc3:1,dc4:1,dc5:1")); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	defer closes(t, s)
	l := begins(s, 8)
	l.more(t, 40)
	r := beginsReading(s)
	r.more(t, 100)
	for _, site := range []int{4, 5} {
		does(t, c, site, "kill")
	}
	gap := l.more(t, 100)
	longest := r.more(t, 100)
	t.Logf("two are killed: a writer was %v without an acknowledgement at most, a read took %v at most", gap.Round(time.Millisecond), longest.Round(time.Millisecond))
	if most := 10 * time.Second; longest > most { // with QUORUM alone 15 s
		t.Errorf("a read took %v, more than %v", longest, most)
	}
	r.ends(t)
	l.ends(t)
}

// reading is a load of reads: of logs that are being written, and of cells.
type reading struct {
	s    *cql.Store
	over chan struct{}
	all  sync.WaitGroup

	mu      sync.Mutex
	n       []int // reads of each reader
	longest time.Duration
	strange error
}

func beginsReading(s *cql.Store) *reading {
	r := &reading{s: s, over: make(chan struct{}), n: make([]int, 8)}
	for reader := range r.n {
		r.all.Go(func() { r.read(reader) })
	}
	return r
}

func (r *reading) read(reader int) {
	for n := 0; ; n++ {
		select {
		case <-r.over:
			return
		default:
		}
		begun := time.Now()
		var err error
		partition := store.Partition(fmt.Sprint("read", n%50))
		switch n % 3 {
		case 0:
			err = r.s.Read(context.Background(), []store.Read{{Log: logOf(reader), From: 1, Limit: store.Limit{Records: 10, Bytes: 1 << 20}}})
		case 1:
			_, err = r.s.List(context.Background(), partition, "", 10)
		default:
			_, _, err = store.Lookup(context.Background(), r.s, partition, "key")
		}
		r.mu.Lock()
		r.n[reader]++
		r.longest = max(r.longest, time.Since(begun))
		r.strange = cmp.Or(r.strange, err)
		r.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

// more waits until each reader has read n times more, and returns how long the longest read took meanwhile.
func (r *reading) more(t *testing.T, n int) (longest time.Duration) {
	t.Helper()
	r.mu.Lock()
	from := slices.Clone(r.n)
	r.longest = 0
	r.mu.Unlock()
	waits(t, fmt.Sprintf("%d reads of each reader", n), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for reader := range from {
			if r.n[reader] < from[reader]+n {
				return false
			}
		}
		longest = r.longest
		return true
	})
	return longest
}

func (r *reading) ends(t *testing.T) {
	t.Helper()
	close(r.over)
	r.all.Wait()
	if r.strange != nil {
		t.Errorf("a read ended with %v", r.strange)
	}
}
