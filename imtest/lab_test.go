package imtest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/seeds"
)

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

// Alice mentions people, edits, recalls, and erases what she has written; then the machine crashes.
// Bob's tablet was away, and carol comes later.
func TestEraseAndMentions(t *testing.T) {
	t.Parallel()
	s := seeds.First(t)
	lab := imtest.NewLab(t, imtest.LabOptions{Seed: s, DropPushes: 0.3})
	alice, bob := lab.User("alice"), lab.User("bob")
	tablet := lab.Device("bob", "tablet")
	g := alice.Creates("bob")
	alice.Mentions(g, "bob?", "bob")
	alice.Mentions(g, "all of you")
	alice.Sends(g, "by mistake")
	bob.Sends(g, "what?")
	alice.Edits(g, "bob?", "bob!")
	alice.Recalls(g, "by mistake")
	tablet.Sees("bob!")
	tablet.Disconnects()
	alice.Mentions(g, "bob, again", "bob")
	bob.Reads(g, "all of you")
	alice.Sees("what?")
	alice.Asks(g)
	lab.Settled()
	alice.Erases(g)
	lab.Crash()
	alice.Adds(g, "carol")
	carol := lab.User("carol")
	bob.Mentions(g, "carol, alice is gone", "carol", "alice")
	carol.Sees("carol, alice is gone")
	nothingFound(t, lab.Finish())
}

// Bob reads, shows it, and then does not; carol blocks alice.
func TestReceipts(t *testing.T) {
	t.Parallel()
	lab := imtest.NewLab(t, imtest.LabOptions{Seed: seeds.First(t)})
	alice, bob, carol := lab.User("alice"), lab.User("bob"), lab.User("carol")
	g := alice.Creates("bob", "carol")
	for i := range 60 { // more than are asked about at once
		alice.Sends(g, fmt.Sprint("message ", i))
	}
	alice.Sends(chat, "bob?")
	bob.Reads(g, "message 55")
	alice.Asks(g)
	bob.Reads(chat, "bob?")
	carol.Reads(g, "message 10")
	alice.Asks(chat)
	lab.Settled()
	lab.Crash()
	bob.GivesReceipts(false)
	lab.Settled()
	bob.Reads(g, "message 57")
	alice.Asks(g)
	carol.Leaves(g)
	lab.Settled()
	bob.GivesReceipts(true)
	alice.Adds(g, "carol")
	bob.Reads(g, "message 58")
	alice.Sends(g, "carol is back")
	carol.Reads(g, "carol is back")
	nothingFound(t, lab.Finish())
}

// Users do whatever comes to their minds, pushes get lost, connections and
// stores too, the server restarts and the machine crashes.
func TestRandomConversations(t *testing.T) {
	t.Parallel()
	first := seeds.First(t)
	for i := range uint64(2) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			randomConversations(t, first+i, bus.AllRoles)
		})
	}
}

// The same with three nodes over one store, which are killed and replaced in turn, and cannot always reach
// each other.
func TestRandomConversationsOverNodes(t *testing.T) {
	t.Parallel()
	randomConversations(t, seeds.First(t), bus.AllRoles, bus.AllRoles, bus.AllRoles)
}

// The same with five nodes, each of which has one role: a node without gateway takes no connections, and
// those without writer and home are given nothing.
func TestRandomConversationsOverRoles(t *testing.T) {
	t.Parallel()
	randomConversations(t, seeds.First(t), bus.RoleGateway, bus.RoleGateway, bus.RoleWriter, bus.RoleWriter, bus.RoleHome)
}

func randomConversations(t *testing.T, seed uint64, roles ...bus.Role) {
	rng, nodes := rand.New(rand.NewPCG(seed, 2)), len(roles)
	lab := imtest.NewLab(t, imtest.LabOptions{Seed: seed, DropPushes: 0.3, Roles: roles})
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
		case n < 35:
			a.Sends(g, fmt.Sprint("message ", i))
		case n < 39:
			a.Mentions(g, fmt.Sprint("message ", i), names[rng.IntN(len(names))])
		case n < 40:
			a.Mentions(g, fmt.Sprint("message ", i))
		case n < 43:
			a.ReadsAll(g)
		case n < 44:
			a.Erases(g)
		case n < 45:
			for _, a := range actors {
				a.Connects()
			}
			lab.Trims(g, pim.Seq(rng.IntN(i+1)))
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
		if nodes > 1 && i%20 == 10 {
			nodesFail(lab, rng, nodes)
		}
	}
	nothingFound(t, lab.Finish())
}

// nodesFail kills or replaces a node, or breaks or mends the network between the nodes.
func nodesFail(lab *imtest.Lab, rng *rand.Rand, nodes int) {
	n := rng.IntN(nodes)
	one, other := lab.Node(n), lab.Node((n+1)%nodes)
	switch rng.IntN(8) {
	case 0:
		lab.Kill(n)
	case 1:
		lab.Replace(n)
	case 2: // the third one sees both
		lab.Network.Partition([]string{one}, []string{other})
	case 3:
		lab.Network.Cut(one, other)
	case 4:
		lab.Network.Lose(one, other, 1+rng.IntN(20))
	case 5:
		lab.Network.LoseShare(rng.Float64()/4, rng.Uint64())
	case 6:
		lab.Network.Delay(time.Duration(rng.IntN(30)) * time.Millisecond)
	case 7:
		lab.Network.Heal()
	}
}

// Everybody has all that was written when retention trims it, and nothing new comes. Bob's devices
// drop it at their next sync, and acknowledge that.
func TestTrimmedAndNothingNew(t *testing.T) {
	t.Parallel()
	lab := imtest.NewLab(t, imtest.LabOptions{})
	alice, bob := lab.User("alice"), lab.User("bob")
	tablet := lab.Device("bob", "tablet")
	for i := range 5 {
		alice.Sends(chat, fmt.Sprint("old ", i))
	}
	tablet.Sees("old 4")
	lab.Settled()
	tablet.Disconnects()
	lab.Trims(chat, 3)
	bob.Reconnects()
	bob.Disconnects()
	lab.Trims(chat, 5) // all that there is
	nothingFound(t, lab.Finish())
}

// Retention trims what two people have written, twice, while bob's tablet is away, and the machine
// crashes. What is unread stays as it was, and new devices find what is left.
func TestTrims(t *testing.T) {
	t.Parallel()
	s := seeds.First(t)
	lab := imtest.NewLab(t, imtest.LabOptions{Seed: s, DropPushes: 0.3})
	alice, bob := lab.User("alice"), lab.User("bob")
	tablet := lab.Device("bob", "tablet")
	for i := range 5 {
		alice.Mentions(chat, fmt.Sprint("old ", i), "bob")
	}
	alice.Edits(chat, "old 4", "old 4, edited")
	tablet.Sees("old 4, edited")
	lab.Settled()
	tablet.Disconnects()
	bob.Reads(chat, "old 1")
	lab.Trims(chat, 3) // between what bob has read and what he has not
	laptop := lab.Device("bob", "laptop")
	laptop.CatchesUp()
	laptop.Reads(chat, "old 3")
	alice.Asks(chat)
	lab.Crash()
	alice.Sends(chat, "new")
	lab.Trims(chat, 4)
	lab.Restart()
	bob.Sends(chat, "hi")
	lab.Trims(chat, 6) // with the edit
	alice.Mentions(chat, "hi, bob", "bob")
	lab.Device("alice", "laptop").Sees("hi, bob")
	nothingFound(t, lab.Finish())
}
