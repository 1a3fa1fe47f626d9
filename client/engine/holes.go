package engine

import (
	"slices"

	"github.com/pim-im/pim"
)

// A long gap is not read upwards: a person wants the newest page. So the position
// jumps to that page, and the gap becomes a hole. A hole is filled by itself, from its
// top; a very long one is lazy, and is filled only when somebody scrolls there. Hole
// and position are stored with the entries of the page, in one transaction.
//
// The user's own log has no holes: commands are obeyed in their order.

const (
	pageSize = 100    // entries of a pull, and of the longest gap that is read upwards
	lazyGap  = 10_000 // entries of the longest hole that is filled by itself
	maxHoles = 15     // of a conversation; then gaps are read upwards again
)

// sound reports whether h makes sense below known, after a hole that ends at end.
func (h Hole) sound(end, known pim.Seq) bool { return h.From > end && h.From <= h.To && h.To < known }

// soundHoles returns those of a store's holes that make sense.
func soundHoles(holes []Hole, known pim.Seq) []Hole {
	var sound []Hole
	end := pim.Seq(0)
	for _, h := range holes {
		if h.sound(end, known) {
			sound = append(sound, h)
			end = h.To
		}
	}
	return sound
}

// without returns holes less the seqs from..to. The result shares no memory with holes,
// which the store may keep.
func without(holes []Hole, from, to pim.Seq) []Hole {
	var rest []Hole
	for _, h := range holes {
		if to < h.From || from > h.To {
			rest = append(rest, h)
			continue
		}
		if h.From < from {
			rest = append(rest, Hole{h.From, from - 1, h.Lazy})
		}
		if to < h.To {
			rest = append(rest, Hole{to + 1, h.To, h.Lazy})
		}
	}
	return rest
}

// allLazy returns the same holes, all of them lazy.
func allLazy(holes []Hole) []Hole {
	lazy := slices.Clone(holes)
	for i := range lazy {
		lazy[i].Lazy = true
	}
	return lazy
}

// missing reports whether seq lies in a hole.
func (c *conversation) missing(seq pim.Seq) bool {
	return slices.ContainsFunc(c.holes, func(h Hole) bool { return h.From <= seq && seq <= h.To })
}

// eager returns the topmost hole that is filled by itself.
func (c *conversation) eager() (Hole, bool) {
	for _, h := range slices.Backward(c.holes) {
		if !h.Lazy {
			return h, true
		}
	}
	return Hole{}, false
}

// holeBelow returns the topmost hole below the seq before, without the part of it that is
// not below; 0: the topmost of all.
func (c *conversation) holeBelow(before pim.Seq) (Hole, bool) {
	for _, h := range slices.Backward(c.holes) {
		if before == 0 || h.From < before {
			if before != 0 {
				h.To = min(h.To, before-1)
			}
			return h, true
		}
	}
	return Hole{}, false
}

// setHoles changes c's holes.
func (e *Engine) setHoles(c *conversation, holes []Hole) {
	_, had := c.eager()
	c.holes = holes
	_, has := c.eager()
	switch {
	case has && !had:
		e.holed++
	case had && !has:
		e.holed--
	}
	e.touch(c)
	e.ackLater(c)
}

// jumpTo moves c's position over a gap to next-1; the gap becomes a hole.
func (e *Engine) jumpTo(c *conversation, next pim.Seq) {
	h := Hole{From: c.known + 1, To: next - 1}
	h.Lazy = h.To-h.From+1 > pim.Seq(e.cfg.LazyGap) && !e.cfg.Confirms
	c.known = h.To
	e.setHoles(c, append(slices.Clone(c.holes), h))
}

// jumps reports whether a gap of c up to the seq to is jumped.
func (e *Engine) jumps(c *conversation, to pim.Seq) bool {
	_, own := c.id.OwnUser()
	return !e.cfg.Watch && !own && !c.former && to != unknownSeq && to-c.known > pim.Seq(e.cfg.Page) && len(c.holes) < maxHoles
}

// ackable returns the seq up to which the device has what it is to have. A lazy hole
// does not count: the device has passed over it on purpose, and the log keeps it.
func (c *conversation) ackable() pim.Seq {
	for _, h := range c.holes {
		if !h.Lazy {
			return h.From - 1
		}
	}
	return c.known
}

// fillHole takes one frame of a page from a hole, and reports whether it fills
// anything.
func (e *Engine) fillHole(c *conversation, entries []pim.Entry, from, to pim.Seq) bool {
	for i := range entries {
		if entry := &entries[i]; c.missing(entry.Seq) {
			if entry.Sender == e.meta.User {
				e.found(entry)
				e.cameBack(c, entry)
			}
			e.reads(c, entry)
			e.hand(*entry, true)
		}
	}
	rest := without(c.holes, from, to)
	if from > to || slices.Equal(rest, c.holes) {
		return false
	}
	e.setHoles(c, rest)
	return true
}

// fill is a Fill that waits for its page.
type fill struct {
	Fill
	c *conversation
}

// fill takes Fill: the app wants older entries.
func (e *Engine) fill(in Fill) error {
	c := e.conversations[in.Conversation]
	switch {
	case e.link.phase == stopped:
		return e.link.stopErr
	case e.cfg.Watch:
		return pim.Errorf(pim.KindInvalid, "with Options.Watch there are no holes to fill")
	case len(e.fills) >= maxWaiting:
		return pim.Errorf(pim.KindOverloaded, "%d requests for older entries wait for an answer", len(e.fills))
	}
	if c == nil {
		e.out.Filled = append(e.out.Filled, Filled{ID: in.ID})
		return nil
	}
	f := &fill{in, c}
	e.fills = append(e.fills, f)
	if e.filled(c) {
		return nil
	}
	if c.pulling && e.pulls.drop(c) {
		e.pulls.push(c, rankOpened)
	}
	e.wantPull(c)
	return nil
}

// filled answers the Fills of c, in their order, until one has something to fill. It
// reports whether none is left.
func (e *Engine) filled(c *conversation) bool {
	for {
		f := e.nextFill(c)
		if f == nil {
			return true
		}
		if _, ok := c.holeBelow(f.Before); ok {
			return false
		}
		e.concludeFill(f, nil)
	}
}

func (e *Engine) nextFill(c *conversation) *fill {
	for _, f := range e.fills {
		if f.c == c {
			return f
		}
	}
	return nil
}

func (e *Engine) concludeFill(f *fill, err *pim.Error) {
	e.fills = slices.DeleteFunc(e.fills, func(other *fill) bool { return other == f })
	_, more := f.c.holeBelow(f.Before)
	e.out.Filled = append(e.out.Filled, Filled{ID: f.ID, More: more, Err: err})
}

func (e *Engine) failFills(err *pim.Error) {
	for len(e.fills) > 0 {
		e.concludeFill(e.fills[0], err)
	}
}

// openConversation takes Open: which conversation a person looks at.
func (e *Engine) openConversation(id pim.ConversationID) {
	e.opened = id
	if c := e.conversations[id]; c != nil && c.pulling && e.pulls.drop(c) {
		e.pulls.push(c, e.rank(c))
	}
}
