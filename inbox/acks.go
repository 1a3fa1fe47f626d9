package inbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

const (
	ackInterval = time.Second // how long an acknowledgement waits in memory
	ackPending  = 1 << 16     // conversations of devices waiting, at most; then Note writes at once
	ackCommit   = 256         // devices in one commit
)

// Acks takes devices' acknowledgements. They are cumulative and promise nothing,
// so they wait in memory for up to a second, many of one device becoming one
// cell, and are written without an fsync. One that is lost in a crash only makes
// the next sync list a conversation more.
type Acks struct {
	store store.Store
	log   *slog.Logger

	mu      sync.Mutex
	pending map[deviceKey]*deviceAcks
	waiting int // conversations in pending

	flushing sync.Mutex // one flush at a time, so that Flush can wait for what another took
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
		store: s, log: log, pending: make(map[deviceKey]*deviceAcks),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go a.run()
	return a
}

// Ack is one conversation of a PIMPushAck.
type Ack struct {
	Conversation pim.ConversationID
	Seq          pim.Seq
}

// Note takes one PIMPushAck of a device.
func (a *Acks) Note(ctx context.Context, user pim.UserID, device pim.DeviceID, serial uint64, acks []Ack) {
	key := deviceKey{user, device}
	a.mu.Lock()
	d := a.pending[key]
	if d == nil {
		d = &deviceAcks{seqs: make(map[pim.ConversationID]pim.Seq, len(acks))}
		a.pending[key] = d
	}
	d.serial = max(d.serial, serial)
	before := len(d.seqs)
	for _, k := range acks {
		d.seqs[k.Conversation] = max(d.seqs[k.Conversation], k.Seq)
	}
	a.waiting += len(d.seqs) - before
	full := a.waiting > ackPending
	a.mu.Unlock()
	if full {
		a.Flush(ctx)
	}
}

// Settle writes what waits for one device, so that a Sync that follows sees it.
func (a *Acks) Settle(ctx context.Context, user pim.UserID, device pim.DeviceID) {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	key := deviceKey{user, device}
	a.mu.Lock()
	d := a.pending[key]
	if d != nil {
		delete(a.pending, key)
		a.waiting -= len(d.seqs)
	}
	a.mu.Unlock()
	if d != nil {
		a.write(ctx, map[deviceKey]*deviceAcks{key: d})
	}
}

// Flush writes everything that waits.
func (a *Acks) Flush(ctx context.Context) {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	pending := a.pending
	a.pending, a.waiting = make(map[deviceKey]*deviceAcks), 0
	a.mu.Unlock()
	a.write(ctx, pending)
}

// write stores acknowledgements, ackCommit devices at a time. An error loses
// them, which only makes the next sync list more.
func (a *Acks) write(ctx context.Context, pending map[deviceKey]*deviceAcks) {
	var writes []*store.Write
	commit := func() error {
		err := a.store.Commit(ctx, writes, store.Relaxed)
		writes = writes[:0]
		return err
	}
	var err error
	for key, d := range pending {
		var w *store.Write
		if w, err = a.cells(ctx, key, d); err != nil {
			break
		}
		if writes = append(writes, w); len(writes) == ackCommit {
			if err = commit(); err != nil {
				break
			}
		}
	}
	if err == nil && len(writes) > 0 {
		err = commit()
	}
	if err != nil {
		a.log.Warn("acknowledgements not stored; their devices will be offered the entries again", "err", err)
	}
}

// cells returns a device's acknowledgements as one write, the serial first: a
// serial that is ahead of the cells is harmless, the other way round a device
// restored from a backup could go unnoticed. A seq is cut to what the user was
// sent, and a conversation that the user does not have is left out, so that a
// device can neither hide entries to come from itself nor fill the disk with
// made-up names.
func (a *Acks) cells(ctx context.Context, key deviceKey, d *deviceAcks) (*store.Write, error) {
	w := &store.Write{Cells: make([]store.CellWrite, 1, 1+len(d.seqs))}
	w.Cells[0] = store.CellWrite{Partition: Devices(key.user), Cell: store.Cell{Key: string(key.device), Version: d.serial}}
	for c, seq := range d.seqs {
		line, ok, err := a.store.Get(ctx, Lines(key.user), string(c))
		if err != nil {
			return nil, err
		}
		if seq = min(seq, pim.Seq(line.Version)); !ok || seq == 0 {
			continue
		}
		w.Cells = append(w.Cells, store.CellWrite{
			Partition: Acked(key.user, key.device),
			Cell:      store.Cell{Key: string(c), Version: uint64(seq)},
		})
	}
	return w, nil
}

func (a *Acks) run() {
	defer close(a.done)
	t := time.NewTicker(ackInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			a.Flush(context.Background())
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
