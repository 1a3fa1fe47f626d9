package route

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/conv"
)

// nowhere is a bus that loses everything.
type nowhere struct{}

func (nowhere) Start(context.Context, *bus.Handler) error { return nil }
func (nowhere) Self() string                              { return "a" }
func (nowhere) View() *bus.View                           { return new(bus.View) }
func (nowhere) Update(func(*bus.Node))                    {}
func (nowhere) Send(string, bus.Kind, []byte) error       { return nil }
func (nowhere) Close()                                    {}

func (nowhere) Request(context.Context, string, bus.Kind, []byte) ([]byte, error) {
	return nil, pim.Errorf(pim.KindUnavailable, "nobody is there")
}

// discard takes anything and does nothing.
type discard struct{}

func (discard) Submit([]*conv.Request)                  {}
func (discard) Publish([]conv.Published)                {}
func (discard) Deliver([]conv.Answer, []conv.Published) {}
