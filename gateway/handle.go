package gateway

import (
	"errors"
	"math"
	"sync"
	"time"

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
	case wire.TypePushAck:
		return c.handlePushAck(frame[1:])
	case wire.TypeHello, wire.TypeWelcome, wire.TypeSendAck, wire.TypePush, wire.TypeSyncResp, wire.TypePullResp,
		wire.TypeTimeResp, wire.TypePong, wire.TypeGoAway, wire.TypeError, wire.TypeReceiptResp, wire.TypeReceipt,
		wire.TypePresence, wire.TypeMembersResp, wire.TypeDevicesResp: // the server decodes only frames of clients
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
	case *wirepb.PIMSyncReq:
		c.handleSync(m)
	case *wirepb.PIMPullReq:
		c.handlePull(m)
	case *wirepb.PIMReceiptReq:
		c.handleReceipts(m)
	case *wirepb.PIMMembersReq:
		c.handleMembers(m)
	case *wirepb.PIMDevicesReq:
		c.handleDevices(m)
	case *wirepb.PIMLook:
		c.handleLook(m)
	case *wirepb.PIMTyping:
		c.handleTyping(m)
	case *wirepb.PIMTimeReq:
		now := c.gw.Now().UnixMilli()
		c.reply(&wirepb.PIMTimeResp{T1: m.T1, T2: now, T3: now})
	case *wirepb.PIMPing:
		c.handlePing(m)
	}
	return nil
}

func (c *conn) handlePing(m *wirepb.PIMPing) {
	if m.HeartbeatMs != 0 {
		c.announce(m.HeartbeatMs)
		c.lookBy(c.lastRead.Load() + c.idleLimit().Milliseconds() + 1)
	}
	// The pong overtakes the pushes that wait. So it does not say that the device is behind: a
	// device that synced now would pull entries that are on their way. The frame that says so
	// comes behind those pushes, see fallBehind.
	c.reply(&wirepb.PIMPong{Nonce: m.Nonce, ServerMs: c.gw.Now().UnixMilli()})
}

// refusal returns the PIMError for a request that failed with err.
func (g *Gateway) refusal(err error) *wirepb.PIMError {
	g.Metrics.failed(err)
	g.Logger.Debug("request refused", "err", err)
	return wire.ErrorFrame(withoutCause(err))
}

// withoutCause returns err as a client may see it. If the node itself has failed, the cause is left
// out: the names of paths and engines are for the log only.
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

// maxNamed is how many bytes of an ID in a request its refusal repeats at most. No valid
// ID has more.
const maxNamed = 256

// named returns the conversation for an error frame to name: "" if it is longer than any
// conversation's ID.
func named(conversation string) string {
	if len(conversation) > maxNamed {
		return ""
	}
	return conversation
}

// errLongName is the refusal of an ID that is too long. It does not quote the ID.
func errLongName(bytes int) error {
	return pim.Errorf(pim.KindInvalid, "a conversation ID of %d bytes, at most %d are allowed", bytes, maxNamed)
}

var sendReqs = sync.Pool{New: func() any { return new(wirepb.PIMSendReq) }}

// handleSend decodes a PIMSendReq and leaves it for submit. At the limit of sends in
// flight it waits for an answer to be written; nothing more is read meanwhile.
func (c *conn) handleSend(body []byte) error {
	m := sendReqs.Get().(*wirepb.PIMSendReq)
	defer sendReqs.Put(m)
	m.Reset()
	members, mentions, err := wire.ReadSendReq(body, m, c.gw.Limits.Members)
	if err != nil {
		return err
	}
	r := &conv.Request{
		Conversation: pim.ConversationID(m.Conversation),
		Kind:         pim.EntryKind(m.Kind),
		Sender:       c.user,
		Device:       c.device,
		Local:        pim.Millis(m.LocalMs),
		Attempt:      m.Attempt,
		Age:          pim.Millis(min(m.AgeMs, math.MaxInt64)),
		Came:         time.Now(),
		Payload:      m.Payload,
		Refers:       pim.Seq(m.Refers),
		MentionAll:   m.MentionAll,
		Reaction:     m.Reaction,
		Removed:      m.Removed,
		Retain:       pim.Millis(m.RetainMs),
		Origin:       c,
	}
	if m.Kind == wirepb.EntryKind_ENTRY_KIND_UNSPECIFIED {
		r.Kind = pim.EntryMessage
	}
	for _, u := range m.Members {
		r.Members = append(r.Members, pim.UserID(u))
	}
	for _, u := range m.Mentions {
		r.Mentions = append(r.Mentions, pim.UserID(u))
	}
	id, ok := wire.ClientID(m.ClientMessageId)
	m.Payload = nil // the request's now
	switch {
	case !ok:
		c.refuseSend(m, pim.Errorf(pim.KindInvalid, "a client message ID of %d bytes, it has 16", len(m.ClientMessageId)))
		return nil
	case len(m.Conversation) > maxNamed:
		c.refuseSend(m, errLongName(len(m.Conversation)))
		return nil
	case members > c.gw.Limits.Members:
		c.refuseSend(m, pim.Errorf(pim.KindTooLarge, "%d members, a group has at most %d", members, c.gw.Limits.Members))
		return nil
	case mentions > pim.MaxMentions:
		c.refuseSend(m, conv.TooManyMentions(mentions))
		return nil
	}
	r.ClientID = id
	c.gw.Metrics.sends.Inc()
	c.mu.Lock()
	full := int(c.inFlight) >= c.gw.Limits.InFlight
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

// refuseSend answers a PIMSendReq that is not handed to a writer.
func (c *conn) refuseSend(m *wirepb.PIMSendReq, err error) {
	e := c.gw.refusal(err)
	e.ClientMessageId = m.ClientMessageId[:min(len(m.ClientMessageId), maxNamed)]
	e.Conversation = named(m.Conversation)
	c.reply(e)
}

// awaitAnswer waits for a place among the sends in flight and takes it.
func (c *conn) awaitAnswer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for int(c.inFlight) >= c.gw.Limits.InFlight && !c.closed {
		c.await()
	}
	c.inFlight++
}

