package inbox

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	ackInterval = time.Second // how long an acknowledgement waits in memory, at most
	ackPending  = 1 << 16     // conversations of devices that wait, at most, besides the first ackFirst of each user
	ackFirst    = 16          // conversations of a user that may wait however many of others do
	ackCommit   = 256         // devices in one commit, at most
	ackLater    = 256         // writes given to Later that wait, at most
	laterShare  = 4           // of them, those of one user

	// AckShare is how many conversations of one user's devices wait, at most. More
	// are dropped.
	AckShare = 1 << 12
)

// Acks stores devices' acknowledgements. They are cumulative, and nothing is promised
// about them, so they wait in memory for up to a second: those of one device and
// conversation become one cell, and those of all devices share one fsync. One that is
// lost in a crash, or dropped because too many wait, only makes the next sync list one
// conversation more.
type Acks struct {
	// Set at construction.
	store store.Store
	log   *slog.Logger

	// Guarded by mu.
	mu      sync.Mutex
	pending map[deviceKey]*deviceAcks
	users   map[pim.UserID]int        // conversations in pending, by user
	laters  map[pim.UserID]int        // writes given to Later that wait, by user
	writing map[deviceKey]*deviceAcks // taken by the Flush under way; not changed any more
	waiting int                       // conversations in pending
	written int                       // conversations in writing

	// Metrics.
	lost      prometheus.Counter
	overShare prometheus.Counter
	overAll   prometheus.Counter
	dropped   *prometheus.CounterVec // overShare and overAll, by reason

	flushing sync.Mutex    // one Flush at a time: a Flush also waits for what an earlier one took
	early    chan struct{} // capacity 1: much waits, flush now
	later    chan laterWrite
	stop     chan struct{}
	running  sync.WaitGroup
}

// laterWrite is a write that a sync of user left for later.
type laterWrite struct {
	user  pim.UserID
	write func(context.Context)
}

type deviceKey struct {
	user   pim.UserID
	device pim.DeviceID
}

type deviceAcks struct {
	serial uint64
	seqs   map[pim.ConversationID]pim.Seq
}

// NewAcks starts an Acks. The caller must close it, before it closes the store.
func NewAcks(s store.Store, log *slog.Logger) *Acks {
	a := &Acks{
		store: s, log: log, pending: make(map[deviceKey]*deviceAcks), users: make(map[pim.UserID]int), laters: make(map[pim.UserID]int),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_acks_lost_total", Help: "Acknowledgements that could not be stored: their devices are offered the entries again.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_acks_dropped_total", Help: "Acknowledgements not taken since too many waited, of the user or of all: their devices are offered the entries again.",
		}, []string{"reason"}),
		early: make(chan struct{}, 1), later: make(chan laterWrite, ackLater), stop: make(chan struct{}),
	}
	a.overShare, a.overAll = a.dropped.WithLabelValues("user"), a.dropped.WithLabelValues("all")
	a.running.Go(a.run)
	a.running.Go(a.runLater)
	return a
}

// Register registers what is measured of the acknowledgements with r.
func (a *Acks) Register(r prometheus.Registerer) {
	r.MustRegister(a.lost, a.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pim_acks_pending", Help: "Acknowledgements, one for each device and conversation, that are not stored yet.",
	}, func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return float64(a.waiting + a.written)
	}))
}

// Ack is one conversation of a PIMPushAck.
type Ack struct {
	Conversation pim.ConversationID
	Seq          pim.Seq
}

// Note takes one PIMPushAck of a device. It waits for nothing: acknowledgements above
// the user's share, or without room, are dropped. The serial is always taken; one above
// store.MaxVersion, which no honest device reaches, counts as that.
func (a *Acks) Note(user pim.UserID, device pim.DeviceID, serial uint64, acks []Ack) {
	key := deviceKey{user, device}
	a.mu.Lock()
	d := a.pending[key]
	if d == nil {
		d = &deviceAcks{seqs: make(map[pim.ConversationID]pim.Seq, min(len(acks), ackFirst))}
		a.pending[key] = d
	}
	d.serial = max(d.serial, min(serial, store.MaxVersion))
	for _, k := range acks {
		seq, waits := d.seqs[k.Conversation]
		if waits || a.admit(user) {
			d.seqs[k.Conversation] = max(seq, k.Seq)
		}
	}
	much := a.waiting > ackPending/2
	a.mu.Unlock()
	if much {
		select {
		case a.early <- struct{}{}:
		default:
		}
	}
}

// admit reports whether one conversation more of user may wait, and counts it. The
// caller holds a.mu.
func (a *Acks) admit(user pim.UserID) bool {
	switch n := a.users[user]; {
	case n >= AckShare:
		a.overShare.Inc()
		return false
	case a.waiting >= ackPending && n >= ackFirst:
		a.overAll.Inc()
		return false
	}
	a.users[user]++
	a.waiting++
	return true
}

// Settle writes the acknowledgements of one device that wait, so that a Sync that
// follows sees them. It does not wait for those of other devices, nor for an fsync:
// the next Flush, or the one under way, writes the same again, durably, and reports
// errors.
func (a *Acks) Settle(ctx context.Context, user pim.UserID, device pim.DeviceID) {
	key := deviceKey{user, device}
	a.mu.Lock()
	before, now := a.writing[key], a.pending[key]
	if now != nil {
		now = &deviceAcks{now.serial, maps.Clone(now.seqs)}
	}
	a.mu.Unlock()
	for _, d := range []*deviceAcks{before, now} {
		if d != nil {
			_, _ = a.write(ctx, map[deviceKey]*deviceAcks{key: d}, store.Relaxed)
		}
	}
}

