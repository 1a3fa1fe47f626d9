package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// subBits is the precision of a histogram: each power of two of nanoseconds is
// cut into 2^subBits buckets, so a value is known to within 1/128.
const subBits = 6

const buckets = (40 - subBits + 1) << subBits // up to 2^40 ns, 18 minutes

// histogram counts durations in logarithmic buckets. It is safe for concurrent use. All
// connections share one histogram for each quantity: a histogram for each connection
// would take more memory than the rest of the connection, and would miss the CPU cache
// each time.
type histogram struct {
	counts [buckets]atomic.Uint64
}

// record takes in one duration in nanoseconds.
func (h *histogram) record(ns int64) { h.counts[bucketOf(ns)].Add(1) }

// bucketOf returns ns itself below 2^subBits, and above that the exponent followed by
// the subBits bits after the leading one.
func bucketOf(ns int64) int {
	if ns < 1<<subBits {
		return int(max(ns, 0))
	}
	exp := bits.Len64(uint64(ns)) - 1 - subBits
	return min(exp<<subBits+int(ns>>exp), buckets-1)
}

// middle returns the middle of bucket b in nanoseconds.
func middle(b int) float64 {
	if b < 2<<subBits {
		return float64(b)
	}
	exp := b>>subBits - 1
	low := int64(b-exp<<subBits) << exp
	return float64(low) + float64(int64(1)<<exp)/2
}

// quantiles returns the durations in milliseconds below which the given shares
// of all records lie; zeros if there are none.
func (h *histogram) quantiles(shares ...float64) []float64 {
	return quantilesOf(h.snapshot(), shares...)
}

// snapshot returns what was recorded so far. Two snapshots give what was recorded in
// between, see since.
func (h *histogram) snapshot() *[buckets]uint64 {
	var counts [buckets]uint64
	for i := range h.counts {
		counts[i] = h.counts[i].Load()
	}
	return &counts
}

// quantilesOf is histogram.quantiles for the counts of a snapshot or of since.
func quantilesOf(counts *[buckets]uint64, shares ...float64) []float64 {
	var total uint64
	for _, n := range counts {
		total += n
	}
	out := make([]float64, len(shares))
	for i, share := range shares {
		rank := uint64(share * float64(total))
		var below uint64
		for b, n := range counts {
			below += n
			if below > rank || below == total && total > 0 {
				out[i] = middle(b) / float64(time.Millisecond)
				break
			}
		}
	}
	return out
}
