package imtest

import (
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/wire"
)

// History is what happened in a run, as seen from outside the server: what users
// sent, what they were told, what their devices were handed, and what was there
// at the end. Its methods may be called concurrently; Check judges it when the
// run is over.
type History struct {
	mu        sync.Mutex
	sends     []Send
	acks      []Ack
	refused   []refused
	devices   map[Device]int // the number of the storage in use
	handed    map[storage][]pim.Entry
	late      map[storage]map[int]bool // indices in handed of the entries that were handed over late
	shown     []shown
	kept      []kept
	listed    []listed
	wentBack  bool
	reads     []read // pulls during the run
	finals    []read
	logs      map[pim.ConversationID][]pim.Entry
	trims     map[pim.ConversationID][]trim // ascending
	fronts    map[told]pim.Seq
	lines     []line
	dropped   map[place]bool
	receipts  []receipts
	cells     []cellEvent     // in the order in which they were recorded
	forgotten map[cell]uint64 // the greatest version up to which a cell was forgotten
}

// NewHistory returns an empty History.
func NewHistory() *History {
	return &History{
		devices: make(map[Device]int), handed: make(map[storage][]pim.Entry),
		late: make(map[storage]map[int]bool),
		logs: make(map[pim.ConversationID][]pim.Entry), dropped: make(map[place]bool),
		trims: make(map[pim.ConversationID][]trim), fronts: make(map[told]pim.Seq),
	}
}

// Device is one device of a user.
type Device struct {
	User   pim.UserID
	Device pim.DeviceID
}

// Send is a message, or a change of a group, that a device meant to send. It is
// recorded once, however often it was transmitted.
type Send struct {
	Conversation pim.ConversationID // empty for EntryCreate
	Sender       pim.UserID
	Device       pim.DeviceID
	ClientID     pim.ClientMessageID
	Kind         pim.EntryKind
	Members      []pim.UserID      // the users that the device named; for create, join and leave
	Payload      [sha256.Size]byte // see SentSum
	Refers       pim.Seq           // of an edit, recall, reaction or pin: as in pim.Entry
	Reaction     string            // of a reaction
	Removed      bool              // of a reaction or pin
	Mentions     []pim.UserID      // of a message
	MentionAll   bool              // of a message
}

// PayloadSum returns what Send.Payload holds for the payload of anything but a command.
func PayloadSum(payload []byte) [sha256.Size]byte { return sha256.Sum256(payload) }

// SentSum returns what Send.Payload holds for an entry: PayloadSum, of a command without what the
// server writes into it.
func SentSum(kind pim.EntryKind, payload []byte) [sha256.Size]byte {
	if cmd, err := wire.DecodeCommand(payload); kind == pim.EntryCommand && err == nil {
		cmd.Count, cmd.Named, cmd.All, cmd.Replaces, cmd.Shown = 0, 0, 0, false, false
		payload = wire.AppendCommand(nil, &cmd)
	}
	return PayloadSum(payload)
}

// Ack is an answer that a device got.
type Ack struct {
	User         pim.UserID
	Device       pim.DeviceID
	ClientID     pim.ClientMessageID
	Conversation pim.ConversationID
	Seq          pim.Seq
	Anchor       pim.Seq // never 0
	Server       pim.Millis
	Count        uint64
	Duplicate    bool
}

// storage is one life of a device's local store: a device that loses its store
// begins the next one.
type storage struct {
	Device
	number int
}

// refused is a message that the server turned down for good.
type refused struct {
	user pim.UserID
	id   pim.ClientMessageID
}

type place struct {
	conversation pim.ConversationID
	seq          pim.Seq
}

// trim is what retention removed at once.
type trim struct {
	front   pim.Seq // the first seq that it left
	entries []pim.Entry
}

// told names what a device was told of a conversation.
type told struct {
	Device
	conversation pim.ConversationID
}

type read struct {
	user         pim.UserID
	conversation pim.ConversationID
	entries      []pim.Entry
}

type shown struct {
	Device
	conversation pim.ConversationID
	seqs         []pim.Seq
}

type line struct {
	user         pim.UserID
	conversation pim.ConversationID
	newest       pim.Seq
}

// cellEvent is a write of a cell, a read of one, or a crash (then cell is zero).
type cellEvent struct {
	cell    cell
	version uint64
	kind    cellKind
	since   int // of a read: how many events had been recorded when it began
}

type cell struct{ partition, key string }

type cellKind uint8

const (
	crashed cellKind = iota
	wroteRelaxed
	wroteDurably
	saw
)

// Sent records that a device means to send s.
func (h *History) Sent(s Send) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sends = append(h.sends, s)
}

// Acked records an answer. One without a seq is left out if it is of an erase: a user who has left
// the group is not told where the entry is.
func (h *History) Acked(a Ack) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.Seq == 0 && slices.ContainsFunc(h.sends, func(s Send) bool { return s.ClientID == a.ClientID && s.Kind == pim.EntryErase }) {
		return
	}
	h.acks = append(h.acks, a)
}

// Refused records that the server turned a message of user's down for good.
func (h *History) Refused(user pim.UserID, id pim.ClientMessageID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = append(h.refused, refused{user, id})
}

