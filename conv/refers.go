package conv

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// An edit, a recall, a reaction or a pin refers to a message of the same log, its target. What
// all of them have made of the target is its fold, a cell that a batch writes with the entries.
// If a cell may be missing, the writer that loads the log writes it again, as with every
// projection. The state remembers the targets used last; the others are looked up.
//
// A recall also erases the records of the message and of its edits. They must be durable, so a
// recall is looked up for, and begins a batch.

// What may be made of one message, and how many of a conversation's messages may be pinned.
const (
	maxEdits     = 100
	maxReactions = 4096 // of all users
	maxTexts     = 64   // distinct ones
	maxPins      = 50
	// maxReactionBytes bounds the reactions of a message, as they are in its fold, so that the
	// message and its fold fit into one frame, whatever both payloads are.
	maxReactionBytes = 112 << 10
)

// Defaults of Options.
const (
	DefaultEditWindow   = 24 * time.Hour
	DefaultRecallWindow = 2 * time.Minute
)

// windows say for how long after its entry a message can be edited, and recalled by its sender,
// by the writer's clock. 0: not at all. notice is Options.RetainNotice.
type windows struct{ edit, recall, notice pim.Millis }

// windowsOf returns the windows for messages that Options name so.
func windowsOf(edit, recall time.Duration) windows {
	of := func(d, byDefault time.Duration) pim.Millis {
		if d == 0 {
			d = byDefault
		}
		return pim.Millis(max(d, 0).Milliseconds())
	}
	return windows{edit: of(edit, DefaultEditWindow), recall: of(recall, DefaultRecallWindow)}
}

// target is an entry to which others may refer.
type target struct {
	kind   pim.EntryKind
	sender pim.UserID
	time   pim.Millis // see pim.Entry.Time
	erased bool
	fold   inbox.Fold
	size   int // of its cell, in bytes, about
	// erasures are of the target and its edits, for a recall, or of edits that were erased. Set by
	// a look-up alone, for the next batch.
	erasures []store.Erasure
}

// take adds e, which refers to t, to the fold of t, unless the fold has it. The entries must
// come in the order of the log.
func (t *target) take(e *pim.Entry) {
	f, ok := pim.FoldOf(e)
	if !ok || e.Seq <= t.fold.Upto {
		return
	}
	if e.Kind == pim.EntryReaction && t.fold.Recall.Seq == 0 {
		t.react(&f.Reactions[0])
	} else {
		t.fold.Merge(&f)
	}
	t.fold.Upto = e.Seq
	if t.fold.Pin.Removed {
		t.fold.Pin = pim.Mark{}
	}
	switch e.Kind {
	case pim.EntryEdit:
		t.fold.Edits = append(t.fold.Edits, e.Seq)
	case pim.EntryRecall:
		t.fold.Edits = nil
	}
}

// react does what Merge does with a reaction that is newer than all others, but costs less: there
// may be thousands.
func (t *target) react(r *pim.Reaction) {
	all := t.fold.Reactions
	at, given := slices.BinarySearchFunc(all, r, func(a pim.Reaction, r *pim.Reaction) int {
		return cmp.Or(strings.Compare(a.Text, r.Text), strings.Compare(string(a.User), string(r.User)))
	})
	switch {
	case given && r.Removed:
		t.fold.Reactions = slices.Delete(all, at, at+1)
	case given:
		all[at] = *r
	case !r.Removed:
		t.fold.Reactions = slices.Insert(all, at, *r)
	}
}

// cell returns the cell with the fold of t, of conversation c. Earlier folds may hold edits that were
// recalled or erased since.
func (t *target) cell(c pim.ConversationID) store.CellWrite {
	return store.CellWrite{
		Partition: inbox.Folds(c), Erase: t.fold.Recall.Seq != 0 || t.erased,
		Cell: store.Cell{
			Key: inbox.FoldKey(t.fold.Target), Version: uint64(t.fold.Upto), Value: t.fold.AppendValue(make([]byte, 0, t.size)),
		},
	}
}

