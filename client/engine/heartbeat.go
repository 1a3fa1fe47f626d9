package engine

import (
	"cmp"
	"slices"
	"time"
)

// Heartbeats keep the path open: a middlebox forgets a connection on which
// nothing passes, some after 4 minutes, some after an hour, and every heartbeat
// costs a phone's radio. So the interval is found out for each network: it grows
// while heartbeats are answered, and falls below an interval that failed. Only a
// heartbeat that follows real silence proves anything.
//
// An interval that was found by failing is stable: it only falls. To try a longer
// one again would cost two connections every time, and most networks stay as they
// are. A network that was not used for a week may have changed, or its failures may
// have been chance: there the interval may grow again.

const (
	firstHeartbeat = 210 * time.Second
	maxHeartbeat   = 10 * time.Minute
	minHeartbeat   = time.Minute
	foregroundBeat = time.Minute // at most, while a person looks at the app
	beatStep       = 60 * time.Second
	beatMargin     = 20 * time.Second // on top of a beatStep, below an interval that failed
	beatSuccesses  = 5                // in a row, to grow
	beatFailures   = 2                // to fall back, without beatSuccesses between them
	beatSilence    = 15 * time.Second // at the interval's start, for the answers to the last heartbeat
	maxNetworks    = 16
	maxNetworkName = 128                // bytes
	stableFor      = 7 * 24 * time.Hour // without use; then the interval may grow again
)

// heart is the pace of the heartbeats.
type heart struct {
	network    string
	networks   map[string]*Network
	successes  int
	failures   int
	testing    time.Duration // the ping under way follows real silence of this interval; 0: it does not
	foreground bool
	every      time.Duration // the interval in force: announced to the server
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

// allowed returns the interval every, as far as the server permits it.
func (e *Engine) allowed(every time.Duration) time.Duration {
	if e.limits.heartbeat == 0 { // the server ignores announcements
		return min(every, e.limits.idle/2)
	}
	return min(every, e.limits.heartbeat)
}

// interval returns how far apart heartbeats should be: as wished, and allowed.
func (e *Engine) interval() time.Duration { return e.allowed(e.wish()) }

// pingAt returns when the next heartbeat is due. A shorter interval holds at
// once, a longer one when the server has been told.
func (e *Engine) pingAt() time.Duration {
	return e.link.pingedAt + min(e.heart.every, e.interval())
}

// beat transmits a heartbeat, which announces the next.
func (e *Engine) beat() {
	h, now := &e.heart, e.now.Mono
	h.testing = 0
	if e.proves() {
		h.testing = h.every
	}
	h.every, e.link.pingedAt = e.interval(), now
	e.ping()
	// Pushes are hints: one that was lost on its way is noticed here (I5).
	e.startSync()
	e.askTime()
}

// proves reports whether the heartbeat that is due would prove something. It must
// follow real silence, and the interval must be the network's, or the longest that the
// server permits. While the shell does not read, nobody knows whether frames have come.
func (e *Engine) proves() bool {
	h := &e.heart
	return !e.paused && h.every > minHeartbeat && h.every == e.allowed(h.pace().Every) &&
		e.now.Mono-e.lineAt >= h.every-beatSilence
}

// beatAnswered notes that the connection has outlived a heartbeat's silence.
func (e *Engine) beatAnswered() {
	h, tested := &e.heart, e.heart.testing
	if tested == 0 {
		return
	}
	h.testing = 0
	if h.successes++; h.successes < beatSuccesses {
		return
	}
	h.successes, h.failures = 0, 0
	if n := h.pace(); !n.Stable && n.Every == tested && tested < maxHeartbeat {
		n.Every = min(tested+beatStep, maxHeartbeat)
		e.learn(n)
	}
}

// beatFailed notes that a heartbeat may have found the connection dead. A single
// failure may be chance.
func (e *Engine) beatFailed() {
	h, tested := &e.heart, e.heart.testing
	if tested == 0 {
		return
	}
	h.testing, h.successes = 0, 0
	if h.failures++; h.failures >= beatFailures {
		n := h.pace()
		n.Every, n.Stable = max(tested-beatStep-beatMargin, minHeartbeat), true
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

// wish returns the interval to announce, whatever the server allows.
func (e *Engine) wish() time.Duration {
	every := e.heart.pace().Every
	if e.heart.foreground {
		every = min(every, foregroundBeat)
	}
	return every
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
func (h *heart) onNetwork(name string) {
	h.network, h.successes, h.failures, h.testing = name, 0, 0, 0
}

// usedNetwork notes that there is, or was until now, a connection over the
// network in use.
func (e *Engine) usedNetwork() {
	if n := e.heart.networks[e.heart.network]; n != nil {
		n.Used = e.clock.at(e.now)
		e.storeNetworks()
	}
}

// mayProbeAgain lets the interval of the network in use grow again, if the network
// was not used for a week.
func (e *Engine) mayProbeAgain() {
	if n := e.heart.networks[e.heart.network]; n != nil && e.clock.at(e.now)-n.Used >= millis(stableFor) {
		n.Stable = false
	}
}
