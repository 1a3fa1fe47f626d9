package real

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/seeds"
	"go.uber.org/goleak"
)

// role says what a process of this test program is, if it is not the test.
const role = "PIM_REAL_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		goleak.VerifyTestMain(leaks.Patiently(m))
		return
	case "app":
		err = serveChild(os.Stdin, os.Stdout)
	case "server":
		err = serveHost(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// self returns a function that makes a command of this program in another role.
func self(as string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), role+"="+as)
		return cmd
	}
}

// atOnce is how many schedules play at the same time. They mostly wait.
const atOnce = 24

// playAll plays an nth of so many schedules, or of as many as PIM_REAL_SCHEDULES says.
func playAll(t *testing.T, most int, nth uint64, schedule func(st *stage, seed uint64) []imtest.Violation) {
	first, n := seeds.Schedules(t, most, "PIM_REAL_SCHEDULES")
	n = max(1, n/nth)
	t.Logf("%d schedules", n)
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for seed := first; seed < first+n; seed++ {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			err := play(func(st *stage) {
				for _, v := range schedule(st, seed) {
					t.Errorf("PIM_SEED=%d: %v", seed, v)
				}
			})
			if err != nil {
				t.Errorf("PIM_SEED=%d: %v", seed, err)
			}
		})
	}
	wg.Wait()
}

// Whatever happens to the networks, the apps and the server's power: lost 0,
// doubled 0, the same order everywhere. PIM_REAL_SCHEDULES sets how many
// schedules are played.
func TestRandomSchedules(t *testing.T) {
	tally := new(tally)
	playAll(t, seeds.Many(200), 1, func(st *stage, seed uint64) []imtest.Violation {
		lab := imtest.NewLab(st, imtest.LabOptions{Seed: seed, Moves: true})
		return run(st, cast{seed: seed, host: labHost{lab}, tally: tally}, lab.History())
	})
	t.Log(tally)
}

// The same with processes and SIGKILL, on real files. These cost more, so there
// are fewer.
func TestRandomSchedulesOfProcesses(t *testing.T) {
	playProcesses(t, seeds.Many(200), self("app"))
}

// playProcesses plays a 33rd of so many schedules with a server that is a process, and phones of which each runs one of apps.
func playProcesses(t *testing.T, most int, apps ...func() *exec.Cmd) {
	tally := new(tally)
	playAll(t, most, 33, func(st *stage, seed uint64) []imtest.Violation {
		host, err := startHost(self("server"), st.TempDir())
		if err != nil {
			st.Fatal(err)
		}
		st.Cleanup(host.stop)
		return run(st, cast{seed: seed, host: host, apps: apps, tally: tally}, imtest.NewHistory())
	})
	t.Log(tally)
}
