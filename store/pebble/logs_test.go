package pebble

import (
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// An append is in doubt because its fsync failed. Another commit waited for the log and
// claims it before the failure is known everywhere. Whatever comes of that commit, the
// first append stays in doubt.
func TestDoubtStays(t *testing.T) {
	l := newLogs(10)
	appends := func(after pim.Seq) *commit {
		c := &commit{ops: []op{{write: &store.Write{Log: "log", After: after, Records: [][]byte{nil}}}}}
		if !l.claim(c, &c.ops[0]) {
			t.Fatal("the log is claimed")
		}
		return c
	}
	c := appends(4)
	l.learn(c.ops[0].log, end{last: 4})
	l.applying(c)
	l.release(c, true)
	for range 2 {
		c = appends(3)
		c.ops[0].err = &store.ConflictError{Log: "log", Last: 4}
		l.release(c, false)
		shown, _, _ := l.shown("log", 0)
		if e, _ := l.end("log"); shown != 4 || e.last != 4 {
			t.Fatalf("shown up to %d, last is %d", shown, e.last)
		}
	}
}

// While a trim is applied and not durable, readers of its records wait, and others do not. If
// its fsync failed, nobody knows what is left, and those readers fail.
func TestATrimInDoubt(t *testing.T) {
	l := newLogs(10)
	c := &commit{ops: []op{{write: &store.Write{Log: "log", Trim: 5}}}}
	if !l.claim(c, &c.ops[0]) {
		t.Fatal("the log is claimed")
	}
	l.learn(c.ops[0].log, end{last: 9, trimmed: 2})
	l.applying(c)
	for from := pim.Seq(1); from < 12; from++ {
		last, wait, err := l.shown("log", from)
		if err != nil || last != 9 || (wait != nil) != (from > 2 && from <= 5) {
			t.Errorf("from %d: shown up to %d, to wait: %v, %v", from, last, wait != nil, err)
		}
	}
	if e, _ := l.end("log"); e.trimmed != 2 {
		t.Errorf("trimmed up to %d", e.trimmed)
	}
	l.release(c, true)
	for from := pim.Seq(1); from < 12; from++ {
		_, wait, err := l.shown("log", from)
		if wait != nil || (pim.KindOf(err) == pim.KindUnavailable) != (from > 2 && from <= 5) {
			t.Errorf("from %d, in doubt: to wait: %v, %v", from, wait != nil, err)
		}
	}
}
