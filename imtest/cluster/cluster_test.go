package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/fault"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/process"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/imtest/soak"
	"go.uber.org/goleak"
)

// all is what all tests use, and the first of them makes: the programs, a cluster of Cassandra, and one of pim on it.
var all struct {
	sync.Once
	dir, pim  string
	cassandra *cassandra.Cluster
	err       error

	cluster   *Cluster // nil: the next test starts one
	keyspaces int      // so far
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(sharing{m})) }

// sharing runs the tests, and then ends what they share.
type sharing struct{ *testing.M }

func (s sharing) Run() int {
	code := s.M.Run()
	if all.cluster != nil {
		all.cluster.Stop()
	}
	if all.cassandra != nil {
		all.cassandra.Stop()
	}
	os.RemoveAll(all.dir)
	return code
}

// prepare makes what all tests use.
func prepare() error {
	var err error
	if all.dir, err = os.MkdirTemp("", "pim-cluster"); err != nil {
		return err
	}
	all.pim = filepath.Join(all.dir, "pim")
	if err := process.Build(all.pim, "pimfaults"); err != nil {
		return err
	}
	all.cassandra, err = cassandra.Start(Nodes)
	return err
}

// running returns the cluster of the tests before, or a new one: after a test that has failed, and may have left
// anything.
func running(t *testing.T) *Cluster {
	all.Do(func() { all.err = prepare() })
	if all.err != nil {
		t.Fatal(all.err)
	}
	if all.cluster == nil {
		all.keyspaces++
		name := fmt.Sprintf("faults_%d", all.keyspaces)
		c, err := Start(t.Context(), Options{
			Pim: all.pim, Cassandra: all.cassandra, Keyspace: name, Dir: filepath.Join(all.dir, name), Log: logger(),
		})
		if err != nil {
			t.Fatal(err)
		}
		all.cluster = c
	}
	t.Cleanup(func() {
		if t.Failed() {
			all.cluster.Stop()
			all.cluster = nil
		}
	})
	return all.cluster
}

// logger returns where the faults are told.
func logger() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// Three nodes of pim over three of Cassandra lose, double and misorder nothing, whatever happens to one or two of
// them. A schedule has users and conversations of its own, so PIM_SEED plays it again.
func TestSchedules(t *testing.T) {
	first, count := seeds.Schedules(t, Short.Cards(), "")
	play(t, running(t), Short, first, count)
}

// The same with faults that last longer, and with a quorum of the store away: PIM_CLUSTER_SCHEDULES says how many.
func TestLongSchedules(t *testing.T) {
	first, count := seeds.Schedules(t, 0, "PIM_CLUSTER_SCHEDULES")
	if os.Getenv("PIM_CLUSTER_SCHEDULES") == "" {
		t.Skip("PIM_CLUSTER_SCHEDULES is not set")
	}
	play(t, running(t), Long, first, count)
}

