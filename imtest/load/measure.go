package load

import (
	"context"
	"time"
)

// totals is the sum over all users at one moment.
type totals struct {
	tally
	got, pulled, doubled, misordered uint64
	inFlight                         int
}

func (t *totals) add(u *user) {
	t.sent += u.sent
	t.sentMeasured += u.sentMeasured
	t.answered += u.answered
	t.refused += u.refused
	t.skipped += u.skipped
	t.refusedMeasured += u.refusedMeasured
	t.skippedMeasured += u.skippedMeasured
	t.gotMeasured += u.gotMeasured
	t.reads += u.reads
	t.frames += u.frames
	t.pushes += u.pushes
	t.entries += u.entries
	t.got += u.got
	t.pulled += u.pulled
	t.doubled += u.doubled
	t.misordered += u.misordered
	t.inFlight += u.inFlight + len(u.due)
}

func (r *chat) totals() totals {
	var t totals
	for _, u := range r.active {
		u.mu.Lock()
		t.add(u)
		u.mu.Unlock()
	}
	return t
}

// measure runs the warm-up, the measured time and the drain.
func (r *chat) measure(ctx context.Context, m *meter, rep *Report) error {
	r.cfg.Log.Info("warming up", "for", r.cfg.Warmup)
	if err := wait(ctx, r.cfg.Warmup); err != nil {
		return err
	}
	if err := r.cfg.measured(ctx, false); err != nil {
		return err
	}
	used, err := m.read(ctx)
	if err != nil {
		return err
	}
	start := r.clock()
	r.from.Store(start) // before the sample, so that what the slices count also counts as measured
	before := r.sampleBeside(used)

	r.cfg.Log.Info("measuring", "for", r.cfg.Duration)
	slices, err := r.slice(ctx, m, before)
	if err != nil {
		return err
	}
	r.stopped.Store(true)
	end := r.totals()
	seconds := time.Duration(r.clock() - start).Seconds()

	r.cfg.Log.Info("draining")
	lost, err := r.drain(ctx)
	if err != nil {
		return err
	}
	after, err := r.sample(ctx, m)
	if err != nil {
		return err
	}
	if err := r.cfg.measured(ctx, true); err != nil {
		return err
	}
	last := r.totals()
	rep.Seconds = seconds
	rep.Lost = lost
	rep.DeliveredPerS = float64(r.work(&end)-before.work) / seconds
	rep.cost(after.usage.cpu-before.usage.cpu, after.own-before.own, r.work(&last)-before.work)
	rep.ServerRSS = after.usage.rss
	rep.sliced(slices)
	rep.count(&last)
	r.latencies(rep, &before, &after)
	return nil
}

// measured calls Measured, if there is one.
func (cfg *Config) measured(ctx context.Context, ended bool) error {
	if cfg.Measured == nil {
		return nil
	}
	return cfg.Measured(ctx, ended)
}

// hold lets the measured time pass. sent returns how many messages were sent in
// it so far.
func (cfg *Config) hold(ctx context.Context, sent func() uint64) error {
	if err := wait(ctx, cfg.Duration); err != nil {
		return err
	}
	return cfg.untilEnough(ctx, sent)
}

// untilEnough waits until cfg.enough returns true, if a test has set it.
func (cfg *Config) untilEnough(ctx context.Context, sent func() uint64) (err error) {
	for err == nil && cfg.enough != nil && !cfg.enough(sent()) {
		err = wait(ctx, 5*time.Millisecond)
	}
	return err
}

// drain waits until every acknowledged message has arrived. If nothing arrives for
// drainLimit, it gives up and returns how many deliveries are missing. Whenever nothing
// has arrived for askAfter, it has the receivers pull what they miss.
func (r *chat) drain(ctx context.Context) (lost uint64, err error) {
	begun := r.clock()
	best, moved, asked := uint64(0), begun, begun
	for {
		t := r.totals()
		// The sums usually show that something is missing. Each conversation is looked at
		// only if they do not.
		if t.inFlight == 0 && t.got >= t.answered*r.copies && r.allMissing() == 0 {
			return 0, nil
		}
		now := r.clock()
		if done := t.got + t.answered + t.refused; done > best {
			best, moved = done, now
		}
		if now-moved > int64(r.cfg.drainLimit) {
			return r.allMissing(), nil
		}
		if now-max(moved, asked) > int64(r.cfg.askAfter) {
			asked = now
			r.ask()
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return lost, err
		}
	}
}

