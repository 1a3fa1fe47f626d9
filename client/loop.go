package client

import (
	"context"
	"math"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
)

// The loop is the one goroutine that steps the engine and does what the engine asks for
// (see the duties of the caller in package engine). It never waits for the network or
// the app: the link writes for the loop, and while the app does not take its events, the
// loop leaves the network unread and goes on with everything else.

const (
	// maxSteps is how many inputs the engine may be stepped with before its output is
	// carried out, so that under load one transaction stores what several inputs change.
	maxSteps = 16
	// patience is how long the app may leave events untaken before the engine is
	// told that reading has stopped.
	patience = time.Second
	// sleepWatch is the longest time between two steps of the engine while there is a
	// connection. Timers stand still while the device sleeps. When the device wakes up,
	// the connection may be long dead, and the next heartbeat minutes away.
	sleepWatch = 10 * time.Second
)

// loop is the state of the loop's goroutine.
type loop struct {
	engine    *engine.Engine
	link      *link   // nil: none
	pending   []Event // not in the channel yet; while there are more than room, the link is not read
	room      int
	feed      feed      // has the entries, instead of pending, if the app confirms them
	blocked   time.Time // since when pending has been full; zero: it is not
	paused    bool      // the engine was told of that
	broken    error     // the store failed; nothing is stepped any more
	replies   []reply
	wakeTimer *time.Timer
	steppedAt time.Duration                 // the last step, on the clock of Time.Mono
	dialling  map[uint64]context.CancelFunc // attempts and questions under way
	token     string                        // of the question that was just answered; empty: the app is asked
	views     []*View                       // open, in the order in which they were opened
}

// command is an input for the engine, or a function to call, from outside the loop.
type command struct {
	in   engine.Input
	call func() error
	done chan error // capacity 1
}

type reply struct {
	done chan error
	err  error
}

func (c *Client) now() engine.Time {
	if c.options.clock != nil {
		return c.options.clock()
	}
	now := time.Now()
	return engine.Time{Mono: now.Sub(c.begun), Wall: pim.MillisOf(now)}
}

func (c *Client) run() {
	defer c.wg.Done()
	l := &c.loop
	l.wakeTimer = time.NewTimer(time.Hour)
	defer l.wakeTimer.Stop()
	defer c.end()
	c.step(engine.Start{})
	c.carryOut()
	for {
		c.setTimer()
		var frames <-chan engine.Input
		var events chan<- Event
		var next Event
		if l.link != nil && !l.full() {
			frames = l.link.in
		}
		switch {
		case len(l.pending) > 0:
			events, next = c.events, l.pending[0]
		case len(l.feed.queue) > 0:
			events, next = c.events, l.feed.queue[0]
		}
		select {
		case <-c.ctx.Done():
			return
		case events <- next:
			l.took()
		case in := <-frames:
			c.take(in)
			c.takeMore()
		case cmd := <-c.commands:
			c.obey(cmd)
			c.takeMore()
		case d := <-c.dialled:
			c.connect(d)
		case f := <-c.found:
			c.learn(f)
		case <-l.wakeTimer.C:
		}
		c.tick()
		c.carryOut()
	}
}

// takeMore takes further inputs that are ready, up to maxSteps.
func (c *Client) takeMore() {
	for range maxSteps - 1 {
		var frames <-chan engine.Input
		if c.loop.link != nil && !c.loop.full() {
			frames = c.loop.link.in
		}
		select {
		case in := <-frames:
			c.take(in)
		case cmd := <-c.commands:
			c.obey(cmd)
		default:
			return
		}
	}
}

// take takes what the link has read.
func (c *Client) take(in engine.Input) {
	if _, lost := in.(engine.Lost); lost {
		c.letGo()
	}
	c.step(in)
}

func (c *Client) obey(cmd command) {
	err := c.loop.broken
	switch {
	case err != nil:
	case cmd.call != nil:
		err = cmd.call()
	default:
		err = c.step(cmd.in)
	}
	c.loop.replies = append(c.loop.replies, reply{cmd.done, err})
}

func (c *Client) step(in engine.Input) error {
	if c.loop.broken != nil {
		return c.loop.broken
	}
	now := c.now()
	c.loop.steppedAt = now.Mono
	if at, ok := c.loop.engine.Deadline(); ok && at <= now.Mono {
		c.busy(now)
	}
	return c.loop.engine.Step(now, in)
}

