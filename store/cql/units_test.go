package cql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 9), 1, 30).Draw(t, "records")
		value := putChunk(records)
		c, err := parseChunk(value, 0, int64(len(records))+4)
		if err != nil || c.first != 5 || !slices.EqualFunc(c.records, records, bytes.Equal) {
			t.Fatalf("%q becomes %q from %d, %v", records, c.records, c.first, err)
		}
		// A chunk that is cut, or has more behind it, is found out.
		for _, bad := range [][]byte{value[:rapid.IntRange(0, len(value)-1).Draw(t, "cut")], append(value, 0)} {
			if _, err := parseChunk(bad, 0, 100); pim.KindOf(err) != pim.KindCorrupt {
				t.Fatalf("%q parses: %v", bad, err)
			}
		}
	})
	large := slices.Repeat([][]byte{make([]byte, 20<<10)}, 10)
	if n := nextChunk(large); n != 3 {
		t.Errorf("%d records of 20 KiB in a chunk", n)
	}
	if n := nextChunk([][]byte{make([]byte, 1<<20), nil}); n != 1 {
		t.Errorf("%d records in a chunk, the first has 1 MiB", n)
	}
}

func TestCellsInBatches(t *testing.T) {
	statements := func(partition string, n, size int) []cellStatement {
		return slices.Repeat([]cellStatement{{partition: partition, size: size}}, n)
	}
	for _, test := range []struct {
		statements []cellStatement
		want       string
	}{
		{nil, "[]"},
		{statements("a", 1, 1<<20), "[1]"},
		{statements("a", 250, 10), "[100 100 50]"},
		{statements("a", 3, 100<<10), "[2 1]"},
		{slices.Concat(statements("a", 4, 10), statements("b", 4, 10), statements("c", 4, 10)), "[10 2]"},
		{slices.Concat(statements("a", 1, 10<<10), statements("b", 1, 10<<10)), "[1 1]"},
		{slices.Concat(statements("a", 20, 10), statements("b", 2, 10)), "[20 2]"},
	} {
		var got []int
		for _, b := range inBatches(test.statements) {
			got = append(got, len(b))
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("batches of %v statements, want %s", got, test.want)
		}
	}
}

func TestLocks(t *testing.T) {
	var l locks
	release, err := l.acquire(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.acquire(context.Background(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.acquire(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("a lock that is held: %v", err)
	}
	next := make(chan func())
	go func() {
		release, _ := l.acquire(context.Background(), "a")
		next <- release
	}()
	release()
	(<-next)()
	if len(l.held) != 0 {
		t.Errorf("%d locks are kept", len(l.held))
	}
}

func TestNewestIsBounded(t *testing.T) {
	var n newest
	for i := range mostLogs + 10 {
		n.saw(fmt.Append(nil, i), 1)
	}
	n.saw([]byte("short"), 0)
	if len(n.parts) != mostLogs {
		t.Errorf("%d logs are known", len(n.parts))
	}
	n.saw([]byte("long"), 7)
	n.saw([]byte("long"), 5)
	if got := n.of([]byte("long")); got != 7 {
		t.Errorf("the newest part is %d", got)
	}
}

func TestReadReplication(t *testing.T) {
	for _, test := range []struct {
		told map[string]string
		want string
	}{
		{map[string]string{"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3", "dc2": "2"}, "dc1:3,dc2:2"},
		{map[string]string{"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3", "dc2": "0"}, "dc1:3"},
		{map[string]string{"class": "SimpleStrategy", "replication_factor": "3"}, "3"},
	} {
		if r, err := readReplication(test.told); err != nil || r.String() != test.want {
			t.Errorf("%v is %s, %v", test.told, r, err)
		}
	}
	for _, told := range []map[string]string{
		{"class": "org.apache.cassandra.locator.LocalStrategy"},
		{"class": "org.apache.cassandra.locator.MetaStrategy"},
		{"class": "org.apache.cassandra.locator.NetworkTopologyStrategy"},
		{"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3/1"},
		{"class": "SimpleStrategy"},
	} {
		if r, err := readReplication(told); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%v is taken, as %s", told, r)
		}
	}
}

// fixed is a policy with one order of hosts.
type fixed struct {
	gocql.HostSelectionPolicy
	hosts []*gocql.HostInfo
}

type picked struct{ *gocql.HostInfo }

func (p picked) Info() *gocql.HostInfo { return p.HostInfo }
func (picked) Mark(error)              {}

func (f fixed) Pick(gocql.ExecutableStatement) gocql.NextHost {
	hosts := f.hosts
	return func() gocql.SelectedHost {
		if len(hosts) == 0 {
			return nil
		}
		host := hosts[0]
		hosts = hosts[1:]
		return picked{host}
	}
}

// A node that takes requests and says nothing is asked last, until it says something.
func TestSilentNodeIsAskedLast(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	g := &gate{dialer: &net.Dialer{}, conns: map[*gatedConn]bool{}}
	defer g.shut()
	conn, err := g.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	node, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	var f fixed
	for _, ip := range []string{"127.0.0.1", "127.0.0.2"} {
		host, err := gocql.NewHostInfoFromAddrPort(net.ParseIP(ip), 9042)
		if err != nil {
			t.Fatal(err)
		}
		f.hosts = append(f.hosts, host)
	}
	order := func() (ips []string) {
		next := (&steady{f, g, func() {}}).Pick(nil)
		for host := next(); host != nil; host = next() {
			ips = append(ips, host.Info().ConnectAddress().String())
		}
		return ips
	}
	c := conn.(*gatedConn)
	if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := order(); got[0] != "127.0.0.1" {
		t.Errorf("the order is %v before the node has had time to answer", got)
	}
	c.waiting.since.Add(-int64(silentAfter)) // as if it had passed
	c.waiting.begin()                        // a later request changes nothing
	if got := order(); len(got) != 2 || got[0] != "127.0.0.2" {
		t.Errorf("the order is %v while a node says nothing", got)
	}
	if _, err := node.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got := order(); len(got) != 2 || got[0] != "127.0.0.1" {
		t.Errorf("the order is %v after the node has answered", got)
	}
}

// A write goes on after what may pass, and ends early when the cluster refuses.
func TestPatience(t *testing.T) {
	ctx := t.Context()
	refusal, timeout := error(&gocql.RequestErrUnavailable{}), error(&gocql.RequestErrWriteTimeout{})
	var p patience
	for n := range 2 * refusals {
		if goesOn := p.after(ctx, refusal); goesOn != (n < refusals-1) {
			t.Fatalf("after refusal %d it goes on: %v", n+1, goesOn)
		} else if !goesOn {
			break
		}
	}
	p = patience{}
	for n := range 2 * refusals { // others that come in between begin the row anew
		for _, err := range []error{refusal, refusal, timeout, nil}[n%2*2:] {
			if !p.after(ctx, err) {
				t.Fatalf("it ends after %v", err)
			}
		}
		p.tries = 0
	}
	p = patience{unknown: true}
	for begun := time.Now(); p.after(ctx, refusal); {
		if time.Since(begun) > time.Minute {
			t.Fatal("a write of unknown outcome is refused for a minute")
		}
	}
	if time.Since(p.since) < refusedFor {
		t.Errorf("a write of unknown outcome has ended after %v", time.Since(p.since))
	}
}
