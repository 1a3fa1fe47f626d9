package avalanche

import (
	"net/netip"
	"time"

	"github.com/pim-im/pim/limit"
)

// site is a data centre, as one large gateway: a limit.Gate, and CPU that work waits for.
type site struct {
	index int
	up    bool
	life  uint16 // grows with each death
	since time.Duration
	dies  time.Duration // when it died last
	gate  *limit.Gate

	connections int           // that it has let in and that are not gone, with those whose handshake is under way
	free        time.Duration // when its CPU has done all that waits

	second counts // of the second under way
}

// counts are what has come to a site in a second.
type counts struct {
	attempts int // that have reached it, or would have if it were not dark
	refused  int // by its gate, or because it is full
	letIn    int
}

// start has the site come up, with nobody connected.
func (w *world) start(s *site) {
	s.up, s.since, s.connections, s.free = true, w.now, 0, w.now
	s.gate = limit.NewGate(limit.Rates{Accept: w.Accept / w.Cohort}, w.random.Float64)
}

// stop has it go dark. Its clients notice soon.
func (w *world) stop(s *site) {
	s.up, s.dies, s.connections = false, w.now, 0
	s.life++
	for i := range w.clients {
		if c := &w.clients[i]; c.using != 0 && int(c.site) == s.index {
			w.due.add(w.now+w.within(notice), event{kind: breaks, client: int32(i), attempt: c.using})
		}
	}
}

// falls has a site go down under its load; it is started again.
func (w *world) falls(s *site) {
	w.report.Falls++
	w.stop(s)
	w.starts = append(w.starts, start{s.index, w.now + restart})
}

// work has the CPU of a site do something that costs so many logins, after all that waits, and returns when that is done. The
// site may fall.
func (w *world) work(s *site, cost float64) time.Duration {
	usual := float64(len(w.clients)) / float64(w.Sites)
	left := 1 - steady*float64(s.connections)/usual
	each := float64(w.Cohort) / (power * float64(w.Accept) * max(left, 0.05)) // seconds
	s.free = max(s.free, w.now) + time.Duration(cost*each*float64(time.Second))
	if behind := s.free - w.now; behind > fallBehind {
		w.falls(s)
	} else {
		w.report.behind(behind)
	}
	return s.free
}

// attempt is one that reaches a site.
func (w *world) attempt(e event) {
	s := &w.sites[e.site]
	s.second.attempts++
	if !s.up {
		return
	}
	back := e
	back.life = s.life
	if w.Policy.Admission {
		if v := s.gate.Connection(w.now, netip.Addr{}); v.Refused() {
			s.second.refused++
			w.work(s, costRefusal)
			back.kind = fails
			w.due.add(w.now+trip/2, back)
			return
		}
	}
	done := w.work(s, costTLS)
	if w.Policy.Admission && s.connections >= w.Capacity/w.Cohort {
		s.second.refused++
		back.kind, back.number = turnedAway, retryAfter(s.gate.Later(limit.Connections))
		w.due.add(done+trip/2, back)
		return
	}
	if !s.up {
		return
	}
	s.second.letIn++
	s.connections++
	w.report.load(s.connections, w.Capacity/w.Cohort)
	if float64(s.connections) > overfull*float64(w.Capacity/w.Cohort) {
		w.falls(s)
		return
	}
	back.kind = stands
	w.due.add(done+trip/2, back)
}

// retryAfter returns what a verdict says in milliseconds, as Retry-After has it: full seconds.
func retryAfter(v limit.Verdict) uint32 {
	return uint32((v.After + time.Second - 1) / time.Second * 1000)
}

// login is a Hello that reaches a site.
func (w *world) login(e event) {
	s := &w.sites[e.site]
	if c := &w.clients[e.client]; !s.up || e.life != s.life || c.using != e.attempt {
		return // the client does not wait for it any more, and has taken its place back
	}
	cost := costLogin
	if w.cold(s) {
		cost *= w.Cold
	}
	done := w.work(s, cost)
	e.kind = welcomed
	w.due.add(done+trip/2, e)
}

// cold reports whether the site's caches are still cold. Those that were there at the beginning are warm.
func (w *world) cold(s *site) bool { return s.since > 0 && w.now < s.since+w.ColdFor }

// release takes back the place of a client at a site, if it has lived on since.
func (w *world) release(index uint8, life uint16) {
	if s := &w.sites[index]; s.up && s.life == life {
		s.connections--
	}
}
