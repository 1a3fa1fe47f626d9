package wire

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// An entry is encoded once, by the writer. The same bytes are stored, pushed and
// pulled: between the disk and the socket they are copied, never encoded again.

// AppendEntry appends the encoding of e, without its conversation, to dst.
func AppendEntry(dst []byte, e *pim.Entry) []byte {
	m := wirepb.Entry{
		Seq:             uint64(e.Seq),
		Anchor:          uint64(e.Anchor),
		Count:           e.Count,
		Kind:            wirepb.EntryKind(e.Kind),
		Sender:          string(e.Sender),
		Device:          string(e.Device),
		ClientMessageId: e.ClientID[:],
		LocalMs:         int64(e.Local),
		ServerMs:        int64(e.Server),
		AheadMs:         int64(e.Ahead),
		OrderMs:         int64(e.Order),
		Payload:         e.Payload,
		Refers:          uint64(e.Refers),
		MentionAll:      e.MentionAll,
		AllCount:        e.AllCount,
		Reaction:        e.Reaction,
		Removed:         e.Removed,
		Erased:          e.Erased,
		RetainMs:        int64(e.Retain),
	}
	if e.Anchor == e.Seq {
		m.Anchor = 0 // the usual case, left out
	}
	for _, u := range e.Members {
		m.Members = append(m.Members, string(u))
	}
	for _, u := range e.Invited {
		m.Invited = append(m.Invited, string(u))
	}
	for _, u := range e.Mentions {
		m.Mentions = append(m.Mentions, &wirepb.Mention{User: string(u.User), Count: u.Count})
	}
	at := len(dst)
	dst = append(dst, make([]byte, m.SizeVT())...)
	if _, err := m.MarshalToSizedBufferVT(dst[at:]); err != nil {
		panic("wire: marshal entry: " + err.Error()) // the buffer has its size: cannot happen
	}
	return append(dst, e.Unknown...)
}

// ParseEntry reads what AppendEntry wrote, an entry of conversation c. Its errors are
// KindCorrupt, and those of EntryOf. The result shares nothing with data.
func ParseEntry(c pim.ConversationID, data []byte) (pim.Entry, error) {
	var m wirepb.Entry
	if err := m.UnmarshalVT(data); err != nil {
		return pim.Entry{}, pim.Errorf(pim.KindCorrupt, "entry of %s: %w", c, err)
	}
	return EntryOf(c, &m)
}

// EntryReader reads entries, one after the other, with fewer allocations than ParseEntry. The zero
// value is ready. One goroutine at a time may use it.
type EntryReader struct {
	m wirepb.Entry // its buffers are used again
}

// Read does what ParseEntry does, but the payload of its result is valid only until the next Read.
func (r *EntryReader) Read(c pim.ConversationID, data []byte) (pim.Entry, error) {
	id, payload := r.m.ClientMessageId[:0], r.m.Payload[:0]
	r.m.Reset()
	r.m.ClientMessageId, r.m.Payload = id, payload
	if err := r.m.UnmarshalVT(data); err != nil {
		return pim.Entry{}, pim.Errorf(pim.KindCorrupt, "entry of %s: %w", c, err)
	}
	return EntryOf(c, &r.m)
}