// feel shows that links which are cut are felt by the nodes: a fault that does nothing would let every schedule pass.
func feel(t *testing.T, c *Cluster) {
	t.Helper()
	alone, all := "pim_bus_members 1\n", fmt.Sprintf("pim_bus_members %d\n", Nodes)
	await(t, c, 2, "/metrics", all)
	cut := func(path fault.Path) {
		for i := range Nodes - 1 {
			if err := errors.Join(c.links.pass(2, i, path), c.links.pass(i, 2, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut(fault.Path{Hold: true})
	await(t, c, 2, "/metrics", alone)
	cut(fault.Path{})
	for i := range Nodes {
		await(t, c, i, "/metrics", all)
	}
}

// await waits until a page of a node says what it must, a regular expression.
func await(t *testing.T, c *Cluster, i int, page, must string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if !says(ctx, c, i, page, must) {
		t.Fatalf("%s of node %d does not say %q\n%s", page, i+1, must, c.Said())
	}
}

// says waits until a page of a node says what it must, a regular expression. It reports false if ctx ends before.
func says(ctx context.Context, c *Cluster, i int, page, must string) bool {
	is := regexp.MustCompile(must)
	for {
		if body, err := get(ctx, c.nodes[i].URL(false)+page); err == nil && is.Match(body) {
			return true
		}
		if !imtest.Pause(ctx, 50*time.Millisecond) {
			return false
		}
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// tally is what schedules of a sort of fault came to.
type tally struct {
	schedules, messages       int
	lost, doubled, misordered int
	longest                   time.Duration
	slowest                   uint64 // the seed of the longest
}

// play plays schedules one after the other on one cluster, and judges each.
func play(t *testing.T, c *Cluster, d *Deck, first, count uint64) {
	feel(t, c)
	sorts := map[string]*tally{}
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test")) // other tests play the same seeds on the same store
	for n := range count {
		seed := first + n
		s := c.Schedule(d, seed)
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Log(s)
			begun := time.Now()
			rep, err := soak.Run(t.Context(), soak.Config{
				Servers: s, Keys: c.Keys(), Seed: seed, Name: fmt.Sprintf("%s%d", name, seed), Log: c.o.Log,
				Users: 4, Rate: 30, Duration: 600 * time.Millisecond, FaultEvery: 400 * time.Millisecond, MinFaults: 1,
			})
			if err := errors.Join(err, s.Whole()); err != nil {
				t.Fatalf("PIM_SEED=%d: %s: %v\n%s", seed, s, err, c.Said())
			}
			t.Logf("%d messages and %d deliveries in %.1f s of %.1f: lost %d, doubled %d, misordered %d; %d were overtaken; the longest wait was %.1f s",
				rep.Messages, rep.Deliveries, rep.Seconds, time.Since(begun).Seconds(), rep.Lost, rep.Doubled, rep.Misordered, rep.Overtaken, rep.Longest.Seconds())
			for _, f := range rep.Findings {
				t.Error(f)
			}
			if err := rep.Err(); err != nil || rep.Messages == 0 || rep.Deliveries <= rep.Messages {
				t.Errorf("PIM_SEED=%d: %s: %+v: %v\n%s", seed, s, rep, err, c.Said())
			}
			of := sorts[s.Sort()]
			if of == nil {
				of = new(tally)
				sorts[s.Sort()] = of
			}
			of.schedules++
			of.messages += rep.Messages
			of.lost += rep.Lost
			of.doubled += rep.Doubled
			of.misordered += rep.Misordered
			if rep.Longest > of.longest {
				of.longest, of.slowest = rep.Longest, seed
			}
		})
		if !ok && d != Long {
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sorts)) {
		of := sorts[name]
		t.Logf("%s: %d schedules, %d messages, lost %d, doubled %d, misordered %d; the longest wait for an acknowledgement %.1f s, with PIM_SEED=%d",
			name, of.schedules, of.messages, of.lost, of.doubled, of.misordered, of.longest.Seconds(), of.slowest)
	}
}

// upgrade is a cluster whose faults are that one node after the other is stopped, as an operator does, and another version
// of pim is started in its place: the programs take turns.
type upgrade struct {
	*Cluster
	t        *testing.T
	programs []string
}

func (u upgrade) Break(ctx context.Context, random *rand.Rand, number int) error {
	program := u.programs[(number-1)%len(u.programs)]
	for n, i := range random.Perm(Nodes) {
		ahead := between(random, -5*time.Minute, 5*time.Minute)
		if err := errors.Join(u.rightClocks(i), u.SetClock(i, ahead)); err != nil {
			return err
		}
		if err := u.Replace(context.WithoutCancel(ctx), i, program); err != nil {
			return fmt.Errorf("node %d becomes %s: %w", i+1, program, err)
		}
		if ahead.Abs() > time.Second { // it knows the time, although its clock is off: it understands what the others say, whatever version they are of
			await(u.t, u.Cluster, i, "/metrics", "pim_clock_carried 1\n")
		}
		if other := (i + 1) % Nodes; n == 0 && number == 1 { // the first of the later version speaks as one
			await(u.t, u.Cluster, other, "/metrics", fmt.Sprintf("pim_bus_members %d\n", Nodes))
			await(u.t, u.Cluster, other, "/metrics", `pim_bus_dropped_total{reason="kind"} [1-9]`)
		}
		u.o.Log.Info("another version serves", "node", i+1, "program", filepath.Base(program), "clock", ahead)
	}
	return nil
}

// Nodes of this version and of a later one serve side by side: under load one node after the other is replaced by one that
// has fields, roles, and kinds of messages and requests which this version does not know, and then by this version
// again. The clock of each is minutes off when it starts. No message is lost, and none is refused but to be sent again.
func TestNextVersion(t *testing.T) {
	c := running(t)
	next := filepath.Join(all.dir, "pim-next")
	if err := process.Build(next, "pimfaults", "pimnext"); err != nil {
		t.Fatal(err)
	}
	seed := seeds.First(t)
	rep, err := soak.Run(t.Context(), soak.Config{
		Servers: upgrade{c, t, []string{next, all.pim}}, Keys: c.Keys(), Seed: seed, Name: "upgrade", Log: c.o.Log,
		Users: 4, Rate: 10, Duration: time.Second, FaultEvery: 500 * time.Millisecond, MinFaults: 2,
	})
	if err != nil { // also if a message was refused for good
		t.Fatalf("PIM_SEED=%d: %v\n%s", seed, err, c.Said())
	}
	t.Logf("%d messages and %d deliveries in %.1f s: lost %d, doubled %d, misordered %d; the longest wait was %.1f s",
		rep.Messages, rep.Deliveries, rep.Seconds, rep.Lost, rep.Doubled, rep.Misordered, rep.Longest.Seconds())
	for _, f := range rep.Findings {
		t.Error(f)
	}
	if err := rep.Err(); err != nil || rep.Faults < 2 || rep.Deliveries <= rep.Messages {
		t.Errorf("PIM_SEED=%d: %+v: %v\n%s", seed, rep, err, c.Said())
	}
}

// forgetful is a cluster whose only fault is that its store forgets a conversation.
type forgetful struct {
	*Cluster
	session *gocql.Session
}

func (f forgetful) Break(ctx context.Context, _ *rand.Rand, _ int) error {
	rows := f.session.Query("SELECT DISTINCT log, part FROM log").IterContext(ctx)
	var log []byte
	var part, forgotten int64
	for rows.Scan(&log, &part) {
		if !bytes.Contains(log, []byte("soak-0")) || !bytes.Contains(log, []byte("soak-1")) {
			continue
		}
		if err := f.session.Query("DELETE FROM log WHERE log = ? AND part = ?", log, part).ExecContext(ctx); err != nil {
			return err
		}
		forgotten++
	}
	if err := rows.Close(); err != nil {
		return err
	}
	if forgotten == 0 {
		return fmt.Errorf("the store does not have the conversation of soak-0 and soak-1")
	}
	return nil
}

// A store that forgets what it has acknowledged is found out.
func TestForgetfulStoreIsCaught(t *testing.T) {
	c := running(t)
	config := gocql.NewCluster(all.cassandra.Host(1), all.cassandra.Host(2), all.cassandra.Host(3))
	config.Keyspace, config.Consistency = c.o.Keyspace, gocql.All
	session, err := config.CreateSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	rep, err := soak.Run(t.Context(), soak.Config{
		Servers: forgetful{c, session}, Keys: c.Keys(), Seed: 1, Users: 3, Rate: 50,
		Duration: time.Second, FaultEvery: time.Second, MinFaults: 1, Patience: 3 * time.Second,
	})
	if err == nil && rep.Err() == nil {
		t.Errorf("not noticed: %+v", rep)
	}
	t.Log(err, rep.Err(), rep.Findings)
}

// A node's clock is set by minutes, or drifts: the node notices within a second or some, goes by the time of the others, and
// loses, doubles and misorders nothing.
func TestClocks(t *testing.T) {
	c := running(t)
	first, count := seeds.Schedules(t, 1, "PIM_CLUSTER_CLOCKS")
	node := c.Schedule(Clocks, first).faults[0].node
	play(t, c, Clocks, first, count)
	if c.Schedule(Clocks, first).faults[0].sort == clockSet && count == 1 {
		await(t, c, node, "/metrics", "pim_clock_carried 1\n")
	}
}
