package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

func newPulls(fx *effects) *pulls {
	fx.now.Mono = time.Hour
	return &pulls{
		fx: fx, limits: &limits{page: 80}, page: 100, timeout: 10 * time.Second, random: func() float64 { return 1 },
		active: make(requests[*pull]),
	}
}

func named(id string) *conversation { return &conversation{id: pim.ConversationID(id)} }

// Whoever has the lower rank goes first, and within a rank whoever came first, until they
// are sorted.
func TestPullsTakeTurns(t *testing.T) {
	p := newPulls(new(effects))
	a, b, c, d := named("a"), named("b"), named("c"), named("d")
	p.want(a, rankHole)
	p.want(b, rankNew)
	p.want(c, rankNew)
	p.want(d, rankNew)
	c.recent, d.recent = 5, 5
	p.sort()
	p.move(b, rankOpened)
	p.move(named("e"), rankOpened) // it is in no queue
	for _, want := range []*conversation{b, c, d, a, nil} {
		if got := p.pop(); got != want {
			t.Fatalf("the turn is %v's, want %v's", got, want)
		}
	}
}

// What is asked for, by job.
func TestPullMessages(t *testing.T) {
	gap := func(set func(*conversation)) *conversation {
		c := &conversation{known: 10, newest: 50}
		set(c)
		return c
	}
	holed := gap(func(c *conversation) { c.holes = holes{{From: 2, To: 3}, {From: 5, To: 8, Lazy: true}} })
	for _, test := range []struct {
		name string
		pull pull
		want string // from..to, how many
	}{
		{"to the end", pull{c: gap(func(*conversation) {}), job: upward}, "11..0 up to 80"},
		{"up to what is ahead", pull{c: gap(func(c *conversation) { c.ahead = []pim.Entry{{Seq: 20}} }), job: upward}, "11..19 up to 80"},
		{"an end that is not known", pull{c: gap(func(c *conversation) { c.ahead, c.target = []pim.Entry{{Seq: 20}}, unknownSeq }), job: upward}, "11..0 up to 80"},
		{"the newest page", pull{c: gap(func(*conversation) {}), job: leap}, "11..0 up to 80, newest first"},
		{"a hole", pull{c: holed, job: refill}, "2..3 up to 80, newest first"},
		{"a Fill", pull{c: holed, job: refill, fill: &fill{Fill: Fill{Before: 7, Limit: 30}}}, "5..6 up to 30, newest first"},
		{"a Fill of more than a page", pull{c: holed, job: refill, fill: &fill{Fill: Fill{Limit: 90}}}, "5..8 up to 90, newest first"},
		{"a Fill of too much", pull{c: holed, job: refill, fill: &fill{Fill: Fill{Limit: 1 << 40}}}, "5..8 up to 200, newest first"},
		{"a comparison", pull{c: gap(func(c *conversation) { c.doubt = &check{stored: logOf(1, 3, 4, 9)} }), job: compare}, "3..9 up to 80, newest first"},
	} {
		test.pull.from = test.pull.c.known + 1
		m := test.pull.message(80, 200)
		got := fmt.Sprintf("%d..%d up to %d", m.From, m.To, m.Limit)
		if m.NewestFirst {
			got += ", newest first"
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// A pull is answered, overdue, tried again, or forgotten; afterwards its conversation may
// want another.
func TestPullsEnd(t *testing.T) {
	fx := new(effects)
	p := newPulls(fx)
	c := named("c")
	c.known = 4
	p.want(c, rankNew)
	p.start(p.pop(), upward, nil)
	if m := fx.take().Frames[0].(*wirepb.PIMPullReq); m.RequestId != 1 || m.From != 5 || m.Limit != 80 || !p.active.waits() {
		t.Fatalf("asks for %v", m)
	}
	fx.now.Mono += 4 * time.Second
	a := p.answered(1) // a first frame
	if a == nil || a.c != c || p.answered(2) != nil || p.deadline(false) != time.Hour+14*time.Second || p.deadline(true) != never {
		t.Fatalf("answers %+v, the rest by %v", a, p.deadline(false))
	}
	fx.now.Mono += 10 * time.Second
	if got := p.active.overdue(fx.now.Mono); !slices.Equal(got, []*pull{a}) {
		t.Fatalf("overdue: %v", got)
	}
	p.end(a)
	if c.pulling || p.active.waits() {
		t.Fatal("the pull has ended")
	}
	p.retry(c, 0)
	p.retry(c, 0)
	if at := p.deadline(true); at != fx.now.Mono+2*time.Second || c.failures != 2 {
		t.Fatalf("tried again at %v, after %d failures", at, c.failures)
	}
	if got := p.retries(); len(got) != 0 {
		t.Fatalf("tried again too soon: %v", got)
	}
	fx.now.Mono += 2 * time.Second
	if got := p.retries(); !slices.Equal(got, []*conversation{c}) || c.retryAt != 0 || p.deadline(false) != never {
		t.Fatalf("tried again: %v", got)
	}
	for _, forget := range []func(){func() { p.forget(c) }, p.left} {
		p.want(c, rankNew)
		p.start(p.pop(), upward, nil)
		p.retry(c, time.Second)
		p.awaitPushes(c)
		other := named("other")
		p.want(other, rankHole)
		forget()
		if c.pulling || c.retryAt != 0 || p.active.waits() || p.drop(c) || len(p.waiting) != 0 {
			t.Fatalf("something is left: %+v", c)
		}
		p.left()
		if other.pulling || p.pop() != nil || p.deadline(false) != never {
			t.Fatalf("something is left without a connection: %+v", other)
		}
	}
}

// A page is as long as both the app and the server want it.
func TestPageOfAPull(t *testing.T) {
	for _, test := range []struct{ app, server, want int }{{100, 80, 80}, {5, 80, 5}} {
		fx := new(effects)
		p := newPulls(fx)
		p.page, p.limits.page = test.app, uint32(test.server)
		c := &conversation{holes: holes{{From: 2, To: 90}}}
		p.start(c, refill, nil)
		p.start(c, refill, &fill{Fill: Fill{Limit: 1000}})
		frames := fx.take().Frames
		if got := frames[0].(*wirepb.PIMPullReq).Limit; got != uint32(test.want) {
			t.Errorf("%+v: %d entries", test, got)
		}
		if got := frames[1].(*wirepb.PIMPullReq).Limit; got != uint32(test.server) {
			t.Errorf("%+v: %d entries of a Fill", test, got)
		}
	}
}

// A gap waits for pushes once, even if it closes and opens again meanwhile.
func TestGapsWaitForPushes(t *testing.T) {
	fx := new(effects)
	p := newPulls(fx)
	a, b := named("a"), named("b")
	p.awaitPushes(a)
	a.gapBy = 0 // closed
	p.awaitPushes(a)
	fx.now.Mono += gapPatience / 2
	p.awaitPushes(b)
	if got := p.openGaps(); len(got) != 0 || p.deadline(true) != time.Hour+gapPatience {
		t.Errorf("open after half of the time: %v", got)
	}
	fx.now.Mono += gapPatience / 2
	if got := p.openGaps(); !slices.Equal(got, []*conversation{a}) {
		t.Errorf("open: %v", got)
	}
	b.gapBy = 0
	if p.deadline(true) != never {
		t.Error("a gap that is closed waits")
	}
}
