package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// A seeker is a device in a random world of LBS and gateways, which lets it be judged by what it was
// told: when it asks, what it shows, and what it dials.
type seeker struct {
	pick   func(n int) int // a random choice
	deaf   func(*engine.Answer, *pim.Error)
	engine *engine.Engine
	now    time.Duration
	half   float64 // all that is random in the engine

	asked   []engine.Question // under way
	dialled []engine.Dial     // under way
	linked  uint64            // the attempt that stands; 0: none

	// What it was told.
	ticket   string
	askAt    time.Duration
	place    []string
	until    time.Duration            // of place
	fresh    bool                     // nobody of place was dialled yet
	alone    time.Duration            // the longest
	vainAt   time.Duration            // the first question since an LBS has answered, or a gateway was dialled without; 0: none
	lonely   bool                     // a round that no LBS has named a gateway for
	lbsAt    map[string]time.Duration // not to be asked before
	plain    map[string]time.Duration // answers no questions before
	serverAt map[string]time.Duration // gateways that are not to be dialled before

	wrong string // the first complaint
}

var seekersLBS = []string{"https://one", "https://two"}

func newSeeker(pick func(n int) int, deaf func(*engine.Answer, *pim.Error)) *seeker {
	s := &seeker{
		pick: pick, deaf: deaf, now: time.Hour, lbsAt: make(map[string]time.Duration), plain: make(map[string]time.Duration),
		serverAt: make(map[string]time.Duration),
	}
	s.half = float64(pick(1000)) / 1000
	s.engine = engine.New(engine.Config{
		User: "alice", Device: "phone", Servers: seekersLBS, LBS: seekersLBS, Random: func() float64 { return s.half },
		BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
	}, engine.Snapshot{})
	s.step(engine.Start{})
	return s
}

func (s *seeker) complain(format string, args ...any) {
	if s.wrong == "" {
		s.wrong = fmt.Sprintf("%v: ", s.now-time.Hour) + fmt.Sprintf(format, args...)
	}
}

func (s *seeker) step(in engine.Input) {
	if err := s.engine.Step(engine.Time{Mono: s.now, Wall: epoch}, in); err != nil {
		s.complain("refuses %T: %v", in, err)
	}
	out := s.engine.Take()
	for _, n := range out.Hangups {
		s.asked = slices.DeleteFunc(s.asked, func(q engine.Question) bool { return q.Attempt == n })
		s.dialled = slices.DeleteFunc(s.dialled, func(d engine.Dial) bool { return d.Attempt == n })
		if s.linked == n {
			s.linked = 0
		}
	}
	for _, q := range out.Questions {
		s.judgeQuestion(q)
	}
	for _, d := range out.Dials {
		s.judgeDial(d)
	}
	if len(s.asked)+len(s.dialled) > 3 {
		s.complain("%d questions and dials at once", len(s.asked)+len(s.dialled))
	}
}

func (s *seeker) judgeQuestion(q engine.Question) {
	s.asked = append(s.asked, q)
	s.place, s.lonely = nil, false
	if s.vainAt == 0 {
		s.vainAt = s.now
	}
	switch {
	case s.now < s.askAt:
		s.complain("asks %v before its time", s.askAt-s.now)
	case s.now < s.lbsAt[q.LBS]:
		s.complain("asks %s %v before its time", q.LBS, s.lbsAt[q.LBS]-s.now)
	case s.now < s.plain[q.LBS]:
		s.complain("asks %s, which answers no questions", q.LBS)
	case q.Ticket != s.ticket:
		s.complain("shows the ticket %q, it has %q", q.Ticket, s.ticket)
	}
}

func (s *seeker) judgeDial(d engine.Dial) {
	s.dialled = append(s.dialled, d)
	placed := slices.Contains(s.place, d.Server) && s.now < s.until
	fresh := s.fresh
	s.fresh = s.fresh && !placed
	switch {
	case s.now < s.askAt:
		s.complain("dials %s %v before it may ask for a place", d.Server, s.askAt-s.now)
	case s.now < s.serverAt[d.Server]:
		s.complain("dials %s %v before its time", d.Server, s.serverAt[d.Server]-s.now)
	case placed && fresh && d.Server != s.place[0] && s.serverAt[s.place[0]] == 0:
		s.complain("dials %s first, the place is %q", d.Server, s.place)
	case placed, s.lonely:
	case s.allPlain():
		s.lonely = true
	case s.vainAt == 0:
		s.complain("dials %s without asking, or its place has expired", d.Server)
	case s.now < s.vainAt+time.Duration(s.half*float64(s.alone)):
		s.complain("dials %s alone, %v before its time", d.Server, s.vainAt+time.Duration(s.half*float64(s.alone))-s.now)
	default:
		s.lonely, s.vainAt = true, 0
	}
}

