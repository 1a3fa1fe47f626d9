package avalanche

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/lbs"
)

// Config says what is played. Rates and capacities are those of the real system, whatever Cohort is.
type Config struct {
	Clients int // at least 1 for each site
	Sites   int // 2 to 16. Each has an equal part of the clients at the beginning
	// Cohort is how many clients each one that is played stands for. All of them do the same at the same time.
	Cohort int
	Seed   uint64
	For    time.Duration // how long the run is, at least a second

	Capacity  int // connections that a site takes (max-connections)
	Accept    int // new connections that it takes in a second (accept-rate)
	Balancers int // sites that have the role lbs, the first ones; at least 1 with LBS
	Questions int // that each of them takes in a second

	// Deaths are sites that go dark: all packets to them are swallowed.
	Deaths []Death
	// The LBS are away from AwayFrom to AwayTo: nothing comes back from them.
	AwayFrom, AwayTo time.Duration
	Old              float64 // the part of clients of an old version: they know no LBS and heed no time that they are told

	Policy Policy
	// Window is over which clients come back that have lost a good connection (reconnect-window).
	Window time.Duration
	// Cold is how many times as much as usual the login itself costs in the first ColdFor after a site has started.
	Cold    float64
	ColdFor time.Duration

	LBSDefects lbs.Defects // ways in which the LBS is broken on purpose
	Heedless   bool        // clients ask the LBS, and ask again at once whatever it says of windows
}

// Policy is which protections are there.
type Policy struct {
	// Jitter has clients wait for random times that grow, as the SDK's do. Without it each comes back after a second, again and again.
	Jitter bool
	// LBS has clients ask an LBS where to go and when.
	LBS bool
	// Admission has sites refuse what is above their capacity and their accept rate.
	Admission bool
}

// String returns the policy as tables name it.
func (p Policy) String() string {
	switch {
	case p.Jitter && p.LBS:
		return "both"
	case p.Jitter:
		return "jitter"
	case p.LBS:
		return "lbs"
	}
	return "nothing"
}

// Death is a site that goes dark at At, and starts again, with no connection, at Back; 0: never.
type Death struct {
	Site     int
	At, Back time.Duration
}

// What the model takes for granted.
const (
	// Costs in logins: one takes a millisecond of a core, as accept-rate has it, of which TLS is a half. A refusal
	// before TLS takes 40 µs (docs/benchmarks.md).
	costTLS     = 0.5
	costLogin   = 0.5
	costRefusal = 0.04
	// power is how many times its accept rate a site can log in when it does nothing else, and steady the part of
	// that which messages of its usual number of clients take. Twice as many take twice as much.
	power  = 2
	steady = 0.3
	// A site whose CPU is behind by fallBehind has not answered its clients' pings for so long, and whatever watches
	// it starts it again; so does a site whose memory is full, at overfull times its capacity. It takes restart.
	fallBehind = 10 * time.Second
	overfull   = 1.2
	restart    = 30 * time.Second

	trip   = 50 * time.Millisecond // there and back
	notice = time.Second           // in which all clients notice that their connection is gone: the worst case
	// Other nodes miss a site after missed, and an LBS hears what a site says after a second.
	missed = 2 * time.Second
)

// Defaults returns what `pim sim avalanche` plays without flags, for so many clients on so many sites: each site has room for half as many clients more as it
// has, and takes as many clients a second as a 200th of it. At 30 s the first site dies.
func Defaults(clients, sites int) Config {
	each := clients / max(sites, 1)
	return Config{
		Clients: clients, Sites: sites, Cohort: 1, Seed: 1, For: 5 * time.Minute,
		Capacity: each + each/2, Accept: max(each/200, 1), Balancers: min(3, sites), Questions: max(each/25, 1),
		Deaths: []Death{{Site: 0, At: 30 * time.Second, Back: 4 * time.Minute}},
		Policy: Policy{Jitter: true, LBS: true, Admission: true},
		Window: time.Second, Cold: 3, ColdFor: time.Minute,
	}
}

func (c *Config) check() error {
	switch {
	case c.Sites < 2, c.Sites > 16:
		return pim.Errorf(pim.KindInvalid, "%d sites, not 2 to 16", c.Sites)
	case c.Cohort < 1:
		return pim.Errorf(pim.KindInvalid, "cohorts of %d clients", c.Cohort)
	case c.Clients/c.Cohort < c.Sites, c.Clients/c.Cohort > 10_000_000:
		return pim.Errorf(pim.KindInvalid, "%d clients in cohorts of %d: at least one for each site is played, and at most 10 million", c.Clients, c.Cohort)
	case c.For < time.Second, c.For > time.Hour:
		return pim.Errorf(pim.KindInvalid, "a run of %v, not a second to an hour", c.For)
	case c.Capacity < c.Cohort, c.Accept < c.Cohort:
		return pim.Errorf(pim.KindInvalid, "a site with room for %d clients, of which %d may come in a second; at least a cohort, which is %d", c.Capacity, c.Accept, c.Cohort)
	case c.Policy.LBS && (c.Balancers < 1 || c.Balancers > c.Sites || c.Questions < c.Cohort):
		return pim.Errorf(pim.KindInvalid, "%d LBS on %d sites, each of which takes %d questions a second", c.Balancers, c.Sites, c.Questions)
	case c.Old < 0, c.Old > 1, c.Window < 0, c.Cold < 1, c.ColdFor < 0:
		return pim.Errorf(pim.KindInvalid, "%v of the clients are old, a window of %v, and a cold login costs %v times as much", c.Old, c.Window, c.Cold)
	}
	for _, d := range c.Deaths {
		if d.Site < 0 || d.Site >= c.Sites || d.At < 2*time.Second || d.Back != 0 && d.Back <= d.At {
			return pim.Errorf(pim.KindInvalid, "site %d dies at %v, after 2 s at the earliest, and is back at %v", d.Site, d.At, d.Back)
		}
	}
	return nil
}
