package lbs_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/lbs"
	"pgregory.net/rapid"
)

// question is a request at its time.
type question struct {
	at time.Duration
	lbs.Request
}

// play puts the questions to a new Balancer and returns its answers. Views come once a second.
func play(questions []question, gateways []*station, newBalancer maker) []lbs.Answer {
	w := newWorld(gateways, 1, 1, newBalancer)
	var answers []lbs.Answer
	for _, q := range questions {
		for w.now+time.Second <= q.at {
			w.now += time.Second
			w.say()
			w.tell()
		}
		answers = append(answers, w.balancers[0].Ask(q.Request, q.at))
	}
	return answers
}

// unheard plays the questions, and then again without those that must change nothing: those of strangers and of
// greedy users. It returns the first question that is answered differently then.
func unheard(questions []question, gateways func() []*station, newBalancer maker) error {
	answers := play(questions, gateways(), newBalancer)
	var heard []question
	var want []lbs.Answer
	for i, a := range answers {
		if questions[i].User != "" && a.Outcome != lbs.Greedy {
			heard, want = append(heard, questions[i]), append(want, a)
		}
	}
	for i, a := range play(heard, gateways(), newBalancer) {
		if !reflect.DeepEqual(a, want[i]) {
			return fmt.Errorf("%+v is answered %+v, and with others between %+v", heard[i], a, want[i])
		}
	}
	return nil
}

// Whoever has no token, or is over its own share, changes nothing for anybody.
func TestNobodyIsKeptOutByStrangers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		users := []pim.UserID{"", "", "mallory", "mallory", "alice", "bob", "carol", "dave"}
		addrs := []string{"203.0.113.1", "203.0.113.2", "203.0.114.1", "2001:db8::1", "127.0.0.1"}
		var questions []question
		at := time.Duration(0)
		for range rapid.IntRange(1, 300).Draw(t, "questions") {
			at += time.Duration(rapid.IntRange(0, 200).Draw(t, "ms")) * time.Millisecond
			questions = append(questions, question{at, lbs.Request{
				User: rapid.SampledFrom(users).Draw(t, "user"), From: netip.MustParseAddr(rapid.SampledFrom(addrs).Draw(t, "from")),
			}})
		}
		connections, rate := rapid.IntRange(0, 100).Draw(t, "max_connections"), rapid.Float64Range(1, 20).Draw(t, "accept_rate")
		gateways := func() []*station { return gatewaysOf(3, connections, rate) }
		if err := unheard(questions, gateways, lbs.New); err != nil {
			t.Fatal(err)
		}
	})
}

// A Balancer that gives places to strangers is seen.
func TestTrustIsCaught(t *testing.T) {
	var questions []question
	for i := range 100 {
		questions = append(questions, question{Request: lbs.Request{}}, question{Request: lbs.Request{User: pim.UserID(fmt.Sprint("user", i))}})
	}
	gateways := func() []*station { return gatewaysOf(1, 1000, 50) }
	if unheard(questions, gateways, lbs.NewTrusting) == nil {
		t.Error("a Balancer that gives places to strangers passes")
	}
	if err := unheard(questions, gateways, lbs.New); err != nil {
		t.Error(err)
	}
}

func TestAStrangerHasNoPlace(t *testing.T) {
	w := newWorld(gatewaysOf(1, 1000, 100), 1, 1, lbs.New)
	want := lbs.Answer{Outcome: lbs.Stranger, Window: lbs.StrangerWindow}
	if a := w.ask(lbs.Request{}, 0); !reflect.DeepEqual(a, want) {
		t.Errorf("a stranger is told %+v", a)
	}
}

// A user has 16 places at once, and one every two seconds. It is told when the next one comes.
func TestPlacesOfAUser(t *testing.T) {
	w := newWorld(gatewaysOf(1, 1000, 1000), 1, 1, lbs.New)
	mallory := lbs.Request{User: "mallory"}
	for i := range 16 {
		if a := w.ask(mallory, 0); a.Outcome != lbs.Assigned {
			t.Fatalf("place %d: %+v", i, a)
		}
	}
	a := w.ask(mallory, 0)
	if a.Outcome != lbs.Greedy || a.Window < 2*time.Second || a.Window > time.Minute {
		t.Fatalf("the 17th place: %+v", a)
	}
	w.to(w.now + 2*time.Second)
	if a, b := w.ask(mallory, 0), w.ask(mallory, 0); a.Outcome != lbs.Assigned || b.Outcome != lbs.Greedy {
		t.Errorf("two seconds later: %+v, and then %+v", a, b)
	}
}