func (s *seeker) allPlain() bool {
	return !slices.ContainsFunc(seekersLBS, func(lbs string) bool { return s.plain[lbs] <= s.now })
}

// answers answers one of the questions that are under way.
func (s *seeker) answers() {
	if len(s.asked) == 0 {
		return
	}
	i := s.pick(len(s.asked))
	q := s.asked[i]
	s.asked = slices.Delete(s.asked, i, i+1)
	switch s.pick(6) {
	case 0, 1:
		a := engine.Answer{Alone: time.Duration(s.pick(60)) * time.Second, Keep: time.Duration(1+s.pick(10)) * time.Second}
		for _, at := range rand.New(rand.NewPCG(uint64(s.pick(100)), 1)).Perm(5)[:1+s.pick(5)] {
			a.Candidates = append(a.Candidates, engine.Candidate{Server: fmt.Sprintf("tls://gateway-%d:1", at), Weight: uint32(s.pick(9))})
		}
		s.told(a)
		s.ticket, s.place, s.until, s.fresh = "", nil, s.now+a.Keep, true
		for _, c := range a.Candidates {
			s.place = append(s.place, c.Server)
		}
		s.hears(q, a)
	case 2:
		a := engine.Answer{Alone: time.Duration(s.pick(60)) * time.Second, Window: time.Duration(1+s.pick(120)) * time.Second, Ticket: fmt.Sprint("ticket ", q.Attempt)}
		s.told(a)
		s.ticket, s.askAt = a.Ticket, s.now+time.Duration(s.half*float64(a.Window))
		s.hears(q, a)
	default:
		s.refuses(q)
	}
}

func (s *seeker) told(a engine.Answer) {
	s.asked, s.vainAt, s.alone = nil, 0, max(s.alone, a.Alone)
}

func (s *seeker) hears(q engine.Question, a engine.Answer) {
	if s.deaf != nil {
		s.deaf(&a, nil)
	}
	s.step(engine.Answered{Attempt: q.Attempt, Answer: a})
}

// refuses lets a question come to nothing.
func (s *seeker) refuses(q engine.Question) {
	in := engine.Unanswered{Attempt: q.Attempt}
	err := &pim.Error{Kind: pim.KindUnavailable}
	switch s.pick(6) {
	case 0:
		in.NoLBS = true
		err.RetryAfter = time.Duration(1+s.pick(20)) * time.Second
		s.plain[q.LBS] = s.now + err.RetryAfter
	case 1:
		err.Kind = pim.KindUnauthorized
		s.ticket, s.asked = "", nil
	case 2:
		err.Kind, err.RetryAfter = pim.KindOverloaded, time.Duration(4+s.pick(60))*time.Second
		s.lbsAt[q.LBS], s.vainAt = s.now+err.RetryAfter, 0
	}
	if s.deaf != nil {
		s.deaf(nil, err)
	}
	in.Err = err
	s.step(in)
}

// gateway lets something become of a dial, or of the connection.
func (s *seeker) gateway() {
	if s.linked != 0 {
		n := s.linked
		s.linked = 0
		s.step(engine.Lost{Attempt: n, Err: errors.New("cut")})
		return
	}
	if len(s.dialled) == 0 {
		return
	}
	i := s.pick(len(s.dialled))
	d := s.dialled[i]
	s.dialled = slices.Delete(s.dialled, i, i+1)
	if s.pick(3) == 0 {
		s.step(engine.Lost{Attempt: d.Attempt, Err: errors.New("refused")})
		return
	}
	s.linked = d.Attempt
	s.step(engine.Dialled{Attempt: d.Attempt, Token: "token"})
	if s.linked == 0 {
		return
	}
	if s.pick(3) == 0 {
		after := time.Duration(1+s.pick(30)) * time.Second
		s.serverAt[d.Server] = s.now + after
		s.step(engine.Frame{Attempt: d.Attempt, Message: &wirepb.PIMError{
			Kind: wirepb.ErrorKind(pim.KindOverloaded), Retryable: true, RetryAfterMs: uint32(after / time.Millisecond),
		}})
		s.step(engine.Frame{Attempt: d.Attempt, Message: &wirepb.PIMGoAway{Code: uint32(wire.CodeOverloaded), Reconnect: true}})
		return
	}
	s.place, s.lonely = nil, false
	s.step(engine.Frame{Attempt: d.Attempt, Message: &wirepb.Welcome{User: "alice", ServerMs: int64(epoch)}})
}

