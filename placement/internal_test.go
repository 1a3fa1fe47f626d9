package placement

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The table of logarithms does not depend on the processor: no value lies where a processor's last
// digit would decide how it is rounded.
func TestLogsAreRoundedTheSameEverywhere(t *testing.T) {
	for i := range logs {
		x := math.Log2(1+float64(i)/(1<<logBits)) * logUnit
		if d := math.Abs(x - math.Floor(x) - 0.5); d < 1e-5 {
			t.Errorf("log2(1 + %d/4096) is %.7f units", i, x)
		}
	}
}

func TestNegLog2(t *testing.T) {
	for _, u := range []uint64{0, 1, 2, 3, 1 << 63, math.MaxUint64, math.MaxUint64 - 1} {
		check(t, u)
	}
	for range 10_000 {
		check(t, rand.Uint64()>>rand.IntN(64))
	}
}

func check(t *testing.T, u uint64) {
	want := 64 - math.Log2(float64(max(u, 1)))
	if got := float64(negLog2(u)) / logUnit; math.Abs(got-want) > 2e-8 {
		t.Errorf("-log2(%d / 2^64) is %v, want %v", u, got, want)
	}
}
