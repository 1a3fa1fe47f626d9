package engine

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// What a person reads (Reading), with the app in the foreground, is read as it comes. The read
// command for it is in the outbox, so stored, with the entry itself: without a connection too, and
// after a restart. While it waits there to be transmitted it grows with what comes, under the
// same ID, and it waits for readEvery after the one before. So a busy conversation costs one command
// a second.

// readEvery is how far apart the read commands are that a conversation gives by being read.
const readEvery = time.Second

// reading is a conversation that a person reads.
type reading struct {
	conversation pim.ConversationID
	begun        bool                // the mark as unread was taken away
	upTo         pim.Seq             // what is up to here was taken care of
	command      pim.ClientMessageID // the last read command
	nextAt       time.Duration       // when the next one may be transmitted
}

// read takes Reading.
func (e *Engine) read(in Reading) error {
	if e.cfg.Watch {
		return pim.Errorf(pim.KindInvalid, "with Options.Watch nothing is read")
	}
	if err := in.Conversation.Validate(); err != nil {
		return err
	}
	i := slices.IndexFunc(e.readings, func(r *reading) bool { return r.conversation == in.Conversation })
	switch {
	case in.On && i < 0:
		e.readings = append(e.readings, &reading{conversation: in.Conversation})
	case !in.On && i >= 0:
		e.outbox.release(e.readings[i].command)
		e.readings = slices.Delete(e.readings, i, i+1)
	}
	if c := e.conversations.byID[in.Conversation]; c != nil && c.pulling {
		e.pulls.move(c, e.rank(c))
	}
	return nil
}

// inFront takes Foreground.
func (e *Engine) inFront(on bool) {
	e.heart.foreground = on
	for _, r := range e.readings {
		if !on { // the app may be stopped any moment
			e.outbox.release(r.command)
			r.begun = false
		}
	}
}

// isRead reports whether a person reads id.
func (e *Engine) isRead(id pim.ConversationID) bool {
	return slices.ContainsFunc(e.readings, func(r *reading) bool { return r.conversation == id })
}

// readOn reads what has come of the conversations that a person reads. What is only heard of is
// not read: the person has not seen it.
func (e *Engine) readOn() {
	if !e.heart.foreground || e.user() == "" {
		return
	}
	for _, r := range e.readings {
		if !r.begun {
			r.begun = true
			e.unmark(r.conversation)
		}
		c := e.conversations.byID[r.conversation]
		if c == nil || c.doubt != nil || c.known < c.counted || c.counted <= r.upTo {
			continue
		}
		s, _ := e.setting(readEntity(c.id))
		if c.count <= max(s.Count, c.ownUpTo) || e.giveRead(c, r) {
			r.upTo = c.counted
		}
	}
}

// giveRead gives the read command of r up to the newest entry of c, and reports whether there was room
// for it.
func (e *Engine) giveRead(c *conversation, r *reading) bool {
	cmd := pim.Command{Kind: pim.CommandRead, Subject: string(c.id), Seq: c.counted}
	if checkRead(c, &cmd) != nil { // it sets the counts there
		return false
	}
	if m := e.outbox.byID[r.command]; m != nil && m.state == Queued && m.Local == 0 {
		cmd.Known = m.command.Known
		e.outbox.rewrite(m, wire.AppendCommand(nil, &cmd))
		e.showSetting(cmd.Entity())
		e.readUpTo(c)
		return true
	}
	id := e.newID()
	if e.do(Do{ID: id, Command: cmd}) != nil {
		return false
	}
	r.command = id
	e.outbox.hold(id, r.nextAt)
	r.nextAt = max(r.nextAt, e.now.Mono) + readEvery
	return true
}

// unmark takes the mark as unread of conv away, if there is one.
func (e *Engine) unmark(conv pim.ConversationID) {
	cmd := pim.Command{Kind: pim.CommandUnread, Subject: string(conv), Removed: true}
	if s, _ := e.setting(cmd.Entity()); s.InForce(0) {
		// If there is no room for the command, the mark stays.
		_ = e.do(Do{ID: e.newID(), Command: cmd})
	}
}

// readAgain lets what is read of c above the seq to, which is gone, be read again.
func (e *Engine) readAgain(c *conversation, to pim.Seq) {
	for _, r := range e.readings {
		if r.conversation == c.id {
			r.upTo = min(r.upTo, to)
		}
	}
}

// newID returns an ID for a command of the engine's own: a UUIDv7 of the present, as far as it is
// known, and of two random numbers, of which each gives 37 bits.
func (e *Engine) newID() (id pim.ClientMessageID) {
	a, b := uint64(e.cfg.Random()*(1<<37)), uint64(e.cfg.Random()*(1<<37))
	binary.BigEndian.PutUint64(id[:8], uint64(e.clock.at(e.now))<<16|0x7000|a>>25)
	binary.BigEndian.PutUint64(id[8:], 1<<63|a&(1<<25-1)<<37|b)
	for e.outbox.byID[id] != nil {
		id[15]++
	}
	return id
}
