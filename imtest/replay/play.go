package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

const (
	inFlight  = 512              // entries sent and not acknowledged, over all members
	opening   = 32               // clients opened at the same time
	patience  = 60 * time.Second // without any progress, before what is missing counts as lost
	pulling   = 8                // members pulled as at the same time
	checkEach = 50 * time.Millisecond
)

// run is one replay under way.
type run struct {
	config  *Config
	script  *script
	device  pim.DeviceID
	process *process // nil: the server is not ours

	members  map[pim.UserID]*member
	readers  sync.WaitGroup
	progress atomic.Int64 // entries handed over and acknowledged

	mu    sync.Mutex
	group pim.ConversationID
	sent  map[pim.ClientMessageID]time.Time
	acks  []time.Duration
	err   error // the first of a send
	steps []placed
}

// placed is a step with the place that its acknowledgement gave it.
type placed struct {
	step
	id  pim.ClientMessageID
	ack client.Sent
}

func play(ctx context.Context, c *Config, s *script, p *process) (Report, error) {
	r := &run{
		config: c, script: s, process: p,
		device:  pim.DeviceID(fmt.Sprintf("replay-%08x", rand.Uint32())),
		members: make(map[pim.UserID]*member),
		sent:    make(map[pim.ClientMessageID]time.Time),
		steps:   make([]placed, 0, len(s.steps)+1),
	}
	defer r.close()
	if err := r.openAll(ctx); err != nil {
		return Report{}, err
	}
	fmt.Fprintf(c.Progress, "%d members are connected\n", len(r.members))
	start := time.Now()
	kills := r.startKilling(ctx)
	err := r.perform(ctx)
	if err == nil {
		err = r.settle(ctx)
	}
	if kerr := kills(); err == nil {
		err = kerr
	}
	if err != nil {
		return Report{}, err
	}
	report := Report{Conversation: r.group, Seconds: time.Since(start).Seconds()}
	if p != nil {
		report.Kills = p.killed()
	}
	fmt.Fprintf(c.Progress, "played in %.1f s; pulling as every member\n", report.Seconds)
	return report, r.check(ctx, &report)
}

func (r *run) close() {
	for _, m := range r.members {
		m.client.Close()
	}
	r.readers.Wait()
}

func (r *run) conversation() pim.ConversationID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.group
}

func (r *run) sentAt(id pim.ClientMessageID) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.sent[id]
	return at, ok
}

// users returns everyone who ever is a member.
func (r *run) users() []pim.UserID {
	users := slices.Concat([]pim.UserID{owner}, r.script.first, r.script.later)
	for n := range r.config.Lurkers {
		users = append(users, lurker(n))
	}
	return users
}

func (r *run) openAll(ctx context.Context) error {
	var wg sync.WaitGroup
	places := make(chan struct{}, opening)
	for _, u := range r.users() {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			m, err := r.open(ctx, u)
			if err == nil {
				r.mu.Lock()
				r.members[u] = m
				r.mu.Unlock()
				err = m.client.Synced(ctx)
			}
			r.note(err)
		})
	}
	wg.Wait()
	return r.firstError()
}

func (r *run) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

func (r *run) firstError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// startKilling kills the server at intervals. The function that it returns
// stops that, after at least one kill, and waits until the server is up.
func (r *run) startKilling(ctx context.Context) (stop func() error) {
	if r.process == nil || r.config.KillEvery == 0 {
		return func() error { return nil }
	}
	done := make(chan struct{})
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(r.config.KillEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				if err = r.process.kill(ctx); err != nil {
					r.note(err)
					return
				}
			case <-done:
				return
			}
		}
	})
	return func() error {
		close(done)
		wg.Wait()
		return err
	}
}

