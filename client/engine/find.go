package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
)

// A client that knows an LBS asks it which gateway to dial, and when: after its start, after each
// loss, and when the place that it was given has expired. So the users of a data centre that has
// died come to the others as fast as these take them. Where no LBS answers the client dials a
// gateway that it remembers, at a random moment within the longest time that it was told; all
// clients fit in that. A node that answers no questions is dialled as by a client that knows no LBS.

const (
	maxFindWindow = time.Hour        // a longer window of an Answer is cut to it
	minFindWindow = time.Second      // the shortest window of an Answer
	placeKept     = 10 * time.Second // how long a place is kept if the Answer does not say
	plainFor      = time.Hour        // for how long a node that knows no questions is not asked again
	maxSigned     = 1 << 10          // bytes of a ticket or a lease
)

var (
	errPlain   = pim.Errorf(pim.KindUnavailable, "the node does not say which gateway to dial")
	errNoLBS   = pim.Errorf(pim.KindTimeout, "no LBS has answered within %v", raceFor)
	errNoPlace = &pim.Error{Op: "connect", Kind: pim.KindOverloaded, Text: "no gateway has a place now"}
)

// finder is what a client knows of its LBS.
type finder struct {
	lbs    route         // who is asked next; none: the client knows no LBS
	ticket string        // of the last answer, if that was to wait
	askAt  time.Duration // told to wait: no question before
	alive  bool          // an LBS has said in this round that it can't answer now
	plain  string        // a node has said in this round that it answers no questions

	lease   string        // of the place
	alone   time.Duration // the longest that was told
	aloneAt time.Duration // no LBS answers: when a gateway that is remembered is dialled; 0: not set
	known   []Candidate   // gateways that were named, those of the last answer first
}

// newFinder returns the finder of a client that knows these LBS. They are asked in a random order:
// each of them gives out one part of the places.
func newFinder(lbs []string, random func() float64) finder {
	var all []Candidate
	for _, s := range lbs {
		all = append(all, Candidate{Server: s})
	}
	return finder{lbs: route{servers: shuffled(all, random)}}
}

// knows reports whether there is an LBS to ask: the client was told of one, and not all are plain
// nodes.
func (f *finder) knows(now time.Duration) bool {
	for _, s := range f.lbs.servers {
		if at, why := f.lbs.busy.until(s); at <= now || why != errPlain {
			return true
		}
	}
	return false
}

// hopeless reports whether nothing is to be hoped for from those who have not answered: a node has said
// that it answers no questions, and no LBS was ever heard of.
func (f *finder) hopeless() bool { return f.plain != "" && f.alone == 0 && !f.alive }

// freeAt returns when the next question may be asked, or a gateway be dialled without, and why not
// before.
func (f *finder) freeAt() (at time.Duration, why error) {
	at, why = f.lbs.freeAt()
	if f.askAt > at {
		at, why = f.askAt, errNoPlace
	}
	if f.aloneAt != 0 && f.aloneAt < at {
		at = f.aloneAt
	}
	return at, why
}

// remember keeps the gateways of an answer in mind, before those of earlier ones.
func (f *finder) remember(place []Candidate) {
	known := place[:len(place):len(place)]
	for _, k := range f.known {
		if len(known) < maxAlternatives && !names(place, k.Server) {
			known = append(known, k)
		}
	}
	f.known = known
}

func names(list []Candidate, server string) bool {
	for _, c := range list {
		if c.Server == server {
			return true
		}
	}
	return false
}

// shuffled returns the servers of list in a random order: each is drawn by its weight from those
// that are left. A weight of 0 counts as 1.
func shuffled(list []Candidate, random func() float64) []string {
	left := append([]Candidate(nil), list...)
	var out []string
	for len(left) > 1 {
		var sum float64
		for _, c := range left {
			sum += weight(c)
		}
		at, i := random()*sum, 0
		for ; i < len(left)-1 && at >= weight(left[i]); i++ {
			at -= weight(left[i])
		}
		out = append(out, left[i].Server)
		left = append(left[:i], left[i+1:]...)
	}
	for _, c := range left {
		out = append(out, c.Server)
	}
	return out
}

