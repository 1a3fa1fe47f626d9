package avalanche

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/lbs"
)

// many is how many clients the tests play, small enough for the race detector.
const many = 10_000

// played plays the defaults with changes.
func played(t *testing.T, change func(*Config)) *Report {
	t.Helper()
	c := Defaults(many, 5)
	change(&c)
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// promise returns which promise a run breaks in which all clients know the LBS and heed it, and there is room for all of them.
func promise(r *Report) error {
	last := r.Series[len(r.Series)-1]
	connections := 0
	for _, s := range last.Sites {
		connections += s.Connections
	}
	switch {
	case r.MostLoad > 1:
		return fmt.Errorf("a site has %.2f of its capacity", r.MostLoad)
	case r.Falls > 0:
		return fmt.Errorf("%d times a site has fallen", r.Falls)
	case r.MostLetIn > r.Accept*3/2:
		// Who was assigned to the site that died, in the seconds until the LBS had missed it, goes to another one unasked.
		return fmt.Errorf("a site that accepts %d clients a second was sent %d", r.Accept, r.MostLetIn)
	case r.Back < 0 || r.Back > 150:
		return fmt.Errorf("all are back after %.0f s", r.Back)
	case connections != r.Clients:
		return fmt.Errorf("%d clients have %d connections in the end", r.Clients, connections)
	case r.Questions > 9*r.Lost:
		return fmt.Errorf("for %d connections that were lost, %d questions were asked", r.Lost, r.Questions)
	}
	return nil
}

// What the LBS promises holds without any admission, and whatever the random numbers are.
func TestPromisesHold(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		for _, jitter := range []bool{false, true} {
			r := played(t, func(c *Config) { c.Seed, c.Policy = seed, Policy{LBS: true, Jitter: jitter} })
			if err := promise(r); err != nil {
				t.Errorf("seed %d, %s: %v", seed, r.Policy, err)
			}
		}
	}
}

// Two sites die one after the other, and all are at the three that are left before the first is back.
func TestTwoSitesDie(t *testing.T) {
	r := played(t, func(c *Config) {
		c.Capacity, c.Accept = many/3+many/30, 16 // 4,000 clients at 38 a second
		c.Deaths = []Death{{Site: 4, At: 30 * time.Second}, {Site: 1, At: 60 * time.Second}}
	})
	if err := promise(r); err != nil {
		t.Error(err)
	}
}

// Each part that is taken away breaks a promise.
func TestBrokenPoliciesAreCaught(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no window":                       func(c *Config) { c.LBSDefects = lbs.NoWindows },
		"windows are not heeded":          func(c *Config) { c.Heedless = true },
		"the LBS forgets its assignments": func(c *Config) { c.LBSDefects, c.Policy.Admission = lbs.Forgets, false },
		"the LBS forgets; with admission": func(c *Config) { c.LBSDefects = lbs.Forgets },
		"clients of an old version":       func(c *Config) { c.Old, c.Policy.Admission = 0.2, false },
		"no LBS":                          func(c *Config) { c.Policy = Policy{Jitter: true} },
		"no LBS, with admission":          func(c *Config) { c.Policy.LBS = false },
		"neither jitter nor LBS":          func(c *Config) { c.Policy = Policy{} },
		"neither of both; with admission": func(c *Config) { c.Policy = Policy{Admission: true} },
	} {
		t.Run(name, func(t *testing.T) {
			err := promise(played(t, func(c *Config) {
				c.For = 200 * time.Second // so that all could be back
				change(c)
				if !c.Policy.Admission {
					c.For = 80 * time.Second // what falls does so at once
				}
			}))
			if err == nil {
				t.Error("it passes")
			}
			t.Log(err)
		})
	}
}

