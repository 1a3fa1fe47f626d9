package pebble

import (
	"context"
	"strings"
	"sync"

	"github.com/pim-im/pim"
)

// Pebble shows a write before its fsync, so this table stands between its logs
// and their readers. It holds, for each log with an append under way, up to
// where the log is durable; an append first claims its log, which also orders
// the appends to it.
//
//   - A claim is held from before the log's last seq is looked up until the
//     append is durable or was refused.
//   - While an append is applied but not durable, readers are cut off at last.
//   - An append that was applied and whose fsync failed stays cut off until the
//     next Open, which will find it or not.
//   - What an iterator shows of a log that is not claimed after the iterator was
//     made is durable: see shown.
//
// The table is a cache of last seqs too, so that an append costs no seek.
type logs struct {
	mu    sync.Mutex
	bound int // logs in the table, about; those that are claimed count on top
	table map[string]*logState
}

// logState is one log. Its fields are guarded by the table's mutex; only the
// owner writes last and known, and so may read them without it.
type logState struct {
	owner *commit
	last  pim.Seq // of the last durable record, if known
	known bool
	next  pim.Seq       // last once the append under way is durable; 0 if nothing is applied
	lost  bool          // an applied append is in doubt: next stays
	done  chan struct{} // closed when the owner goes; nil if nobody waits
}

func newLogs(bound int) *logs {
	return &logs{bound: bound, table: make(map[string]*logState)}
}

// claim makes c the owner of the logs that it appends to. An append to a log
// that c has already claimed is marked as such. If one of the logs has another
// owner, claim takes none and returns what to wait for: holding some and waiting
// for others could deadlock.
func (l *logs) claim(c *commit) (wait <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range c.ops {
		o := &c.ops[i]
		if o.err != nil || len(o.write.Records) == 0 {
			continue
		}
		st := l.state(string(o.write.Log))
		switch st.owner {
		case nil:
			st.owner, o.log = c, st
		case c:
			o.err = pim.Errorf(pim.KindInvalid, "a second append to %q in one commit", o.write.Log)
		default:
			for j := range c.ops[:i] {
				if mine := c.ops[j].log; mine != nil {
					mine.owner, c.ops[j].log = nil, nil
				}
			}
			return st.wait()
		}
	}
	return nil
}

func (l *logs) state(name string) *logState {
	if st := l.table[name]; st != nil {
		return st
	}
	// The name may be a part of a large string of the caller's.
	st := &logState{}
	l.evict()
	l.table[strings.Clone(name)] = st
	return st
}

// evict makes room for one log. Which goes is left to the map, whose order is
// random enough; a log that is in use comes back at the cost of a seek.
func (l *logs) evict() {
	if len(l.table) < l.bound {
		return
	}
	const tries = 8
	n := 0
	for name, st := range l.table {
		if st.owner == nil && !st.lost {
			delete(l.table, name)
			return
		}
		if n++; n == tries {
			return
		}
	}
}

// wait returns a channel that is closed when the owner goes.
func (st *logState) wait() <-chan struct{} {
	if st.done == nil {
		st.done = make(chan struct{})
	}
	return st.done
}

// learn notes where a log that the caller owns ends.
func (l *logs) learn(st *logState, last pim.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st.last, st.known = last, true
}

// applying notes, before a batch is applied, which logs it appends to.
func (l *logs) applying(c *commit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range c.ops {
		if o := &c.ops[i]; o.log != nil && o.err == nil {
			o.log.next = o.write.After + pim.Seq(len(o.write.Records))
		}
	}
}

// release gives up what c owns. The batch was applied and is durable, or, with
// lost, is in doubt.
func (l *logs) release(c *commit, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range c.ops {
		st := c.ops[i].log
		if st == nil {
			continue
		}
		switch {
		case c.ops[i].err != nil: // refused: a next is that of an append in doubt
		case st.next != 0 && lost:
			st.lost = true
		case st.next != 0:
			st.last, st.known, st.next = st.next, true, 0
		}
		st.owner, c.ops[i].log = nil, nil
		if st.done != nil {
			close(st.done)
			st.done = nil
		}
	}
}

// last returns the seq of a log's last durable record, if it is at hand.
func (l *logs) last(name string) (seq pim.Seq, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.table[name]
	if st == nil || !st.known {
		return 0, false
	}
	return st.last, true
}

// shown says up to which seq an iterator made before may show a log. What was
// visible to it had been applied by an append that had claimed the log; if the
// log is not claimed now, that append has become durable since. With from, a
// reader that asks for what is being appended gets something to wait for.
func (l *logs) shown(name string, from pim.Seq) (last pim.Seq, wait <-chan struct{}) {
	const all = ^pim.Seq(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.table[name]
	switch {
	case st == nil || st.next == 0:
		return all, nil
	case !st.lost && from > st.last && from <= st.next:
		return st.last, st.wait()
	default:
		return st.last, nil
	}
}

// await waits for a claim to end.
func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
