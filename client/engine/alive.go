package engine

import (
	"time"

	"github.com/pim-im/pim/wire/wirepb"
)

const sleptAtLeast = 2 * time.Second // the wall clock went on without the monotonic one

// arriving notes that bytes of an incomplete frame came, or went out, at the time at.
// The line works, and no answer behind that frame can have come. So whatever waits for
// an answer has its full time from then on.
func (e *Engine) arriving(at time.Duration) {
	by := at + e.cfg.RequestTimeout
	switch e.link.phase {
	case greeting:
		e.link.welcomeBy = max(e.link.welcomeBy, by)
	case open:
		e.watchdog.bytes(at, e.now.Mono)
		e.pulls.active.extend(by)
		e.asks.active.extend(by)
		e.sync.extend(by)
		e.outbox.extend(by)
	}
}

// tickOpen transmits the heartbeats and pings that are due, and hangs up a connection
// that is dead. When the device has slept, a ping is sent at once.
func (e *Engine) tickOpen() {
	now := e.now.Mono
	if now >= e.heart.beatAt() {
		e.beat()
		return
	}
	if e.paused {
		return
	}
	switch e.watchdog.health(now) {
	case silent:
		e.heart.failed(e.clock.at(e.now))
		e.hangUp(errSilent, e.backoff.lost(now))
	case quiet:
		e.watchdog.probed(now)
		e.ping()
	default:
		if e.jump > millis(sleptAtLeast) {
			e.ping() // the device has slept; the connection may not have
		}
	}
}

// beat transmits a heartbeat, which announces the next.
func (e *Engine) beat() {
	silence := e.now.Mono - e.lineAt
	if e.paused {
		silence = 0 // nobody knows whether frames have come
	}
	e.heart.beat(e.now.Mono, silence)
	e.ping()
	// Pushes are hints: one that was lost on its way is noticed here (I5).
	e.startSync()
	e.askTime()
}

func (e *Engine) ping() {
	e.write(&wirepb.PIMPing{Nonce: e.watchdog.pinged(e.now.Mono), HeartbeatMs: uint32(e.heart.every / time.Millisecond)})
}

// waitsForAnswer reports whether the server owes an answer.
func (e *Engine) waitsForAnswer() bool {
	return e.outbox.waits() || e.pulls.active.waits() || e.asks.active.waits() || e.sync.waits() || e.clock.doubt
}