// One site that dies takes all others with it if nothing holds the clients off: the model has the avalanche.
func TestWithoutProtectionsAllSitesFall(t *testing.T) {
	r := played(t, func(c *Config) { c.Policy, c.For = Policy{}, 90*time.Second })
	if r.Falls < 4 || r.MostOut < many*9/10 || r.OutAtEnd < many/2 {
		t.Errorf("%d falls, %d clients were out, %d at the end", r.Falls, r.MostOut, r.OutAtEnd)
	}
}

// Whatever clients do, a site that admits by its rates never has more connections than its capacity, lets in no more in a second
// than its rate and the two seconds' worth that may come at once, and holds.
func TestAdmissionHoldsAnyway(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"old clients":              func(c *Config) { c.Old = 0.5 },
		"jitter alone":             func(c *Config) { c.Policy.LBS = false },
		"more clients than places": func(c *Config) { c.Capacity = many/5 + many/100 },
		"the LBS is away":          func(c *Config) { c.AwayFrom, c.AwayTo = 10*time.Second, 100*time.Second },
		"the LBS forgets":          func(c *Config) { c.LBSDefects = lbs.Forgets },
		"three die at once": func(c *Config) {
			c.Capacity = many
			c.Deaths = []Death{{Site: 0, At: 30 * time.Second}, {Site: 1, At: 30 * time.Second}, {Site: 3, At: 30 * time.Second}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := played(t, change)
			if r.MostLoad > 1 || r.MostLetIn > 3*r.Accept || r.Falls > 0 {
				t.Errorf("%.2f of the capacity, %d let in where %d are accepted, %d falls", r.MostLoad, r.MostLetIn, r.Accept, r.Falls)
			}
		})
	}
}

// With more clients than places, jitter alone has the rest knock all the time. Who asks an LBS knocks once there is a place.
func TestWaitingCostsSitesNothing(t *testing.T) {
	crowded := func(c *Config) {
		c.Capacity = many/5 + many/100
		c.Deaths[0].Back = 0
	}
	jitter := played(t, func(c *Config) { crowded(c); c.Policy.LBS = false })
	both := played(t, crowded)
	if both.Refused > both.MostOut/20 || jitter.Refused < 10*jitter.MostOut {
		t.Errorf("%d refusals with an LBS, %d by jitter alone, of %d clients that were out", both.Refused, jitter.Refused, both.MostOut)
	}
	if most := 4 * both.Capacity; both.OutAtEnd > many-most*99/100 {
		t.Errorf("%d are out at the end, and %d sites have %d places each", both.OutAtEnd, 4, both.Capacity)
	}
}

// A site that comes back has cold caches. The accept rate holds if it is what a cold site can log in.
func TestColdCaches(t *testing.T) {
	for cold, falls := range map[float64]bool{3: false, 20: true} {
		r := played(t, func(c *Config) {
			c.Capacity, c.Cold = many/5+many/100, cold
			c.Deaths[0].Back = 90 * time.Second
		})
		if r.Falls > 0 != falls {
			t.Errorf("%v times as much for a cold login: %d falls", cold, r.Falls)
		}
	}
}

// While the LBS are away, clients come within the time in which all of them would fit.
func TestTheLBSIsAway(t *testing.T) {
	r := played(t, func(c *Config) { c.AwayFrom, c.AwayTo, c.Policy.Admission = 10*time.Second, c.For, false })
	if r.Falls > 0 || r.MostLoad > 1 || r.OutAtEnd > many/100 {
		t.Errorf("%d falls, %.2f of the capacity, %d are out at the end", r.Falls, r.MostLoad, r.OutAtEnd)
	}
}

