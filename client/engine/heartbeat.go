package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/pim-im/pim"
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
//
// Over UDP the interval is the shortest, and nothing is found out: middleboxes forget UDP within minutes, and a heartbeat
// over a path that was forgotten is answered all the same, since it makes the path anew. Only what the server has pushed
// meanwhile was late.

const (
	firstHeartbeat = 210 * time.Second
	maxHeartbeat   = 10 * time.Minute
	minHeartbeat   = time.Minute
	foregroundBeat = time.Minute // at most, while a person looks at the app
	beatStep       = 60 * time.Second
	beatMargin     = 20 * time.Second // on top of a beatStep, below an interval that failed
	beatSuccesses  = 5                // in a row, to grow
	beatFailures   = 2                // to fall back, without beatSuccesses between them
	beatSilence    = 15 * time.Second // how long after a heartbeat its answers may come: frames so early do not break the silence
	maxNetworks    = 16
	maxNetworkName = 128                // bytes
	stableFor      = 7 * 24 * time.Hour // without use; then the interval may grow again
)

// heart is the pace of the heartbeats. The times in networks are the server's, all others are on
// the clock of Time.Mono.
type heart struct {
	network    string
	networks   map[string]*Network
	dirty      bool // networks are to be stored; a change of Stable alone waits, see mayProbeAgain
	successes  int
	failures   int
	foreground bool // a person looks at the app
	udp        bool // the connection is one over UDP

	longest  time.Duration // interval that the server permits
	every    time.Duration // the interval in force: announced to the server
	pingedAt time.Duration // the last heartbeat, or Welcome
	testing  time.Duration // the ping under way follows real silence of this interval; 0: it does not
}

func (h *heart) restore(rows []Network) {
	h.networks = make(map[string]*Network)
	for _, n := range rows {
		if n.Every >= minHeartbeat && n.Every <= maxHeartbeat && len(h.networks) < maxNetworks {
			h.networks[n.Name] = &n
		}
	}
}

// rows returns what is to be stored of the networks.
func (h *heart) rows() []Network {
	rows := make([]Network, 0, len(h.networks))
	for _, n := range h.networks {
		rows = append(rows, *n)
	}
	slices.SortFunc(rows, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	return rows
}

// opened notes a Welcome, at now, of a server that permits intervals up to longest.
func (h *heart) opened(now, longest time.Duration) {
	h.longest = longest
	h.every, h.testing, h.pingedAt = h.interval(), 0, now
}

// cutShort notes that the answer to the ping under way will not be awaited: it proves
// nothing.
func (h *heart) cutShort() { h.testing = 0 }

// onNetwork changes to the network name.
func (h *heart) onNetwork(name string) {
	h.network, h.successes, h.failures, h.testing = name, 0, 0, 0
}

// pace returns what is known of the network in use.
func (h *heart) pace() Network {
	if n := h.networks[h.network]; n != nil {
		return *n
	}
	return Network{Name: h.network, Every: firstHeartbeat}
}

// wish returns the interval to announce, whatever the server permits.
func (h *heart) wish() time.Duration {
	every := h.pace().Every
	if h.udp {
		every = min(every, minHeartbeat)
	}
	if h.foreground {
		every = min(every, foregroundBeat)
	}
	return every
}

// interval returns how far apart heartbeats should be: as wished, and permitted.
func (h *heart) interval() time.Duration { return min(h.wish(), h.longest) }

// beatAt returns when the next heartbeat is due. A shorter interval holds at once, a
// longer one when the server has been told.
func (h *heart) beatAt() time.Duration { return h.pingedAt + min(h.every, h.interval()) }

// beat notes that a heartbeat goes out now, and that it announces h.every. The line was
// silent, as far as anybody knows, for the time silence.
//
// The heartbeat proves something only if it follows real silence, and the interval is the
// network's, or the longest that the server permits.
func (h *heart) beat(now, silence time.Duration) {
	h.testing = 0
	if h.every > minHeartbeat && h.every == min(h.pace().Every, h.longest) && silence >= h.every-beatSilence {
		h.testing = h.every
	}
	h.every, h.pingedAt = h.interval(), now
}

// answered notes that a frame has come: the connection has outlived a heartbeat's silence.
func (h *heart) answered(at pim.Millis) {
	tested := h.testing
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
		h.learn(n, at)
	}
}

// failed notes that a heartbeat may have found the connection dead. A single failure may
// be chance.
func (h *heart) failed(at pim.Millis) {
	tested := h.testing
	if tested == 0 {
		return
	}
	h.testing, h.successes = 0, 0
	if h.failures++; h.failures >= beatFailures {
		n := h.pace()
		n.Every, n.Stable = max(tested-beatStep-beatMargin, minHeartbeat), true
		h.learn(n, at)
	}
}

// learn keeps what was found out about the network in use.
func (h *heart) learn(n Network, at pim.Millis) {
	h.successes, h.failures = 0, 0
	n.Used = at
	h.networks[n.Name] = &n
	if len(h.networks) > maxNetworks {
		h.forgetOldest()
	}
	h.dirty = true
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

// used notes that there is, or was until now, a connection over the network in use.
func (h *heart) used(at pim.Millis) {
	if n := h.networks[h.network]; n != nil {
		n.Used, h.dirty = at, true
	}
}

// mayProbeAgain lets the interval of the network in use grow again, if the network
// was not used for a week. The change is stored with the next use, see used.
func (h *heart) mayProbeAgain(at pim.Millis) {
	if n := h.networks[h.network]; n != nil && at-n.Used >= millis(stableFor) {
		n.Stable = false
	}
}
