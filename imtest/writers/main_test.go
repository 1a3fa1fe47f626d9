package writers

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(role) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := serveWriter(); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

// firstSeed returns PIM_SEED, or a new seed. A test uses it and those that follow.
func firstSeed(t *testing.T) uint64 {
	seed := rand.Uint64() >> 1
	if s := os.Getenv("PIM_SEED"); s != "" {
		seed = number(t, s)
	}
	t.Logf("the first seed is PIM_SEED=%d", seed)
	return seed
}

// seeds returns the first seed and how many schedules are played: n, unless the environment
// variable says so, or PIM_SEED names a single one.
func seeds(t *testing.T, variable string, n uint64) (first, count uint64) {
	if os.Getenv("PIM_SEED") != "" {
		n = 1
	}
	if s := os.Getenv(variable); s != "" {
		n = number(t, s)
	}
	return firstSeed(t), n
}

func number(t *testing.T, s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// decode returns the entries of p.
func decode(p *conv.Published) []pim.Entry {
	entries := make([]pim.Entry, len(p.Entries))
	for i, e := range p.Entries {
		var err error
		if entries[i], err = wire.ParseEntry(p.Conversation, e.Data); err != nil {
			panic(err)
		}
	}
	return entries
}
