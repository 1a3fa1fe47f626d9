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
	ackInterval = time.Second // how long an acknowledgement waits in memory
	ackPending  = 1 << 16     // conversations of devices waiting, at most, but for the first of each user
	ackFirst    = 16          // conversations of a user that are taken however many of others wait
	ackCommit   = 256         // devices in one commit
	ackLater    = 256         // writes of syncs that wait

	// AckShare is how many conversations of one user's devices wait, at most. What
	// is above it is dropped.
	AckShare = 1 << 12
)

// Acks takes devices' acknowledgements. They are cumulative and promise nothing,
// so they wait in memory for up to a second, many of one device becoming one
// cell, and those of all devices share one fsync. One that is lost in a crash, or
// dropped since too many wait, only makes the next sync list a conversation more.
type Acks struct {
	store store.Store
	log   *slog.Logger

	mu      sync.Mutex
	pending map[deviceKey]*deviceAcks
	users   map[pim.UserID]int        // conversations in pending, by user
	writing map[deviceKey]*deviceAcks // by the Flush under way; not changed any more
	waiting int                       // conversations in pending
	written int                       // conversations in writing

	lost      prometheus.Counter
	overShare prometheus.Counter
	overAll   prometheus.Counter
	dropped   *prometheus.CounterVec // the two

	flushing sync.Mutex    // one Flush at a time, so that it can wait for what another took
	early    chan struct{} // capacity 1: much waits, flush now
	later    chan func(context.Context)
	stop     chan struct{}
	done     chan struct{}
}

type deviceKey struct {
	user   pim.UserID
	device pim.DeviceID
}

type deviceAcks struct {
	serial uint64
	seqs   map[pim.ConversationID]pim.Seq
}

// NewAcks starts an Acks, which the caller must Close before the store.
func NewAcks(s store.Store, log *slog.Logger) *Acks {
	a := &Acks{
		store: s, log: log, pending: make(map[deviceKey]*deviceAcks), users: make(map[pim.UserID]int),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_acks_lost_total", Help: "Acknowledgements that could not be stored: their devices are offered the entries again.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pim_acks_dropped_total", Help: "Acknowledgements not taken since too many waited, of the user or of all: their devices are offered the entries again.",
		}, []string{"reason"}),
		early: make(chan struct{}, 1), later: make(chan func(context.Context), ackLater), stop: make(chan struct{}), done: make(chan struct{}),
	}
	a.overShare, a.overAll = a.dropped.WithLabelValues("user"), a.dropped.WithLabelValues("all")
	go a.run()
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

// Note takes one PIMPushAck of a device. It waits for nothing: what is above the
// user's share, or has no room, is dropped. The serial is always taken.
func (a *Acks) Note(user pim.UserID, device pim.DeviceID, serial uint64, acks []Ack) {
	key := deviceKey{user, device}
	a.mu.Lock()
	d := a.pending[key]
	if d == nil {
		d = &deviceAcks{seqs: make(map[pim.ConversationID]pim.Seq, min(len(acks), ackFirst))}
		a.pending[key] = d
	}
	d.serial = max(d.serial, serial)
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

// admit reports whether one conversation more of user may wait, and counts it. a.mu
// is held.
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

// Settle writes what waits for one device, so that a Sync that follows sees it. It
// waits for nobody else's, and for no fsync: the next Flush, or the one under way,
// writes the same again, durably, and says if it cannot.
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

// Flush writes everything that waits, durably. An error loses it, which only makes
// the next sync list more.
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

// write stores acknowledgements, ackCommit devices at a time; the last commit is
// as durable as d says, and with it those before. On an error it returns how many
// are not stored. It goes on when the caller's connection ends: the acknowledgements are
// others' too.
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

// ackPart is what one commit of acknowledgements stores.
type ackPart struct {
	devices       int
	conversations int
	serials, acks []*store.Write // none of them empty
	before        *store.Write   // one that was committed already, nil if none was
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

// commit stores the part. A commit of nothing waits for no disk: where d asks for
// durability and the part has no acknowledgement, it writes once more what was
// written before it, so that this, too, is durable.
func (p *ackPart) commit(ctx context.Context, s store.Store, d store.Durability) error {
	if err := s.Commit(ctx, p.serials, store.Relaxed); err != nil {
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
	return s.Commit(ctx, last, d)
}

// next begins another part; it returns how many conversations this one had.
func (p *ackPart) next() int {
	n := p.conversations
	*p = ackPart{serials: p.serials[:0], acks: p.acks[:0], before: p.before}
	return n
}

// serial returns the write of a device's serial, which is stored before the
// acknowledgements: a serial that is ahead of them is harmless, the other way round
// a device restored from a backup could go unnoticed. Nothing is promised of the
// order within one commit.
func serial(key deviceKey, d *deviceAcks) *store.Write {
	return &store.Write{Cells: []store.CellWrite{
		{Partition: Devices(key.user), Cell: store.Cell{Key: string(key.device), Version: d.serial}},
	}}
}

// cells returns a device's acknowledgements as one write. A seq is cut to what the
// user was sent, and a conversation that the user does not have is left out, so that
// a device can neither hide entries to come from itself nor fill the disk with
// made-up names.
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

// Later takes what is to be written after a sync, see SyncRequest.Later. It waits for
// nothing; what has no room is dropped, and so is what waits when a is closed.
func (a *Acks) Later(write func(context.Context)) {
	select {
	case a.later <- write:
	default:
	}
}

func (a *Acks) run() {
	defer close(a.done)
	t := time.NewTicker(ackInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			a.Flush(context.Background())
		case <-a.early:
			a.Flush(context.Background())
		case write := <-a.later:
			write(context.Background())
		case <-a.stop:
			a.Flush(context.Background())
			return
		}
	}
}

// Close writes what waits and stops.
func (a *Acks) Close() {
	close(a.stop)
	<-a.done
}
