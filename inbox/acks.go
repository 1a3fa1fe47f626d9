package inbox

import (
	"context"
	"log/slog"
	"maps"
	"slices"
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
	ackLines    = 512         // lines looked up in one call
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
	seen    map[pim.UserID]pim.Millis // when users were connected, see Seen
	saving  map[pim.UserID]pim.Millis // taken from seen by the Flush under way; not changed any more
	laters  map[pim.UserID]int        // writes given to Later that wait, by user
	writing map[deviceKey]*deviceAcks // taken by the Flush under way; not changed any more
	waiting int                       // conversations in pending
	written int                       // conversations in writing

	// Metrics.
	lost      prometheus.Counter
	overShare prometheus.Counter
	overAll   prometheus.Counter
	dropped   *prometheus.CounterVec // overShare and overAll, by reason

	stored func(pim.ConversationID) // see NewAcks

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
	fronts map[pim.ConversationID]pim.Seq // see NoteFronts; nil: none
}

// NewAcks starts an Acks. It calls stored, which must not block, after each acknowledgement that is
// stored; nil: nobody is told. The caller must close the Acks, before it closes the store.
func NewAcks(s store.Store, log *slog.Logger, stored func(pim.ConversationID)) *Acks {
	a := &Acks{
		store: s, log: log, stored: stored, pending: make(map[deviceKey]*deviceAcks), users: make(map[pim.UserID]int), laters: make(map[pim.UserID]int),
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
	a.mu.Lock()
	d := a.waits(deviceKey{user, device})
	if d.seqs == nil {
		d.seqs = make(map[pim.ConversationID]pim.Seq, min(len(acks), ackFirst))
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
		a.flushEarly()
	}
}

// waits returns what waits of a device, for more to be added. The caller holds a.mu.
func (a *Acks) waits(key deviceKey) *deviceAcks {
	d := a.pending[key]
	if d == nil {
		d = new(deviceAcks)
		a.pending[key] = d
	}
	return d
}

// flushEarly has the next Flush begin now.
func (a *Acks) flushEarly() {
	select {
	case a.early <- struct{}{}:
	default:
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
		now = &deviceAcks{now.serial, maps.Clone(now.seqs), maps.Clone(now.fronts)}
	}
	a.mu.Unlock()
	for _, d := range []*deviceAcks{before, now} {
		if d != nil {
			_, _ = a.write(ctx, map[deviceKey]*deviceAcks{key: d}, store.Relaxed)
		}
	}
}

// Flush writes all acknowledgements that wait, durably. Those that cannot be written are
// lost, which only makes the next sync list more.
func (a *Acks) Flush(ctx context.Context) {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	a.writing, a.written = a.pending, a.waiting
	a.pending, a.waiting = make(map[deviceKey]*deviceAcks), 0
	a.users = make(map[pim.UserID]int)
	a.saving, a.seen = a.seen, nil
	a.mu.Unlock()
	if lost, err := a.write(ctx, a.writing, store.Durable); err != nil {
		a.lost.Add(float64(lost))
		a.log.Warn("acknowledgements not stored; their devices will be offered the entries again", "lost", lost, "err", err)
	}
	if err := a.flushSeen(ctx, a.saving); err != nil { // after the acknowledgements, for which devices wait
		a.log.Warn("when users were connected last is not stored", "users", len(a.saving), "err", err)
	}
	a.mu.Lock()
	a.writing, a.written = nil, 0
	a.saving = nil
	a.mu.Unlock()
}

// write stores acknowledgements, those of ackCommit devices at a time. The last commit
// is as durable as d says, and makes those before it as durable. write returns how many
// acknowledgements are not stored, and the error of a commit, which ends write, or else the
// first error of a line that cannot be read; its acknowledgement is left out. It goes on when
// ctx is cancelled, as by the end of a connection: pending may hold acknowledgements of other
// devices.
func (a *Acks) write(ctx context.Context, pending map[deviceKey]*deviceAcks, d store.Durability) (lost int, err error) {
	ctx = context.WithoutCancel(ctx)
	var part ackPart
	for _, dev := range pending {
		lost += len(dev.seqs)
	}
	for key, dev := range pending {
		if part.devices == ackCommit {
			stored, err := part.commit(ctx, a.store, store.Relaxed)
			if lost -= stored; err != nil {
				return lost, err
			}
			if d == store.Durable {
				a.tell(&part)
			}
			part.next()
		}
		part.add(key, dev)
	}
	stored, err := part.commit(ctx, a.store, d)
	if err == nil {
		if d == store.Durable { // else it is a Settle, and a Flush follows
			a.tell(&part)
		}
		err = part.unread
	}
	return lost - stored, err
}

// tell tells of the acknowledgements of part that are stored.
func (a *Acks) tell(part *ackPart) {
	if a.stored == nil {
		return
	}
	for i := range part.acks {
		if part.acks[i].err == nil && part.acks[i].line > 0 {
			a.stored(part.acks[i].conversation)
		}
	}
}

// ackPart is what write stores at a time, of up to ackCommit devices: their serials
// with one commit, then what they say of fronts, and then their acknowledgements.
type ackPart struct {
	devices int
	serials []*store.Write // none of them empty
	acks    []ack          // those of one device stand together
	fronts  []frontAck
	before  *store.Write // a write that was committed already, nil if there is none
	unread  error        // the first error of a line, of this part or one before
}

// ack is an acknowledgement that is to be stored.
type ack struct {
	*deviceKey
	conversation pim.ConversationID
	seq          pim.Seq
	line         pim.Seq // a seq that the user was sent, if err is nil: the newest one, or at least seq
	err          error   // of the look-up of line
}

func (p *ackPart) add(key deviceKey, d *deviceAcks) {
	p.devices++
	if d.serial != 0 {
		p.serials = append(p.serials, serial(key, d))
	}
	for c, seq := range d.seqs {
		p.acks = append(p.acks, ack{deviceKey: &key, conversation: c, seq: seq})
	}
	for c, front := range d.fronts {
		p.fronts = append(p.fronts, frontAck{&key, Front{c, front}})
	}
}

// commit stores the part, and returns how many acknowledgements it has stored. A commit of no
// writes would not wait for the disk. So if d is Durable and the part has no acknowledgements,
// commit repeats an earlier write, which makes all that were committed before it durable as
// well.
func (p *ackPart) commit(ctx context.Context, s store.Store, d store.Durability) (stored int, err error) {
	if err := store.Commit(ctx, s, p.serials, store.Relaxed); err != nil {
		return 0, err
	}
	if err := forgetFronts(ctx, s, p.fronts); err != nil {
		return 0, err
	}
	for part := range slices.Chunk(p.acks, ackLines) {
		lookUpLines(ctx, s, part)
	}
	writes := p.writes()
	for _, w := range [][]*store.Write{p.serials, writes} {
		if len(w) > 0 {
			p.before = w[0]
		}
	}
	if len(writes) == 0 && d == store.Durable && p.before != nil {
		writes = []*store.Write{p.before}
	}
	if err := store.Commit(ctx, s, writes, d); err != nil {
		return 0, err
	}
	for i := range p.acks {
		if p.acks[i].err == nil {
			stored++
		} else if p.unread == nil {
			p.unread = p.acks[i].err
		}
	}
	return stored, nil
}

// next begins another part.
func (p *ackPart) next() {
	*p = ackPart{serials: p.serials[:0], acks: p.acks[:0], fronts: p.fronts[:0], before: p.before, unread: p.unread}
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

// lookUpLines sets the line of each of acks, at most ackLines.
func lookUpLines(ctx context.Context, s store.Store, acks []ack) {
	gets := make([]store.Get, len(acks))
	for i := range acks {
		a := &acks[i]
		gets[i] = store.Get{Partition: Fresh(a.user), Key: string(a.conversation)}
	}
	_ = s.Get(ctx, gets) // each has its own error
	var behind []*ack    // acks beyond the line in Fresh
	for i := range acks {
		a := &acks[i]
		if a.line, a.err = pim.Seq(gets[i].Cell.Version), gets[i].Err; a.err == nil && a.line < a.seq {
			behind = append(behind, a)
		}
	}
	if len(behind) == 0 {
		return
	}
	// A second call: a line is in Lines before it is forgotten in Fresh.
	gets = gets[:len(behind)]
	for i, a := range behind {
		gets[i] = store.Get{Partition: Lines(a.user), Key: string(a.conversation)}
	}
	_ = s.Get(ctx, gets)
	for i, a := range behind {
		a.line, a.err = max(a.line, pim.Seq(gets[i].Cell.Version)), gets[i].Err
	}
}

// writes returns the acknowledgements of each device as one write. A seq is cut to what the
// user was sent, and a conversation that the user does not have is left out, so that a device
// can neither hide future entries from itself nor fill the disk with made-up names.
func (p *ackPart) writes() (writes []*store.Write) {
	var of *deviceKey // the device of the last write
	for i := range p.acks {
		a := &p.acks[i]
		seq := min(a.seq, a.line)
		if a.err != nil || seq == 0 {
			continue
		}
		if a.deviceKey != of {
			of = a.deviceKey
			writes = append(writes, &store.Write{})
		}
		w := writes[len(writes)-1]
		w.Cells = append(w.Cells, store.CellWrite{
			Partition: Acked(a.user, a.device),
			Cell:      store.Cell{Key: string(a.conversation), Version: uint64(seq)},
		})
	}
	return writes
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
