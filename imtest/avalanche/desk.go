package avalanche

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/lbs"
	"github.com/pim-im/pim/limit"
)

// desk is a node with the role lbs, on a machine of its own in its site: a lbs.Balancer, and a limit.Gate for its questions.
type desk struct {
	balancer *lbs.Balancer
	gate     *limit.Gate
}

// opens has the LBS of a site start, which remembers nothing.
func (w *world) opens(site int) {
	w.desks[site] = desk{lbs.NewBroken(w.fork(), w.LBSDefects), limit.NewGate(limit.Rates{Accept: w.Questions / w.Cohort}, w.random.Float64)}
	if w.said != nil {
		w.desks[site].balancer.Update(lbs.View{Gateways: slices.Clone(w.said)}, w.now)
	}
}

// away reports whether no question of a site's LBS is answered.
func (w *world) away(site int) bool {
	return !w.sites[site].up || w.now >= w.AwayFrom && w.now < w.AwayTo
}

// tell brings what the sites said a second ago to all LBS, and has the sites say what they are now. Those that have died are there
// until the others miss them.
func (w *world) tell() {
	if !w.Policy.LBS {
		return
	}
	for i := range w.desks {
		if w.said != nil && w.sites[i].up {
			w.desks[i].balancer.Update(lbs.View{Gateways: slices.Clone(w.said)}, w.now)
		}
	}
	before := w.said
	w.said = nil
	shares := 0
	for i := range w.desks {
		if s := &w.sites[i]; s.up || s.life > 0 && w.now < s.dies+missed {
			shares++
		}
	}
	for i := range w.sites {
		s := &w.sites[i]
		if s.up {
			w.said = append(w.said, w.gateway(s, shares))
		} else if n := slices.IndexFunc(before, func(g lbs.Gateway) bool { return g.Name == strconv.Itoa(i) }); n >= 0 && w.now < s.dies+missed {
			w.said = append(w.said, before[n])
		}
	}
}

// gateway is what a site says of itself.
func (w *world) gateway(s *site, shares int) lbs.Gateway {
	const much = 1 << 50
	return lbs.Gateway{
		Name: strconv.Itoa(s.index), Site: strconv.Itoa(s.index), Addresses: []string{w.servers[0][s.index]}, Transports: lbs.Of(lbs.WebSocket), Shares: max(shares, 1),
		Connections: s.connections, MaxConnections: w.Capacity / w.Cohort, Memory: much, Costs: lbs.DefaultCosts, AcceptRate: float64(w.Accept / w.Cohort), Ready: true,
	}
}

// question is one that reaches an LBS.
func (w *world) question(e event) {
	w.asked.questions++
	if w.away(int(e.site)) {
		return // swallowed
	}
	d := &w.desks[e.site]
	e.kind = answered
	if v := d.gate.Connection(w.now, netip.Addr{}); v.Refused() {
		w.asked.unheard++
		err := v.Err().(*pim.Error)
		if w.Heedless {
			err.RetryAfter = 0
		}
		e.number = w.answers.put(reply{err: err})
		w.due.add(w.now+trip/2, e)
		return
	}
	c := &w.clients[e.client]
	a := d.balancer.Ask(lbs.Request{User: pim.UserID(strconv.Itoa(int(e.client))), Site: strconv.Itoa(int(c.home))}, w.now)
	r := reply{answer: w.answerOf(a)}
	if w.Heedless {
		r.answer.Window = 0
	}
	e.number = w.answers.put(r)
	w.due.add(w.now+trip/2, e)
}

// answerOf returns an answer as the SDK has it from the page.
func (w *world) answerOf(a lbs.Answer) engine.Answer {
	r := engine.Answer{Window: a.Window, Alone: a.Alone}
	for _, c := range a.Candidates {
		r.Candidates = append(r.Candidates, engine.Candidate{Server: c.Gateway.Addresses[0], Weight: c.Weight})
	}
	if len(r.Candidates) > 0 {
		r.Keep = a.Expires - w.now
	}
	return r
}

// reply is what a client hears of an LBS.
type reply struct {
	answer engine.Answer
	err    *pim.Error
}

// answers are those that are on their way.
type answers struct {
	list []reply
	free []uint32
}

func (as *answers) put(r reply) uint32 {
	if n := len(as.free); n > 0 {
		i := as.free[n-1]
		as.free = as.free[:n-1]
		as.list[i] = r
		return i
	}
	as.list = append(as.list, r)
	return uint32(len(as.list) - 1)
}

// take takes one out, as an input for the engine that has asked.
func (as *answers) take(i uint32, attempt uint64) engine.Input {
	r := as.list[i]
	as.list[i] = reply{}
	as.free = append(as.free, i)
	if r.err != nil {
		return engine.Unanswered{Attempt: attempt, Err: r.err}
	}
	return engine.Answered{Attempt: attempt, Answer: r.answer}
}
