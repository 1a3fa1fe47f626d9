package engine

import (
	"time"

	"github.com/pim-im/pim/wire/wirepb"
)

// A dead connection does not say so. Besides NetworkChanged, it is noticed in three
// ways: a heartbeat is not answered; an answer is awaited, and no frame comes at all;
// several requests in a row are not answered, whatever other frames come. When the
// device has slept, a ping is sent at once.

const (
	pongTimeout    = 8 * time.Second
	silenceTimeout = 3 * time.Second  // without a frame while an answer is awaited: a ping is due
	deadAfter      = 10 * time.Second // without a frame while an answer is awaited: the connection is dead
	maxUnanswered  = 3                // requests in a row
	sleptAtLeast   = 2 * time.Second  // the wall clock went on without the monotonic one
)

// alive notes that a frame has come. The connection works, whatever the frame is.
func (e *Engine) alive() {
	e.link.pongBy, e.link.silentAt, e.lineAt = 0, never, e.now.Mono
	e.heart.answered(e.clock.at(e.now))
}

// arriving notes that bytes of an incomplete frame came, or went out, at the time at.
// The line works, and no answer behind that frame can have come. So whatever waits for
// an answer has its full time from then on.
func (e *Engine) arriving(at time.Duration) {
	l, by := &e.link, at+e.cfg.RequestTimeout
	switch l.phase {
	case greeting:
		l.welcomeBy = max(l.welcomeBy, by)
		return
	case open:
	default:
		return
	}
	if l.pongBy != 0 {
		l.pongBy = max(l.pongBy, at+pongTimeout)
	}
	if l.silentAt != never {
		l.silentAt = max(l.silentAt, at)
	}
	l.judgedAt, l.unanswered = e.now.Mono, 0
	e.pulls.extend(by)
	e.asks.extend(by)
	e.sync.extend(by)
	e.outbox.extend(by)
}

func (e *Engine) tickOpen() {
	now := e.now.Mono
	switch {
	case now >= e.heart.beatAt():
		e.beat()
	case e.paused:
	case e.link.pongBy != 0 && now >= e.link.pongBy:
		e.heart.failed(e.clock.at(e.now))
		e.hangUp(errSilent, e.backoff.lost(now))
	case e.probeDue() <= now:
		// pongBy counts from now, not from the beginning of the silence: if the process
		// stood still, the answers may have come without having been read.
		e.link.pongBy = now + deadAfter - silenceTimeout
		e.ping()
	case e.jump > millis(sleptAtLeast):
		e.ping() // the device has slept; the connection may not have
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

// probeDue returns when silence calls for a ping.
func (e *Engine) probeDue() time.Duration {
	if e.link.silentAt == never || e.link.pongBy != 0 {
		return never
	}
	return e.link.silentAt + silenceTimeout
}

func (e *Engine) ping() {
	e.link.nonce++
	if e.link.pongBy == 0 {
		e.link.pongBy = e.now.Mono + pongTimeout
	}
	e.write(&wirepb.PIMPing{Nonce: e.link.nonce, HeartbeatMs: uint32(e.heart.every / time.Millisecond)})
}

func (e *Engine) openDeadline(at *time.Duration) {
	*at = min(*at, e.heart.beatAt())
	if e.paused {
		return
	}
	*at = min(*at, e.probeDue(), e.uselessAt())
	if e.link.pongBy != 0 {
		*at = min(*at, e.link.pongBy)
	}
}

// waitsForAnswer reports whether the server owes an answer.
func (e *Engine) waitsForAnswer() bool {
	return e.outbox.waits() || e.pulls.waits() || e.asks.waits() || e.sync.waits() || e.clock.doubt
}

// listen notes since when an answer is awaited. Step calls it at its end.
func (e *Engine) listen() {
	switch {
	case !e.waitsForAnswer():
		e.link.silentAt = never
	case e.link.silentAt == never:
		e.link.silentAt = e.now.Mono
	}
}

// unanswered notes that a request, transmitted at sentAt, was not answered in
// time. Requests that waited together fail together, and count once: a burst that a
// slow server answers late is no sign of a dead connection. So the next request that
// counts is one that was transmitted after this failure.
func (e *Engine) unanswered(sentAt time.Duration) {
	l := &e.link
	if sentAt < l.judgedAt {
		return
	}
	if l.unanswered == 0 {
		l.rowAt = sentAt
	}
	l.unanswered++
	l.judgedAt = e.now.Mono
}

// responded notes that the server has answered a request.
func (e *Engine) responded() { e.link.judgedAt, e.link.unanswered = e.now.Mono, 0 }

// uselessAt returns when the connection is given up because requests are not
// answered: after three in a row, but not sooner than two RequestTimeouts after the
// first of them, since sends are repeated faster than that, and other frames do come.
func (e *Engine) uselessAt() time.Duration {
	if e.link.unanswered < maxUnanswered || e.paused {
		return never
	}
	return e.link.rowAt + 2*e.cfg.RequestTimeout
}