// refers reports whether entries of kind k refer to a message. An erase refers to the messages of
// its sender up to a seq, and to none by itself.
func refers(k pim.EntryKind) bool { return k >= pim.EntryEdit && k <= pim.EntryPin }

// checkRefers validates what r says about the message that it refers to.
func (r *Request) checkRefers() error {
	switch some := refers(r.Kind) || r.Kind == pim.EntryErase; {
	case !some && (r.Refers != 0 || r.Reaction != "" || r.Removed):
		return pim.Errorf(pim.KindInvalid, "a %s refers to no message", r.Kind)
	case !some:
		return nil
	case r.Refers == 0:
		return pim.Errorf(pim.KindInvalid, "the seq of the message is missing")
	case len(r.Members) > 0:
		return pim.Errorf(pim.KindInvalid, "a %s has no members", r.Kind)
	case len(r.Payload) > 0 && r.Kind != pim.EntryEdit:
		return pim.Errorf(pim.KindInvalid, "a %s has no payload", r.Kind)
	case r.Removed && r.Kind != pim.EntryReaction && r.Kind != pim.EntryPin:
		return pim.Errorf(pim.KindInvalid, "a %s is not taken back", r.Kind)
	case r.Kind == pim.EntryReaction:
		return pim.ValidateReaction(r.Reaction)
	case r.Reaction != "":
		return pim.Errorf(pim.KindInvalid, "a %s has no reaction", r.Kind)
	}
	return nil
}

// needsTarget reports whether the target of r must be looked up before r is stepped. Nothing is
// looked up for a sender who may not read the target.
func (l *live) needsTarget(r *Request) bool {
	if !refers(r.Kind) || r.Refers > l.last || !l.readsTarget(r) {
		return false
	}
	return r.Kind == pim.EntryRecall || l.targets[r.Refers] == nil
}

// readsTarget reports whether the sender of r is present and may read the target of r.
func (c *conversation) readsTarget(r *Request) bool {
	m := c.members[r.Sender]
	return !c.id.IsGroup() || m != nil && m.Present() && m.Reads(r.Refers)
}

// lookUpTarget returns the target of r. l remembers its fold, or all that follows from the log
// is in the cell: the cells that a load has found unsettled are remembered until they are written.
func (l *live) lookUpTarget(ctx context.Context, s store.Store, r *Request) (*target, error) {
	known := l.targets[r.Refers]
	if known == nil {
		found, err := readTargets(ctx, s, l.id, []pim.Seq{r.Refers})
		if err != nil {
			return nil, err
		}
		if known = found[0]; known != nil {
			if known.erasures, err = l.eraseTarget(ctx, s, known); err != nil {
				return nil, err
			}
		}
	}
	if r.Kind != pim.EntryRecall || known == nil {
		return known, nil
	}
	t := *known // whose erasures, if there are any, are among the following
	seqs := append([]pim.Seq{r.Refers}, t.fold.Edits...)
	// If another writer has edited the message since the state was read, the append will conflict.
	seqs = slices.DeleteFunc(seqs, func(seq pim.Seq) bool { return seq > l.last })
	var err error
	t.erasures, err = readErasures(ctx, s, l.id, seqs)
	return &t, err
}

// readEach returns the entries at seqs, and nil for those that were trimmed. It keeps the payloads
// of edits only.
func readEach(ctx context.Context, s store.Store, id pim.ConversationID, seqs []pim.Seq) (entries []*pim.Entry, err error) {
	const atOnce = 64 // entries of up to 64 KiB
	var reader wire.EntryReader
	for chunk := range slices.Chunk(seqs, atOnce) {
		reads := make([]store.Read, len(chunk))
		for i, seq := range chunk {
			reads[i] = store.Read{Log: inbox.Entries(id), From: seq, To: seq, Limit: store.Limit{Records: 1, Bytes: pim.MaxFrame}}
		}
		if err := s.Read(ctx, reads); err != nil {
			return nil, err
		}
		for i, seq := range chunk {
			r := &reads[i]
			if r.First > seq {
				entries = append(entries, nil)
				continue
			}
			if len(r.Records) == 0 {
				return nil, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d", id, seq)
			}
			e, err := parseEntry(&reader, id, r.Records[0], seq)
			if err != nil {
				return nil, err
			}
			entries = append(entries, &e)
		}
	}
	return entries, nil
}