func weight(c Candidate) float64 { return float64(max(c.Weight, 1)) }

// freeAt returns when the next round may begin, and why not before; 0: at any time.
func (e *Engine) freeAt() (at time.Duration, why error) {
	switch now := e.now.Mono; {
	case !e.finder.knows(now):
		return e.route.freeAt()
	case e.route.placed(now):
		return 0, nil
	}
	return e.finder.freeAt()
}

// dial begins a round, of questions if an LBS is asked first.
func (e *Engine) dial() {
	now, f := e.now.Mono, &e.finder
	e.link.cause = nil
	e.emit(StateEvent{State: Connecting})
	switch {
	case !f.knows(now):
		e.route.ungive()
	case e.route.placed(now):
	case f.aloneAt != 0 && f.aloneAt <= now:
		f.aloneAt = 0
		e.route.give(append(shuffled(f.known, e.cfg.Random), e.route.servers...), never)
	default:
		e.ask()
		return
	}
	e.dialRound()
}

// dialRound begins a round of attempts to connect, if a server may be dialled.
func (e *Engine) dialRound() {
	now := e.now.Mono
	server := e.route.take(now)
	if server == "" {
		_, why := e.route.freeAt()
		e.route.ungive()
		e.retreat(why, e.backoff.lost(now))
		return
	}
	e.link.phase = racing
	e.out.Dials = append(e.out.Dials, e.race.begin(now, server))
}

// ask begins a round of questions, unless all LBS have said when to come back.
func (e *Engine) ask() {
	now, f := e.now.Mono, &e.finder
	if at, why := f.freeAt(); at > now {
		e.retreat(why, 0)
		return
	}
	e.route.ungive() // the app may interrupt the question, and there is no place then
	e.link.phase, f.alive, f.plain = asking, false, ""
	e.question(e.race.begin(now, f.lbs.take(now)))
}

func (e *Engine) question(d Dial) {
	e.out.Questions = append(e.out.Questions, Question{Attempt: d.Attempt, LBS: d.Server, Ticket: e.finder.ticket})
}

// answered takes what an LBS says.
func (e *Engine) answered(in Answered) {
	if e.link.phase != asking {
		return
	}
	lbs, others, ok := e.race.won(in.Attempt)
	if !ok {
		return // another was faster
	}
	for _, n := range others {
		e.hangUpAttempt(n)
	}
	now, f := e.now.Mono, &e.finder
	f.lbs.arrived(lbs)
	f.aloneAt, f.askAt, f.ticket = 0, 0, ""
	f.alone = max(f.alone, min(in.Answer.Alone, maxFindWindow))
	place := e.trusted(in.Answer.Candidates)
	switch {
	case len(place) > 0:
		keep := min(in.Answer.Keep, maxWindow)
		if keep <= 0 {
			keep = placeKept
		}
		if f.lease = ""; len(in.Answer.Lease) <= maxSigned {
			f.lease = in.Answer.Lease
		}
		f.remember(place)
		order := append([]string{place[0].Server}, shuffled(place[1:], e.cfg.Random)...)
		e.route.give(order, now+keep)
		e.dialRound()
	case len(in.Answer.Candidates) > 0: // this client may dial none of them
		f.lbs.busy.note(now, lbs, now+plainFor, errPlain, len(e.cfg.LBS))
		e.unfound(errPlain)
	default:
		if len(in.Answer.Ticket) <= maxSigned {
			f.ticket = in.Answer.Ticket
		}
		window := min(max(in.Answer.Window, minFindWindow), maxFindWindow)
		f.askAt = now + time.Duration(e.cfg.Random()*float64(window))
		e.retreat(errNoPlace, 0)
	}
}

