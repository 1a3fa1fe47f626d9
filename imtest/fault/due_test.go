package fault

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Delays are within the jitter and use all of it; nothing overtakes.
func TestDue(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := Path{Delay: 100 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.25, Stall: time.Second}
	now := time.Unix(0, 0)
	var least, most time.Duration = time.Hour, 0
	lost := 0
	const chunks = 4000
	for range chunks {
		_, at := p.due(100, now, time.Time{}, time.Time{}, rng.Float64)
		d := at.Sub(now)
		if d >= p.Stall {
			lost++
			d -= p.Stall
		}
		least, most = min(least, d), max(most, d)
	}
	if least < 50*time.Millisecond || least > 52*time.Millisecond || most > 150*time.Millisecond || most < 148*time.Millisecond {
		t.Errorf("from %v to %v", least, most)
	}
	if lost < chunks/5 || lost > chunks*3/10 {
		t.Errorf("%d of %d lost", lost, chunks)
	}
	late := now.Add(time.Minute)
	if _, at := p.due(100, now, time.Time{}, late, rng.Float64); at.Before(late) {
		t.Errorf("overtakes: %v", at)
	}
}

// A chunk waits until the chunk before it has left.
func TestDueRate(t *testing.T) {
	p := Path{Rate: 1000}
	now := time.Unix(0, 0)
	half := func() float64 { return 0.5 }
	left, _ := p.due(500, now, time.Time{}, time.Time{}, half)
	left, at := p.due(500, now, left, time.Time{}, half)
	if want := now.Add(time.Second); !left.Equal(want) || !at.Equal(want) {
		t.Errorf("%v, %v", left, at)
	}
}
