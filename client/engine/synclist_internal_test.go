package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// A lister reads the sync list, and nothing else.
type lister struct {
	t  *testing.T
	fx effects
	syncList
}

func newLister(t *testing.T) *lister {
	l := &lister{t: t}
	l.fx.now.Mono = time.Hour
	l.syncList = syncList{fx: &l.fx, timeout: 10 * time.Second, random: func() float64 { return 1 }}
	return l
}

// asks checks which pages are asked for, as "request:after".
func (l *lister) asks(want ...string) {
	l.t.Helper()
	var got []string
	for _, m := range l.fx.take().Frames {
		req := m.(*wirepb.PIMSyncReq)
		got = append(got, fmt.Sprintf("%d:%s", req.RequestId, req.After))
	}
	if !slices.Equal(got, want) {
		l.t.Fatalf("asks for %q, want %q", got, want)
	}
}

// reads asks for the next page if goesOn says so.
func (l *lister) reads(goesOn bool) {
	if goesOn {
		l.ask()
	}
}

func TestSyncListInPages(t *testing.T) {
	l := newLister(t)
	l.reads(l.start())
	l.asks("1:")
	if l.answered(2) || !l.answered(1) || l.answered(1) {
		t.Error("a page is the answer to its request, once")
	}
	l.reads(l.page("c"))
	l.asks("2:c")
	l.answered(2)
	l.reads(l.page("c")) // a server that turns in a circle
	l.asks()
	if !l.listed || l.waits() {
		t.Errorf("at the end: listed %v, waits %v", l.listed, l.waits())
	}
}

// What may have changed on a page that is past is read afterwards, once.
func TestSyncListChangesMeanwhile(t *testing.T) {
	l := newLister(t)
	l.reads(l.start())
	l.answered(1)
	l.reads(l.page("c"))
	l.asks("1:", "2:c")
	l.fx.meta.FullSync = true
	for range 3 {
		l.reads(l.start())
	}
	l.asks()
	l.answered(2)
	if l.full {
		t.Error("a list is full from its middle on")
	}
	l.reads(l.page(""))
	l.asks("3:")
	if !l.full || l.listed {
		t.Errorf("read once more: full %v, listed %v", l.full, l.listed)
	}
	l.answered(3)
	l.reads(l.page(""))
	l.asks()
	if !l.listed {
		t.Error("not listed")
	}
}

func TestSyncListWithoutAnAnswer(t *testing.T) {
	l := newLister(t)
	l.reads(l.start())
	l.asks("1:")
	if at := l.deadline(false); at != time.Hour+10*time.Second || l.deadline(true) != never {
		t.Errorf("something is due at %v, and %v while nothing is read", at, l.deadline(true))
	}
	l.extend(time.Hour + 12*time.Second)
	l.fx.now.Mono += 12*time.Second - 1
	if _, ok := l.overdue(); ok {
		t.Error("overdue too soon")
	}
	l.fx.now.Mono++
	if sentAt, ok := l.overdue(); sentAt != time.Hour+2*time.Second || !ok {
		t.Errorf("overdue: %v, transmitted at %v", ok, sentAt)
	}
	l.ask()
	l.asks("2:")
	if l.answered(1) {
		t.Error("an answer that is late is taken")
	}
	l.failed(&pim.Error{RetryAfter: 3 * time.Second})
	l.reads(l.start()) // waits as well
	if at := l.deadline(true); at != l.fx.now.Mono+3*time.Second || l.waits() || l.due() {
		t.Errorf("refused: asks again at %v", at)
	}
	l.fx.now.Mono += 3 * time.Second
	if !l.due() {
		t.Error("not due")
	}
	l.ask()
	l.asks("3:")
	l.left()
	if l.waits() || l.due() || l.deadline(false) != never {
		t.Error("something is due without a connection")
	}
	l.opened()
	l.reads(l.start())
	l.asks("4:")
}

// At a login the newest conversations are to come ahead of the first page, and of no other.
func TestRecentAheadOfTheFirstPage(t *testing.T) {
	l := newLister(t)
	recent := func() uint32 { return l.fx.take().Frames[0].(*wirepb.PIMSyncReq).Recent }
	l.opened()
	l.reads(l.start())
	if got := recent(); got != recentFirst {
		t.Errorf("asks for %d", got)
	}
	if l.ahead(2) || !l.ahead(1) || !l.waits() || !l.answered(1) || l.ahead(1) {
		t.Error("what comes ahead is taken for the page, or not at all")
	}
	l.reads(l.page("c"))
	if got := recent(); got != 0 {
		t.Errorf("asks for %d with the second page", got)
	}
}