// leaseFor returns the lease of the place that leads to server; empty: there is none.
func (e *Engine) leaseFor(server string) string {
	if e.route.givenUntil != never && slices.Contains(e.route.given, server) {
		return e.finder.lease
	}
	return ""
}

// trusted returns those of the candidates that the client may dial, each once.
func (e *Engine) trusted(list []Candidate) (out []Candidate) {
	for _, c := range list {
		if len(out) < maxAlternatives && e.route.trusts(c.Server) && !names(out, c.Server) {
			out = append(out, c)
		}
	}
	return out
}

// unanswered takes a question that has come to nothing.
func (e *Engine) unanswered(in Unanswered) {
	if e.link.phase != asking {
		return
	}
	lbs, ok := e.race.serverOf(in.Attempt)
	if !ok {
		return // hung up before
	}
	now, f := e.now.Mono, &e.finder
	kind, told := pim.KindOf(in.Err), false
	next := f.lbs.next(now)
	switch {
	case in.NoToken:
		if e.race.withoutToken(in.Attempt, asError(in.Err, 0)) == over {
			e.untokened(e.race.noToken)
		}
		return
	case in.NoLBS:
		until := now + plainFor
		if after := retryAfterOf(in.Err); after > 0 {
			until = now + after
		}
		e.spare(in.Attempt, lbs, until, errPlain)
		f.plain, next = lbs, f.lbs.next(now)
	case kind == pim.KindUnauthorized || kind == pim.KindForbidden: // the token, and the ticket if one was shown
		// With the next token the question is another one, so the time that was told is not for it.
		f.ticket = ""
		e.retreat(in.Err, e.backoff.refused(now))
		return
	case retryAfterOf(in.Err) > 0 || kind == pim.KindOverloaded:
		// It is there, and says when to come back. Another one is asked with the usual backoff.
		f.alive, f.aloneAt, next = true, 0, ""
		if after := retryAfterOf(in.Err); after > 0 {
			told = true
			e.spare(in.Attempt, lbs, now+after+time.Duration(e.cfg.Random()*float64(after)/4), in.Err)
		}
	}
	switch verdict := e.race.failed(in.Attempt, told, next); {
	case verdict == another:
		e.question(e.race.attempt(now, f.lbs.take(now)))
	case verdict == over, f.hopeless():
		e.unfound(in.Err)
	}
}

// spare takes note that an LBS is not to be asked before until, because of why. Other questions to it
// are given up.
func (e *Engine) spare(attempt uint64, lbs string, until time.Duration, why error) {
	e.finder.lbs.busy.note(e.now.Mono, lbs, until, why, len(e.cfg.LBS))
	for _, n := range e.race.withdraw(attempt, lbs) {
		e.hangUpAttempt(n)
	}
}

// tickQuestions does what is due while questions are under way.
func (e *Engine) tickQuestions() {
	now, f := e.now.Mono, &e.finder
	switch verdict := e.race.due(now); {
	case verdict == another && f.hopeless():
		e.unfound(errPlain)
	case verdict == another && !e.race.mayTry(&f.lbs, now): // later
	case verdict == another:
		e.question(e.race.attempt(now, f.lbs.take(now, e.race.servers()...)))
	case verdict == over:
		err := errNoLBS
		if e.race.noToken != nil {
			err = e.race.noToken
		}
		e.unfound(err)
	}
}

// unfound ends a round of questions to which no LBS has given an answer.
func (e *Engine) unfound(err error) {
	now, f := e.now.Mono, &e.finder
	switch {
	case !f.knows(now): // plain nodes
	case f.alive:
		e.retreat(err, e.backoff.lost(now))
		return
	case f.alone > 0:
		if f.aloneAt == 0 {
			f.aloneAt = now + time.Duration(e.cfg.Random()*float64(f.alone))
		}
		e.retreat(err, min(e.backoff.lost(now), max(f.aloneAt-now, 0)))
		return
	}
	for _, n := range e.race.end() {
		e.hangUpAttempt(n)
	}
	e.route.ungive()
	e.route.begin(f.plain)
	e.dialRound()
}
