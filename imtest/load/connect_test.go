package load

import (
	"context"
	"strings"
	"testing"
	"time"
)

// What is turned away comes again, and is counted.
func TestTurnedAway(t *testing.T) {
	rep := newFake(t, faults{turnAway: 3}).run(t, "tcp", Config{Workload: Direct, Users: 2})
	whole(t, rep, 1)
	if rep.TurnedAway != 3 {
		t.Errorf("%d were turned away, want 3", rep.TurnedAway)
	}
}

// A server that ends every session at its beginning is told from one that starts slowly: by how often
// it has done that.
func TestAlwaysTurnedAway(t *testing.T) {
	s := newFake(t, faults{turnAway: -1})
	rep, err := Run(context.Background(), Config{
		Workload: Direct, Users: 2, Dialing: 1, Token: tokenOf, Server: "tcp://" + s.tcp.Addr().String(), MetricsURL: "-", patience: time.Nanosecond,
	})
	if err == nil || !strings.Contains(err.Error(), "was refused 1 times") || rep.TurnedAway != 1 {
		t.Errorf("%d were turned away: %v", rep.TurnedAway, err)
	}
}
