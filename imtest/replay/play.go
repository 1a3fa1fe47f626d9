package replay

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/process"
)

const (
	inFlight  = 512              // entries sent and not acknowledged, over all members
	opening   = 32               // clients opened at the same time
	patience  = 60 * time.Second // without any progress, before missing entries count as lost; also for a member to connect
	pulling   = 8                // members whose entries are pulled at the same time
	checkEach = 50 * time.Millisecond
)

// run is one replay under way.
type run struct {
	config  *Config
	script  *script
	device  pim.DeviceID
	process *process.Process // nil: the server is not ours
	history *imtest.History

	members  map[pim.UserID]*member // the first device of each
	readers  *readers
	events   sync.WaitGroup // who takes the events of a device
	progress atomic.Int64   // entries handed over and acknowledged
	stage    atomic.Pointer[stage]
	group    pim.ConversationID

	// mu guards the fields below, and members and readers.second while they are being connected.
	mu    sync.Mutex
	sent  map[pim.ClientMessageID]time.Time
	acks  []time.Duration
	steps []placed
}

// placed is a step with the place that its acknowledgement gave it.
type placed struct {
	step
	id  pim.ClientMessageID
	ack client.Sent
}

func play(ctx context.Context, c *Config, s *script, p *process.Process) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := newRun(c, s, p)
	defer r.close()
	defer r.tell(c.Progress, c.ProgressEvery)()
	report, err := r.play(ctx, cancel)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // it says more than that a context was cancelled
	}
	return report, err
}

func newRun(c *Config, s *script, p *process.Process) *run {
	r := &run{
		config: c, script: s, process: p, history: imtest.NewHistory(),
		device:  pim.DeviceID(fmt.Sprintf("replay-%08x", rand.Uint32())),
		members: make(map[pim.UserID]*member),
		sent:    make(map[pim.ClientMessageID]time.Time),
		steps:   make([]placed, 0, len(s.steps)+1),
	}
	r.readers = newReaders(r)
	r.begins("connecting members", len(r.users()))
	return r
}

func (r *run) play(ctx context.Context, cancel context.CancelCauseFunc) (Report, error) {
	if err := r.openAll(ctx); err != nil {
		return Report{}, err
	}
	start := time.Now()
	stopKilling := r.startKilling(ctx, cancel)
	defer stopKilling()
	report := Report{Reading: r.readers.report()}
	f := &findings{report: &report}
	if err := r.perform(ctx, f); err != nil {
		return Report{}, err
	}
	report.Conversation, report.Seconds = r.group, time.Since(start).Seconds()
	pulled, err := r.pullAll(ctx)
	if err != nil {
		return Report{}, err
	}
	stopKilling()
	if err := r.waitErased(ctx, pulled); err != nil {
		return Report{}, err
	}
	r.begins("checking members", len(r.members)).done.Add(int64(len(r.members)))
	if r.process != nil {
		report.Kills = r.process.Kills()
	}
	r.check(pulled, f)
	return report, nil
}

func (r *run) close() {
	for _, m := range r.devices() {
		m.client.Close()
	}
	r.events.Wait()
}

// devices returns all devices of all users.
func (r *run) devices() []*member {
	return slices.Concat(slices.Collect(maps.Values(r.members)), slices.Collect(maps.Values(r.readers.second)))
}

// users returns everyone who ever is a member.
func (r *run) users() []pim.UserID {
	users := slices.Concat([]pim.UserID{owner}, r.script.first, r.script.later)
	for n := range r.config.Lurkers {
		users = append(users, lurker(n))
	}
	return users
}

