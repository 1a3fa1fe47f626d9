package engine

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
)

// holes are what is missing below a position, ascending and without overlaps. A holes is
// never changed, since the store may keep it: the methods return new ones.
type holes []Hole

// soundHoles returns those of a store's holes that make sense below known.
func soundHoles(rows []Hole, known pim.Seq) holes {
	var sound holes
	end := pim.Seq(0)
	for _, h := range rows {
		if h.From > end && h.From <= h.To && h.To < known {
			sound = append(sound, h)
			end = h.To
		}
	}
	return sound
}

// with returns hs and the hole h above them.
func (hs holes) with(h Hole) holes { return append(slices.Clone(hs), h) }

// without returns hs less the seqs from..to.
func (hs holes) without(from, to pim.Seq) holes {
	var rest holes
	for _, h := range hs {
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

// open returns hs changed so that the seq at is filled by itself: if at lies in a lazy hole, it
// gets a hole of its own. It must lie in one of hs.
func (hs holes) open(at pim.Seq) holes {
	i := slices.IndexFunc(hs, func(h Hole) bool { return h.From <= at && at <= h.To })
	if !hs[i].Lazy {
		return hs
	}
	opened := hs.without(at, at)
	i, _ = slices.BinarySearchFunc(opened, at, func(h Hole, at pim.Seq) int { return cmp.Compare(h.From, at) })
	return slices.Insert(opened, i, Hole{From: at, To: at})
}

// lazy returns the same holes, all of them lazy.
func (hs holes) lazy() holes {
	lazy := slices.Clone(hs)
	for i := range lazy {
		lazy[i].Lazy = true
	}
	return lazy
}

// miss reports whether one of the seqs from..to lies in a hole.
func (hs holes) miss(from, to pim.Seq) bool {
	return slices.ContainsFunc(hs, func(h Hole) bool { return h.From <= to && from <= h.To })
}

// eager returns the topmost hole that is filled by itself.
func (hs holes) eager() (Hole, bool) {
	for _, h := range slices.Backward(hs) {
		if !h.Lazy {
			return h, true
		}
	}
	return Hole{}, false
}

// below returns the topmost hole below the seq before, without the part of it that is not below.
// If before is 0, it returns the topmost hole of all.
func (hs holes) below(before pim.Seq) (Hole, bool) {
	for _, h := range slices.Backward(hs) {
		if before == 0 || h.From < before {
			if before != 0 {
				h.To = min(h.To, before-1)
			}
			return h, true
		}
	}
	return Hole{}, false
}

// skipped returns the last seq of the topmost lazy hole that lies below the seq before; 0 if there
// is none.
func (hs holes) skipped(before pim.Seq) pim.Seq {
	for _, h := range slices.Backward(hs) {
		if h.Lazy && h.To < before {
			return h.To
		}
	}
	return 0
}

// ackable returns the seq up to which a device at the position known has what it is to
// have. A lazy hole does not count: the device has passed over it on purpose, and the
// log keeps it.
func (hs holes) ackable(known pim.Seq) pim.Seq {
	for _, h := range hs {
		if !h.Lazy {
			return h.From - 1
		}
	}
	return known
}