// readTargets reads the entries at seqs, and their folds. Those that were trimmed are nil.
func readTargets(ctx context.Context, s store.Store, id pim.ConversationID, seqs []pim.Seq) ([]*target, error) {
	entries, err := readEach(ctx, s, id, seqs)
	if err != nil {
		return nil, err
	}
	targets := make([]*target, len(seqs))
	gets := make([]store.Get, len(seqs))
	for i, seq := range seqs {
		gets[i] = store.Get{Partition: inbox.Folds(id), Key: inbox.FoldKey(seq)}
		e := entries[i]
		if e == nil {
			continue
		}
		targets[i] = &target{kind: e.Kind, sender: e.Sender, time: e.Time(), erased: e.Erased}
		targets[i].fold.Target = seq
	}
	for chunk := range slices.Chunk(gets, store.MaxBatch) {
		if err := s.Get(ctx, chunk); err != nil {
			return nil, err
		}
	}
	for i := range gets {
		t, cell := targets[i], gets[i].Cell
		if cell.Version == 0 || t == nil {
			continue
		}
		var err error
		if t.fold, err = inbox.ParseFold(cell); err != nil {
			return nil, err
		}
		t.size = len(cell.Value)
	}
	return targets, nil
}

// readErasures returns the erasures of the records at seqs that are neither erased nor trimmed.
func readErasures(ctx context.Context, s store.Store, id pim.ConversationID, seqs []pim.Seq) (erasures []store.Erasure, err error) {
	entries, err := readEach(ctx, s, id, seqs)
	for _, e := range entries {
		if e != nil && !e.Erased {
			e.Payload, e.Erased = nil, true
			erasures = append(erasures, store.Erasure{Seq: e.Seq, Rest: wire.AppendEntry(nil, e)})
		}
	}
	return erasures, err
}

// allowRefers returns why r may not change its target t, or nil. t is nil if it does not exist.
func (c *conversation) allowRefers(r *Request, t *target, now pim.Millis) error {
	switch {
	case t == nil || !c.readsTarget(r):
		return pim.Errorf(pim.KindNotFound, "%s has no seq %d that user %s may read", c.id, r.Refers, r.Sender)
	case t.kind != pim.EntryMessage:
		return pim.Errorf(pim.KindInvalid, "seq %d of %s is not a message", r.Refers, c.id)
	case t.fold.Recall.Seq != 0:
		return pim.Errorf(pim.KindNotFound, "the message at seq %d of %s was recalled", r.Refers, c.id)
	case t.erased && !r.Removed: // what was made of it may be taken back
		return pim.Errorf(pim.KindNotFound, "the message at seq %d of %s was erased", r.Refers, c.id)
	}
	switch age, own := now-t.time, t.sender == r.Sender; r.Kind {
	case pim.EntryEdit:
		switch {
		case !own:
			return pim.Errorf(pim.KindForbidden, "only its sender edits a message")
		case !within(age, c.windows.edit):
			return pim.Errorf(pim.KindForbidden, "a message can be edited for %s", duration(c.windows.edit))
		case len(t.fold.Edits) >= maxEdits:
			return tooManyEdits.tooLarge("a message that was edited %d times", maxEdits)
		}
	case pim.EntryRecall:
		switch owner := c.id.IsGroup() && c.owner() == r.Sender; {
		case owner:
		case !own:
			return pim.Errorf(pim.KindForbidden, "only its sender, or a group's owner, recalls a message")
		case !within(age, c.windows.recall):
			return pim.Errorf(pim.KindForbidden, "a message can be recalled for %s", duration(c.windows.recall))
		}
	case pim.EntryReaction:
		return t.roomFor(r)
	case pim.EntryPin:
		if !r.Removed && len(c.pins) >= maxPins && !slices.Contains(c.pins, r.Refers) {
			return tooManyPins.tooLarge("%d messages of a conversation are pinned", maxPins)
		}
	}
	return nil
}

