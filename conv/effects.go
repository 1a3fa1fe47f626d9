package conv

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// An effect is what an entry changes when it is durable, apart from the cells of its own write.
// There are three kinds. A block
// in a user's own log is for the writer of the direct conversation. A no-receipts command is for
// those who ask who has read messages of the user's groups, see receipts.go: its effect is a cell,
// and raises no fence, because no writer reads what it writes. An erase changes its own log, see
// erase.go.
//
// The two writers may be in processes that do not know of each other, so an effect goes
// through the store. That of a block is one write to the other log: cells of its state, and then the raise
// of its fence. The other writer's appends take effect only if the fence is as it was before
// that writer read the state, and its refusals are given only after the last seq and the fence
// were compared, or were read after the request had come. So a writer that has not heard of an
// effect can neither append nor refuse anything. Its next append conflicts; it loads the state
// again, and with it the effect.
//
// An intent is durable before an entry with an effect is appended. The effect is written when
// the entry is durable. The request is answered after that: whatever begins after the answer
// heeds the effect, whoever writes.
//
// If a process dies in between, the intent is still there. Every process looks at the intents
// from time to time, and settles those that stay: see settle. A state that was loaded with
// entries behind the snapshot writes their effects again with its next batch, like all cells
// that follow from the log.

// effectsAtOnce is how many effects of a batch are written at a time. Each needs the end of
// another log, and the writes of others wait while the store reads it.
const effectsAtOnce = 32

// affects reports whether commands of the kind have effects.
func affects(k pim.CommandKind) bool { return k == pim.CommandBlock || k == pim.CommandNoReceipts }

// effect returns the write by which the block s, which owner has set or lifted, reaches the
// writer of the direct conversation.
func effect(owner pim.UserID, s *setting) *store.Write {
	direct := pim.Direct(owner, pim.UserID(s.Subject))
	return &store.Write{Log: inbox.Entries(direct), Raise: true, Cells: []store.CellWrite{blockCell(owner, s)}}
}

// effects returns the effects of the settings of entities, of an own log.
func (c *conversation) effects(entities []string) (effects []*store.Write) {
	owner, _ := c.id.OwnUser()
	for _, entity := range entities {
		s := c.settings[entity]
		switch {
		case s.Kind == pim.CommandNoReceipts && s.Subject == string(owner):
			effects = append(effects, hidingEffect(owner, &s))
		case s.Kind == pim.CommandBlock && s.Subject != string(owner) && pim.UserID(s.Subject).Validate() == nil:
			effects = append(effects, effect(owner, &s))
		}
	}
	return effects
}

// An intent is a cell that says: a writer may have appended entries to a log whose effects are
// not written yet. Its key names the writer and the log. Its value is intentVersion.
// If it is intentTrim, the log was trimmed, or will be, and what follows from that may not be done
// yet.
const (
	intentVersion = 1
	intentTrim    = 2
)

// intentsOf returns the partition with the intents for log. There are intentPartitions of them.
func intentsOf(log pim.ConversationID) store.Partition {
	h := fnv.New32a()
	h.Write([]byte(log))
	return intentPartition(h.Sum32() % intentPartitions)
}

const intentPartitions = 16

func intentPartition(n uint32) store.Partition {
	return store.Partition("~intents/" + strconv.FormatUint(uint64(n), 16))
}

// announcer makes the intents of one process.
type announcer struct {
	name string // see Options.Name
	last atomic.Uint64
}

func newAnnouncer(name string) *announcer {
	if name == "" {
		name = fmt.Sprintf("%016x", rand.Uint64())
	}
	return &announcer{name: name}
}

// intent returns a new intent for log. Its version is greater than that of every earlier one,
// so it holds although those were forgotten.
func (a *announcer) intent(log pim.ConversationID) *store.Write {
	return &store.Write{Cells: []store.CellWrite{{
		Partition: intentsOf(log),
		Cell:      store.Cell{Key: a.name + "/" + string(log), Version: a.last.Add(1), Value: []byte{intentVersion}},
	}}}
}

// trimIntent returns a new intent for a trim of log, in place of the earlier ones of the trim.
// Concurrent trims of one log have different numbers.
func (a *announcer) trimIntent(log pim.ConversationID, trim uint64) store.CellWrite {
	return store.CellWrite{
		Partition: intentsOf(log),
		Cell:      store.Cell{Key: fmt.Sprintf("%s.%d/%s", a.name, trim, log), Version: a.last.Add(1), Value: []byte{intentTrim}},
	}
}

// forgotten returns the write that forgets the intent in the cell c of partition p.
func forgotten(p store.Partition, c store.Cell) *store.Write {
	c.Value = nil
	return &store.Write{Cells: []store.CellWrite{{Partition: p, Cell: c, Forget: true}}}
}