// submit hands the sends that one read brought in to their writers. If the connection is
// closing it drops them. They get no answer, so the client sends them again over another
// connection, and the answer that it gets there must hold.
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
		c.tell()
		c.mu.Unlock()
	}
	if cap(c.in.sends) > 64 {
		c.in.sends = nil
		return
	}
	clear(c.in.sends)
	c.in.sends = c.in.sends[:0]
}

// awaitSubmit waits until no send of c, which is closing, can reach a writer any more.
func (c *conn) awaitSubmit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.submitting {
		c.await()
	}
}

// handlePushAck notes what the device acknowledges. It drops acknowledgements of
// conversations that by their IDs cannot be the user's, and those above inbox.AckShare.
// The client is not told. The next sync lists such a conversation, or tells its front, again, if
// it is the user's and the server has that to tell.
func (c *conn) handlePushAck(body []byte) error {
	var acks []inbox.Ack
	var fronts []inbox.Front
	made, over := 0, 0
	takes := func(conversation []byte) bool {
		switch {
		case len(acks)+len(fronts) == inbox.AckShare:
			over++
		case len(conversation) > maxNamed || pim.ConversationID(conversation).Excludes(c.user):
			made++
		default:
			return true
		}
		return false
	}
	serial, err := wire.ReadPushAck(body, func(conversation []byte, seq uint64) {
		if takes(conversation) {
			acks = append(acks, inbox.Ack{Conversation: pim.ConversationID(conversation), Seq: pim.Seq(seq)})
		}
	}, func(conversation []byte, front uint64) {
		if takes(conversation) {
			fronts = append(fronts, inbox.Front{Conversation: pim.ConversationID(conversation), Front: pim.Seq(front)})
		}
	})
	if err != nil {
		return err
	}
	c.gw.Metrics.pushAcks.Inc()
	c.gw.Metrics.ackStrangers.Add(float64(made))
	c.gw.Metrics.ackExcess.Add(float64(over))
	c.gw.Acks.Note(c.user, c.device, serial, acks)
	if len(fronts) > 0 {
		c.gw.Acks.NoteFronts(c.user, c.device, fronts)
	}
	return nil
}

// handleSync, handlePull and handleReceipts queue a task. It holds what the request asks for and nothing
// else of its frame.
func (c *conn) handleSync(m *wirepb.PIMSyncReq) {
	if len(m.After) > maxNamed {
		c.refuseTask(c.gw.ctx, m.RequestId, "", errLongName(len(m.After)))
		return
	}
	c.queueTask(task{id: m.RequestId, sync: &inbox.SyncRequest{
		User: c.user, Device: c.device, Full: m.Full, After: pim.ConversationID(m.After), Limit: int(min(m.Limit, 1<<20)),
		Brief: m.Brief, Fronts: m.Fronts, Recent: int(min(m.Recent, inbox.MaxRecent)),
	}})
}

func (c *conn) handlePull(m *wirepb.PIMPullReq) {
	if len(m.Conversation) > maxNamed {
		c.refuseTask(c.gw.ctx, m.RequestId, "", errLongName(len(m.Conversation)))
		return
	}
	if err := c.shedPull(); err != nil {
		c.refuseTask(c.gw.ctx, m.RequestId, m.Conversation, err)
		return
	}
	c.queueTask(task{id: m.RequestId, pull: &inbox.PullRequest{
		Conversation: pim.ConversationID(m.Conversation), From: pim.Seq(m.From), To: pim.Seq(m.To),
		Limit: int(min(m.Limit, 1<<20)), NewestFirst: m.NewestFirst, Changes: m.Changes,
	}})
}
