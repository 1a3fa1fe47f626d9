package engine

import "time"

// A dead connection does not say so. It is noticed in three ways: a heartbeat is not
// answered; an answer is awaited, and no frame comes at all; several requests in a row are
// not answered, whatever other frames come.

const (
	pongTimeout    = 8 * time.Second
	silenceTimeout = 3 * time.Second  // without a frame while an answer is awaited: a ping is due
	deadAfter      = 10 * time.Second // without a frame while an answer is awaited: the connection is dead
	maxUnanswered  = 3                // requests in a row
)

// watchdog notices that a connection is dead. What it says means nothing without a
// connection, and while the shell does not read.
type watchdog struct {
	timeout time.Duration // Config.RequestTimeout

	nonce    uint64        // of the last ping
	pongBy   time.Duration // by when a frame must have come; 0: no ping is under way
	silentAt time.Duration // since when an answer is awaited and no frame has come; never: none is awaited

	judgedAt time.Duration // when a request was last answered, or found unanswered
	missed   int           // requests in a row that were not answered in time
	rowAt    time.Duration // when the first of them was transmitted
}

// health is what the watchdog makes of a connection.
type health uint8

const (
	healthy health = iota
	quiet          // a ping is due
	silent         // a ping was not answered: the connection is dead
)

// opened notes a Welcome.
func (w *watchdog) opened(now time.Duration) {
	w.left()
	w.judgedAt = now
}

// left notes that the connection, if there was one, is left.
func (w *watchdog) left() { w.pongBy, w.silentAt, w.missed = 0, never, 0 }

// frame notes that a frame has come. The connection works, whatever the frame is.
func (w *watchdog) frame() { w.pongBy, w.silentAt = 0, never }

// bytes notes that bytes of an incomplete frame came, or went out, at the time at. The
// line works, and no answer behind that frame can have come.
func (w *watchdog) bytes(at, now time.Duration) {
	if w.pongBy != 0 {
		w.pongBy = max(w.pongBy, at+pongTimeout)
	}
	if w.silentAt != never {
		w.silentAt = max(w.silentAt, at)
	}
	w.answered(now)
}

// resumed notes that the shell reads again: while it did not, no frame could come.
func (w *watchdog) resumed(now time.Duration) {
	if w.pongBy != 0 {
		w.pongBy = now + pongTimeout
	}
	w.silentAt = never
}

// listen notes whether an answer is awaited. It is called after each step of a connection.
func (w *watchdog) listen(awaited bool, now time.Duration) {
	switch {
	case !awaited:
		w.silentAt = never
	case w.silentAt == never:
		w.silentAt = now
	}
}

// answered notes that the server has answered a request.
func (w *watchdog) answered(now time.Duration) { w.judgedAt, w.missed = now, 0 }

// unanswered notes that a request, transmitted at sentAt, was not answered in
// time. Requests that waited together fail together, and count once: a burst that a
// slow server answers late is no sign of a dead connection. So the next request that
// counts is one that was transmitted after this failure.
func (w *watchdog) unanswered(sentAt, now time.Duration) {
	if sentAt < w.judgedAt {
		return
	}
	if w.missed == 0 {
		w.rowAt = sentAt
	}
	w.missed++
	w.judgedAt = now
}

// pinged notes that a ping goes out now, and returns its nonce.
func (w *watchdog) pinged(now time.Duration) uint64 {
	w.nonce++
	if w.pongBy == 0 {
		w.pongBy = now + pongTimeout
	}
	return w.nonce
}

// probed notes that silence calls for the ping that goes out now. The answer's time
// counts from now, not from the beginning of the silence: if the process stood still, the
// answers may have come without having been read.
func (w *watchdog) probed(now time.Duration) { w.pongBy = now + deadAfter - silenceTimeout }

// quietAt returns when silence calls for a ping.
func (w *watchdog) quietAt() time.Duration {
	if w.silentAt == never || w.pongBy != 0 {
		return never
	}
	return w.silentAt + silenceTimeout
}

// uselessAt returns when the connection is to be given up because requests are not
// answered: after three in a row, but not sooner than two RequestTimeouts after the
// first of them, since sends are repeated faster than that, and other frames do come.
func (w *watchdog) uselessAt() time.Duration {
	if w.missed < maxUnanswered {
		return never
	}
	return w.rowAt + 2*w.timeout
}

// health returns how the connection is, as far as frames tell.
func (w *watchdog) health(now time.Duration) health {
	switch {
	case w.pongBy != 0 && now >= w.pongBy:
		return silent
	case now >= w.quietAt():
		return quiet
	}
	return healthy
}

// deadline returns when the connection is quiet, silent or useless, if nothing comes.
func (w *watchdog) deadline() time.Duration {
	at := min(w.quietAt(), w.uselessAt())
	if w.pongBy != 0 {
		at = min(at, w.pongBy)
	}
	return at
}
