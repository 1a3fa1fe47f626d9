package engine

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	loginSamples = 5 // PIMTimeReq after Welcome, one after the other
	keptSamples  = 8
)

// clock estimates the server's clock. Of the samples of this connection the one
// with the least round trip counts: θ = ((t2−t1)+(t3−t4))/2. It is anchored to
// the monotonic clock, so a jump of the wall clock does not move it.
type clock struct {
	offset  time.Duration // the server's time since 1970 minus Time.Mono
	known   bool          // offset is set; until then the wall clock serves
	samples []sample
	sentT1  int64 // t1 of the request under way, 0 if none
	sentAt  time.Duration
	wanted  int // samples to take, one after the other
}

type sample struct{ offset, roundTrip time.Duration }

// add takes a sample: transmitted at t1 and received at t4 on the monotonic
// clock, received and answered at t2 and t3 on the server's.
func (c *clock) add(t1, t4 time.Duration, t2, t3 int64) {
	a, b := time.Duration(t2)*time.Millisecond, time.Duration(t3)*time.Millisecond
	s := sample{offset: (a - t1 + b - t4) / 2, roundTrip: t4 - t1 - (b - a)}
	if s.roundTrip < 0 { // the server's clock jumped, or is lying
		return
	}
	if len(c.samples) == keptSamples {
		c.samples = append(c.samples[:0], c.samples[1:]...)
	}
	c.samples = append(c.samples, s)
	best := c.samples[0]
	for _, s := range c.samples[1:] {
		if s.roundTrip < best.roundTrip {
			best = s
		}
	}
	c.offset, c.known = best.offset, true
}

// at returns the server's time at now, as well as it is known.
func (c *clock) at(now Time) pim.Millis {
	if !c.known {
		return now.Wall
	}
	return pim.Millis((now.Mono + c.offset) / time.Millisecond)
}

// local returns the local time of a message that is first transmitted now. It
// grows strictly on a device, over restarts too.
func (e *Engine) local() pim.Millis {
	e.meta.LastLocal = max(e.clock.at(e.now), e.meta.LastLocal+1)
	e.metaDirty = true
	return e.meta.LastLocal
}

// calibrate starts over on a new connection. Samples of the one before may lie
// before a sleep, in which the monotonic clock stood still. Welcome itself is
// the first sample.
func (e *Engine) calibrate(welcome *wirepb.Welcome) {
	e.clock.samples, e.clock.sentT1 = e.clock.samples[:0], 0
	e.clock.add(e.link.greetedAt, e.now.Mono, welcome.ServerMs, welcome.ServerMs)
	e.clock.wanted = loginSamples
	e.takeSample()
}

func (e *Engine) takeSample() {
	if e.clock.wanted == 0 {
		return
	}
	e.clock.wanted--
	e.clock.sentT1, e.clock.sentAt = max(int64(e.clock.at(e.now)), 1), e.now.Mono
	e.write(&wirepb.PIMTimeReq{T1: e.clock.sentT1})
}

func (e *Engine) sampled(m *wirepb.PIMTimeResp) {
	if e.clock.sentT1 == 0 || m.T1 != e.clock.sentT1 {
		return
	}
	e.clock.sentT1 = 0
	e.clock.add(e.clock.sentAt, e.now.Mono, m.T2, m.T3)
	e.takeSample()
}
