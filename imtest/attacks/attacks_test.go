package attacks

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// attack is one of the table. Its run goes on until ctx ends; before that it tells arena.enough, when it has done what it is
// there for. It returns in a few words what became of it.
type attack struct {
	name     string
	settings []string // of the server
	proxied  bool     // everybody comes through a proxy that names their addresses
	leases   bool     // the server wants leases
	run      func(ctx context.Context, a *arena) string
}

// size is how large attacks are.
type size struct {
	talk       int // messages of the bystanders before an attack, and at least as many meanwhile
	slow       int // connections that say something now and then
	silent     int // that say nothing
	logins     int // from one prefix
	groups     int // that one user creates
	members    int // of each
	insisting  int // times that one client comes back at once
	leases     int // attempts with bad leases
	rate       int // of a network, connections a second
	userGroups int // an hour
	userAdds   int // an hour
	handshake  time.Duration
}

var (
	whole = size{
		talk: 2000, slow: 4000, silent: 10_000, logins: 100_000, groups: 1000, members: 2000, insisting: 20_000, leases: 20_000,
		rate: 400, userGroups: 100, userAdds: 10_000, handshake: 10 * time.Second,
	}
	small = size{
		talk: 50, slow: 150, silent: 600, logins: 1000, groups: 60, members: 100, insisting: 300, leases: 200,
		rate: 20, userGroups: 10, userAdds: 1000, handshake: time.Second,
	}
)

func table(s size) []attack {
	hasty := []string{"--handshake-timeout", s.handshake.String()}
	return []attack{
		{
			name:     "slow handshakes: TCP, HTTP and WebSocket, a byte now and then",
			settings: hasty,
			run:      func(ctx context.Context, a *arena) string { return a.slowHandshakes(ctx, s.slow) },
		},
		{
			name:     "slow frames: many users begin a message and send a byte now and then",
			settings: hasty,
			run:      func(ctx context.Context, a *arena) string { return a.slowFrames(ctx, s.slow/2) },
		},
		{
			name:     "connections that say nothing, twice as many as the server takes",
			settings: append([]string{"--max-connections", fmt.Sprint(s.silent / 2)}, hasty...),
			run:      func(ctx context.Context, a *arena) string { return a.silence(ctx, s.silent, s.silent/2) },
		},
		{
			name:     "logins from one prefix, as fast as the machine offers them",
			settings: []string{"--network-rate", fmt.Sprint(s.rate), "--address-rate", fmt.Sprint(s.rate / 2)},
			proxied:  true,
			run:      func(ctx context.Context, a *arena) string { return a.logins(ctx, s.logins, s.rate) },
		},
		{
			name:     "one user who puts thousands into each of many groups",
			settings: []string{"--user-groups", fmt.Sprint(s.userGroups), "--user-members", fmt.Sprint(s.userAdds)},
			run: func(ctx context.Context, a *arena) string {
				return a.groups(ctx, s.groups, s.members, min(s.userGroups, s.userAdds/(s.members-1)))
			},
		},
		{
			name: "a client that comes back at once, whatever it is told",
			run:  func(ctx context.Context, a *arena) string { return a.insists(ctx, s.insisting) },
		},
		{
			name:     "forged, expired, foreign and missing leases",
			settings: []string{"--require-lease", "--user-logins", "0", "--device-logins", "0"},
			leases:   true,
			run:      func(ctx context.Context, a *arena) string { return a.badLeases(ctx, s.leases) },
		},
	}
}

// Whatever an attacker does, two honest users go on talking, nothing of what they say is lost, doubled or misordered, and the
// server keeps its bounds. How long their messages take is in the log, as a table.
func TestAttacks(t *testing.T) {
	s := whole
	if testing.Short() {
		s = small
	}
	rows := "\n| attack | p99 before, ms | p99 meanwhile, ms | slowest meanwhile, ms | what became of it |\n|---|---|---|---|---|\n"
	for _, at := range table(s) {
		t.Run(at.name, func(t *testing.T) {
			a := open(t, at)
			before := a.talk(s.talk, nil)
			attacking, stop := context.WithCancel(t.Context())
			var what string
			var attack sync.WaitGroup
			attack.Go(func() { what = at.run(attacking, a) })
			end := func() {
				stop()
				attack.Wait()
			}
			defer end() // also if the bystanders fail
			meanwhile := a.talk(s.talk, a.done)
			end()
			a.afterwards()
			row := fmt.Sprintf("| %s | %.1f | %.1f | %.1f | %s |\n", at.name, ms(p99(before)), ms(p99(meanwhile)), ms(meanwhile[len(meanwhile)-1]), what)
			t.Log(row)
			rows += row
		})
	}
	t.Log(rows)
}

// p99 returns the 99th percentile of sorted times.
func p99(took []time.Duration) time.Duration { return took[(len(took)*99+99)/100-1] }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