// A user that asks and asks while nothing has room is counted a few times only: it makes no window longer, and its network
// is not eager for it.
func TestQuestionsOfAUser(t *testing.T) {
	w := newWorld(gatewaysOf(1, 0, 100), 1, 1, lbs.New)
	office := netip.MustParseAddr("203.0.113.1")
	for range 1000 {
		w.ask(lbs.Request{User: "mallory", From: office}, 0)
	}
	if n := w.balancers[0].Waiting(); n > 40 {
		t.Errorf("one user asked, and %d clients wait", n)
	}
	w.gateways[0].MaxConnections = 1000
	w.say()
	w.tell()
	for range 12 { // of the 20 that may be assigned at once, which is more than half
		w.ask(w.newcomer(), 0)
	}
	if a := w.ask(lbs.Request{User: "bob", From: office}, 0); a.Outcome != lbs.Assigned {
		t.Errorf("another user of the same network: %+v", a)
	}
}

// Very many users do not make the Balancer forget one that asks often.
func TestACrowdHidesNobody(t *testing.T) {
	w := newWorld(gatewaysOf(1, 1<<30, 1e7), 1, 1, lbs.New)
	places := 0
	for range 1000 {
		for range 100 {
			w.ask(w.newcomer(), 0)
		}
		if a := w.ask(lbs.Request{User: "mallory"}, 0); a.Outcome == lbs.Assigned {
			places++
		}
	}
	if places != 16 {
		t.Errorf("mallory has %d places", places)
	}
}

// flood has attackers ask a thousand times a second for half a minute, heeding nothing, and an honest user of a network of
// its own ten times a second. It returns what the honest ones are told at their first question.
func flood(w *world, attacker func(i int) lbs.Request) (answers []lbs.Answer) {
	for i := range 30_000 {
		w.to(time.Duration(i) * time.Millisecond)
		w.ask(attacker(i), 0)
		if i%100 == 0 {
			r := w.newcomer()
			n := i / 100
			r.From = netip.AddrFrom4([4]byte{100, byte(n >> 8), byte(n), 1})
			answers = append(answers, w.ask(r, 0))
		}
	}
	return answers
}

// What attackers with tokens do to honest users: one with one token, and one network with five thousand.
func TestFloods(t *testing.T) {
	for name, attacker := range map[string]func(i int) lbs.Request{
		"one user": func(i int) lbs.Request {
			return lbs.Request{User: "mallory", From: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}
		},
		"one network": func(i int) lbs.Request {
			return lbs.Request{User: pim.UserID(fmt.Sprint("mallory", i%5000)), From: netip.AddrFrom4([4]byte{198, 18, 0, byte(i)})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(gatewaysOf(1, 1_000_000, 100), 1, 1, lbs.New)
			for i, a := range flood(w, attacker) {
				if a.Outcome != lbs.Assigned {
					t.Fatalf("honest user %d has no place: %+v", i, a)
				}
			}
			full := newWorld(gatewaysOf(1, 0, 300), 1, 1, lbs.New)
			for i, a := range flood(full, attacker) {
				// The honest ones wait for 30 s each, so 300 of them wait for each other.
				if a.Outcome != lbs.Crowded || a.Window != lbs.FullWindow {
					t.Fatalf("no gateway has room, and honest user %d is told %+v", i, a)
				}
			}
		})
	}
}

// The same questions have the same answers, so a simulator can play a schedule again.
func TestAnswersRepeat(t *testing.T) {
	var questions []question
	for i := range 3000 {
		questions = append(questions, question{time.Duration(i) * time.Millisecond, lbs.Request{
			User: pim.UserID(fmt.Sprint("user", rand.New(rand.NewPCG(1, uint64(i))).IntN(500))), From: netip.AddrFrom4([4]byte{198, 18, byte(i), 1}),
		}})
	}
	if !reflect.DeepEqual(play(questions, gatewaysOf(5, 1000, 40), lbs.New), play(questions, gatewaysOf(5, 1000, 40), lbs.New)) {
		t.Error("the second answers differ")
	}
}