// busy tells the engine when bytes last moved, if the connection is busy: with a frame
// on its way here, or with frames that wait to be written. So the engine does not judge
// the connection dead, or a request unanswered.
func (c *Client) busy(now engine.Time) {
	l := c.loop.link
	if l == nil {
		return
	}
	if at := l.moved(); !at.IsZero() {
		// The engine never refuses this input.
		_ = c.loop.engine.Step(now, engine.Arriving{Attempt: l.attempt, At: now.Mono - time.Since(at)})
	}
}

// tick steps the engine if its time has come, and tells it of a pause.
func (c *Client) tick() {
	l := &c.loop
	switch blocked := l.full(); {
	case blocked && l.blocked.IsZero():
		l.blocked = time.Now()
	case blocked && !l.paused && time.Since(l.blocked) >= patience:
		l.paused = true
		c.unread.Store(true)
		c.log.Warn(unreadHint, "events", len(l.pending)+len(c.events))
		c.step(engine.Pause{On: true})
	case !blocked && l.paused:
		l.paused = false
		c.unread.Store(false)
		c.step(engine.Pause{On: false})
		fallthrough
	case !blocked:
		l.blocked = time.Time{}
	}
	if c.stepBy() <= c.now().Mono {
		c.step(engine.Tick{})
	}
}

// stepBy returns when the engine is to be stepped at the latest.
func (c *Client) stepBy() time.Duration {
	l := &c.loop
	by := time.Duration(math.MaxInt64)
	if at, ok := l.engine.Deadline(); ok {
		by = at
	}
	if l.link != nil {
		by = min(by, l.steppedAt+sleepWatch)
	}
	return by
}

// setTimer wakes the loop when tick will have something to do.
func (c *Client) setTimer() {
	l := &c.loop
	wait := time.Hour
	if l.broken == nil {
		wait = min(wait, c.stepBy()-c.now().Mono)
	}
	if !l.blocked.IsZero() && !l.paused {
		wait = min(wait, patience-time.Since(l.blocked))
	}
	l.wakeTimer.Reset(max(wait, 0))
}

// carryOut does what the engine asks for, in the order of its documentation.
func (c *Client) carryOut() {
	l := &c.loop
	for c.perform() { // until the engine asks for no more reads
	}
	c.offer()
	c.noteSynced(l.broken == nil && l.engine.Synced() && (l.feed.on || len(l.pending) == 0))
	for _, r := range l.replies {
		if l.broken != nil && r.err == nil {
			r.err = l.broken
		}
		r.done <- r.err
	}
	l.replies = l.replies[:0]
}

// perform carries out one Output, and reports whether it has given the engine an input:
// the answer to a Read.
func (c *Client) perform() bool {
	l := &c.loop
	out := l.engine.Take()
	if l.broken == nil {
		c.noteSettings(out.Events)
	}
	if l.broken == nil && !out.Store.Empty() {
		if err := c.store.Apply(context.WithoutCancel(c.ctx), &out.Store); err != nil {
			c.breakDown(err)
		}
	}
	if l.broken == nil {
		if len(out.Frames) > 0 && l.link != nil {
			l.link.send(out.Frames)
		}
		for _, attempt := range out.Hangups {
			c.hangUp(attempt)
		}
		for _, d := range out.Dials {
			c.dial(d, l.token)
		}
		for _, q := range out.Questions {
			c.find(q)
		}
		for _, ev := range out.Events {
			c.show(ev)
			c.hand(ev)
		}
		c.answer(out.Pulled, out.Filled)
		for _, r := range out.Reads {
			c.readFor(r)
		}
	}
	return l.broken == nil && len(out.Reads) > 0
}

