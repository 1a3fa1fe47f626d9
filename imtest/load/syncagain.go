package load

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pim-im/pim"
)

// Again is what syncs cost if a device has everything: one sync after another on the open
// connection of each device, as heartbeats and returns to the foreground cause them, and one
// connection after another.
type Again struct {
	Syncs      int     `json:"syncs"`             // of all devices
	SyncCPU    float64 `json:"sync_again_cpu_ms"` // CPU milliseconds of the server for each
	SyncP50    float64 `json:"sync_again_p50_ms"` // PIMSyncReq to PIMSyncResp
	SyncP99    float64 `json:"sync_again_p99_ms"`
	SlowestP50 float64 `json:"sync_again_slowest_p50_ms"` // of the slowest tenth of the run
	DearestCPU float64 `json:"sync_again_dearest_cpu_ms"` // of the dearest tenth, for each

	Reconnects   int     `json:"reconnects"`       // connections, each with a sync
	ReconnectCPU float64 `json:"reconnect_cpu_ms"` // CPU milliseconds of the server for each
}

// repeat has the other devices get everything, waits for the warm-up, in which the store settles, and then syncs again and again
// with nothing new, all devices at the same time: Syncs times, but for at most Duration. Then it syncs a tenth as often,
// each time over a new connection, again for at most Duration.
func (d *syncer) repeat(ctx context.Context, m *meter, rep *Report) error {
	devices, err := d.company(ctx)
	if err != nil {
		return err
	}
	if err := wait(ctx, d.cfg.Warmup); err != nil {
		return err
	}
	again := &Again{}
	if err := d.repeatSyncs(ctx, m, devices, again); err != nil {
		return err
	}
	before, err := m.read(ctx)
	if err != nil {
		return err
	}
	for begun := time.Now(); again.Reconnects == 0 || again.Reconnects < d.cfg.Syncs/10 && time.Since(begun) < d.cfg.Duration; again.Reconnects++ {
		if err := d.again(ctx, rep); err != nil {
			return err
		}
	}
	after, err := m.read(ctx)
	if err != nil {
		return err
	}
	again.ReconnectCPU = cpuEach(before, after, again.Reconnects)
	rep.Again = again
	return nil
}

// syncParts is the number of parts in which the syncs are timed.
const syncParts = 10

// repeatSyncs measures Syncs syncs of all devices together, each over an open connection of its own.
func (d *syncer) repeatSyncs(ctx context.Context, m *meter, devices []*syncer, again *Again) error {
	links := make([]*link, len(devices))
	for n, device := range devices {
		l, err := device.connect(ctx)
		if err != nil {
			return err
		}
		defer l.nc.Close()
		defer context.AfterFunc(ctx, func() { l.nc.Close() })()
		links[n] = l
	}
	first, err := m.read(ctx)
	if err != nil {
		return err
	}
	var took []float64
	before := first
	for part := range syncParts {
		quota := d.cfg.Syncs*(part+1)/syncParts - len(took)
		times := make([][]float64, len(devices))
		start := time.Now()
		err := each(ctx, len(devices), len(devices), func(ctx context.Context, n int) (err error) {
			share := quota*(n+1)/len(devices) - quota*n/len(devices)
			times[n], err = devices[n].syncFor(links[n], share, start.Add(d.cfg.Duration/syncParts))
			return err
		})
		if err != nil {
			return err
		}
		after, err := m.read(ctx)
		if err != nil {
			return err
		}
		now := slices.Concat(times...)
		again.SlowestP50 = max(again.SlowestP50, share(now, 0.5))
		again.DearestCPU = max(again.DearestCPU, cpuEach(before, after, len(now)))
		took = append(took, now...)
		before = after
	}
	again.Syncs = len(took)
	again.SyncCPU = cpuEach(first, before, again.Syncs)
	again.SyncP50, again.SyncP99 = share(took, 0.5), share(took, 0.99)
	return nil
}

// company returns d and the user's other devices, once they have everything. It pauses so that the server never has to
// hold more than acksAtOnce acknowledgements of the user.
func (d *syncer) company(ctx context.Context) ([]*syncer, error) {
	devices := []*syncer{d}
	acked := len(d.streams)
	for n := range d.cfg.Devices - 1 {
		if acked > acksAtOnce/2 {
			if err := wait(ctx, ackPause); err != nil {
				return nil, err
			}
			acked = 0
		}
		other := newSyncer(d.cfg, pim.DeviceID(fmt.Sprintf("%s-%d", device, n+1)))
		if err := other.first(ctx, new(Report)); err != nil {
			return nil, err
		}
		acked += len(other.streams)
		devices = append(devices, other)
	}
	return devices, nil
}

// syncFor syncs n times with nothing new, but not after end, and at least once. It returns how many milliseconds each took.
func (d *syncer) syncFor(l *link, n int, end time.Time) (took []float64, err error) {
	for len(took) == 0 || len(took) < n && time.Now().Before(end) {
		begun := time.Now()
		list, err := d.sync(l, false, func() {})
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			return nil, pim.Errorf(pim.KindInternal, "%d conversations are listed as new after everything was acknowledged", len(list))
		}
		took = append(took, milliseconds(time.Since(begun)))
	}
	return took, nil
}

// cpuEach returns the server's CPU milliseconds between two readings for each of n.
func cpuEach(before, after usage, n int) float64 { return (after.cpu - before.cpu) / float64(n) * 1000 }

// share returns the value below which the given share of values lies.
func share(values []float64, s float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(s*float64(len(sorted))))]
}
