package imtest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
)

// seed returns the run's seed: PIM_SEED, or a new one. It is printed if the test
// fails.
func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("PIM_SEED"); v != "" {
		var err error
		if s, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("PIM_SEED: %v", err)
		}
	}
	t.Logf("PIM_SEED=%d", s)
	return s
}

func nothingFound(t *testing.T, h *imtest.History) {
	t.Helper()
	for _, v := range imtest.Check(h) {
		t.Error(v)
	}
}

// Two people chat, on several devices, one of which is new and one of which
// loses its store.
func TestChat(t *testing.T) {
	lab := imtest.NewLab(t, imtest.LabOptions{})
	alice, bob := lab.User("alice"), lab.User("bob")
	c := pim.Direct("alice", "bob")
	alice.Sends(c, "hi")
	bob.Sees("hi")
	bob.Sends(c, "hello")
	alice.Sees("hello")
	tablet := lab.Device("bob", "tablet")
	tablet.Sees("hello")
	alice.Sends(c, "both of you")
	bob.Sees("both of you")
	tablet.Sees("both of you")
	lab.Settled()
	bob.LosesStorage()
	bob.Sees("hi")
	nothingFound(t, lab.Finish())
}

// Without a single push everything arrives, by the heartbeat.
func TestHeartbeatMakesUpForPushes(t *testing.T) {
	t.Parallel()
	lab := imtest.NewLab(t, imtest.LabOptions{DropPushes: 1})
	alice, bob := lab.User("alice"), lab.User("bob")
	alice.CatchesUp()
	bob.CatchesUp()
	alice.Sends(pim.Direct("alice", "bob"), "hi")
	bob.Sees("hi")
	nothingFound(t, lab.Finish())
}

// Users join a group, leave it and come back; the server is restarted between.
func TestGroup(t *testing.T) {
	t.Parallel()
	lab := imtest.NewLab(t, imtest.LabOptions{})
	alice, bob, carol := lab.User("alice"), lab.User("bob"), lab.User("carol")
	g := alice.Creates("bob")
	alice.Sends(g, "one")
	bob.Sees("one")
	alice.Adds(g, "carol")
	alice.Sends(g, "two")
	carol.Sees("two")
	bob.Leaves(g)
	lab.Settled()
	lab.Restart()
	alice.Sends(g, "three")
	carol.Sees("three")
	carol.Adds(g, "bob")
	carol.Sends(g, "four")
	bob.Sees("four")
	nothingFound(t, lab.Finish())
}

// Users do whatever comes to their minds, pushes get lost, connections and
// stores too, the server restarts and the machine crashes.
func TestRandomConversations(t *testing.T) {
	t.Parallel()
	first := seed(t)
	for i := range uint64(2) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			randomConversations(t, first+i)
		})
	}
}

func randomConversations(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	lab := imtest.NewLab(t, imtest.LabOptions{Seed: seed, DropPushes: 0.3})
	names := []pim.UserID{"alice", "bob", "carol", "d[a]ve"}
	var actors []*imtest.Actor
	for _, u := range names {
		actors = append(actors, lab.User(u))
	}
	actors = append(actors, lab.Device("alice", "tablet"), lab.Device("bob", "laptop"))
	groups := []pim.ConversationID{actors[0].Creates("bob", "carol"), actors[1].Creates("alice")}
	restarts := []int{rng.IntN(400), rng.IntN(400)} // the step of the crash, the step of the clean restart
	for i := range 400 {
		a, g := actors[rng.IntN(len(actors))], groups[rng.IntN(len(groups))]
		a.Connects()
		switch n := rng.IntN(100); {
		case n < 45:
			a.Sends(g, fmt.Sprint("message ", i))
		case n < 75:
			a.Sends(pim.Direct(a.User(), names[rng.IntN(len(names))]), fmt.Sprint("message ", i))
		case n < 82:
			a.Adds(g, names[rng.IntN(len(names))])
		case n < 86:
			a.Leaves(g)
		case n < 93:
			a.Reconnects()
		case n < 97:
			a.Disconnects()
		case n < 99:
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		default:
			for _, a := range actors {
				a.Connects()
			}
			lab.Settled()
			a.LosesStorage()
		}
		switch slices.Index(restarts, i) {
		case 0:
			lab.Crash()
		case 1:
			lab.Restart()
		}
	}
	nothingFound(t, lab.Finish())
}
