package home

import (
	"time"

	"github.com/pim-im/pim"
)

// What waits to be told: queues with bounds.

// subjects is a queue that has each subject once.
type subjects struct {
	has  map[pim.ConversationID]struct{}
	list []pim.ConversationID
}

func (q *subjects) add(id pim.ConversationID) {
	if _, has := q.has[id]; has {
		return
	}
	if q.has == nil {
		q.has = make(map[pim.ConversationID]struct{})
	}
	q.has[id] = struct{}{}
	q.list = append(q.list, id)
}

// take takes the first hintMany out. They are valid until the next add.
func (q *subjects) take() []pim.ConversationID {
	some := q.list[:min(len(q.list), hintMany)]
	if q.list = q.list[len(some):]; len(q.list) == 0 {
		*q = subjects{} // a map does not become smaller
		return some
	}
	for _, id := range some {
		delete(q.has, id)
	}
	return some
}

// typists is a queue of who writes where.
type typists struct {
	has  map[typist]struct{}
	of   map[pim.UserID]int
	list []typist
}

type typist struct {
	user         pim.UserID
	conversation pim.ConversationID
}

// add reports whether t is in the queue. If it is not, there is no room for it, or its user has had the share of one.
func (q *typists) add(t typist) bool {
	if _, has := q.has[t]; has {
		return true
	}
	if len(q.list) == maxTyping || q.of[t.user] == userTyping {
		return false
	}
	if q.has == nil {
		q.has, q.of = make(map[typist]struct{}), make(map[pim.UserID]int)
	}
	q.has[t] = struct{}{}
	q.of[t.user]++
	q.list = append(q.list, t)
	return true
}

// take takes all out.
func (q *typists) take() []typist {
	list := q.list
	*q = typists{}
	return list
}

// departures are when users were seen last who have gone from a gateway, until that must be in the store.
type departures struct {
	now, before map[pim.UserID]pim.Millis
	turned      time.Duration
}

func (d *departures) turn(now time.Duration) {
	if now-d.turned >= grace {
		d.before, d.now, d.turned = d.now, nil, now
	}
}

// add notes when u was seen last. The caller holds looks.mu.
func (d *departures) add(now time.Duration, u pim.UserID, seen pim.Millis) {
	if d.turn(now); d.now == nil {
		d.now = make(map[pim.UserID]pim.Millis)
	}
	if len(d.now) < maxDepartures {
		d.now[u] = max(d.now[u], seen)
	}
}

// seen returns when u was seen last, 0 if that is not known. The caller holds looks.mu.
func (d *departures) seen(u pim.UserID) pim.Millis { return max(d.now[u], d.before[u]) }
