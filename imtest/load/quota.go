package load

import (
	"context"
	"time"

	"github.com/pim-im/pim"
)

// Fill and Cold end after a number of messages, not after a time.

// quotaPoll is the time between two looks whether all messages were answered.
const quotaPoll = 5 * time.Millisecond

// measureFill writes the messages.
func (r *chat) measureFill(ctx context.Context, m *meter, rep *Report) error {
	before, err := r.sample(ctx, m)
	if err != nil {
		return err
	}
	slices, after, err := r.pass(ctx, m, before, r.cfg.perConversation())
	if err != nil {
		return err
	}
	r.sum(rep, &before, &after)
	rep.sliced(slices)
	return r.finish(ctx, m, rep)
}

// measureCold sends the first message into each conversation, and then a second,
// which finds everything warm: the difference is what being cold costs.
func (r *chat) measureCold(ctx context.Context, m *meter, rep *Report) error {
	before, err := r.sample(ctx, m)
	if err != nil {
		return err
	}
	slices, first, err := r.pass(ctx, m, before, 1)
	if err != nil {
		return err
	}
	if n := r.wereEmpty(); n > 0 {
		return pim.Errorf(pim.KindInvalid, "%d of %d conversations were empty: there was no fill with this seed, these users and these conversations", n, r.cfg.Conversations)
	}
	_, second, err := r.pass(ctx, m, first, 2)
	if err != nil {
		return err
	}
	r.sum(rep, &before, &first)
	rep.sliced(slices)
	cold := &FirstMessages{
		FirstCPU: before.cpuEach(&first), SecondCPU: first.cpuEach(&second),
		Loads: first.usage.loads - before.usage.loads, LoadsAgain: second.usage.loads - first.usage.loads,
	}
	ack := quantilesOf(since(first.ack, second.ack), 0.5, 0.99)
	cold.SecondAckP50, cold.SecondAckP99 = ack[0], ack[1]
	rep.FirstMessages = cold
	return r.finish(ctx, m, rep)
}

// wereEmpty returns how many conversations hold only the message of the first pass.
func (r *chat) wereEmpty() (n int) {
	for _, u := range r.active {
		u.mu.Lock()
		for i := range u.talks {
			if u.talks[i].have == 1 {
				n++
			}
		}
		u.mu.Unlock()
	}
	return n
}

// FirstMessages is what the first message into each conversation cost, beside a second.
type FirstMessages struct {
	FirstCPU     float64 `json:"first_message_cpu_ms"`  // CPU milliseconds of the server for each
	SecondCPU    float64 `json:"second_message_cpu_ms"` // the same for the message after it
	Loads        uint64  `json:"loads"`                 // conversations that the server loaded for the first messages
	LoadsAgain   uint64  `json:"loads_again"`           // and for the second ones: more than 0 if it did not keep them
	SecondAckP50 float64 `json:"second_ack_p50_ms"`     // the first messages' are Report.AckP50 and AckP99
	SecondAckP99 float64 `json:"second_ack_p99_ms"`
}

// perConversation returns how many messages a conversation gets.
func (cfg *Config) perConversation() uint32 {
	return uint32((cfg.Messages + cfg.Conversations - 1) / cfg.Conversations)
}

// pass sends into every conversation until it has got quota messages, those of earlier
// passes included. It returns slices of the time that this took, and a sample taken at
// the end.
func (r *chat) pass(ctx context.Context, m *meter, from sample, quota uint32) ([]Slice, sample, error) {
	r.cfg.Log.Info("sending", "messages_each", quota)
	r.from.Store(r.clock())
	r.quota.Store(quota)
	r.stopped.Store(false)
	defer r.stopped.Store(true)
	r.wakeAll()
	paced, stop := context.WithCancel(ctx)
	defer stop()
	if r.cfg.Rate > 0 {
		done := make(chan struct{})
		defer func() { stop(); <-done }()
		go func() { defer close(done); r.pace(paced) }()
	}
	var all []Slice
	want := uint64(quota) * uint64(r.talks()*r.senders())
	for {
		if err := wait(ctx, quotaPoll); err != nil {
			return all, from, err
		}
		t := r.totals()
		over := t.sent >= want && t.inFlight == 0 && r.work(&t) >= t.answered*max(1, r.copies)
		if !over && (time.Since(from.at) < r.cfg.Slice || len(all) >= maxSlices) {
			continue
		}
		to, err := r.sample(ctx, m)
		if err != nil {
			return all, from, err
		}
		all = append(all, from.until(&to))
		from = to
		if over {
			return all, to, nil
		}
	}
}

// wakeAll has all users begin with their first conversation and, in the closed loop,
// send what they may.
func (r *chat) wakeAll() {
	for _, u := range r.active {
		u.lock()
		u.turn = 0
		u.fill()
		u.release() // the reading goroutine sees the error, too
	}
}

// sum reports what a pass between two samples has cost.
func (r *chat) sum(rep *Report, before, after *sample) {
	x := before.until(after)
	rep.Seconds, rep.DeliveredPerS = x.Seconds, x.DeliveredPerS
	rep.cost(after.usage.cpu-before.usage.cpu, after.own-before.own, x.Delivered)
	r.latencies(rep, before, after)
}

// finish drains and counts.
func (r *chat) finish(ctx context.Context, m *meter, rep *Report) error {
	lost, err := r.drain(ctx)
	if err != nil {
		return err
	}
	last := r.totals()
	used, err := m.read(ctx)
	if err != nil {
		return err
	}
	rep.Lost, rep.ServerRSS = lost, used.rss
	rep.count(&last)
	return nil
}

// cpuEach returns the server's CPU milliseconds for each delivery between two samples.
func (s *sample) cpuEach(to *sample) float64 {
	if to.work == s.work {
		return 0
	}
	return (to.usage.cpu - s.usage.cpu) / float64(to.work-s.work) * 1000
}

// checkPairs checks how conversations are spread over pairs of users.
func (cfg *Config) checkPairs() error {
	half := cfg.Users / 2
	switch {
	case cfg.Users%2 != 0:
		return pim.Errorf(pim.KindInvalid, "%d users: they are paired, so their number must be even", cfg.Users)
	case cfg.Workload == Relay && cfg.Conversations != half:
		return pim.Errorf(pim.KindInvalid, "%d conversations through the relay: each user has one", cfg.Conversations)
	case cfg.Conversations < half || cfg.Conversations%half != 0 || cfg.Conversations/half > half || cfg.Conversations/half > 1<<talkBits:
		return pim.Errorf(pim.KindInvalid, "%d conversations of %d users: each of half the users has as many, with users of the other half, so their number must be %d to %d, and a multiple of %d",
			cfg.Conversations, cfg.Users, half, half*half, half)
	case cfg.Workload == Cold && cfg.seedless:
		return pim.Errorf(pim.KindInvalid, "a cold run needs the seed of the fill before it (--seed), and the same users and conversations")
	case cfg.Workload == Fill && cfg.Messages < cfg.Conversations:
		return pim.Errorf(pim.KindInvalid, "%d messages in %d conversations: each conversation needs a message", cfg.Messages, cfg.Conversations)
	}
	return nil
}