// EntryOf returns m, an entry of conversation c, as a pim.Entry, which takes over m's
// payload and the fields that this version does not know. It fails with KindInvalid if
// m has no seq, or no client message ID of 16 bytes.
func EntryOf(c pim.ConversationID, m *wirepb.Entry) (pim.Entry, error) {
	e := pim.Entry{
		Conversation: c,
		Seq:          pim.Seq(m.Seq),
		Anchor:       pim.Seq(m.Anchor),
		Count:        m.Count,
		Kind:         pim.EntryKind(m.Kind),
		Sender:       pim.UserID(m.Sender),
		Device:       pim.DeviceID(m.Device),
		Local:        pim.Millis(m.LocalMs),
		Server:       pim.Millis(m.ServerMs),
		Ahead:        pim.Millis(m.AheadMs),
		Order:        pim.Millis(m.OrderMs),
		Payload:      m.Payload,
		Refers:       pim.Seq(m.Refers),
		MentionAll:   m.MentionAll,
		AllCount:     m.AllCount,
		Reaction:     m.Reaction,
		Removed:      m.Removed,
		Erased:       m.Erased,
		Retain:       pim.Millis(m.RetainMs),
		Unknown:      m.ProtoReflect().GetUnknown(),
	}
	if m.Anchor == 0 {
		e.Anchor = e.Seq
	}
	if m.Seq == 0 || len(m.ClientMessageId) != len(e.ClientID) {
		return pim.Entry{}, pim.Errorf(pim.KindInvalid, "entry of %s: seq %d, client message ID of %d bytes", c, m.Seq, len(m.ClientMessageId))
	}
	copy(e.ClientID[:], m.ClientMessageId)
	for _, u := range m.Members {
		e.Members = append(e.Members, pim.UserID(u))
	}
	for _, u := range m.Invited {
		e.Invited = append(e.Invited, pim.UserID(u))
	}
	for _, u := range m.Mentions {
		e.Mentions = append(e.Mentions, pim.Mention{User: pim.UserID(u.User), Count: u.Count})
	}
	return e, nil
}

// briefPayload is how many bytes of payload a brief entry keeps, at most.
const briefPayload = 64

// BriefEntry returns what a brief Summary shows of m, its last entry, and whether m's
// payload was cut. Fields that the Summary itself has are left out. The result shares
// m's payload.
func BriefEntry(m *wirepb.Entry) (brief *wirepb.Entry, cut bool) {
	brief = &wirepb.Entry{Kind: m.Kind, Sender: m.Sender, LocalMs: m.LocalMs, ServerMs: m.ServerMs, AheadMs: m.AheadMs, Payload: m.Payload}
	if cut = len(m.Payload) > briefPayload; cut {
		brief.Payload = Cut(m.Payload, briefPayload)
	}
	return brief, cut
}

// AppendPush appends a PIMPush frame of c with the encoded entries to dst.
// More entries can follow by AppendPushEntry.
func AppendPush(dst []byte, c pim.ConversationID, entries [][]byte) []byte {
	dst = append(dst, byte(TypePush))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendString(dst, string(c))
	for _, e := range entries {
		dst = AppendPushEntry(dst, e)
	}
	return dst
}

// AppendPushEntry appends one encoded entry to a PIMPush frame.
func AppendPushEntry(dst, entry []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, 2, protowire.BytesType), entry)
}

// AppendPullResp appends a PIMPullResp frame to dst: resp with the encoded entries and folds in
// place of resp.Entries and resp.Folds, which must be empty.
func AppendPullResp(dst []byte, resp *wirepb.PIMPullResp, entries, folds [][]byte) []byte {
	dst = Append(dst, resp)
	for _, e := range entries {
		dst = protowire.AppendBytes(protowire.AppendTag(dst, 3, protowire.BytesType), e)
	}
	for _, f := range folds {
		dst = protowire.AppendBytes(protowire.AppendTag(dst, 8, protowire.BytesType), f)
	}
	return dst
}

// EntryOverhead is how many bytes an entry or a fold takes in a PIMPush or PIMPullResp frame
// above its encoding, at most.
const EntryOverhead = 6

// FrameRoom is how many bytes of entries or Summaries fit into one frame. The rest is for the
// type, a conversation's ID and numbers. The greatest entry fits into it, and so does the
// greatest message with its fold.
const FrameRoom = pim.MaxFrame - 1024

// Fit returns how many of n entries, from the first on, go into one frame, and for how many bytes
// they need room there. It is one at least. size returns the encoded size of entry i.
func Fit(n int, size func(i int) int) (count, bytes int) {
	for count < n {
		more := size(count) + EntryOverhead
		if count > 0 && bytes+more > FrameRoom {
			break
		}
		count, bytes = count+1, bytes+more
	}
	return count, bytes
}

// ClientID returns b as a client message ID; ok is false if it is not 16 bytes.
func ClientID(b []byte) (id pim.ClientMessageID, ok bool) {
	return id, copy(id[:], b) == len(id) && len(b) == len(id)
}
