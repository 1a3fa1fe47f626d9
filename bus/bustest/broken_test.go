package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link"
)

// broken are variants of a bus with one fault each, and the case that finds it.
var broken = []struct {
	name   string
	by     string
	wrap   func(link.Network) link.Network
	change func(bus.Bus) bus.Bus
}{
	{"no gap is told", "loss", nil, handler(func(h *bus.Handler) { h.Gap = nil })},
	{"a gap without reason", "order", nil, handler(func(h *bus.Handler) {
		word := h.Receive[kindWord]
		h.Receive[kindWord] = func(from string, body []byte) {
			if string(body) == "1500" {
				h.Gap[0](from)
			}
			word(from, body)
		}
	})},
	{"two kinds overtake each other", "order", nil, handler(func(h *bus.Handler) {
		var late []byte
		word := h.Receive[kindWord]
		h.Receive[kindOther] = func(_ string, body []byte) { late = body }
		h.Receive[kindWord] = func(from string, body []byte) {
			word(from, body)
			if from == "a" && late != nil {
				word(from, late)
				late = nil
			}
		}
	})},
	{"a loss at the end is not told", "loss at the end of a burst", func(n link.Network) link.Network { return &silentNetwork{Network: n} }, nil},
	{"a body that is sent later", "order", nil, func(b bus.Bus) bus.Bus { return &lateBus{Bus: b} }},
	{"the dead stay in the view", "dying", nil, func(b bus.Bus) bus.Bus { return &firmBus{Bus: b} }},
	{"no word at leaving", "leaving", nil, func(b bus.Bus) bus.Bus { return &rudeBus{Bus: b} }},
	{"a message that waits", "network that is full", nil, func(b bus.Bus) bus.Bus { return &waitingBus{Bus: b} }},
	{"a message of a flood is lost", "network that is full", nil, handler(func(h *bus.Handler) {
		word := h.Receive[kindWord]
		h.Receive[kindWord] = func(from string, body []byte) {
			if !strings.HasPrefix(string(body), "3x") {
				word(from, body)
			}
		}
	})},
	{"a flood is lost, with a gap", "network that is full", nil, handler(func(h *bus.Handler) {
		word, told := h.Receive[kindWord], false
		h.Receive[kindWord] = func(from string, body []byte) {
			switch {
			case len(body) < 1<<20 || body[0] == '0':
				word(from, body)
			case !told:
				told = true
				h.Gap[0](from)
			}
		}
	})},
	{"errors without kinds", "requests that fail", nil, func(b bus.Bus) bus.Bus { return &plainBus{Bus: b} }},
	{"messages of kinds that nobody handles are a gap", "kinds that nobody handles", nil, handler(func(h *bus.Handler) {
		h.Receive[kindUnheard] = func(from string, _ []byte) { h.Gap[0](from) }
	})},
}

func TestBroken(t *testing.T) {
	for _, b := range broken {
		t.Run(b.name, func(t *testing.T) {
			i := slices.IndexFunc(cases, func(c testCase) bool { return c.name == b.by })
			synctest.Test(t, func(t *testing.T) {
				err := cases[i].run(cluster(b.wrap, b.change).inVirtualTime())
				if err == nil {
					t.Errorf("the case %q does not find it", b.by)
				}
				t.Log(err)
			})
		})
	}
}

// handler returns a change of a bus that changes the Handler which it is started with.
func handler(change func(*bus.Handler)) func(bus.Bus) bus.Bus {
	return func(b bus.Bus) bus.Bus { return &handlerBus{b, change} }
}

type handlerBus struct {
	bus.Bus
	change func(*bus.Handler)
}

func (b *handlerBus) Start(ctx context.Context, h *bus.Handler) error {
	b.change(h)
	return b.Bus.Start(ctx, h)
}

// silentNetwork loses what comes to one node alone and is no message, after the first seconds.
type silentNetwork struct {
	link.Network
	opened time.Time
}

func (n *silentNetwork) Open(ctx context.Context, self string, receive func([]byte)) error {
	n.opened = time.Now()
	return n.Network.Open(ctx, self, receive)
}

func (n *silentNetwork) Send(to string, frame []byte) error {
	if !link.IsMessage(frame) && time.Since(n.opened) > time.Millisecond {
		return nil
	}
	return n.Network.Send(to, frame)
}

// lateBus sends bodies a moment after Send has returned.
type lateBus struct {
	bus.Bus
	mu   sync.Mutex
	late []func()
}

func (b *lateBus) Send(to string, k bus.Kind, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, send := range b.late {
		send()
	}
	b.late = []func(){func() { b.Bus.Send(to, k, body) }}
	return nil
}

// firmBus has each node in its view that has ever been there.
type firmBus struct {
	bus.Bus
	view *bus.View // never changed: who was told of it may still read it
}

func (b *firmBus) Start(ctx context.Context, h *bus.Handler) error {
	changed := h.Changed[0]
	h.Changed[0] = func(v *bus.View) {
		if b.view == nil || len(v.Nodes) > len(b.view.Nodes) {
			b.view = v
		}
		changed(b.view)
	}
	return b.Bus.Start(ctx, h)
}

// rudeBus leaves without a word.
type rudeBus struct{ bus.Bus }

func (b *rudeBus) Close() { b.Bus.(*link.Node).Vanish() }

// waitingBus has Send wait.
type waitingBus struct{ bus.Bus }

func (b *waitingBus) Send(to string, k bus.Kind, body []byte) error {
	time.Sleep(time.Second)
	return b.Bus.Send(to, k, body)
}

// plainBus loses what errors of requests are.
type plainBus struct{ bus.Bus }

func (b *plainBus) Request(ctx context.Context, to string, k bus.Kind, body []byte) ([]byte, error) {
	answer, err := b.Bus.Request(ctx, to, k, body)
	if err != nil {
		err = errors.New(fmt.Sprint(err))
	}
	return answer, err
}