// A run has the same bytes each time, and other bytes with another seed.
func TestRunsRepeat(t *testing.T) {
	run := func(seed uint64) string {
		text, err := json.Marshal(played(t, func(c *Config) { c.Seed, c.Old, c.For = seed, 0.1, 2*time.Minute }))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := run(1)
	if run(1) != first {
		t.Error("the same seed has another report")
	}
	if run(2) == first {
		t.Error("another seed has the same report")
	}
}

// Cohorts come to about the same as their clients one by one.
func TestCohortsAreAlike(t *testing.T) {
	const clients, together = 60_000, 3
	one := played(t, func(c *Config) { *c = Defaults(clients, 5) })
	three := played(t, func(c *Config) { *c = Defaults(clients, 5); c.Cohort = together })
	near := func(what string, a, b, part float64) {
		if math.Abs(a-b) > part*max(a, b) {
			t.Errorf("%s: %v one by one, %v by threes", what, a, b)
		}
	}
	near("all back", one.Back, three.Back, 0.1)
	near("half back", one.Back50, three.Back50, 0.1)
	near("out", float64(one.MostOut), float64(three.MostOut), 0.05)
	near("attempts", float64(one.Attempts), float64(three.Attempts), 0.1)
	near("load", one.MostLoad, three.MostLoad, 0.02)
	if err := promise(three); err != nil {
		t.Error(err)
	}
}

func TestBadConfigs(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Sites = 1 },
		func(c *Config) { c.Sites = 17 },
		func(c *Config) { c.Clients = 4 },
		func(c *Config) { c.Clients = 20_000_000 },
		func(c *Config) { c.Cohort = 0 },
		func(c *Config) { c.Cohort = c.Accept + 1 },
		func(c *Config) { c.For = 0 },
		func(c *Config) { c.For = 2 * time.Hour },
		func(c *Config) { c.Capacity = 0 },
		func(c *Config) { c.Accept = 0 },
		func(c *Config) { c.Balancers = 0 },
		func(c *Config) { c.Balancers = 6 },
		func(c *Config) { c.Questions = 0 },
		func(c *Config) { c.Old = 1.1 },
		func(c *Config) { c.Cold = 0 },
		func(c *Config) { c.Window = -1 },
		func(c *Config) { c.Deaths[0].Site = 5 },
		func(c *Config) { c.Deaths[0].At = time.Second },
		func(c *Config) { c.Deaths[0].Back = c.Deaths[0].At },
	} {
		c := Defaults(many, 5)
		change(&c)
		if r, err := Run(t.Context(), c); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%+v: %+v, %v", c, r, err)
		}
	}
}

func TestARunCanBeEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Defaults(many, 5)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Pictures are XML, with the lines that they are to have.
func TestDraw(t *testing.T) {
	var runs []*Report
	for _, p := range []Policy{{}, {Jitter: true, LBS: true}} {
		runs = append(runs, played(t, func(c *Config) { c.Clients, c.Policy, c.For = 2000, p, 40*time.Second; c.Accept = 10 }))
	}
	for want, draw := range map[int]func(io.Writer){
		5 * 2:   func(w io.Writer) { Draw(w, []string{"nothing", "both"}, runs) },
		1 + 4*5: func(w io.Writer) { DrawSites(w, runs[1]) },
	} {
		var out bytes.Buffer
		draw(&out)
		lines := 0
		for d := xml.NewDecoder(&out); ; {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
				lines++
			}
		}
		if lines != want {
			t.Errorf("a picture has %d lines, not %d", lines, want)
		}
	}
}

// Events come by their moments, and within one in the order in which they were planned; places are used again.
func TestDue(t *testing.T) {
	d := newDue(time.Second)
	for round := range 3 {
		for _, at := range []time.Duration{5 * tick, 3 * tick, 3*tick - 1, 2 * tick, 5*tick - tick/2, 2 * time.Second} {
			d.add(at, event{number: uint32(at)})
		}
		var got []time.Duration
		for m := range len(d.first) {
			for e, ok := d.take(m); ok; e, ok = d.take(m) {
				got = append(got, time.Duration(e.number))
			}
		}
		want := []time.Duration{2 * tick, 3 * tick, 3*tick - 1, 5 * tick, 5*tick - tick/2}
		if fmt.Sprint(got) != fmt.Sprint(want) || len(d.events) != 6 {
			t.Errorf("round %d: %v, want %v; %d places", round, got, want, len(d.events))
		}
	}
}
