package gateway

import (
	"errors"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// handle takes one frame. An error ends the connection; a request that fails is
// answered with PIMError.
func (c *conn) handle(frame []byte) error {
	switch t := wire.Type(frame[0]); t {
	case wire.TypeSendReq:
		return c.handleSend(frame[1:])
	case wire.TypeHello, wire.TypeWelcome, wire.TypeSendAck, wire.TypePush, wire.TypeSyncResp, wire.TypePullResp,
		wire.TypeTimeResp, wire.TypePong, wire.TypeGoAway, wire.TypeError: // not to be decoded at the client's wish
		return pim.Errorf(pim.KindInvalid, "a client does not send %s now", t)
	}
	_, m, err := wire.Decode(frame)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case nil: // of a later version
		c.gw.Metrics.dropUnknown.Inc()
		return nil
	case *wirepb.PIMPushAck:
		c.handlePushAck(m)
	case *wirepb.PIMSyncReq:
		c.enqueue(task{sync: m}, m.RequestId)
	case *wirepb.PIMPullReq:
		c.enqueue(task{pull: m}, m.RequestId)
	case *wirepb.PIMTimeReq:
		now := c.gw.Now().UnixMilli()
		c.reply(&wirepb.PIMTimeResp{T1: m.T1, T2: now, T3: now})
	case *wirepb.PIMPing:
		c.handlePing(m)
	}
	return nil
}

func (c *conn) handlePing(m *wirepb.PIMPing) {
	c.mu.Lock()
	behind := c.behind
	c.mu.Unlock()
	c.announce(m.HeartbeatMs)
	c.reply(&wirepb.PIMPong{Nonce: m.Nonce, ServerMs: c.gw.Now().UnixMilli(), Behind: behind})
}

// refusal returns the PIMError for a request that failed with err.
func (g *Gateway) refusal(err error) *wirepb.PIMError {
	g.Metrics.failed(err)
	g.Logger.Debug("request refused", "err", err)
	return wire.ErrorFrame(withoutCause(err))
}

// withoutCause leaves out of a failure of the node's own what caused it: paths and
// engines are for the log, and no client's business.
func withoutCause(err error) error {
	var e *pim.Error
	if !errors.As(err, &e) {
		return err
	}
	text := ""
	switch {
	case e.Kind == pim.KindDiskFull:
		text = "the node has no room to store anything"
	case e.Kind == pim.KindCorrupt:
		text = "what the node has stored is corrupt"
	case e.Kind == pim.KindUnavailable && e.Err != nil:
		text = "the node cannot read or write now"
	default:
		return err
	}
	return &pim.Error{Kind: e.Kind, Text: text + "; its log says more", RetryAfter: e.RetryAfter}
}

// maxNamed is how much of what a request called itself its refusal repeats: more
// than any valid ID has.
const maxNamed = 256

// named returns a conversation as an error names it: not at all if no conversation
// has such a name.
func named(conversation string) string {
	if len(conversation) > maxNamed {
		return ""
	}
	return conversation
}

var sendReqs = sync.Pool{New: func() any { return new(wirepb.PIMSendReq) }}

// handleSend decodes a PIMSendReq and leaves it for submit. Above the limit of
// sends in flight it waits, and with it the client: nothing more is read.
func (c *conn) handleSend(body []byte) error {
	m := sendReqs.Get().(*wirepb.PIMSendReq)
	defer sendReqs.Put(m)
	m.Reset()
	if err := m.UnmarshalVT(body); err != nil {
		return pim.Errorf(pim.KindInvalid, "%s: %w", wire.TypeSendReq, err)
	}
	r := &conv.Request{
		Conversation: pim.ConversationID(m.Conversation),
		Kind:         wire.EntryKindOf(m.Kind),
		Sender:       c.user,
		Device:       c.device,
		Local:        pim.Millis(m.LocalMs),
		Payload:      m.Payload,
		Origin:       c,
	}
	if m.Kind == wirepb.EntryKind_ENTRY_KIND_UNSPECIFIED {
		r.Kind = pim.EntryMessage
	}
	for _, u := range m.Members {
		r.Members = append(r.Members, pim.UserID(u))
	}
	id, ok := wire.ClientID(m.ClientMessageId)
	m.Payload = nil // the request's now
	if !ok {
		e := c.gw.refusal(pim.Errorf(pim.KindInvalid, "a client message ID of %d bytes, it has 16", len(m.ClientMessageId)))
		e.ClientMessageId = m.ClientMessageId[:min(len(m.ClientMessageId), maxNamed)]
		c.reply(e)
		return nil
	}
	r.ClientID = id
	c.gw.Metrics.sends.Inc()
	c.mu.Lock()
	full := c.inFlight >= c.gw.Limits.InFlight
	if !full {
		c.inFlight++
	}
	c.mu.Unlock()
	if full {
		c.submit()
		c.awaitAnswer()
	}
	c.in.sends = append(c.in.sends, r)
	return nil
}

// awaitAnswer waits for a place among the sends in flight and takes it.
func (c *conn) awaitAnswer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.inFlight >= c.gw.Limits.InFlight && !c.closed {
		c.changed.Wait()
	}
	c.inFlight++
}

// submit hands the sends that one read brought in to their writers. Those of a
// connection that is closing are left out: they get no answer, so the client
// sends them again elsewhere, and what it is told there must be the last word.
func (c *conn) submit() {
	if len(c.in.sends) == 0 {
		return
	}
	c.mu.Lock()
	c.submitting = !c.closing
	submit := c.submitting
	c.mu.Unlock()
	if submit {
		c.gw.Writer.Submit(c.in.sends)
		c.mu.Lock()
		c.submitting = false
		c.changed.Broadcast()
		c.mu.Unlock()
	}
	if cap(c.in.sends) > 64 {
		c.in.sends = nil
		return
	}
	clear(c.in.sends)
	c.in.sends = c.in.sends[:0]
}

// fence waits until no send of a connection that is closing can reach a writer
// any more.
func (c *conn) fence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.submitting {
		c.changed.Wait()
	}
}

func (c *conn) handlePushAck(m *wirepb.PIMPushAck) {
	acks := make([]inbox.Ack, 0, len(m.Acks))
	for _, a := range m.Acks {
		if len(a.Conversation) <= maxNamed { // no conversation has a longer name
			acks = append(acks, inbox.Ack{Conversation: pim.ConversationID(a.Conversation), Seq: pim.Seq(a.Seq)})
		}
	}
	c.gw.Metrics.pushAcks.Inc()
	c.gw.Acks.Note(c.ctx(), c.user, c.device, m.Serial, acks)
}
