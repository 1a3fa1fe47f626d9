package route

import (
	"bytes"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
)

// Pushed is told of entries of a conversation that came from another node and that devices of this node have sent,
// before these are pushed what comes after them. A request that still waits is answered by its entry. When Pushed
// returns, the entries and the bytes in them are the caller's again.
//
// The answer comes from the writer straight, the entries by way of the homes. Mostly the answer is first. If it is
// not, because the way from the writer is slow or the answer was lost, a device would be pushed later entries before it
// has its acknowledgement, and would take its own entry for a hole.
func (r *Router) Pushed(c pim.ConversationID, entries []conv.Encoded) {
	r.handed()
	if r.waiting.Load() == 0 {
		return
	}
	r.handing.RLock()
	defer r.handing.RUnlock()
	var answers []conv.Answer
	for i := range entries {
		e := &entries[i]
		l := r.laneOf(e.Sender)
		l.mu.Lock()
		answers = l.pushed(answers, c, e)
		l.flush()
		l.mu.Unlock()
	}
	if len(answers) > 0 {
		r.metrics.pushed.Add(float64(len(answers)))
		r.gateway.Deliver(answers, nil)
	}
}

// pushed takes the requests out of the table of which e is the entry, and appends their answers to answers. The caller
// holds mu and must flush.
func (l *lane) pushed(answers []conv.Answer, c pim.ConversationID, e *conv.Encoded) []conv.Answer {
	s := l.users[e.Sender]
	if s == nil {
		return answers
	}
	var entry pim.Entry
	for i := 0; i < len(s.requests); {
		w := s.requests[i]
		i++
		if w.request.Device != e.Device || placed(w.request) != string(c) {
			continue
		}
		if entry.Seq == 0 {
			var err error
			if entry, err = wire.ParseEntry(c, e.Data); err != nil {
				return answers // the device will not understand it either; the answer comes
			}
		}
		if w.request.ClientID == entry.ClientID {
			l.remove(w)
			i-- // the next one is in its place
			answers = append(answers, answerOf(&entry, w.request))
		}
	}
	return answers
}

// answerOf returns the answer to r whose entry is e. An entry that an earlier transmission may have made is called a duplicate:
// the device pulls it, since it may have been sent with another local time.
func answerOf(e *pim.Entry, r *conv.Request) conv.Answer {
	r.Conversation = e.Conversation // a create has one now
	a := conv.Answer{
		Request: r, Seq: e.Seq, Anchor: e.Anchor, Count: e.Count,
		Server: e.Server, Ahead: e.Ahead, Order: e.Order, AllCount: e.AllCount,
		Duplicate: r.Attempt > 1 || e.Local != r.Local,
	}
	for _, m := range e.Mentions {
		a.Mentions = append(a.Mentions, m.Count)
	}
	if r.Kind == pim.EntryCommand && !bytes.Equal(e.Payload, r.Payload) { // a read command
		a.Payload = e.Payload
	}
	return a
}
