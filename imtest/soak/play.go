package soak

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
)

// create makes a group.
func (r *run) create(ctx context.Context, n int, c *conversation, members []pim.UserID) error {
	sending, err := r.devices[c.members[0]*devicesEach].client.CreateGroup(ctx, members)
	if err != nil {
		return err
	}
	sent, err := sending.Wait(ctx)
	if err != nil {
		return err
	}
	c.id = sent.Conversation
	r.indices.Store(c.id, n)
	r.book.created(n, sent.Seq)
	return nil
}

func (r *run) close() {
	for _, d := range r.devices {
		d.client.Close()
	}
	r.readers.Wait()
}

// play runs the load with its faults, waits until every device has everything, and checks.
func (r *run) play(ctx context.Context) (Report, error) {
	begun := time.Now()
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	errs := make(chan error, len(r.devices)+1)
	for _, d := range r.devices {
		work.Go(func() { errs <- d.talk(loaded) })
	}
	work.Go(func() {
		errs <- r.breakServers(loaded)
		stop()
	})
	reported := make(chan struct{})
	go func() { defer close(reported); r.tell(loaded) }()
	var failed error
	for range cap(errs) {
		if err := <-errs; err != nil {
			failed = errors.Join(failed, err)
			stop()
		}
	}
	work.Wait()
	<-reported
	if failed != nil {
		return Report{}, failed
	}
	rep := Report{Seed: r.cfg.Seed, Seconds: time.Since(begun).Seconds()}
	r.cfg.Log.Info("the load has ended", "unanswered", r.book.unanswered())
	if err := r.settle(ctx); err != nil {
		return Report{}, err
	}
	r.cfg.Log.Info("nothing more comes", "unanswered", r.book.unanswered())
	if err := r.check(ctx); err != nil {
		return Report{}, err
	}
	r.fill(&rep)
	return rep, nil
}

// breakServers makes faults at random times while the load goes on. The load ends when it
// returns. If it returns nil, the last fault is healed.
func (r *run) breakServers(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.cfg.Seed, 1<<40))
	end := time.Now().Add(r.cfg.Duration)
	for answered := 0; ; answered = r.book.answered() {
		every := int64(r.cfg.FaultEvery)
		next := time.Duration(every/2 + random.Int64N(every+1))
		number := int(r.faults.Load()) + 1
		over := next > time.Until(end) && number > r.cfg.MinFaults
		if over {
			next = time.Until(end)
		}
		if !imtest.Pause(ctx, next) || over {
			return nil
		}
		// A server that has acknowledged nothing since the last fault has nothing to lose.
		for r.book.answered() == answered {
			if !imtest.Pause(ctx, poll) {
				return nil
			}
		}
		r.faults.Store(int32(number))
		if err := r.servers.Break(ctx, random, number); err != nil {
			return err
		}
	}
}

// poll is the time between two looks whether something has come.
const poll = 20 * time.Millisecond

// tell logs how it goes twice a minute.
func (r *run) tell(ctx context.Context) {
	for begun := time.Now(); imtest.Pause(ctx, 30*time.Second); {
		r.cfg.Log.Info("soaking", "for", time.Since(begun).Round(time.Second), "messages", r.book.messages(),
			"unanswered", r.book.unanswered(), "deliveries", r.deliveries(), "faults", r.faults.Load())
	}
}

func (r *run) deliveries() (n int) {
	for _, d := range r.devices {
		n += d.handed.total()
	}
	return n
}

// settle waits until every message was answered and every device has everything, or
// until nothing has come for as long as Patience.
func (r *run) settle(ctx context.Context) error {
	moved, at := r.progress.Load(), time.Now()
	for !r.settled() {
		if now := r.progress.Load(); now != moved {
			moved, at = now, time.Now()
		}
		if time.Since(at) > r.cfg.Patience {
			return nil // the check counts what is missing
		}
		for _, d := range r.devices {
			if err := d.err(); err != nil {
				return err
			}
		}
		if !imtest.Pause(ctx, poll) {
			return ctx.Err()
		}
	}
	return nil
}

func (r *run) settled() bool {
	if r.book.unanswered() > 0 {
		return false
	}
	for n, c := range r.conversations {
		newest := r.book.reached(n)
		for _, m := range c.members {
			for _, d := range r.devices[m*devicesEach : (m+1)*devicesEach] {
				if d.handed.has(n) < newest {
					return false
				}
			}
		}
	}
	return true
}

// check reads every conversation from the server, with a device of one of its members
// that took no part in the load, and compares.
func (r *run) check(ctx context.Context) error {
	l := newLogs(r.book, r.found)
	for n, c := range r.conversations {
		log, err := r.read(ctx, r.user(c.members[len(c.members)-1]), c.id)
		if err != nil {
			return err
		}
		l.check(n, log)
		for _, m := range c.members {
			for _, d := range r.devices[m*devicesEach : (m+1)*devicesEach] {
				d.handed.compare(d.name(), n, log)
			}
		}
	}
	l.end()
	return nil
}

// read returns the whole of a conversation, straight from the server.
func (r *run) read(ctx context.Context, user pim.UserID, c pim.ConversationID) ([]pim.Entry, error) {
	reader, err := client.Open(ctx, client.Options{
		Servers: r.servers.URLs(true), User: user, Device: "reader", Agent: "pim-soak", Watch: true, Direct: true,
		Token: func(context.Context) (string, error) { return r.token(user) },
		Store: client.NewMemory(client.MemoryOptions{PositionsOnly: true}),
	})
	if err != nil {
		return nil, err
	}
	var work sync.WaitGroup
	work.Go(func() {
		for range reader.Events() { // nothing is watched
		}
	})
	defer work.Wait()
	defer reader.Close()
	return imtest.ReadAll(ctx, reader, c, pim.MaxPageEntries)
}

func (r *run) fill(rep *Report) {
	rep.Messages, rep.Deliveries, rep.Faults = r.book.messages(), r.deliveries(), int(r.faults.Load())
	rep.Lost, rep.Doubled, rep.Misordered = r.found.Lost, r.found.Doubled, r.found.Misordered
	rep.Longest = r.book.longest
	rep.Findings, rep.Overtaken = r.found.words, len(r.found.overtaken)
	for _, o := range r.found.overtaken[:min(maxFindings, rep.Overtaken)] {
		if r.cfg.Servers == nil {
			rep.Findings = append(rep.Findings, o)
		} else {
			r.cfg.Log.Info(o)
		}
	}
	if r.cfg.Servers == nil {
		rep.Misordered += rep.Overtaken
	}
}
