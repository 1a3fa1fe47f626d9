package bustest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
)

// gap is what a listener notes of a gap, among the bodies of messages.
const gap = "(gap)"

// listener is a started node that notes what comes.
type listener struct {
	bus.Bus

	mu      sync.Mutex
	came    map[string][]string // by sender: bodies and gaps, in their order
	views   []*bus.View
	changed chan struct{} // closed and made anew with each note
	hold    chan struct{} // if not nil, Receive waits for it
	given   int           // answers whose context has ended
}

// Kinds as the suite uses them.
const (
	kindWord    = bus.KindSubmit
	kindOther   = bus.KindAnswer
	kindEcho    = bus.KindJoin
	kindRefuse  = bus.KindReplace
	kindHang    = bus.KindStatus
	kindUnheard = bus.Kind(200)
)

// refused is what requests of kindRefuse are answered with.
var refused = &pim.Error{Op: "join", Kind: pim.KindForbidden, Text: "you may not", RetryAfter: 3 * time.Second}

// listen starts a node.
func listen(b bus.Bus) (*listener, error) {
	l := &listener{Bus: b, came: map[string][]string{}, changed: make(chan struct{})}
	word := func(from string, body []byte) {
		l.mu.Lock()
		hold := l.hold
		l.mu.Unlock()
		if hold != nil {
			<-hold
		}
		l.note(func() { l.came[from] = append(l.came[from], string(body)) })
	}
	err := b.Start(context.Background(), &bus.Handler{
		Receive: map[bus.Kind]func(string, []byte){kindWord: word, kindOther: word},
		Answer: map[bus.Kind]func(context.Context, string, []byte) ([]byte, error){
			kindEcho: func(_ context.Context, from string, body []byte) ([]byte, error) {
				return append([]byte(from+" "), body...), nil
			},
			kindRefuse: func(_ context.Context, _ string, body []byte) ([]byte, error) {
				if len(body) > 0 {
					return nil, fmt.Errorf("a plain error: %s", body)
				}
				return nil, fmt.Errorf("refused: %w", refused)
			},
			kindHang: func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
				<-ctx.Done()
				l.note(func() { l.given++ })
				return nil, ctx.Err()
			},
		},
		Gap:     []func(string){func(from string) { l.note(func() { l.came[from] = append(l.came[from], gap) }) }},
		Changed: []func(*bus.View){func(v *bus.View) { l.note(func() { l.views = append(l.views, v) }) }},
	})
	return l, err
}

func (l *listener) note(what func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what()
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait waits until is returns true, which is called with l.mu held.
func (l *listener) wait(within time.Duration, what string, is func() bool) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		l.mu.Lock()
		ok, changed := is(), l.changed
		l.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			l.mu.Lock()
			defer l.mu.Unlock()
			return fmt.Errorf("node %s: %s: not within %s; it has: %s, and sees %s", l.Self(), what, within, l.summary(), names(l.View()))
		}
	}
}

func (l *listener) summary() string {
	text := ""
	for from, came := range l.came {
		text += fmt.Sprintf("%s: %d, the last are %.200q; ", from, len(came), came[max(0, len(came)-5):])
	}
	return text
}

// hears waits until what came from a node is exactly this.
func (l *listener) hears(from string, within time.Duration, want ...string) error {
	err := l.wait(within, fmt.Sprintf("%d messages and gaps of %s", len(want), from), func() bool { return len(l.came[from]) >= len(want) })
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := l.came[from]; !slices.Equal(got, want) {
		i := 0
		for i < len(got) && i < len(want) && got[i] == want[i] {
			i++
		}
		err := fmt.Errorf("node %s: what came of %s differs from what should from place %d on: %.100q, not %.100q", l.Self(), from, i, got[i:min(len(got), i+5)], want[i:min(len(want), i+5)])
		if !toldOf(got, want) {
			return breach{err}
		}
		return err
	}
	return nil
}

// toldOf reports whether got has nothing but messages of want, in their order, and a gap if some are missing.
func toldOf(got, want []string) bool {
	next, missing := 0, false
	for _, what := range got {
		if what == gap {
			continue
		}
		i := slices.Index(want[next:], what)
		if i < 0 {
			return false
		}
		missing = missing || slices.ContainsFunc(want[next:next+i], func(w string) bool { return w != gap })
		next += i + 1
	}
	return !missing || slices.Contains(got, gap)
}

// forget has the node forget what came.
func (l *listener) forget() {
	l.note(func() { clear(l.came) })
}

// heard returns what came from a node.
func (l *listener) heard(from string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.came[from])
}

// gaps returns how often a gap of a node was told. l.mu is held.
func (l *listener) gaps(from string) (n int) {
	for _, what := range l.came[from] {
		if what == gap {
			n++
		}
	}
	return n
}

// sees waits until the view, and what was told of it, has these nodes and no other.
func (l *listener) sees(within time.Duration, want ...string) error {
	return l.wait(within, fmt.Sprintf("a view of %v", want), func() bool {
		return slices.Equal(names(l.View()), want) && len(l.views) > 0 && slices.Equal(names(l.views[len(l.views)-1]), want)
	})
}

func names(v *bus.View) []string {
	list := make([]string, len(v.Nodes))
	for i, n := range v.Nodes {
		list[i] = n.Name
	}
	return list
}

// holdUp has Receive wait until the function that it returns is called.
func (l *listener) holdUp() (release func()) {
	hold := make(chan struct{})
	l.mu.Lock()
	l.hold = hold
	l.mu.Unlock()
	return sync.OnceFunc(func() {
		l.mu.Lock()
		l.hold = nil
		l.mu.Unlock()
		close(hold)
	})
}