// within reports whether age is within window. It may be a little below 0, if the clock was set
// back. A message that is from the far future was written while the clock was wrong: it would
// stay within its window until then.
func within(age, window pim.Millis) bool { return window > 0 && age < window && age > -pim.SetWindow }

func duration(m pim.Millis) time.Duration { return time.Duration(m) * time.Millisecond }

// roomFor returns an Error of KindTooLarge if the reactions to t would be too many with r.
func (t *target) roomFor(r *Request) error {
	if r.Removed {
		return nil
	}
	const each = 16 // of a reaction in a fold: numbers and tags
	texts, bytes, known := 0, len(r.Reaction)+len(r.Sender)+2*each, false
	for i, x := range t.fold.Reactions {
		if i == 0 || x.Text != t.fold.Reactions[i-1].Text {
			texts++
			bytes += len(x.Text) + each
		}
		known = known || x.Text == r.Reaction
		bytes += len(x.User) + each
		if x.Text == r.Reaction && x.User == r.Sender {
			return nil
		}
	}
	switch {
	case !known && texts >= maxTexts:
		return tooManyReactions.tooLarge("%d different reactions to a message", maxTexts)
	case len(t.fold.Reactions) >= maxReactions:
		return tooManyReactions.tooLarge("%d reactions to a message", maxReactions)
	case bytes > maxReactionBytes:
		return tooManyReactions.tooLarge("reactions to a message of %d bytes", maxReactionBytes)
	}
	return nil
}

// refer adds e to its target t, and remembers t.
func (c *conversation) refer(e *pim.Entry, t *target) {
	t.take(e)
	was := c.targets[e.Refers]
	if was == nil && c.targets == nil {
		c.targets = make(map[pim.Seq]*target)
	}
	if was != nil {
		c.targetBytes -= was.room()
	}
	c.targets[e.Refers] = t
	t.size = len(t.fold.Edit.Payload) + 10*len(t.fold.Edits) + 64
	for i := range t.fold.Reactions {
		t.size += len(t.fold.Reactions[i].Text) + len(t.fold.Reactions[i].User) + 16
	}
	c.targetBytes += t.room()
}

// room returns how much memory t takes up, in bytes, about.
func (t *target) room() int { return 400 + 2*t.size }

// The state remembers so many targets, and forgets all of them when they are more.
const (
	maxTargets     = 64
	maxTargetBytes = 512 << 10
)

// dropTargets forgets the targets if they are too many. Their cells must be written.
func (c *conversation) dropTargets() {
	if len(c.targets) > maxTargets || c.targetBytes > maxTargetBytes {
		c.targets, c.targetBytes = nil, 0
	}
}

