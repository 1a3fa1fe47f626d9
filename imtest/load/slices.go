package load

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/pim-im/pim"
)

// Slice is one part of the measured time, so that a report shows what a mean hides:
// a run that begins fast and ends slow. All slices of a run are about equally long, but
// the last one of a Fill or Cold may be shorter.
type Slice struct {
	Seconds       float64 `json:"seconds"`         // how long it was
	Delivered     uint64  `json:"delivered"`       // deliveries in it; Fill: messages acknowledged
	DeliveredPerS float64 `json:"delivered_per_s"` // the same for each second
	DeliveryP50   float64 `json:"delivery_p50_ms"` // of those deliveries; 0 if there were none
	DeliveryP99   float64 `json:"delivery_p99_ms"`
	ServerCPU     float64 `json:"server_cpu_s_per_1000"` // CPU seconds for 1,000 deliveries; 0 if there were none
	ClientCPU     float64 `json:"client_cpu_s_per_1000"` // the generator's own
	ServerRSS     int64   `json:"server_rss_bytes"`      // at its end
}

// maxSlices bounds what a report holds.
const maxSlices = 10_000

// completeSlice sets the default of Slice and checks it.
func (cfg *Config) completeSlice() error {
	if cfg.Slice < 0 {
		return pim.Errorf(pim.KindInvalid, "slices of %v: their length must be more than 0", cfg.Slice)
	}
	or(&cfg.Slice, max(cfg.Duration/10, time.Second))
	if n := cfg.Duration / cfg.Slice; n > maxSlices {
		return pim.Errorf(pim.KindInvalid, "%d slices of %v: a report holds %d at most; make them longer", n, cfg.Slice, maxSlices)
	}
	return nil
}

// slices returns how many equal slices the measured time has, so that their length comes
// closest to Slice.
func (cfg *Config) slices() int {
	return max(1, int((cfg.Duration+cfg.Slice/2)/cfg.Slice))
}

// sample is what a run has used and delivered up to a moment.
type sample struct {
	at       time.Time
	usage    usage
	own      float64 // CPU seconds of this process
	work     uint64  // see chat.work
	ack      *[buckets]uint64
	delivery *[buckets]uint64
}

// work returns what throughput and cost are counted in: deliveries or, where nobody
// receives, messages acknowledged.
func (r *chat) work(t *totals) uint64 {
	if r.copies == 0 {
		return t.answered
	}
	return t.got
}

// since returns what a histogram recorded between two snapshots.
func since(from, to *[buckets]uint64) *[buckets]uint64 {
	counts := *to
	for i := range counts {
		counts[i] -= from[i]
	}
	return &counts
}

// sample takes a sample now.
func (r *chat) sample(ctx context.Context, m *meter) (sample, error) {
	used, err := m.read(ctx)
	if err != nil {
		return sample{}, err
	}
	return r.sampleBeside(used), nil
}

// sampleBeside takes a sample that holds used, which was just read.
func (r *chat) sampleBeside(used usage) sample {
	t := r.totals()
	return sample{
		at: time.Now(), usage: used, own: ownCPU(), work: r.work(&t),
		ack: r.ack.snapshot(), delivery: r.delivery.snapshot(),
	}
}

// until returns the slice between s and the later sample to.
func (s *sample) until(to *sample) Slice {
	seconds := to.at.Sub(s.at).Seconds()
	n := to.work - s.work
	x := Slice{Seconds: seconds, Delivered: n, DeliveredPerS: float64(n) / seconds, ServerRSS: to.usage.rss}
	if n > 0 {
		x.ServerCPU = (to.usage.cpu - s.usage.cpu) / float64(n) * 1000
		x.ClientCPU = (to.own - s.own) / float64(n) * 1000
	}
	q := quantilesOf(since(s.delivery, to.delivery), 0.5, 0.99)
	x.DeliveryP50, x.DeliveryP99 = q[0], q[1]
	return x
}

// slice lets the measured time pass and returns its slices. The time began with the
// sample from.
func (r *chat) slice(ctx context.Context, m *meter, from sample) ([]Slice, error) {
	n := r.cfg.slices()
	begun := from.at
	var all []Slice
	for i := range n {
		if err := wait(ctx, time.Until(begun.Add(r.cfg.Duration*time.Duration(i+1)/time.Duration(n)))); err != nil {
			return all, err
		}
		if i == n-1 {
			if err := r.cfg.untilEnough(ctx, func() uint64 { t := r.totals(); return t.sentMeasured }); err != nil {
				return all, err
			}
		}
		to, err := r.sample(ctx, m)
		if err != nil {
			return all, err
		}
		x := from.until(&to)
		all = append(all, x)
		from = to
		r.cfg.Log.Info("slice", "n", i+1, "of", n, "per_s", int(x.DeliveredPerS), "cpu_s_per_1000", x.ServerCPU, "p99_ms", x.DeliveryP99)
	}
	return all, nil
}

// sliced adds the slices to the report, and the worst figures of them.
func (rep *Report) sliced(all []Slice) {
	if len(all) == 0 {
		return
	}
	rep.Slices = all
	rep.SlowestPerS = slices.MinFunc(all, func(a, b Slice) int { return cmp.Compare(a.DeliveredPerS, b.DeliveredPerS) }).DeliveredPerS
	rep.DearestCPU = slices.MaxFunc(all, func(a, b Slice) int { return cmp.Compare(a.ServerCPU, b.ServerCPU) }).ServerCPU
}
