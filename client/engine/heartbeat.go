package engine

import (
	"cmp"
	"slices"
	"time"
)

// Heartbeats keep the path open: a middlebox forgets a connection on which
// nothing passes, some after 4 minutes, some after an hour, and every heartbeat
// costs a phone's radio. So the interval is found out for each network: it grows
// while heartbeats are answered, and falls back behind what failed. Only a
// heartbeat that follows real silence proves anything.

const (
	firstHeartbeat = 210 * time.Second
	maxHeartbeat   = 10 * time.Minute
	minHeartbeat   = time.Minute
	foregroundBeat = time.Minute // at most, while a person looks at the app
	beatStep       = 60 * time.Second
	beatMargin     = 20 * time.Second // below what was proved
	beatSuccesses  = 5                // in a row, to grow
	beatFailures   = 2                // in a row, to fall back
	beatSilence    = 15 * time.Second // of the interval need not be silent: the answers to the last one
	maxNetworks    = 16
	pongTimeout    = 8 * time.Second
	silenceTimeout = 3 * time.Second  // without a frame while an answer is awaited: a ping is due
	deadAfter      = 10 * time.Second // then the connection is dead
	maxUnanswered  = 3                // requests in a row
	sleptAtLeast   = 2 * time.Second  // the wall clock went on without the monotonic one
)

// heart is the pace of the heartbeats.
type heart struct {
	network    string
	networks   map[string]*Network
	successes  int
	failures   int
	testing    bool // the ping under way follows silence that lasted the interval
	foreground bool
	every      time.Duration // in force: announced to the server
}

func (e *Engine) restoreNetworks(rows []Network) {
	e.heart.networks = make(map[string]*Network)
	for _, n := range rows {
		if n.Every >= minHeartbeat && n.Every <= maxHeartbeat && len(e.heart.networks) < maxNetworks {
			e.heart.networks[n.Name] = &n
		}
	}
}

// pace returns what is known of the network in use.
func (h *heart) pace() Network {
	if n := h.networks[h.network]; n != nil {
		return *n
	}
	return Network{Name: h.network, Every: firstHeartbeat}
}

// interval returns how far apart heartbeats should be.
func (e *Engine) interval() time.Duration {
	every := e.heart.pace().Every
	if e.heart.foreground {
		every = min(every, foregroundBeat)
	}
	if e.limits.heartbeat == 0 {
		return min(every, e.limits.idle/2)
	}
	return min(every, e.limits.heartbeat)
}

// pingAt returns when the next heartbeat is due. A shorter interval holds at
// once, a longer one when the server has been told.
func (e *Engine) pingAt() time.Duration {
	return e.link.pingedAt + min(e.heart.every, e.interval())
}

// beat transmits a heartbeat, which announces the next.
func (e *Engine) beat() {
	h, now := &e.heart, e.now.Mono
	silent := now - e.link.lineAt
	h.testing = silent >= h.every-beatSilence && h.every == h.pace().Every
	h.every, e.link.pingedAt = e.interval(), now
	e.ping()
	// Pushes are hints: one that was lost on its way is noticed here (I5).
	e.startSync()
	if e.clock.wanted == 0 {
		e.clock.wanted = 1
		e.takeSample()
	}
}

// beatAnswered notes that the connection has outlived a heartbeat's silence.
func (e *Engine) beatAnswered() {
	h := &e.heart
	if !h.testing {
		return
	}
	h.testing, h.failures = false, 0
	h.successes++
	if n := h.pace(); h.successes >= beatSuccesses && !n.Stable && n.Every < maxHeartbeat {
		n.Every = min(n.Every+beatStep, maxHeartbeat)
		e.learn(n)
	}
}

// beatFailed notes that a heartbeat found the connection dead. Once may be
// chance.
func (e *Engine) beatFailed() {
	h := &e.heart
	if !h.testing {
		return
	}
	h.testing, h.successes = false, 0
	if h.failures++; h.failures >= beatFailures {
		n := h.pace()
		n.Every, n.Stable = max(n.Every-beatStep-beatMargin, minHeartbeat), true
		e.learn(n)
	}
}

// learn keeps what was found out about the network in use.
func (e *Engine) learn(n Network) {
	h := &e.heart
	h.successes, h.failures = 0, 0
	n.Used = e.clock.at(e.now)
	h.networks[n.Name] = &n
	if len(h.networks) > maxNetworks {
		h.forgetOldest()
	}
	e.storeNetworks()
}

// wish is the interval to announce before the server's limits are known.
func (e *Engine) wish() time.Duration {
	if every := e.heart.pace().Every; !e.heart.foreground {
		return every
	}
	return foregroundBeat
}

func (h *heart) forgetOldest() {
	var oldest *Network
	for _, n := range h.networks {
		if n.Name != h.network && (oldest == nil || n.Used < oldest.Used) {
			oldest = n
		}
	}
	delete(h.networks, oldest.Name)
}

func (e *Engine) storeNetworks() {
	rows := make([]Network, 0, len(e.heart.networks))
	for _, n := range e.heart.networks {
		rows = append(rows, *n)
	}
	slices.SortFunc(rows, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	e.out.Store.Networks = rows
}

// onNetwork changes to the network name.
func (e *Engine) onNetwork(name string) {
	h := &e.heart
	h.network, h.successes, h.failures, h.testing = name, 0, 0, false
	if n := h.networks[name]; n != nil {
		n.Used = e.clock.at(e.now)
		e.storeNetworks()
	}
}

// waitsForAnswer reports whether the server owes an answer.
func (e *Engine) waitsForAnswer() bool {
	return len(e.outbox.flying)+len(e.pulls.active)+len(e.asks.active) > 0 || e.sync.request != 0
}

// listen watches for silence while an answer is awaited. Called at the end of
// every step.
func (e *Engine) listen() {
	switch {
	case !e.waitsForAnswer():
		e.link.silentAt = never
	case e.link.silentAt == never:
		e.link.silentAt = e.now.Mono
	}
}

// unanswered notes that a request was not answered in time. If none was since
// that one was transmitted, at sentAt, the connection is of no use, whatever it
// brings.
func (e *Engine) unanswered(sentAt time.Duration) {
	if e.link.answeredAt <= sentAt {
		e.link.unanswered++
	}
}

// responded notes that the server has answered a request.
func (e *Engine) responded() { e.link.answeredAt, e.link.unanswered = e.now.Mono, 0 }
