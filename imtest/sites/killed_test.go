package sites

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/imtest/soak"
)

// Five sites, 30 ms apart, of which two die at a time, lose, double and misorder nothing, and those that are left go on
// writing. PIM_FIVE_SITES says how many of the ten pairs die; make five-sites kills all of them, which takes some ten minutes.
func TestFiveSites(t *testing.T) {
	if os.Getenv("PIM_FIVE_SITES") == "" {
		t.Skip("it takes minutes: make five-sites")
	}
	pairs, err := strconv.Atoi(os.Getenv("PIM_FIVE_SITES"))
	if err != nil || pairs < 1 || pairs > Pairs {
		t.Fatalf("PIM_FIVE_SITES=%s: it must be 1 to %d", os.Getenv("PIM_FIVE_SITES"), Pairs)
	}
	rate := 10.0
	if r, err := strconv.ParseFloat(os.Getenv("PIM_SITES_RATE"), 64); err == nil {
		rate = r
	}
	const delay = 15 * time.Millisecond
	store := has(t, func() (*cassandra.Cluster, error) { return cassandra.StartFar(5, delay) })
	p := starts(t, Options{
		Pim: build(t), Nodes: 5, Cassandra: store, Stores: 5, Replication: "dc1:1,dc2:1,dc3:1,dc4:1,dc5:1", Keyspace: "sites",
		Sites: true, Delay: delay,
	})
	k := &Killed{Pim: p, Log: logger()}
	rep, err := soak.Run(t.Context(), soak.Config{
		Servers: k, Keys: p.Keys(), Seed: seeds.First(t), Log: k.Log, Users: 16, Rate: rate,
		Duration: time.Second, FaultEvery: 8 * time.Second, MinFaults: 1 + pairs, Answered: k.Answered,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Said())
	}
	t.Logf("%d pairs of sites killed in %.0f s, %g messages a second: %d messages, %d deliveries: lost %d, doubled %d, misordered %d; %d were overtaken",
		pairs, rep.Seconds, rate, rep.Messages, rep.Deliveries, rep.Lost, rep.Doubled, rep.Misordered, rep.Overtaken)
	t.Log("| messages that were sent | | p50 | p90 | p99 | longest | longest time without an acknowledgement |")
	for _, row := range []struct {
		name string
		of   phase
	}{
		{"with five sites", together},
		{"in the 6 s after two were killed", failing},
		{"with three sites", without},
		{"while the two start again", back},
	} {
		w, silent := k.in(row.of)
		t.Logf("| %s | %d | %d ms | %d ms | %d ms | %d ms | %.1f s |", row.name, w.messages,
			w.p50.Milliseconds(), w.p90.Milliseconds(), w.p99.Milliseconds(), w.longest.Milliseconds(), silent.Seconds())
		if w.messages == 0 {
			t.Errorf("nothing was sent %s", row.name)
		}
	}
	for _, f := range rep.Findings {
		t.Error(f)
	}
	if err := rep.Err(); err != nil {
		t.Errorf("%v\n%s", err, p.Said())
	}
}

// A message counts for the phase in which it was sent, however late its acknowledgement comes.
func TestPhases(t *testing.T) {
	var k Killed
	k.Answered(time.Now(), time.Now())
	k.enter(together)
	k.enter(failing)
	begun := k.began[1].at
	k.Answered(k.began[0].at, begun.Add(time.Second))
	k.Answered(begun.Add(time.Second), begun.Add(4*time.Second))
	k.Answered(begun.Add(2*time.Second), begun.Add(5*time.Second))
	if w, _ := k.in(together); w.messages != 1 {
		t.Errorf("before: %+v", w)
	}
	if w, silent := k.in(failing); w != (waited{2, 3 * time.Second, 3 * time.Second, 3 * time.Second, 3 * time.Second}) || silent != 3*time.Second {
		t.Errorf("after: %+v, %v without an acknowledgement", w, silent)
	}
	if w, silent := k.in(without); w != (waited{}) || silent != 0 {
		t.Errorf("of no time: %+v, %v", w, silent)
	}
}