// announced is the intent of a machine. The zero value is none.
type announced struct {
	intent *store.Write // the newest
	holds  bool         // it is durable, and nobody can have settled it before an append by the present state
	after  pim.Seq      // what it announced follows this seq, or an earlier one
}

// written takes the outcome of an intent, which was written when the log's last seq was last. The
// appends announced by earlier intents of the process, which it replaces, follow last or an
// earlier seq.
func (a *announced) written(intent *store.Write, err error, last pim.Seq) {
	a.intent, a.holds, a.after = intent, err == nil, max(a.after, last)
}

// mustAnnounce reports whether an intent must be durable before r, which has an effect, is
// stepped.
func (m *machine) mustAnnounce(r *Request, v *view) bool {
	l := m.live
	if m.announced.holds || r.command != nil && r.command.Kind == pim.CommandBlock && r.command.Subject == string(r.Sender) {
		return false
	}
	f := r.found()
	if known := f.first != 0 || f.err != nil || l.ids.Seq(r.ClientID) != 0; known || v.closed != nil {
		return false
	}
	_, err := l.allow(r)
	return err == nil && (r.Kind != pim.EntryErase || f.erased != 0)
}

// forgetIntent forgets the intent of m, if the log holds what it announced or never will. The
// effects of all entries of the state are written.
func (m *machine) forgetIntent(o *output) {
	if a := &m.announced; m.live.last > a.after {
		c := &a.intent.Cells[0]
		o.later = append(o.later, forgotten(c.Partition, c.Cell))
		*a = announced{}
	}
}

// settleEvery is how long a process waits before it looks at the intents again. An intent that
// it sees twice is older than that: its writer has died, or has had no answer from the store
// for so long.
const settleEvery = 30 * time.Second

// settleLoop settles old intents until ctx ends. If nobody else writes, all that are there when it begins
// are of Writers that have died. So a process that is started again carries out an erase at once: its
// sender may have read the entry in the log, and asks for nothing more.
func (w *Writers) settleLoop(ctx context.Context, alone bool) {
	wait := time.NewTimer(settleEvery)
	defer wait.Stop()
	var seen map[string]uint64
	if alone {
		seen = w.settleOld(ctx, w.settleOld(ctx, nil))
	}
	for {
		select {
		case <-wait.C:
			seen = w.settleOld(ctx, seen)
			wait.Reset(settleEvery)
		case <-ctx.Done():
			return
		}
	}
}

// settleOld settles the intents in seen that are still there, and returns all intents: the
// version of each by its key.
func (w *Writers) settleOld(ctx context.Context, seen map[string]uint64) map[string]uint64 {
	found := map[string]uint64{}
	for n := range uint32(intentPartitions) {
		p := intentPartition(n)
		err := listAll(ctx, w.store, p, func(c store.Cell) error {
			found[c.Key] = c.Version
			settle := w.settle
			switch {
			case seen[c.Key] != c.Version:
				return nil
			case bytes.Equal(c.Value, []byte{intentTrim}):
				settle = w.settleTrim
			case !bytes.Equal(c.Value, []byte{intentVersion}): // of a later version of pim
				return nil
			}
			if err := settle(ctx, p, c); err != nil && ctx.Err() == nil {
				w.log.Error("the effects of a log are not settled yet", "intent", c.Key, "err", err)
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			w.log.Error("the intents cannot be read", "err", err)
		}
	}
	return found
}

// settle writes all effects of a log that may be unwritten, and forgets the intent c of
// partition p. First it raises the fence of that log: an append that was under way when the
// intent's writer died takes no effect after that, so it cannot come after settle has read the
// log. If the writer is alive, it loads the log's state again and announces its intent anew.
func (w *Writers) settle(ctx context.Context, p store.Partition, c store.Cell) error {
	if now, _, err := store.Lookup(ctx, w.store, p, c.Key); err != nil || now.Version != c.Version {
		return err // another process has settled it
	}
	_, id, _ := strings.Cut(c.Key, "/")
	log := pim.ConversationID(id)
	raise := &store.Write{Log: inbox.Entries(log), Raise: true}
	if err := store.Commit(ctx, w.store, []*store.Write{raise}, store.Durable); err != nil {
		return err
	}
	l, err := w.load(ctx, log)
	if err != nil {
		return err
	}
	effects := l.effects(slices.Sorted(maps.Keys(l.unsettledSettings)))
	for some := range slices.Chunk(effects, effectsAtOnce) {
		if err := store.Commit(ctx, w.store, some, store.Durable); err != nil {
			return err
		}
	}
	if err := w.settleErasures(ctx, l); err != nil {
		return err
	}
	// An edit may have no fold in the store yet: then it is erased with the cells that follow from the log.
	if err := w.writeAgain(ctx, l); err != nil {
		return err
	}
	w.metrics.Settled.Inc()
	return store.Commit(ctx, w.store, []*store.Write{forgotten(p, c)}, store.Relaxed)
}
