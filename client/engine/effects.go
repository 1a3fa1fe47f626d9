package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// effects collect what steps leave to be done: the next Output, and the changes that are
// stored with it. Engine embeds them; a part that has effects gets a pointer to them.
type effects struct {
	now   Time       // of the present step
	meta  Meta       // as the store has it, or will have it after the next Take
	owner pim.UserID // Config.User

	out         Output          // for the next Take
	metaDirty   bool            // meta is to be stored
	rowsDirty   []*conversation // their rows are to be stored, see touch
	nextRequest uint64          // the number of the last request
	lineAt      time.Duration   // the last frame, either way
}

// take returns the output of the steps since the last take.
func (fx *effects) take() Output {
	if fx.metaDirty {
		m := fx.meta
		fx.out.Store.Meta = &m
		fx.metaDirty = false
	}
	for _, c := range fx.rowsDirty {
		fx.out.Store.Conversations = append(fx.out.Store.Conversations, c.row())
		c.rowDirty = false
	}
	fx.rowsDirty = fx.rowsDirty[:0]
	out := fx.out
	fx.out = Output{}
	return out
}

// user returns the user of this device, empty if that is not known yet.
func (fx *effects) user() pim.UserID {
	if fx.meta.User != "" {
		return fx.meta.User
	}
	return fx.owner
}

func (fx *effects) emit(ev Event) { fx.out.Events = append(fx.out.Events, ev) }

func (fx *effects) write(m wire.Message) {
	fx.lineAt = fx.now.Mono
	fx.out.Frames = append(fx.out.Frames, m)
}

// request returns the number of a new request: a pull, an Ask, or a page of the sync list.
func (fx *effects) request() uint64 {
	fx.nextRequest++
	return fx.nextRequest
}

// hangUpAttempt ends an attempt or its connection, or a question. If its Dial or Question was not taken
// yet, that is taken back.
func (fx *effects) hangUpAttempt(n uint64) {
	before := len(fx.out.Dials) + len(fx.out.Questions)
	fx.out.Dials = slices.DeleteFunc(fx.out.Dials, func(d Dial) bool { return d.Attempt == n })
	fx.out.Questions = slices.DeleteFunc(fx.out.Questions, func(q Question) bool { return q.Attempt == n })
	if len(fx.out.Dials)+len(fx.out.Questions) == before {
		fx.out.Hangups = append(fx.out.Hangups, n)
	}
}

// touch stores c's row, as it is at the next take.
func (fx *effects) touch(c *conversation) {
	if !c.rowDirty {
		c.rowDirty = true
		fx.rowsDirty = append(fx.rowsDirty, c)
	}
}

// hand stores entry, and hands it over.
func (fx *effects) hand(entry pim.Entry, late bool) {
	fx.meta.Stored++
	fx.metaDirty = true
	fx.out.Store.Entries = append(fx.out.Store.Entries, Stored{Entry: entry, Number: fx.meta.Stored, Late: late})
	fx.emit(EntryEvent{Entry: entry, Late: late, Number: fx.meta.Stored})
}

// store puts m's present state into the next output, in place of an earlier state of m
// that is in it.
func (fx *effects) store(m *message) {
	pending := fx.out.Store.Outbox
	for i := len(pending) - 1; i >= 0; i-- {
		if pending[i].ID == m.ID {
			pending[i] = m.Outgoing
			return
		}
	}
	fx.out.Store.Outbox = append(pending, m.Outgoing)
}

// unstore takes id out of the store, and out of the next output.
func (fx *effects) unstore(id pim.ClientMessageID) {
	fx.out.Store.Outbox = slices.DeleteFunc(fx.out.Store.Outbox, func(m Outgoing) bool { return m.ID == id })
	fx.out.Store.Remove = append(fx.out.Store.Remove, id)
}
