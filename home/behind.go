package home

import (
	"sync"
	"time"
)

// Devices are told to sync at once, if they are few. Many are told one part after the other, so that
// the node and the store have a bound on how many sync at a time: n devices need n / (markMany / markEvery).
const (
	markMany  = 200
	markEvery = 100 * time.Millisecond
)

// marker has the links that are to be told to sync. Each is in it once, see link.marking.
type marker struct {
	mu      sync.Mutex
	links   []*link
	working bool
}

// behind has links told to sync.
func (h *Home) behind(links []*link) {
	var some []*link
	for _, k := range links {
		h.links.locked(k, func() {
			if !k.marking && !k.gone {
				k.marking = true
				some = append(some, k)
			}
		})
	}
	if len(some) == 0 {
		return
	}
	m := &h.marker
	m.mu.Lock()
	m.links = append(m.links, some...)
	start := !m.working
	m.working = true
	m.mu.Unlock()
	if start {
		h.start(h.mark)
	}
}

// behindAll has all links of this node told to sync.
func (h *Home) behindAll() {
	var all []*link
	h.links.each(func(k *link) { all = append(all, k) })
	h.behind(all)
}

// mark tells those that are in the marker to sync, until nobody is left.
func (h *Home) mark() {
	m := &h.marker
	for {
		m.mu.Lock()
		some := m.links[:min(len(m.links), markMany)]
		m.links = m.links[len(some):]
		if len(some) == 0 {
			m.links, m.working = nil, false
			m.mu.Unlock()
			return
		}
		more := len(m.links) > 0
		m.mu.Unlock()
		for _, k := range some { // before Behind: a gap that comes now is later than the sync may be
			h.links.locked(k, func() { k.marking = false })
		}
		h.sessions.Behind(users(some))
		if more {
			select {
			case <-time.After(markEvery):
			case <-h.ctx.Done():
				return
			}
		}
	}
}
