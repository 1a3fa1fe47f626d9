package engine

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newWatchdog(now time.Duration) *watchdog {
	w := &watchdog{timeout: 10 * time.Second}
	w.opened(now)
	return w
}

// An answer is awaited, and no frame comes: a ping after 3 s, and after 10 s the
// connection is dead. If the process stood still, the ping has its time nevertheless.
func TestSilence(t *testing.T) {
	for _, stoodStill := range []time.Duration{0, time.Minute} {
		begin := time.Hour
		w := newWatchdog(begin)
		w.listen(false, begin)
		if w.health(begin+time.Hour) != healthy {
			t.Fatal("no answer is awaited, and the silence counts")
		}
		w.listen(true, begin)
		now := begin + silenceTimeout + stoodStill
		if w.health(begin+silenceTimeout-1) != healthy || w.health(now) != quiet {
			t.Fatalf("%v after the request: %v", now-begin, w.health(now))
		}
		w.probed(now)
		if n := w.pinged(now); n != 1 {
			t.Fatalf("the first ping has the nonce %d", n)
		}
		dead := begin + deadAfter + stoodStill
		if w.health(dead-1) != healthy || w.health(dead) != silent || w.deadline() != dead {
			t.Fatalf("the connection is dead at %v, want %v", w.deadline(), dead)
		}
		w.frame()
		if w.health(dead) != healthy {
			t.Fatal("a frame has come, and the connection is dead")
		}
	}
}

// Bytes of a frame that is half way in or out give every answer its time again.
func TestBytesAreALife(t *testing.T) {
	w := newWatchdog(0)
	w.listen(true, 0)
	w.pinged(0)
	w.bytes(5*time.Second, 6*time.Second)
	if at := w.deadline(); at != 5*time.Second+pongTimeout {
		t.Errorf("bytes came after 5 s, and the ping has time until %v", at)
	}
	w.frame()
	w.listen(true, 0)
	w.bytes(5*time.Second, 6*time.Second)
	if at := w.deadline(); at != 5*time.Second+silenceTimeout {
		t.Errorf("bytes came after 5 s, and a ping is due at %v", at)
	}
	w.resumed(20 * time.Second) // whatever came meanwhile was not read
	if w.health(time.Hour) != healthy {
		t.Error("a line that was not read is silent")
	}
}

// Three requests in a row that are not answered end the connection, not sooner than 20 s
// after the first of them. Those of one burst count once.
func TestUnansweredRow(t *testing.T) {
	w, s := newWatchdog(0), time.Second
	misses := func(sentAt, now time.Duration, want int) {
		t.Helper()
		if w.unanswered(sentAt, now); w.missed != want {
			t.Fatalf("a request of %v is not answered by %v: %d in a row, want %d", sentAt, now, w.missed, want)
		}
	}
	for range 10 {
		misses(1*s, 11*s, 1)
	}
	misses(11*s, 14*s, 2)
	misses(12*s, 14*s, 2)
	misses(14*s, 17*s, 3)
	if at := w.uselessAt(); at != 21*s {
		t.Fatalf("useless at %v, want 21 s", at)
	}
	w.answered(18 * s)
	if at := w.uselessAt(); at != never {
		t.Fatalf("an answer has come, and the connection is useless at %v", at)
	}
	misses(17*s, 27*s, 0) // of before the answer
	misses(18*s, 28*s, 1)
	w.left()
	w.opened(30 * s)
	misses(29*s, 40*s, 0)
}

// Nothing becomes of a connection before the deadline, and something at the deadline.
func TestWatchdogDeadline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Hour
		w := newWatchdog(now)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 5000).Draw(t, "wait")) * time.Millisecond
			past := now - time.Duration(rapid.IntRange(0, 15_000).Draw(t, "past"))*time.Millisecond
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				w.frame()
			case 1:
				w.bytes(past, now)
			case 2:
				w.listen(rapid.Bool().Draw(t, "awaited"), now)
			case 3:
				w.unanswered(past, now)
			case 4:
				w.answered(now)
			case 5:
				w.pinged(now)
			case 6:
				w.resumed(now)
			}
			calm := func(at time.Duration) bool { return w.health(at) == healthy && at < w.uselessAt() }
			at := w.deadline()
			if at != never && calm(at) || !calm(min(at-1, now+time.Hour)) {
				t.Fatalf("the deadline is %v, and then: %v, useless at %v; before it: %v", at, w.health(at), w.uselessAt(), w.health(at-1))
			}
		}
	})
}
