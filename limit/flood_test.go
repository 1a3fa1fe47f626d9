package limit

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// guest is an honest client that asks to come in until it is let in.
type guest struct {
	from     netip.Addr
	at, came time.Duration
}

// siege plays two minutes in which an attacker asks 10,000 times a second, whatever it is told, and ten
// guests a second come, each from a network of its own, and come again when they are told to. It
// returns how many guests came, how many of them were let in at once, and how many by the end, which is 70 s
// after the last has come. attacker returns the address that asks. Chance is the same in each run.
func siege(attacker func(*rand.Rand) netip.Addr) (came, once, in int) {
	rng := rand.New(rand.NewPCG(1, 2))
	g := NewGate(Rates{Accept: 1000, Address: 200, Network: 400, User: 20, Device: 5}, rng.Float64)
	const last, end = 50 * time.Second, 2 * time.Minute
	var waiting []guest
	next := time.Duration(0)
	later := func() time.Duration { return time.Duration(rng.ExpFloat64() * float64(50*time.Microsecond)) }
	for now := later(); now < end; now += later() {
		g.Connection(now, attacker(rng))
		now += later() // else the attacker would take each place that becomes free before a guest
		if now >= next && now < last {
			next += time.Duration(rng.ExpFloat64() * float64(100*time.Millisecond))
			came++
			waiting = append(waiting, guest{netip.AddrFrom4([4]byte{80, byte(came >> 8), byte(came), 1}), now, now})
		}
		still := waiting[:0]
		for _, w := range waiting {
			if w.at <= now {
				v := g.Connection(now, w.from)
				if !v.Refused() {
					in++
					if now == w.came {
						once++
					}
					continue
				}
				w.at = now + v.After
			}
			still = append(still, w)
		}
		waiting = still
	}
	return came, once, in
}

// Whoever floods from many networks, or from one large one of IPv6, fills only a part of what all
// share: those who come now and then are let in, nearly all at once. Without the pace of networks half
// of them and more are still out in the end.
func TestManyNetworks(t *testing.T) {
	networks := func(n int) func(*rand.Rand) netip.Addr {
		return func(rng *rand.Rand) netip.Addr {
			return netip.AddrFrom4([4]byte{20, byte(rng.IntN(n)), 1, byte(rng.IntN(256))})
		}
	}
	for name, attacker := range map[string]func(*rand.Rand) netip.Addr{
		"25 networks": networks(25), "100 networks": networks(100),
		"a /32 of IPv6": func(rng *rand.Rand) netip.Addr { // of 65,536 networks
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(rng.IntN(256)), byte(rng.IntN(256)), 15: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			came, once, in := siege(attacker)
			t.Logf("%d came, %d were let in at once, %d in the end", came, once, in)
			if in < came || once < came*4/5 {
				t.Error("too few")
			}
		})
	}
}
