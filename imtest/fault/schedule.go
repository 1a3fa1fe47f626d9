package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Step is one thing to do with a proxy, at its time.
type Step struct {
	After time.Duration // since the step before
	Name  string        // for the log
	Do    func(p *Proxy) error
}

// String returns when the step comes and what it is.
func (s Step) String() string { return fmt.Sprintf("+%v %s", s.After.Round(time.Millisecond), s.Name) }

// Play does steps, each at its time. It stops at the first error, which is that of a
// step or of ctx.
func (p *Proxy) Play(ctx context.Context, steps []Step) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for _, s := range steps {
		t.Reset(s.After)
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.Do(p); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// Heal returns a step that makes the conditions good again. What a connection has lost
// stays lost.
func Heal(after time.Duration) Step { return set(after, "heal", Conditions{}) }

func set(after time.Duration, name string, c Conditions) Step {
	return Step{after, name, func(p *Proxy) error { return p.Set(c) }}
}

func act(after time.Duration, name string, f func(*Proxy) int) Step {
	return Step{after, name, func(p *Proxy) error { f(p); return nil }}
}

// Random returns faults of every kind for about length, one after the other, each
// for a part of a second, and good conditions at the end.
func Random(rng *rand.Rand, length time.Duration) []Step {
	var steps []Step
	for at := time.Duration(0); at < length; {
		s := draw(rng, between(rng, 20*time.Millisecond, 400*time.Millisecond))
		healed := Heal(between(rng, 30*time.Millisecond, 600*time.Millisecond))
		at += s.After + healed.After
		steps = append(steps, s, healed)
	}
	return steps
}

// draw returns one fault. Faults that the peers notice late are rarer, because nothing
// else can happen while they last.
func draw(rng *rand.Rand, after time.Duration) Step {
	hole := Path{BlackHole: true}
	switch rng.IntN(16) {
	case 0, 1, 2:
		return act(after, "cut", func(p *Proxy) int { return p.Cut(Both) })
	case 3, 4, 5:
		n, up := 1+rng.IntN(400), rng.IntN(2) == 0
		return act(after, fmt.Sprintf("cut after %d bytes, up %v", n, up), func(p *Proxy) int { return p.CutAfter(n, up) })
	case 6:
		return act(after, "cut the client's side", func(p *Proxy) int { return p.Cut(ClientSide) })
	case 7:
		return act(after, "cut the server's side", func(p *Proxy) int { return p.Cut(ServerSide) })
	case 8:
		return act(after, "forget", (*Proxy).Forget)
	case 9:
		return set(after, "black hole up", Conditions{Up: hole})
	case 10:
		return set(after, "black hole down", Conditions{Down: hole})
	case 11:
		return set(after, "hold", Symmetric(Path{Hold: true}))
	case 12:
		return set(after, "refuse", Conditions{Accept: Refuse})
	case 13:
		return set(after, "silent", Conditions{Accept: Silent, HalfOpen: true})
	}
	path := Path{
		Delay: between(rng, 0, 80*time.Millisecond), Jitter: between(rng, 0, 40*time.Millisecond),
		Loss: 0.4 * rng.Float64(), Stall: between(rng, 20*time.Millisecond, 300*time.Millisecond),
		Rate: 1 << (11 + rng.IntN(6)),
	}
	return set(after, fmt.Sprintf("slow %+v", path), Symmetric(path))
}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}
