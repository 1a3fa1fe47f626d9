package pebble

import (
	"context"
	"strings"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// logs stands between Pebble's logs and their readers, because Pebble shows a write
// before its fsync. For each log with a write under way, an append, the raise of its
// fence or a trim, it holds the end that is durable. A commit claims a log before it writes to it;
// the claim also orders the writes to one log.
//
//   - A commit holds a claim from before it looks up the log's end until its write is
//     durable or was refused.
//   - While a write is applied but not durable, readers see the end before it. A trim that is
//     applied has taken its records away; their readers wait until it is durable.
//   - If a write was applied and its fsync failed, readers see the end before it until
//     the next Open, which will find the write or not. A read of records that such a trim has
//     taken away fails.
//   - If a log's applied is not set after an iterator was made, all that the iterator
//     shows of the log is durable: see shown.
//
// The table is also a cache of ends, so that an append costs no seek.
type logs struct {
	mu    sync.Mutex
	bound int // about how many logs are in table; claimed logs may exceed it
	table map[string]*logState
}

// logState is one log. Its fields are guarded by logs.mu. Only the owner writes end
// and known, so the owner may read these two without the mutex.
type logState struct {
	owner    *commit // which has claimed the log; nil if there is none
	end      end     // durable, if known
	known    bool
	next     end           // becomes end when the write that is applied is durable
	applied  bool          // a write is applied and not known to be durable; then end is known
	lost     bool          // the applied write is in doubt: it stays applied
	released chan struct{} // closed when the owner releases the log; nil if nobody waits
}

// end is where a log ends, and where it begins.
type end struct {
	last    pim.Seq
	fence   uint64
	trimmed pim.Seq // the records up to this seq were trimmed
}

// after returns the end of the log after w, which takes effect at e.
func (e end) after(w *store.Write) end {
	if w.Raise {
		e.fence++
	}
	e.last += pim.Seq(len(w.Records))
	e.trimmed = max(e.trimmed, w.Trim)
	return e
}

func newLogs(bound int) *logs {
	return &logs{bound: bound, table: make(map[string]*logState)}
}

// claim makes c the owner of the log that o writes to. It returns false if the log has an
// owner already, which may be c.
func (l *logs) claim(c *commit, o *op) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.state(string(o.write.Log))
	if st.owner != nil {
		return false
	}
	st.owner, o.log = c, st
	return true
}

func (l *logs) state(name string) *logState {
	if st := l.table[name]; st != nil {
		return st
	}
	// name may be a part of a large string of the caller's.
	st := &logState{}
	l.evict()
	l.table[strings.Clone(name)] = st
	return st
}

// evict makes room for one log, if one of the first few that the map yields is neither
// claimed nor in doubt. The map's order is random enough. A log that is evicted while
// it is in use comes back at the cost of a seek.
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

// wait returns a channel that is closed when the owner releases the log.
func (st *logState) wait() <-chan struct{} {
	if st.released == nil {
		st.released = make(chan struct{})
	}
	return st.released
}

// learn notes the end of a log that the caller's commit owns.
func (l *logs) learn(st *logState, e end) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st.end, st.known = e, true
}

// applying notes, before a batch is applied, which logs it writes to.
func (l *logs) applying(c *commit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range c.ops {
		if o := &c.ops[i]; o.log != nil && o.err == nil {
			o.log.next, o.log.applied = o.log.end.after(o.write), true
		}
	}
}

// release gives up the logs that c owns. Writes of c that were applied are durable or,
// if lost is set, in doubt.
func (l *logs) release(c *commit, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range c.ops {
		st := c.ops[i].log
		if st == nil {
			continue
		}
		switch {
		case c.ops[i].err != nil: // refused; if something is applied, it is an earlier write, in doubt
		case st.applied && lost:
			st.lost = true
		case st.applied:
			st.end, st.applied = st.next, false
		}
		st.owner, c.ops[i].log = nil, nil
		if st.released != nil {
			close(st.released)
			st.released = nil
		}
	}
}

// end returns a log's durable end, if the table knows it. It knows the end of every log
// with a write that is applied and not durable.
func (l *logs) end(name string) (e end, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.table[name]
	if st == nil || !st.known {
		return end{}, false
	}
	return st.end, true
}

// shown returns up to which seq a reader may see a log through an iterator that it made
// before the call. A write is noted as applied before an iterator can show it. So if none is
// noted now, all writes that the iterator shows are durable. If the record at from is being
// appended or trimmed, shown also returns a channel to wait for. If nobody knows whether the
// record was trimmed, it returns errInDoubt.
func (l *logs) shown(name string, from pim.Seq) (last pim.Seq, wait <-chan struct{}, err error) {
	const all = ^pim.Seq(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.table[name]
	if st == nil || !st.applied {
		return all, nil, nil
	}
	appended := from > st.end.last && from <= st.next.last
	trimmed := from > st.end.trimmed && from <= st.next.trimmed
	switch {
	case st.lost && trimmed:
		return 0, nil, errInDoubt
	case !st.lost && (appended || trimmed):
		return st.end.last, st.wait(), nil
	default:
		return st.end.last, nil, nil
	}
}

var errInDoubt = pim.Errorf(pim.KindUnavailable, "the store failed while trimming: nobody knows whether the record is left until the store is opened again")

// await waits until done is closed, or until ctx ends and then returns ctx's error.
func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
