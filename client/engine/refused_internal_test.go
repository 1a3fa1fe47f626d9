package engine

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

// asked is an outbox and a server that answers what it is asked after 50 ms.
type asked struct {
	*outbox
	t       *testing.T
	refuses func(m *message) bool
	times   int // that something was transmitted
	sent    int // and accepted
}

const answerAfter = 50 * time.Millisecond

func newAsked(t *testing.T, seed uint64, refuses func(m *message) bool) *asked {
	a := &asked{t: t, refuses: refuses}
	a.outbox = newOutbox(func(_ *message, end SendState) {
		if end == Delivered {
			a.sent++
		}
	})
	a.limits.inFlight = 32
	a.random = rand.New(rand.NewPCG(seed, 0)).Float64
	return a
}

// queues queues a message to a conversation.
func (a *asked) queues(c pim.ConversationID) *message {
	out := Outgoing{Kind: pim.EntryMessage, Conversation: c}
	binary.BigEndian.PutUint64(out.ID[:], uint64(len(a.byID)+a.sent+1))
	m := newMessage(out)
	a.queue(m)
	return m
}

// passes lets time pass.
func (a *asked) passes(d time.Duration) {
	for until := a.fx.now.Mono + d; a.fx.now.Mono < until; {
		before := 0
		for _, m := range a.byID {
			before += m.attempt
		}
		a.tick(true)
		a.transmit(false)
		for _, m := range a.byID {
			a.times += m.attempt
		}
		a.times -= before
		a.fx.take()
		a.fx.now.Mono += answerAfter
		a.fx.now.Wall += millis(answerAfter)
		for _, m := range append([]*message(nil), a.flying...) {
			if a.refuses(m) {
				a.rejected(m.ID, &pim.Error{Kind: pim.KindOverloaded, RetryAfter: time.Second}, true)
			} else {
				a.delivered(m, Sent{Conversation: m.Conversation, Seq: 1})
			}
		}
	}
}

// A server refuses everything for a minute, and then nothing. A device with very many messages asks it some hundred times meanwhile, in total, and
// then sends all of them soon.
func TestServerThatRefusesEverything(t *testing.T) {
	for seed := range uint64(20) {
		busy := true
		a := newAsked(t, seed, func(*message) bool { return busy })
		const messages = 2000
		for i := range messages {
			a.queues(pim.ConversationID(fmt.Sprint("g:", i%(messages/2))))
		}
		a.passes(time.Second)
		first := a.times
		a.passes(59 * time.Second)
		if a.times > 200 || a.sent > 0 {
			t.Errorf("seed %d: %d transmissions in a minute, %d in the first second", seed, a.times, first)
		}
		busy = false
		for waited := time.Duration(0); a.sent < messages; waited += time.Second {
			if a.passes(time.Second); waited > 45*time.Second {
				t.Fatalf("seed %d: %d of %d messages are sent", seed, a.sent, messages)
			}
		}
	}
}

// A server refuses what goes to strangers, one after the other. When each of them was refused, a friend is written to, and waits for one
// hold at most.
func TestStrangersAreRefused(t *testing.T) {
	const friend = pim.ConversationID("d:alice:bob")
	for seed := range uint64(20) {
		a := newAsked(t, seed, func(m *message) bool { return m.Conversation != friend })
		for i := range 20 {
			a.queues(pim.ConversationID(fmt.Sprint("d:alice:stranger", i)))
			a.passes(time.Second)
		}
		a.passes(90 * time.Second)
		for range 20 {
			sent, begun := a.sent, a.fx.now.Mono
			a.queues(friend)
			for a.sent == sent {
				if a.passes(answerAfter); a.fx.now.Mono-begun > maxHold+time.Second {
					t.Fatalf("seed %d: a friend has waited for %v", seed, a.fx.now.Mono-begun)
				}
			}
		}
	}
}

// What is refused is not overtaken in its conversation: not by what waits, and not by what has no answer yet.
func TestNothingOvertakesWhatWasRefused(t *testing.T) {
	a := newAsked(t, 1, func(m *message) bool { return m.attempt == 1 })
	first := a.queues("g:a")
	a.passes(answerAfter)
	second := a.queues("g:a")
	for first.state == Delayed {
		if second.attempt > 0 {
			t.Fatal("it was overtaken")
		}
		a.passes(answerAfter)
	}
	a.passes(10 * time.Second)
	if a.sent != 2 || first.attempt != 2 || second.attempt != 2 {
		t.Errorf("%d messages are sent, with %d and %d transmissions", a.sent, first.attempt, second.attempt)
	}
}
