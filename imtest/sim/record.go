package sim

import "github.com/pim-im/pim/client/engine"

// recorder writes the transcript of one process of a device; a nil one does not.
type recorder struct{}

func (r *recorder) begin(*Device)                                         {}
func (r *recorder) end()                                                  {}
func (r *recorder) random(f func() float64) func() float64                { return f }
func (r *recorder) step(engine.Time, engine.Input, *engine.Output, error) {}
