package route

import (
	"errors"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/route/routepb"
)

// encodeRequest sets m, whose fields are empty, to r. m refers to the bytes of r.
func encodeRequest(m *routepb.Request, number uint64, r *conv.Request) {
	m.Number = number
	m.Conversation = string(r.Conversation)
	m.Kind = uint32(r.Kind)
	m.Sender, m.Device = string(r.Sender), string(r.Device)
	m.ClientId = r.ClientID[:]
	m.LocalMs, m.Attempt, m.AgeMs = int64(r.Local), r.Attempt, int64(r.Age)
	for _, u := range r.Members {
		m.Members = append(m.Members, string(u))
	}
	for _, u := range r.Mentions {
		m.Mentions = append(m.Mentions, string(u))
	}
	m.MentionAll, m.Payload = r.MentionAll, r.Payload
	m.Refers, m.Reaction, m.Removed = uint64(r.Refers), r.Reaction, r.Removed
	m.RetainMs = int64(r.Retain)
}

// decodeRequest sets r, which is empty, to m, and takes over the bytes of m.
func decodeRequest(r *conv.Request, m *routepb.Request) {
	r.Conversation = pim.ConversationID(m.Conversation)
	r.Kind = pim.EntryKind(m.Kind)
	r.Sender, r.Device = pim.UserID(m.Sender), pim.DeviceID(m.Device)
	copy(r.ClientID[:], m.ClientId)
	r.Local, r.Attempt, r.Age = pim.Millis(m.LocalMs), m.Attempt, pim.Millis(m.AgeMs)
	r.Members, r.Mentions = userIDs(m.Members), userIDs(m.Mentions)
	r.MentionAll, r.Payload = m.MentionAll, m.Payload
	r.Refers, r.Reaction, r.Removed = pim.Seq(m.Refers), m.Reaction, m.Removed
	r.Retain = pim.Millis(m.RetainMs)
}

func userIDs(names []string) []pim.UserID {
	if len(names) == 0 {
		return nil
	}
	some := make([]pim.UserID, len(names))
	for i, n := range names {
		some[i] = pim.UserID(n)
	}
	return some
}

// encodeAnswer returns the form of a for the node that asked with that number. It refers to the
// bytes of a.
func encodeAnswer(number uint64, a *conv.Answer) *routepb.Answer {
	if a.Err != nil {
		return &routepb.Answer{Number: number, Failure: encodeFailure(a.Err)}
	}
	return &routepb.Answer{
		Number: number,
		Seq:    uint64(a.Seq), Anchor: uint64(a.Anchor), Count: a.Count,
		ServerMs: int64(a.Server), AheadMs: int64(a.Ahead), OrderMs: int64(a.Order),
		AllCount: a.AllCount, Mentions: a.Mentions, Duplicate: a.Duplicate, Payload: a.Payload,
	}
}

// decodeAnswer returns the answer to r, and gives r its conversation if it is a create. The answer
// takes over the bytes of m.
func decodeAnswer(m *routepb.Answer, r *conv.Request) conv.Answer {
	r.Conversation = pim.ConversationID(placed(r))
	if m.Failure != nil {
		return conv.Answer{Request: r, Err: decodeFailure(m.Failure)}
	}
	return conv.Answer{
		Request: r,
		Seq:     pim.Seq(m.Seq), Anchor: pim.Seq(m.Anchor), Count: m.Count,
		Server: pim.Millis(m.ServerMs), Ahead: pim.Millis(m.AheadMs), Order: pim.Millis(m.OrderMs),
		AllCount: m.AllCount, Mentions: m.Mentions, Duplicate: m.Duplicate, Payload: m.Payload,
	}
}

func encodeFailure(err error) *routepb.Failure {
	f := &routepb.Failure{Kind: uint32(pim.KindOf(err)), Text: err.Error()}
	var e *pim.Error
	if errors.As(err, &e) {
		f.Op, f.Text, f.RetryAfterNs = e.Op, e.Text, int64(e.RetryAfter)
		if e.Err != nil {
			f.Cause = e.Err.Error()
		}
	}
	return f
}

func decodeFailure(f *routepb.Failure) error {
	e := &pim.Error{Op: f.Op, Kind: pim.Kind(f.Kind), Text: f.Text, RetryAfter: time.Duration(f.RetryAfterNs)}
	if f.Kind > 255 {
		e.Kind = pim.KindUnknown
	}
	if f.Cause != "" {
		e.Err = errors.New(f.Cause)
	}
	return e
}

// isOfNode reports whether f says that a node can't write now, while another one may be able to.
func isOfNode(f *routepb.Failure) bool {
	k := pim.Kind(f.Kind)
	return k == pim.KindUnavailable || k == pim.KindClockUnhealthy
}