func (s *seeker) app() {
	switch s.pick(3) {
	case 0:
		s.step(engine.Reconnect{})
	case 1:
		s.step(engine.NetworkChanged{Name: "wifi"})
	case 2:
		s.step(engine.Online{On: false})
		s.asked, s.dialled, s.linked = nil, nil, 0
		s.step(engine.Online{On: true})
	}
}

// passes lets time go by, with a step whenever the engine asks for one.
func (s *seeker) passes(d time.Duration) {
	until := s.now + d
	for range 10_000 {
		at, ok := s.engine.Deadline()
		if !ok || at > until {
			s.now = until
			return
		}
		s.now = max(at, s.now)
		s.step(engine.Tick{})
	}
	s.complain("asks to be called again and again")
}

// seeks plays a random schedule, and then lets the LBS give a place, which the device must take.
func (s *seeker) seeks() string {
	for range 20 + s.pick(100) {
		if s.wrong != "" {
			return s.wrong
		}
		switch s.pick(8) {
		case 0, 1, 2:
			s.answers()
		case 3, 4:
			s.gateway()
		case 5:
			s.app()
		default:
			s.passes(time.Duration(s.pick(4000)) * 10 * time.Millisecond)
		}
	}
	for range 10_000 {
		if s.engine.State() == engine.Connected || s.wrong != "" {
			return s.wrong
		}
		switch {
		case len(s.asked) > 0:
			q := s.asked[0]
			a := engine.Answer{Candidates: []engine.Candidate{{Server: "tls://good:1", Weight: 1}}, Keep: 10 * time.Second}
			s.told(a)
			s.ticket, s.place, s.until, s.fresh = "", []string{"tls://good:1"}, s.now+a.Keep, true
			s.hears(q, a)
		case len(s.dialled) > 0:
			d := s.dialled[0]
			s.dialled = nil
			s.linked = d.Attempt
			s.step(engine.Dialled{Attempt: d.Attempt, Token: "token"})
			s.step(engine.Frame{Attempt: d.Attempt, Message: &wirepb.Welcome{User: "alice", ServerMs: int64(epoch)}})
		default:
			s.passes(time.Second)
		}
	}
	return "it finds no gateway"
}

// In random worlds the device asks and dials as it was told, and gets to a gateway.
func TestSeekers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSeeker(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }, nil)
		if wrong := s.seeks(); wrong != "" {
			t.Fatal(wrong)
		}
	})
}

// A device that does not hear one of the things that it is told is found out.
func TestDeafSeekers(t *testing.T) {
	deaf := map[string]func(*engine.Answer, *pim.Error){
		"": nil, // hears everything
		"windows": func(a *engine.Answer, _ *pim.Error) {
			if a != nil {
				a.Window = 0
			}
		},
		"when the place expires": func(a *engine.Answer, _ *pim.Error) {
			if a != nil {
				a.Keep = time.Hour
			}
		},
		"its ticket": func(a *engine.Answer, _ *pim.Error) {
			if a != nil {
				a.Ticket = ""
			}
		},
		"the window of those who are alone": func(a *engine.Answer, _ *pim.Error) {
			if a != nil {
				a.Alone = 0
			}
		},
		"which gateway is the first": func(a *engine.Answer, _ *pim.Error) {
			if a != nil {
				slices.Reverse(a.Candidates)
			}
		},
		"when the LBS may be asked again": func(_ *engine.Answer, err *pim.Error) {
			if err != nil {
				err.RetryAfter = min(err.RetryAfter, time.Second)
			}
		},
	}
	for name, deaf := range deaf {
		found := ""
		for seed := range uint64(2000) {
			r := rand.New(rand.NewPCG(seed, 7))
			if found = newSeeker(r.IntN, deaf).seeks(); found != "" {
				break
			}
		}
		switch {
		case deaf == nil && found != "":
			t.Errorf("a device that hears everything: %s", found)
		case deaf != nil && found == "":
			t.Errorf("nobody notices a device that does not hear %s", name)
		case deaf != nil:
			t.Logf("a device that does not hear %s: %s", name, found)
		}
	}
}
