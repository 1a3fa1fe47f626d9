package conv

import (
	"errors"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// failuresApart is how far apart the log says at least that look-ups and loads fail: a store that fails does so for very many.
const failuresApart = 10 * time.Second

// failures counts look-ups and loads that the store has failed, until the log says so. Those who sent are refused, or wait and
// are tried again; without the log nobody would know why. It is safe for concurrent use.
type failures struct {
	mu   sync.Mutex
	told time.Time // when the log said so last; zero: never
	more int       // since then
}

// failed notes the failure of l, if it has one that is the store's.
func (w *Writers) failed(l *lookup) {
	err := l.err
	if err == nil && l.request != nil {
		err = l.request.found().err
	}
	if !ofStore(err) || w.ctx.Err() != nil {
		return
	}
	f := &w.failures
	f.mu.Lock()
	f.more++
	now := time.Now()
	if !f.told.IsZero() && now.Sub(f.told) < failuresApart {
		f.mu.Unlock()
		return
	}
	n := f.more
	f.more, f.told = 0, now
	f.mu.Unlock()
	w.log.Error("look-ups in the store failed", "number", n, "one", l.machine.id, "what", l.what(), "err", err)
}

// ofStore reports whether err is a failure of the store, and not what is wrong with a request or what another writer did first.
func ofStore(err error) bool {
	if err == nil || err == errStopping {
		return false
	}
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return false
	}
	switch pim.KindOf(err) {
	case pim.KindUnknown, pim.KindUnavailable, pim.KindDiskFull, pim.KindCorrupt, pim.KindTimeout, pim.KindInternal:
		return true
	}
	return false
}

// what says in a word what l is for.
func (l *lookup) what() string {
	switch {
	case l.refusals != nil:
		return "refusals"
	case l.affecting != nil:
		return "effects"
	case l.search:
		return "search"
	case l.write != nil:
		return "intent"
	case l.request != nil:
		return "request"
	}
	return "load"
}
