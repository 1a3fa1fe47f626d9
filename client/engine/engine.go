package engine

import (
	"cmp"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Config is what does not change while an engine runs.
type Config struct {
	User   pim.UserID // if set, Welcome must name it
	Device pim.DeviceID
	Agent  string // for the server's log
	// Servers are the URLs to connect to, at least one; the first is tried first.
	Servers []string
	// LBS are the URLs, http or https, of nodes that may say which gateway to dial: they are asked
	// before Servers are dialled, see Output.Questions. None: Servers are dialled without asking.
	LBS   []string
	Watch bool // no sync, no acknowledgements: only what Follow names
	Peek  bool // no acknowledgements, and no pulls but of the own log
	// Confirms says that the app confirms every entry (Confirm). So every hole is
	// filled without a Fill, however long it is.
	Confirms bool

	BackoffMin, BackoffMax time.Duration // bounds of the wait between attempts to connect
	RequestTimeout         time.Duration // how long the answer to a Hello, a pull or a sync may take; for sends see resendAfter

	Page    int // entries of a pull, and of the longest gap that is not jumped; 0: 100; with Watch always 500
	LazyGap int // entries of the longest gap that is filled without a Fill; 0: 10,000

	Random func() float64 // in [0, 1); for the jitter of waits
}

// Engine is the state of one device. It is not safe for concurrent use.
type Engine struct {
	cfg Config
	effects
	stepped bool       // now is set
	jump    pim.Millis // of the wall clock against the monotonic one, since the step before

	// The connection, and what goes over it.
	link     link
	race     race
	route    route
	finder   finder
	backoff  backoff
	strays   strays
	heart    heart
	watchdog watchdog
	limits   limits
	clock    clock
	outbox   outbox
	sync     syncList
	acks     acks

	// Conversations and settings, and what is under way to complete them.
	settings      settings
	foretold      foretold
	conversations conversations
	opened        pim.ConversationID // the one that a person looks at
	looks         looking
	readings      []*reading // those that a person reads, in the order in which that began
	fills         fills
	doubts        doubts
	fetches       fetches
	former        former
	wishes        wishes
	pulls         pulls
	asks          asks
	paused        bool          // the shell does not read, see Pause
	pausedAt      time.Duration // paused: since when
}

// limits are what the last Welcome named; before the first one they are defaults (limitsOf).
type limits struct {
	payload   int
	page      uint32
	inFlight  int
	members   int
	idle      time.Duration
	heartbeat time.Duration // longest interval that may be announced; 0: announcements are ignored
}

// longestBeat returns the longest interval between heartbeats that the server permits.
func (l *limits) longestBeat() time.Duration {
	if l.heartbeat == 0 {
		return l.idle / 2
	}
	return l.heartbeat
}

const (
	maxInFlight = 32
	defaultIdle = time.Minute
	minIdle     = time.Second
)

// New returns an engine that goes on from s. Its first input is Start.
func New(cfg Config, s Snapshot) *Engine {
	cfg.Page = min(cmp.Or(cfg.Page, pageSize), pim.MaxPageEntries)
	if cfg.Watch {
		cfg.Page = watchPage
	}
	cfg.LazyGap = cmp.Or(cfg.LazyGap, lazyGap)
	e := &Engine{cfg: cfg, effects: effects{meta: s.Meta, owner: cfg.User}}
	e.conversations = conversations{watch: cfg.Watch, byID: make(map[pim.ConversationID]*conversation, len(s.Conversations))}
	e.limits = limitsOf(nil)
	e.link.dialAt = never
	e.watchdog.timeout = cfg.RequestTimeout
	e.watchdog.left()
	e.route.servers = cfg.Servers
	e.finder = newFinder(cfg.LBS, cfg.Random)
	e.backoff.min, e.backoff.max, e.backoff.random = cfg.BackoffMin, cfg.BackoffMax, cfg.Random
	e.heart.restore(s.Networks)
	e.pulls = pulls{
		fx: &e.effects, limits: &e.limits, page: cfg.Page, timeout: cfg.RequestTimeout, random: cfg.Random,
		active: make(requests[*pull]),
	}
	e.sync.fx, e.sync.timeout, e.sync.random = &e.effects, cfg.RequestTimeout, cfg.Random
	e.acks = acks{fx: &e.effects, off: cfg.Watch || cfg.Peek}
	e.sync.tells = !e.acks.off
	e.asks = newAsks(&e.effects, cfg.RequestTimeout, cfg.Random)
	e.fetches = fetches{fx: &e.effects, active: make(map[uint64]fetch)}
	e.doubts.fx = &e.effects
	if e.meta.User == "" {
		e.meta.FullSync = true
	}
	e.meta.Device = cfg.Device
	for i := range s.Conversations {
		e.conversations.restore(&s.Conversations[i])
	}
	e.settings, e.foretold = newSettings(s.Settings), make(foretold)
	for _, x := range s.Erasures {
		e.conversations.restoreErasure(x)
	}
	e.restoreFormer(s.Former)
	e.outbox = outbox{fx: &e.effects, clock: &e.clock, limits: &e.limits, random: cfg.Random, left: e.left}
	e.outbox.restore(s.Outbox)
	for _, m := range e.outbox.byID {
		e.countBack(m, 1)
	}
	return e
}

// Step takes one input at the time now. now.Mono must not decrease. An error says
// that the input was refused and has changed nothing.
func (e *Engine) Step(now Time, in Input) error {
	e.jump = 0
	if e.stepped {
		e.jump = now.Wall - e.now.Wall - millis(now.Mono-e.now.Mono)
	}
	e.now, e.stepped = now, true
	if max(e.jump, -e.jump) >= millis(jumpAtLeast) {
		e.clock.jumped(now.Mono)
	}
	err := e.handle(in)
	e.tick()
	e.readOn()
	if e.link.phase == open {
		for c := e.doubts.next(); c != nil; c = e.doubts.next() {
			e.goOn(c, c.doubt.next())
		}
		// If the store is a backup, what it has as queued may have been transmitted since.
		e.outbox.transmit(e.meta.FullSync && !e.doubts.list && e.meta.AckSerial > 0)
		e.startPulls()
		e.bringBack()
		e.asks.start()
		e.acks.send(false)
		e.finishSync()
		e.watchdog.listen(e.waitsForAnswer(), now.Mono)
	}
	return err
}

func (e *Engine) handle(in Input) error {
	switch in := in.(type) {
	case Start:
		e.strays.note(e.now.Mono) // the process before this one may have died just after its Hello
		e.beginConfirming()
		e.showPending()
		e.dial()
	case Dialled:
		e.greet(in)
	case Answered:
		e.answered(in)
	case Unanswered:
		e.unanswered(in)
	case NoToken:
		e.noToken(in.Attempt, in.Err)
	case Lost:
		e.lost(in.Attempt, in.Err, in.Code)
	case Frame:
		if in.Attempt == e.link.using {
			e.frame(in.Message)
		}
	case Arriving:
		if in.Attempt == e.link.using {
			e.arriving(in.At)
		}
	case NetworkChanged:
		return e.networkChanged(in.Name)
	case Reconnect:
		e.reconnect()
	case Online:
		return e.online(in.On)
	case Foreground:
		e.inFront(in.On)
	case Send:
		if err := e.outbox.checkMessage(&in.Message); err != nil {
			return err
		}
		e.outbox.queue(newMessage(in.Message))
	case Do:
		return e.do(in)
	case Resend:
		return e.outbox.resend(in.ID)
	case Discard:
		return e.outbox.discard(in.ID)
	case Confirm:
		return e.confirm(in)
	case Follow:
		return e.follow(in.Conversation, in.After)
	case Open:
		e.openConversation(in.Conversation)
	case Reading:
		return e.read(in)
	case Fill:
		return e.fill(in)
	case Ask:
		if e.link.phase == stopped {
			return e.link.stopErr
		}
		return e.asks.add(in, nil)
	case AskReceipts:
		if e.link.phase == stopped {
			return e.link.stopErr
		}
		return e.asks.add(Ask{ID: in.ID, Conversation: in.Conversation}, &in)
	case AskMembers:
		if e.link.phase == stopped {
			return e.link.stopErr
		}
		return e.asks.add(Ask{ID: in.ID, Conversation: in.Conversation}, &in)
	case AskDevices:
		if e.link.phase == stopped {
			return e.link.stopErr
		}
		return e.asks.add(Ask{ID: in.ID, Conversation: pim.Own(e.cfg.User)}, &in)
	case Look:
		return e.look(&in)
	case Typing:
		return e.typing(in.Conversation)
	case Unask:
		e.out.Filled = append(e.out.Filled, e.fills.drop(in.ID)...)
		e.asks.drop(in.ID)
	case Pause:
		e.pause(in.On)
	case FromStore:
		e.fetches.answered(in)
	case Close:
		if e.link.phase == open {
			e.acks.send(true)
		}
	}
	return nil
}

// frame takes a frame from the server. A nil message is of a type that this
// version does not know.
func (e *Engine) frame(m wire.Message) {
	if e.link.phase == greeting {
		e.answerToHello(m)
		return
	}
	if e.link.phase != open {
		return
	}
	e.lineAt = e.now.Mono
	e.watchdog.frame()
	e.heart.answered(e.clock.at(e.now))
	switch m := m.(type) {
	case *wirepb.PIMSendAck:
		e.watchdog.answered(e.now.Mono)
		e.sent(m)
	case *wirepb.PIMPush:
		e.pushed(m)
	case *wirepb.PIMPullResp:
		e.watchdog.answered(e.now.Mono)
		e.pulled(m)
	case *wirepb.PIMReceiptResp:
		e.watchdog.answered(e.now.Mono)
		e.asks.told(m)
	case *wirepb.PIMDevicesResp:
		e.asks.devices(m)
	case *wirepb.PIMMembersResp:
		e.watchdog.answered(e.now.Mono)
		e.asks.named(m)
	case *wirepb.PIMReceipt:
		e.emit(receiptEvent(m))
	case *wirepb.PIMTyping:
		e.emit(typingEvent(m))
	case *wirepb.PIMPresence:
		e.emit(presenceEvent(m))
	case *wirepb.PIMSyncResp:
		e.watchdog.answered(e.now.Mono)
		e.synced(m)
	case *wirepb.PIMTimeResp:
		e.sampled(e.clock.add(time.Duration(m.T1), e.now.Mono, m.T2, m.T3))
	case *wirepb.PIMPong:
		if m.Behind {
			e.startSync()
		}
	case *wirepb.PIMGoAway:
		e.goAway(m)
	case *wirepb.PIMError:
		e.failed(m)
	}
}

// failed takes a PIMError: the refusal of a message or of a request, or, if it names
// neither, why the server is about to end the connection.
func (e *Engine) failed(m *wirepb.PIMError) {
	if len(m.ClientMessageId) > 0 || m.RequestId != 0 {
		e.watchdog.answered(e.now.Mono)
	}
	switch {
	case len(m.ClientMessageId) > 0:
		if id, ok := wire.ClientID(m.ClientMessageId); ok {
			e.outbox.rejected(id, refusalOf(m), m.Retryable)
		}
	case m.RequestId == 0:
		e.saysWhy(m)
	case m.RequestId == e.looks.request:
		e.emit(LookEvent{Err: refusalOf(m)})
	case m.RequestId == e.sync.request:
		e.sync.failed(refusalOf(m))
	default:
		e.pullFailed(m)
		e.asks.failed(m.RequestId, refusalOf(m), m.Retryable)
	}
}

// refusalOf returns the error that m carries, with a RetryAfter of at most maxWindow.
func refusalOf(m *wirepb.PIMError) *pim.Error {
	err := wire.ErrorOf(m)
	err.RetryAfter = min(err.RetryAfter, maxWindow)
	return err
}

// pause takes Pause. While the shell does not read, no answer can come, so none
// counts as missing. When it reads again, every answer has its full time again.
func (e *Engine) pause(on bool) {
	if on == e.paused {
		return
	}
	e.paused = on
	if on {
		e.pausedAt = e.now.Mono
		return
	}
	e.outbox.resumed(e.now.Mono - e.pausedAt)
	e.clock.resumed(e.now.Mono)
	e.watchdog.resumed(e.now.Mono)
	answerBy := e.now.Mono + e.cfg.RequestTimeout
	e.link.welcomeBy = answerBy
	e.pulls.active.restart(answerBy)
	e.asks.active.restart(answerBy)
	e.sync.restart(answerBy)
}

// tick does what has become due.
func (e *Engine) tick() {
	e.tickLink()
	if !e.paused {
		e.missed(e.outbox.tick(e.link.phase == open))
	}
	if e.link.phase != open {
		return
	}
	e.tickPulls()
	if !e.paused {
		e.missed(e.asks.tick())
	}
	e.tickSync()
	e.sample()
	if !e.paused && e.now.Mono >= e.watchdog.uselessAt() {
		e.hangUp(errUnanswered, e.backoff.lost(e.now.Mono))
	}
}

// sample asks the server for its time, if that is due.
func (e *Engine) sample() {
	if !e.paused && e.clock.takeDue(e.now.Mono) {
		e.askTime()
	}
}

// askTime asks the server for its time. The answer brings T1 back as it is.
func (e *Engine) askTime() { e.write(&wirepb.PIMTimeReq{T1: int64(e.now.Mono)}) }

// sampled takes the results of clock.add: back is by how much the server's clock was set back,
// first says that the clock was not known before.
func (e *Engine) sampled(back time.Duration, first bool) {
	if back > 0 {
		e.meta.LastLocal = max(0, e.meta.LastLocal-millis(back))
		e.metaDirty = true
	}
	if first {
		e.outbox.dateQueued()
	}
}

// missed tells the watchdog of requests that were not answered in time. sentAt is when each of them
// was transmitted.
func (e *Engine) missed(sentAt []time.Duration) {
	for _, at := range sentAt {
		e.watchdog.unanswered(at, e.now.Mono)
	}
}

// Deadline returns when, on the clock of Time.Mono, Step is to be called at the
// latest; ok is false if there is nothing to wait for.
func (e *Engine) Deadline() (at time.Duration, ok bool) {
	at = never
	e.linkDeadline(&at)
	at = min(at, e.outbox.deadline(e.link.phase == open, e.paused))
	if e.link.phase == open {
		at = min(at, e.pulls.deadline(e.paused))
		at = min(at, e.asks.deadline(e.paused))
		at = min(at, e.sync.deadline(e.paused))
		at = min(at, e.acks.deadline())
		at = min(at, e.clock.deadline(e.paused))
	}
	return at, at != never
}

const never = time.Duration(1<<63 - 1)

// State returns what the connection is doing.
func (e *Engine) State() State {
	switch e.link.phase {
	case asking, racing, greeting:
		return Connecting
	case open:
		return Connected
	case offline:
		return Offline
	case stopped:
		return Stopped
	}
	return Waiting
}

// Synced reports whether the device has everything: the sync list was read to its
// end on this connection, no conversation is behind or in doubt, and no hole is left
// that is filled without a Fill.
func (e *Engine) Synced() bool {
	return e.link.phase == open && e.sync.listed && e.conversations.complete() && e.doubts.count == 0
}

// Take returns what the steps since the last Take have left to be done.
func (e *Engine) Take() Output {
	if e.heart.dirty {
		e.out.Store.Networks, e.heart.dirty = e.heart.rows(), false
	}
	return e.take()
}

// limitsOf returns the limits of a Welcome; nil: before the first one. A limit that is
// left out gets a default: for sizes the protocol's, for inFlight and idle this
// engine's own.
func limitsOf(l *wirepb.Limits) limits {
	if l == nil {
		l = new(wirepb.Limits)
	}
	ls := limits{
		payload:  int(atMost(l.PayloadBytes, pim.MaxPayload)),
		page:     atMost(l.PageEntries, pim.MaxPageEntries),
		members:  int(atMost(l.GroupMembers, pim.MaxGroupMembers)),
		inFlight: maxInFlight,
		idle:     defaultIdle,
	}
	if l.InFlight > 0 {
		ls.inFlight = int(min(l.InFlight, maxInFlight))
	}
	if l.HeartbeatMs > 0 {
		ls.heartbeat = min(max(time.Duration(l.HeartbeatMs)*time.Millisecond, minIdle), maxHeartbeat)
	}
	if l.IdleMs > 0 {
		ls.idle = max(time.Duration(l.IdleMs)*time.Millisecond, minIdle)
	}
	return ls
}

// atMost returns n, or limit if n is 0 or above it.
func atMost(n, limit uint32) uint32 {
	if n == 0 || n > limit {
		return limit
	}
	return n
}