// breakDown ends everything but Close, because the store failed with err. The engine is
// ahead of the store, so nothing that it asks for may be done any more.
func (c *Client) breakDown(err error) {
	e := pim.Errorf(pim.KindUnavailable, "the local store failed: %w", err)
	if k := pim.KindOf(err); k != pim.KindUnknown {
		e.Kind = k
	}
	c.loop.broken = e
	c.letGo()
	c.hand(StateEvent{State: Stopped, Err: e})
	c.settleAll(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, ch := range c.answers {
		ch <- engine.Pulled{ID: id, Err: e}
		delete(c.answers, id)
	}
	for id, ch := range c.fills {
		ch <- engine.Filled{ID: id, Err: e}
		delete(c.fills, id)
	}
}

// hand hands ev to the calls that wait for it, and then to the app.
func (c *Client) hand(ev Event) {
	switch ev := ev.(type) {
	case EntryEvent:
		if c.loop.feed.on {
			c.loop.feed.take(ev)
			return
		}
	case SendEvent:
		c.reached(ev)
	case ErasedEvent:
		c.loop.feed.erase(ev)
	case RewoundEvent:
		c.loop.feed.rewind(ev)
		c.log.Warn("the server's store went back", "conversation", ev.Conversation, "after", ev.After)
	case StateEvent:
		c.logState(ev)
		c.noteUser()
		c.state.Store(uint32(ev.State))
		c.noteStop(ev)
	}
	c.loop.pending = append(c.loop.pending, ev)
}

// noteSettings notes the settings among events. That is before the store has what is new, so that no
// Info shows an entry as unread that was read as it came.
func (c *Client) noteSettings(events []Event) {
	for _, ev := range events {
		if ev, ok := ev.(SettingEvent); ok {
			c.mu.Lock()
			c.settings[ev.Entity] = ev.Setting
			c.mu.Unlock()
		}
	}
}

// noteUser notes the user that a connection has named.
func (c *Client) noteUser() {
	user := c.loop.engine.User()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user = user
}

func (c *Client) logState(ev StateEvent) {
	switch ev.State {
	case Stopped:
		c.log.Error("the client stops", "err", ev.Err)
	case Waiting:
		c.log.Warn("no connection", "err", ev.Err, "retry_in", ev.RetryIn)
	default:
		c.log.Debug("connection", "state", ev.State.String())
	}
}

// noteStop lets waiting calls know that the client has stopped, or that it goes on.
func (c *Client) noteStop(ev StateEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.stopErr != nil
	c.stopErr = nil
	if ev.State == Stopped {
		c.stopErr = ev.Err
	}
	switch is := c.stopErr != nil; {
	case is && !was:
		close(c.stopped)
		if !c.isSynced {
			close(c.synced) // Synced sees stopErr
		}
		c.synced, c.isSynced = make(chan struct{}), false
	case was && !is:
		c.stopped = make(chan struct{})
	}
}

// stop returns why the client has stopped, nil if it has not, and a channel that is
// closed when it stops. For a Sending that no Client has made, c and both results are nil.
func (c *Client) stop() (stopped <-chan struct{}, err error) {
	if c == nil {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped, c.stopErr
}

func (c *Client) answer(pulled []engine.Pulled, filled []engine.Filled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range filled {
		if ch := c.fills[f.ID]; ch != nil {
			ch <- f // capacity 1, one answer
			delete(c.fills, f.ID)
		}
	}
	for _, p := range pulled {
		if ch := c.answers[p.ID]; ch != nil {
			ch <- p // capacity 1, one answer
			delete(c.answers, p.ID)
		}
	}
}

// offer moves events into the channel, as far as they fit.
func (c *Client) offer() {
	l := &c.loop
	c.readAhead()
	for {
		var next Event
		switch {
		case len(l.pending) > 0:
			next = l.pending[0]
		case len(l.feed.queue) > 0:
			next = l.feed.queue[0]
		default:
			return
		}
		select {
		case c.events <- next:
			l.took()
		default:
			return
		}
	}
}

// full reports whether more events wait for the app than there is room for.
func (l *loop) full() bool { return len(l.pending) > l.room }

// took notes that the channel has taken the first waiting event.
func (l *loop) took() {
	if len(l.pending) == 0 {
		l.feed.next()
		return
	}
	l.pending[0] = nil
	if l.pending = l.pending[1:]; len(l.pending) == 0 {
		l.pending = nil
	}
}

func (c *Client) noteSynced(now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case now && !c.isSynced:
		c.isSynced = true
		close(c.synced)
	case !now && c.isSynced:
		c.isSynced = false
		c.synced = make(chan struct{})
	}
}

// end is the last thing the loop does.
func (c *Client) end() {
	l := &c.loop
	if l.broken == nil && l.link != nil {
		c.step(engine.Close{})
		if out := l.engine.Take(); !out.Store.Empty() {
			if c.store.Apply(context.WithoutCancel(c.ctx), &out.Store) == nil {
				l.link.send(out.Frames)
			}
		}
		l.link.finish()
		l.link = nil
	}
	c.state.Store(uint32(Stopped))
	close(c.closed)
	c.settleAll(ErrClosed)
	close(c.events)
}