// Flush writes all acknowledgements that wait, durably. On an error those that are not
// written are lost, which only makes the next sync list more.
func (a *Acks) Flush(ctx context.Context) {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	a.writing, a.written = a.pending, a.waiting
	a.pending, a.waiting = make(map[deviceKey]*deviceAcks), 0
	a.users = make(map[pim.UserID]int)
	a.mu.Unlock()
	if lost, err := a.write(ctx, a.writing, store.Durable); err != nil {
		a.lost.Add(float64(lost))
		a.log.Warn("acknowledgements not stored; their devices will be offered the entries again", "err", err)
	}
	a.mu.Lock()
	a.writing, a.written = nil, 0
	a.mu.Unlock()
}

// write stores acknowledgements, those of ackCommit devices at a time. The last commit
// is as durable as d says, and makes those before it as durable. On an error write
// returns how many acknowledgements are not stored. It goes on when ctx is cancelled,
// as by the end of a connection: pending may hold acknowledgements of other devices.
func (a *Acks) write(ctx context.Context, pending map[deviceKey]*deviceAcks, d store.Durability) (left int, err error) {
	ctx = context.WithoutCancel(ctx)
	var part ackPart
	for _, dev := range pending {
		left += len(dev.seqs)
	}
	for key, dev := range pending {
		if part.devices == ackCommit {
			if err := part.commit(ctx, a.store, store.Relaxed); err != nil {
				return left, err
			}
			left -= part.next()
		}
		w, err := a.cells(ctx, key, dev)
		if err != nil {
			return left, err
		}
		part.add(serial(key, dev), w, len(dev.seqs))
	}
	if err := part.commit(ctx, a.store, d); err != nil {
		return left, err
	}
	return left - part.next(), nil
}

// ackPart is what write stores at a time, of up to ackCommit devices: their serials
// with one commit, then their acknowledgements with another.
type ackPart struct {
	devices       int
	conversations int
	serials, acks []*store.Write // none of them empty
	before        *store.Write   // a write that was committed already, nil if there is none
}

func (p *ackPart) add(serial, acks *store.Write, conversations int) {
	p.devices++
	p.conversations += conversations
	if serial.Cells[0].Version != 0 {
		p.serials = append(p.serials, serial)
	}
	if len(acks.Cells) > 0 {
		p.acks = append(p.acks, acks)
	}
}

// commit stores the part. A commit of no writes would not wait for the disk. So if d is
// Durable and the part has no acknowledgements, commit repeats an earlier write, which
// makes all that were committed before it durable as well.
func (p *ackPart) commit(ctx context.Context, s store.Store, d store.Durability) error {
	if err := store.Commit(ctx, s, p.serials, store.Relaxed); err != nil {
		return err
	}
	for _, w := range [][]*store.Write{p.serials, p.acks} {
		if len(w) > 0 {
			p.before = w[0]
		}
	}
	last := p.acks
	if len(last) == 0 && d == store.Durable && p.before != nil {
		last = []*store.Write{p.before}
	}
	return store.Commit(ctx, s, last, d)
}

// next begins another part; it returns how many conversations this one had.
func (p *ackPart) next() int {
	n := p.conversations
	*p = ackPart{serials: p.serials[:0], acks: p.acks[:0], before: p.before}
	return n
}

// serial returns the write of a device's serial. The serial is stored before the
// acknowledgements: a serial ahead of them is harmless, but with one behind them a
// device that was restored from a backup could go unnoticed. The serial needs a commit
// of its own, because the store promises no order within one.
func serial(key deviceKey, d *deviceAcks) *store.Write {
	return &store.Write{Cells: []store.CellWrite{
		{Partition: Devices(key.user), Cell: store.Cell{Key: string(key.device), Version: d.serial}},
	}}
}

// cells returns a device's acknowledgements as one write. A seq is cut to what the
// user was sent, and a conversation that the user does not have is left out, so that
// a device can neither hide future entries from itself nor fill the disk with made-up
// names.
func (a *Acks) cells(ctx context.Context, key deviceKey, d *deviceAcks) (*store.Write, error) {
	w := &store.Write{Cells: make([]store.CellWrite, 0, len(d.seqs))}
	for c, seq := range d.seqs {
		line, err := newestLine(ctx, a.store, key.user, c, seq)
		if err != nil {
			return nil, err
		}
		if seq = min(seq, pim.Seq(line.Version)); seq == 0 {
			continue
		}
		w.Cells = append(w.Cells, store.CellWrite{
			Partition: Acked(key.user, key.device),
			Cell:      store.Cell{Key: string(c), Version: uint64(seq)},
		})
	}
	return w, nil
}

// Later takes a write that a sync of user left for later, see SyncRequest.Later. Later waits
// for nothing: a write above the user's share or without room is dropped, and so is one that
// still waits when a is closed. The writes have a goroutine of their own, because a fold may
// take long and must hold up no flush.
func (a *Acks) Later(user pim.UserID, write func(context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.laters[user] >= laterShare {
		return
	}
	select {
	case a.later <- laterWrite{user, write}:
		a.laters[user]++
	default:
	}
}

func (a *Acks) runLater() {
	for {
		select {
		case l := <-a.later:
			l.write(context.Background())
			a.mu.Lock()
			if a.laters[l.user]--; a.laters[l.user] == 0 {
				delete(a.laters, l.user)
			}
			a.mu.Unlock()
		case <-a.stop:
			return
		}
	}
}

func (a *Acks) run() {
	t := time.NewTicker(ackInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			a.Flush(context.Background())
		case <-a.early:
			a.Flush(context.Background())
		case <-a.stop:
			a.Flush(context.Background())
			return
		}
	}
}

// Close writes the acknowledgements that wait, as Flush does, and stops.
func (a *Acks) Close() {
	close(a.stop)
	a.running.Wait()
}