// allMissing returns how many deliveries of acknowledged messages are still to
// come, over all users.
func (r *chat) allMissing() (n uint64) {
	for _, u := range r.active {
		for i := range u.talks {
			n += r.missing(u, i)
		}
	}
	return n
}

// ask has every user who misses something pull. The pull begins behind the lowest of the
// last seqs that the user has from each sender. If a pull is under way, ask asks for its
// page again: the first answer may only be late, and counts whenever it comes.
func (r *chat) ask() {
	if r.relay() {
		return
	}
	for _, u := range r.active {
		for n := range u.talks {
			if r.missing(u, n) > 0 {
				r.askFor(u, n)
			}
		}
	}
}

func (r *chat) askFor(u *user, n int) {
	u.lock()
	t := &u.talks[n]
	seq := uint64(never)
	r.partners(u, n, func(_ *user, slot int) { seq = min(seq, t.after(slot)) })
	if t.pulling {
		u.repeatPage(t)
	} else {
		u.pull(n, seq)
	}
	u.release()
}

func (r *chat) report() Report {
	return Report{
		Workload: r.cfg.Workload, Users: r.cfg.Users, Window: r.cfg.Window,
		Rate: r.cfg.Rate, Insist: r.cfg.Insist, Payload: r.cfg.Payload, Conversations: r.conversations(), OneWay: r.cfg.OneWay, Senders: r.senders(),
	}
}

// conversations returns how many there are.
func (r *chat) conversations() int {
	if r.cfg.pairs() {
		return r.cfg.Conversations
	}
	return len(r.users) / r.size
}

// senders returns how many users send.
func (r *chat) senders() (n int) {
	for _, u := range r.active {
		if u.sends {
			n++
		}
	}
	return n
}

// latencies reports the latencies of what was answered and delivered between two samples.
func (r *chat) latencies(rep *Report, before, after *sample) {
	shares := []float64{0.5, 0.99, 0.999}
	ack := quantilesOf(since(before.ack, after.ack), shares...)
	delivery := quantilesOf(since(before.delivery, after.delivery), shares...)
	rep.AckP50, rep.AckP99, rep.AckP999 = ack[0], ack[1], ack[2]
	rep.DeliveryP50, rep.DeliveryP99, rep.DeliveryP999 = delivery[0], delivery[1], delivery[2]
	rep.LagP99 = r.lag.quantiles(0.99)[0]
}

func (rep *Report) count(t *totals) {
	rep.Sent, rep.Delivered = t.sentMeasured, t.gotMeasured
	rep.Doubled, rep.Misordered, rep.Pulled = t.doubled, t.misordered, t.pulled
	rep.Refused, rep.Skipped = t.refused, t.skipped
	if rep.Insist {
		rep.OfferedPerS = float64(t.sentMeasured+t.skippedMeasured) / rep.Seconds
		rep.RefusedPerS = float64(t.refusedMeasured) / rep.Seconds
		rep.SkippedPerS = float64(t.skippedMeasured) / rep.Seconds
	}
	rep.Unacked = t.sent - t.answered - t.refused
	rep.FramesPerRead = ratio(t.frames, t.reads)
	rep.EntriesPerPush = ratio(t.entries, t.pushes)
}

// cost reports CPU seconds of the server and of this process for n deliveries.
func (rep *Report) cost(server, own float64, n uint64) {
	rep.ServerCPUTotal = server
	if n > 0 {
		rep.ServerCPU = server / float64(n) * 1000
		rep.ClientCPU = own / float64(n) * 1000
	}
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