// loadFolds remembers the targets whose cells may lack entries of tail, which is behind the
// snapshot, with those entries. The next write writes these cells again, and erases again what
// a recall among the entries erases.
func (l *live) loadFolds(ctx context.Context, s store.Store, tail []pim.Entry) error {
	var seqs []pim.Seq
	for i := range tail {
		if refers(tail[i].Kind) {
			seqs = append(seqs, tail[i].Refers)
		}
	}
	if len(seqs) == 0 {
		return nil
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	targets, err := readTargets(ctx, s, l.id, seqs)
	if err != nil {
		return err
	}
	for i := range tail {
		e := &tail[i]
		if !refers(e.Kind) {
			continue
		}
		at, _ := slices.BinarySearch(seqs, e.Refers)
		t := targets[at]
		if t == nil || e.Seq <= t.fold.Upto {
			continue
		}
		if e.Kind == pim.EntryRecall {
			erasures, err := readErasures(ctx, s, l.id, append([]pim.Seq{e.Refers}, t.fold.Edits...))
			if err != nil {
				return err
			}
			l.unsettledErasures = append(l.unsettledErasures, erasures...)
		}
		l.refer(e, t)
		if !slices.Contains(l.unsettledFolds, t) {
			l.unsettledFolds = append(l.unsettledFolds, t)
		}
	}
	for _, t := range l.unsettledFolds {
		erasures, err := l.eraseTarget(ctx, s, t)
		if err != nil {
			return err
		}
		l.unsettledErasures = append(l.unsettledErasures, erasures...)
	}
	return nil
}

// unsettledErasuresMost and unsettledErasuresBytes bound the erasures that the next write does again:
// with its entries they must fit into a write.
const (
	unsettledErasuresMost  = 1024
	unsettledErasuresBytes = 256 << 10 // of the rests, about
)

const (
	_ = uint(store.MaxBatch - unsettledErasuresMost - 2*maxEdits)
	_ = uint(store.MaxAppendBytes - batchBytes - 2*pim.MaxFrame - unsettledErasuresBytes)
)

// eraseUnsettled erases at once what the next write would have to erase again, if that is too much for
// it: each of many recalls behind the snapshot may erase maxEdits edits. It returns errOvertaken if
// another writer writes meanwhile.
func (l *live) eraseUnsettled(ctx context.Context, s store.Store) error {
	for len(l.unsettledErasures) > 0 {
		n, size := 0, 0
		for n < min(len(l.unsettledErasures), unsettledErasuresMost) && size < unsettledErasuresBytes {
			size += len(l.unsettledErasures[n].Rest)
			n++
		}
		if n == len(l.unsettledErasures) {
			return nil
		}
		w := &store.Write{Log: inbox.Entries(l.id), After: l.last, Fence: l.fence, Erase: l.unsettledErasures[:n]}
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil {
			return err
		}
		if w.Err != nil {
			return errOvertaken
		}
		l.unsettledErasures = l.unsettledErasures[n:]
	}
	return nil
}

// pin applies e, if it is a pin or a recall, to the pinned messages, and reports whether they
// have changed. A pin of an entry that the state accounts for changes nothing.
func (c *conversation) pin(e *pim.Entry) bool {
	if e.Kind != pim.EntryPin && e.Kind != pim.EntryRecall || e.Seq <= c.pinned {
		return false
	}
	at := slices.Index(c.pins, e.Refers)
	switch pins := e.Kind == pim.EntryPin && !e.Removed; {
	case pins == (at >= 0):
		return false
	case pins:
		c.pins = append(c.pins, e.Refers)
	default:
		c.pins = slices.Delete(c.pins, at, at+1)
	}
	c.pinned = e.Seq
	return true
}

// dropTrimmedPins forgets the pinned messages below front, the log's first seq that is left.
func (c *conversation) dropTrimmedPins(front pim.Seq) {
	c.pins = slices.DeleteFunc(c.pins, func(seq pim.Seq) bool { return seq < front })
}

// pinsKey is the key in stateCells of the pinned messages: version the seq of the entry that has
// changed them last, value their seqs.
const pinsKey = "pins"

func pinsCell(c *live) store.CellWrite {
	var e varint.Encoder
	for _, seq := range c.pins {
		e.Number(uint64(seq))
	}
	return store.CellWrite{
		Partition: stateCells(c.id),
		Cell:      store.Cell{Key: pinsKey, Version: uint64(c.pinned), Value: e.B},
	}
}

// restorePins reads what pinsCell wrote.
func (c *conversation) restorePins(cell store.Cell) error {
	c.pinned = pim.Seq(cell.Version)
	d := &varint.Decoder{B: cell.Value}
	for len(d.B) > 0 && d.Err == nil {
		c.pins = append(c.pins, pim.Seq(d.Number()))
	}
	if d.Err != nil {
		return pim.Errorf(pim.KindCorrupt, "pins of %s at seq %d with the value %x", c.id, cell.Version, cell.Value)
	}
	return nil
}