// Opened records that d uses its local store of the given number. The number grows each
// time the device loses its store. Check expects the last store of a device to have
// everything at the end.
func (h *History) Opened(d Device, number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices[d] = max(h.devices[d], number)
}

// Handed records that the app on d was handed e. late says that e may have a lower seq
// than entries of its conversation that were handed over before, because it fills a
// hole.
func (h *History) Handed(d Device, number int, e pim.Entry, late bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := storage{d, number}
	h.handed[s] = append(h.handed[s], e)
	if !late {
		return
	}
	if h.late[s] == nil {
		h.late[s] = make(map[int]bool)
	}
	h.late[s][len(h.handed[s])-1] = true
}

// HandedAll records everything that the app on d was ever handed, in order, instead of
// one call of Handed for each entry. h keeps the slice, which must not change any more.
func (h *History) HandedAll(d Device, number int, entries []pim.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handed[storage{d, number}] = entries
}

// Shown records the seqs of all entries of c that d displays at the end, in the order
// in which d displays them.
func (h *History) Shown(d Device, c pim.ConversationID, seqs []pim.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = append(h.shown, shown{d, c, slices.Clone(seqs)})
}

// Kept records what the store of d has of c at the end. h keeps the slice and the map, which must
// not change any more.
func (h *History) Kept(d Device, c pim.ConversationID, entries []pim.Entry, folds map[pim.Seq]pim.Fold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, kept{d, c, entries, folds})
}

// Listed records what the list of d shows of c at the end.
func (h *History) Listed(d Device, c pim.ConversationID, l Listed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed = append(h.listed, listed{d, c, l})
}

// WentBack records that the server has lost entries, as it may when it is restored. A recall may be
// among them, and what it has erased on devices stays erased.
func (h *History) WentBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wentBack = true
}

// Pulled records an entry that user read at any time, by whatever means.
func (h *History) Pulled(user pim.UserID, e pim.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, read{user, e.Conversation, []pim.Entry{e}})
}

// Final records all that user can pull of c at the end, in the order of arrival.
// h keeps the slice, which must not change any more.
func (h *History) Final(user pim.UserID, c pim.ConversationID, entries []pim.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finals = append(h.finals, read{user, c, entries})
}

// Log records a conversation's log as it is stored at the end. If Log is not called for
// a conversation, Check takes for its log what the Finals show together. h keeps the
// slice, which must not change any more.
func (h *History) Log(c pim.ConversationID, entries []pim.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logs[c] = entries
}

// Trimmed records that retention removes the entries of c before the seq front. entries are those
// that were left there, as they were stored. h keeps the slice, which must not change any more.
func (h *History) Trimmed(c pim.ConversationID, front pim.Seq, entries []pim.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trims[c] = append(h.trims[c], trim{front, entries})
}

// Front records how far c was trimmed as far as d has been told at the end: the first seq that is
// left, 0 if nothing was removed.
func (h *History) Front(d Device, c pim.ConversationID, front pim.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fronts[told{d, c}] = front
}

// Receipts records that user asked how far others have read the seqs from..to of c, and was told r.
// end says that nobody reads any more.
func (h *History) Receipts(user pim.UserID, c pim.ConversationID, from, to pim.Seq, r client.Receipts, end bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.receipts = append(h.receipts, receipts{user, c, from, to, r, end})
}

// Line records the newest seq in user's offline list for c at the end; 0 if
// there is no line.
func (h *History) Line(user pim.UserID, c pim.ConversationID, newest pim.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, line{user, c, newest})
}

// Dropped records that the push of an entry was withheld, from one device or
// from all.
func (h *History) Dropped(c pim.ConversationID, seq pim.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropped[place{c, seq}] = true
}

// Crash records that the machine lost its power: cells that were not durable may
// be older now.
func (h *History) Crash() { h.cell(cellEvent{kind: crashed}) }

// Now returns the present as a number of events. A caller takes it before it reads a
// cell, and passes it to Saw afterwards.
func (h *History) Now() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.cells)
}

// Wrote records that a write of a cell has returned without an error: from now
// on the cell has this version or a higher one, after a crash too if the write
// was durable.
func (h *History) Wrote(partition, key string, version uint64, durable bool) {
	kind := wroteRelaxed
	if durable {
		kind = wroteDurably
	}
	h.cell(cellEvent{cell: cell{partition, key}, version: version, kind: kind})
}

// Forgot records that a write forgot a cell up to version. It is a
// write like others, so Wrote is called, too.
func (h *History) Forgot(partition, key string, version uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.forgotten == nil {
		h.forgotten = make(map[cell]uint64)
	}
	k := cell{partition, key}
	h.forgotten[k] = max(h.forgotten[k], version)
}

// Saw records that a read of a cell found version, 0 if there was no cell. since is
// what Now returned before the read began.
func (h *History) Saw(since int, partition, key string, version uint64) {
	h.cell(cellEvent{cell: cell{partition, key}, version: version, kind: saw, since: since})
}

func (h *History) cell(e cellEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cells = append(h.cells, e)
}