// each calls f for every one of users, at most bound at the same time, and
// returns the first error.
func each(ctx context.Context, users []pim.UserID, bound int, f func(context.Context, pim.UserID) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	places := make(chan struct{}, bound)
	for _, u := range users {
		places <- struct{}{} // no select: whoever holds a place notices when ctx ends
		wg.Go(func() {
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			if err := f(ctx, u); err != nil {
				cancel(fmt.Errorf("%s: %w", u, err))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// openAll connects everyone. Unlike an app, replay gives up when the first attempt
// of the first member fails: then there is no server, or it does not let us in.
func (r *run) openAll(ctx context.Context) error {
	users := r.users()
	if err := r.connect(ctx, users[0], r.members, r.device, true); err != nil {
		return err
	}
	return each(ctx, users[1:], opening, func(ctx context.Context, u pim.UserID) error {
		if r.readers.is(u) {
			if err := r.connect(ctx, u, r.readers.second, r.device+"-2", false); err != nil {
				return err
			}
		}
		return r.connect(ctx, u, r.members, r.device, false)
	})
}

// connect opens a device of u, puts it into devices and waits until it is synced, at most for
// patience. If strict, it fails as soon as the first attempt to connect fails.
func (r *run) connect(ctx context.Context, u pim.UserID, devices map[pim.UserID]*member, device pim.DeviceID, strict bool) error {
	m, err := r.open(ctx, u, device, !r.readers.is(u))
	if err != nil {
		return err
	}
	r.mu.Lock()
	devices[u] = m
	r.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(patience, func() {
		cancel(pim.Errorf(pim.KindTimeout, "%s is not connected after %v", u, patience))
	})
	defer limit.Stop()
	if strict {
		stop := context.AfterFunc(m.lost, func() { cancel(context.Cause(m.lost)) })
		defer stop()
	}
	err = m.client.Synced(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	r.stage.Load().done.Add(1)
	return err
}

// pullAll pulls all that each user may read.
func (r *run) pullAll(ctx context.Context) (map[pim.UserID][]pim.Entry, error) {
	var mu sync.Mutex
	all := make(map[pim.UserID][]pim.Entry, len(r.members))
	s := r.begins("pulling what members have", len(r.members))
	err := each(ctx, r.users(), pulling, func(ctx context.Context, u pim.UserID) error {
		entries, err := imtest.ReadAll(ctx, r.members[u].client, r.group, pim.MaxPageEntries)
		mu.Lock()
		defer mu.Unlock()
		all[u] = entries
		s.done.Add(1)
		return err
	})
	return all, err
}

// waitErased pulls anew, at most for patience, while something is left of what was recalled or erased. A server that was killed
// may have an erase in its log that it has not carried out. It does so once it has started again.
func (r *run) waitErased(ctx context.Context, pulled map[pim.UserID][]pim.Entry) error {
	ref, late := r.reference(), time.Now().Add(patience)
	for u := range pulled {
		for slices.ContainsFunc(pulled[u], ref.leaves) && time.Now().Before(late) {
			if !imtest.Pause(ctx, checkEach) {
				return context.Cause(ctx)
			}
			var err error
			if pulled[u], err = imtest.ReadAll(ctx, r.members[u].client, r.group, pim.MaxPageEntries); err != nil {
				return err
			}
		}
	}
	return nil
}

// startKilling kills the server each time it has run for Config.KillEvery and something has come
// of that: on a slow machine the members need longer to connect, and would never get anywhere.
// stop ends the killing and waits until the server is up; it may be called twice. If the server
// does not come up again, startKilling calls cancel.
func (r *run) startKilling(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	if r.process == nil || r.config.KillEvery == 0 {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for before := r.progress.Load(); ; {
			select {
			case <-time.After(r.config.KillEvery):
				now := r.progress.Load()
				if now == before {
					continue
				}
				before = now
				if err := r.process.Kill(ctx, nil); err != nil {
					cancel(err)
					return
				}
			case <-done:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// perform makes the group and sends every step. At the moments of quiet, and at the end, all
// devices come to rest, and the readers' are compared with the model.
func (r *run) perform(ctx context.Context, f *findings) error {
	if err := r.create(ctx); err != nil {
		return err
	}
	start, done := time.Now(), 0
	for _, quiet := range append(r.readers.quiets(), len(r.script.steps)) {
		r.begins("playing events", len(r.script.steps)).done.Store(int64(done))
		if err := r.sendAll(ctx, start, done, quiet); err != nil {
			return err
		}
		done = quiet
		if err := r.readers.rest(ctx); err != nil {
			return err
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
		if err := r.readers.switchSome(ctx); err != nil {
			return err
		}
		if err := r.readers.readSome(ctx); err != nil {
			return err
		}
		if err := r.readers.compare(ctx, f, done == len(r.script.steps)); err != nil {
			return err
		}
	}
	return nil
}

// sendAll sends the steps from..to-1, and has readers act meanwhile.
func (r *run) sendAll(ctx context.Context, start time.Time, from, to int) error {
	acting := ctx // acts may go on for longer than the steps
	return schedule(ctx, r.script.steps[from:to], inFlight, func(ctx context.Context, i int) error {
		i += from
		if err := r.readers.act(acting); err != nil {
			return err
		}
		if i == len(r.script.steps)/2 && r.process != nil && r.config.KillEvery > 0 && r.process.Kills() == 0 {
			if err := r.process.Kill(ctx, nil); err != nil {
				return err
			}
		}
		if r.config.Speed == 0 {
			return ctx.Err()
		}
		return sleepUntil(ctx, start.Add(time.Duration(float64(r.script.steps[i].at)/r.config.Speed)))
	}, r.send)
}

func (r *run) create(ctx context.Context) error {
	others := slices.Clone(r.script.first)
	for n := range r.config.Lurkers {
		others = append(others, lurker(n))
	}
	sending, err := r.members[owner].client.CreateGroup(ctx, others)
	if err != nil {
		return err
	}
	r.sending(sending.ID(), imtest.Send{Sender: owner, Device: r.device, Kind: pim.EntryCreate, Members: others}, "")
	sent, err := sending.Wait(ctx)
	if err != nil {
		return fmt.Errorf("make the group: %w", err)
	}
	r.acked(owner, r.device, placed{step{kind: pim.EntryCreate, user: owner}, sending.ID(), sent})
	r.group = sent.Conversation
	for _, m := range r.devices() {
		m.follow(r.group)
	}
	return nil
}

// send implements sender.
func (r *run) send(ctx context.Context, s step) (func(context.Context) error, error) {
	by, m := owner, imtest.Send{Device: r.device, Conversation: r.group, Kind: s.kind, Members: []pim.UserID{s.user}}
	at := time.Now()
	var sending *client.Sending
	var err error
	switch s.kind {
	case pim.EntryJoin:
		sending, err = r.members[owner].client.Join(ctx, r.group, s.user)
	case pim.EntryLeave:
		sending, err = r.members[owner].client.Leave(ctx, r.group, s.user)
	default:
		by, m.Members = s.user, nil
		var options []client.SendOption
		if m.MentionAll = s.all; s.all {
			options = append(options, client.MentionAll())
		}
		if s.mention != "" {
			m.Mentions = []pim.UserID{s.mention}
			options = append(options, client.Mention(s.mention))
		}
		sending, err = r.members[s.user].client.Send(ctx, r.group, []byte(s.text), options...)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", s.kind, s.user, err)
	}
	m.Sender = by
	r.sending(sending.ID(), m, s.text)
	r.mu.Lock()
	r.sent[sending.ID()] = at
	r.mu.Unlock()
	return func(ctx context.Context) error {
		sent, err := sending.Wait(ctx)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", s.kind, s.user, err)
		}
		took := time.Since(at)
		r.acked(by, r.device, placed{s, sending.ID(), sent})
		r.stage.Load().done.Add(1)
		r.mu.Lock()
		r.acks = append(r.acks, took)
		r.mu.Unlock()
		return nil
	}, nil
}

// sending records that a message is sent.
func (r *run) sending(id pim.ClientMessageID, m imtest.Send, text string) {
	m.ClientID, m.Payload = id, imtest.PayloadSum([]byte(text))
	r.history.Sent(m)
}

// acked records the acknowledgement of a step that by has sent from device.
func (r *run) acked(by pim.UserID, device pim.DeviceID, s placed) {
	r.history.Acked(imtest.Ack{
		User: by, Device: device, ClientID: s.id, Conversation: s.ack.Conversation, Seq: s.ack.Seq,
		Anchor: s.ack.Anchor, Server: s.ack.Server, Count: s.ack.Count, Duplicate: s.ack.Duplicate,
	})
	r.progress.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, s)
}

// standsAt returns the acknowledgement of the message id as the owner's device was handed its entry. The
// server does not tell a user who has left where an erase stands.
func (r *run) standsAt(ctx context.Context, id pim.ClientMessageID) (client.Sent, error) {
	for {
		if e, ok := r.members[owner].has(id); ok {
			return client.Sent{Conversation: e.Conversation, Seq: e.Seq, Anchor: e.Anchor, Server: e.Server, Count: e.Count}, nil
		}
		if !imtest.Pause(ctx, checkEach) {
			return client.Sent{}, context.Cause(ctx)
		}
	}
}

// settle waits until every member has as many entries as it should, or until there was
// no progress for patience.
func (r *run) settle(ctx context.Context) error {
	expected := r.reference().expected(r.users())
	all, devices := 0, r.devices()
	for _, m := range devices {
		all += len(expected[m.user])
	}
	stage := r.begins("waiting for deliveries", all)
	seen, since := r.progress.Load(), time.Now()
	t := time.NewTicker(checkEach)
	defer t.Stop()
	for {
		missing := 0
		for _, m := range devices {
			n, err := m.count()
			if err != nil {
				return fmt.Errorf("client of %s: %w", m.user, err)
			}
			missing += max(0, len(expected[m.user])-n)
		}
		if missing == 0 {
			return nil
		}
		stage.done.Store(int64(all - missing))
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
