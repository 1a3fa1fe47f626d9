package lbs

import "time"

// waiting estimates how many clients were told to come back and have not come yet. The LBS keeps no list of
// clients, and one may come back to another LBS. But each comes at a random time within its window, so each
// counts with the part of its window that is left: n falls by slope a second. The slope of one client ends with
// its window, rounded up to a full second.
type waiting struct {
	n     float64
	slope float64 // clients a second
	many  int     // windows that have not ended
	at    time.Duration
	ends  [lastEnd]ending // by second, a ring
}

// ending is what ends in one second.
type ending struct {
	slope float64
	many  int
}

// lastEnd is how many seconds the ring has: MaxWindow, rounded up, and the second that has begun.
const lastEnd = int64(MaxWindow/time.Second) + 2

// advance computes n for the time now.
func (w *waiting) advance(now time.Duration) {
	for w.many > 0 && w.at < now {
		second := int64(w.at/time.Second) + 1
		next := min(now, time.Duration(second)*time.Second)
		w.n -= w.slope * (next - w.at).Seconds()
		w.at = next
		if next == time.Duration(second)*time.Second {
			e := &w.ends[second%lastEnd]
			w.slope -= e.slope
			w.many -= e.many
			*e = ending{}
		}
	}
	if w.many == 0 {
		w.n, w.slope = 0, 0 // nothing is left of what rounding added
	}
	w.n = max(w.n, 0)
	w.at = max(w.at, now)
}

// add counts one client that comes back within window. The time is that of the last advance.
func (w *waiting) add(now, window time.Duration) {
	end := int64((now + window + time.Second - 1) / time.Second) // the first full second behind it
	slope := 1 / (time.Duration(end)*time.Second - now).Seconds()
	w.n++
	w.slope += slope
	w.many++
	e := &w.ends[end%lastEnd]
	e.slope += slope
	e.many++
}
