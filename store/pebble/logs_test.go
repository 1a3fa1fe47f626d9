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
		shown, _ := l.shown("log", 0)
		if e, _ := l.end("log"); shown != 4 || e.last != 4 {
			t.Fatalf("shown up to %d, last is %d", shown, e.last)
		}
	}
}