// perform makes the group and sends every step. A user's messages follow its
// join, and its leave follows its messages; otherwise everything is under way at
// the same time.
func (r *run) perform(ctx context.Context) error {
	if err := r.create(ctx); err != nil {
		return err
	}
	places := make(chan struct{}, inFlight)
	type sentStep struct {
		kind    pim.EntryKind
		sending *client.Sending
	}
	last := make(map[pim.UserID]sentStep) // each user's newest
	var acked sync.WaitGroup
	defer acked.Wait()
	start := time.Now()
	for i, s := range r.script.steps {
		if err := r.pace(ctx, start, s.at); err != nil {
			return err
		}
		if i == len(r.script.steps)/2 && r.process != nil && r.config.KillEvery > 0 && r.process.killed() == 0 {
			if err := r.process.kill(ctx); err != nil {
				return err
			}
		}
		// Within one client the order is kept; between the owner's and the user's it
		// takes an acknowledgement.
		if before, ok := last[s.user]; ok && (s.kind != pim.EntryMessage || before.kind != pim.EntryMessage) {
			if _, err := before.sending.Wait(ctx); err != nil {
				return fmt.Errorf("%s of %s: %w", before.kind, s.user, err)
			}
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		sending, err := r.send(ctx, s)
		if err != nil {
			return err
		}
		last[s.user] = sentStep{s.kind, sending}
		acked.Go(func() {
			defer func() { <-places }()
			r.await(ctx, s, sending)
		})
		if err := r.firstError(); err != nil {
			return err
		}
	}
	acked.Wait()
	return r.firstError()
}

func (r *run) pace(ctx context.Context, start time.Time, at time.Duration) error {
	if r.config.Speed == 0 {
		return ctx.Err()
	}
	wait := time.Until(start.Add(time.Duration(float64(at) / r.config.Speed)))
	if wait <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *run) create(ctx context.Context) error {
	others := slices.Clone(r.script.first)
	for n := range r.config.Lurkers {
		others = append(others, lurker(n))
	}
	s := step{kind: pim.EntryCreate, user: owner}
	sending, err := r.members[owner].client.CreateGroup(ctx, others)
	if err != nil {
		return err
	}
	sent, err := sending.Wait(ctx)
	if err != nil {
		return fmt.Errorf("make the group: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.group = sent.Conversation
	r.steps = append(r.steps, placed{s, sending.ID(), sent})
	return nil
}

func (r *run) send(ctx context.Context, s step) (*client.Sending, error) {
	at := time.Now()
	var sending *client.Sending
	var err error
	switch s.kind {
	case pim.EntryJoin:
		sending, err = r.members[owner].client.Join(ctx, r.group, s.user)
	case pim.EntryLeave:
		sending, err = r.members[owner].client.Leave(ctx, r.group, s.user)
	default:
		sending, err = r.members[s.user].client.Send(ctx, r.group, []byte(s.text))
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.sent[sending.ID()] = at
	r.mu.Unlock()
	return sending, nil
}

func (r *run) await(ctx context.Context, s step, sending *client.Sending) {
	sent, err := sending.Wait(ctx)
	if err != nil {
		r.note(fmt.Errorf("%s of %s: %w", s.kind, s.user, err))
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acks = append(r.acks, now.Sub(r.sent[sending.ID()]))
	r.steps = append(r.steps, placed{s, sending.ID(), sent})
	r.progress.Add(1)
}

// settle waits until every member has as many entries as it should, or nothing
// has come for a while.
func (r *run) settle(ctx context.Context) error {
	expected := r.reference().expected(r.users())
	seen, since := r.progress.Load(), time.Now()
	t := time.NewTicker(checkEach)
	defer t.Stop()
	for {
		missing := 0
		for u, m := range r.members {
			n, err := m.count()
			if err != nil {
				return fmt.Errorf("client of %s: %w", u, err)
			}
			missing += max(0, len(expected[u])-n)
		}
		if missing == 0 {
			return nil
		}
		if now := r.progress.Load(); now != seen {
			seen, since = now, time.Now()
		}
		if time.Since(since) > patience {
			return nil // the check names what is missing
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
