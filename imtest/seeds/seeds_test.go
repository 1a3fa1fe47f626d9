package seeds_test

import (
	"testing"

	"github.com/pim-im/pim/imtest/seeds"
)

func TestSchedules(t *testing.T) {
	const more = "PIM_TEST_SCHEDULES"
	for _, test := range []struct {
		name                  string
		seed, firstSeed, more string
		first, count          uint64 // first 0: any
	}{
		{"nothing is set", "", "", "", 0, 300},
		{"more", "", "", "20000", 0, 20_000},
		{"one schedule", "7", "", "", 7, 1},
		{"one schedule of a run", "7", "5", "20000", 7, 1},
		{"a run", "", "5", "", 5, 300},
		{"more of a run", "", "5", "20000", 5, 20_000},
		{"the last seeds", "", "18446744073709551315", "", 18446744073709551315, 300},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("PIM_SEED", test.seed)
			t.Setenv("PIM_FIRST_SEED", test.firstSeed)
			t.Setenv(more, test.more)
			first, count := seeds.Schedules(t, 300, more)
			if test.first != 0 && first != test.first || count != test.count {
				t.Errorf("%d schedules from seed %d on, want %d from %d on", count, first, test.count, test.first)
			}
			if got := seeds.First(t); test.first != 0 && got != test.first {
				t.Errorf("the first seed is %d, want %d", got, test.first)
			}
		})
	}
}
