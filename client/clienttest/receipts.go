package clienttest

import (
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// receipts answers a PIMReceiptReq from the logs alone.
func (x *Session) receipts(m *wirepb.PIMReceiptReq) wire.Message {
	s, c := x.server, pim.ConversationID(m.Conversation)
	resp := &wirepb.PIMReceiptResp{RequestId: m.RequestId, Conversation: m.Conversation}
	refuse := func(kind pim.Kind, text string) wire.Message {
		f := wire.ErrorFrame(pim.Errorf(kind, "%s", text))
		f.RequestId = m.RequestId
		return f
	}
	l := s.logs[c]
	switch {
	case l == nil || !l.member(c, x.key.user):
		return refuse(pim.KindNotMember, "not a member")
	case m.From == 0 || m.To != 0 && (m.To < m.From || m.To-m.From >= 50):
		return refuse(pim.KindInvalid, "no such range")
	case s.read(x.key.user, c).off:
		return refuse(pim.KindForbidden, "no receipts are given, and none got")
	}
	if a, b, direct := c.DirectUsers(); direct {
		peer := a
		if a == x.key.user {
			peer = b
		}
		if r := s.read(peer, c); !r.off {
			resp.Read, resp.ReadMs = uint64(r.seq), int64(r.at)
		}
		resp.Delivered = resp.Read
		for key, d := range s.devices {
			if key.user == peer {
				resp.Delivered = max(resp.Delivered, uint64(min(d.acked[c], pim.Seq(len(l.entries)))))
			}
		}
		return resp
	}
	last := max(m.To, m.From)
	if m.Readers {
		last = m.From
	}
	for _, e := range l.entries {
		if uint64(e.Seq) < m.From || uint64(e.Seq) > last || e.Kind != pim.EntryMessage || !l.reads(c, x.key.user, e.Seq) {
			continue
		}
		receipt := &wirepb.Receipt{Seq: uint64(e.Seq)}
		for _, u := range slices.Sorted(maps.Keys(l.periods)) {
			r := s.read(u, c)
			if u == e.Sender || r.off || !l.member(c, u) || !l.reads(c, u, e.Seq) {
				continue
			}
			reader := &wirepb.Reader{User: string(u)}
			receipt.Members++
			if r.seq >= e.Seq {
				receipt.Read++
				reader.Read, reader.ReadMs = true, int64(r.at)
			}
			if m.Readers && string(u) > m.After {
				resp.Readers = append(resp.Readers, reader)
			}
		}
		if !m.Readers {
			resp.Receipts = append(resp.Receipts, receipt)
		}
	}
	return resp
}

// position is how far a user has read a conversation, as far as the user lets others know.
type position struct {
	seq pim.Seq
	at  pim.Millis
	off bool // the user gives no receipts
}

func (s *Server) read(user pim.UserID, c pim.ConversationID) (p position) {
	reach := func(seq pim.Seq, at pim.Millis) {
		if seq > p.seq || seq == p.seq && at < p.at {
			p.seq, p.at = seq, at
		}
	}
	if own := s.logs[pim.Own(user)]; own != nil {
		var set pim.Setting
		for _, e := range own.entries {
			switch cmd, err := wire.ParseCommand(e.Payload); {
			case err != nil:
			case cmd.Kind == pim.CommandNoReceipts:
				set.Apply(&cmd, e.Seq, e.Device)
			case cmd.Kind == pim.CommandRead && cmd.Subject == string(c) && !set.InForce(0):
				reach(cmd.Seq, e.Server)
			}
		}
		p.off = set.InForce(0)
	}
	if l := s.logs[c]; l != nil {
		for _, e := range l.entries {
			if e.Sender == user && e.Kind == pim.EntryMessage {
				reach(e.Seq, e.Server)
			}
		}
	}
	return p
}

// tellLookers sends a PIMReceipt to every session that looks at a conversation of which e may
// have changed what others have read.
func (s *Server) tellLookers(e *pim.Entry) {
	c := string(e.Conversation)
	if cmd, err := wire.DecodeCommand(e.Payload); e.Kind == pim.EntryCommand && err == nil {
		c = cmd.Subject
	}
	l := s.logs[pim.ConversationID(c)]
	if l == nil || len(l.entries) == 0 {
		return
	}
	newest := uint64(len(l.entries))
	for _, key := range slices.SortedFunc(maps.Keys(s.sessions), deviceKey.compare) {
		x := s.sessions[key]
		if !slices.Contains(x.looks, c) {
			continue
		}
		asked := &wirepb.PIMReceiptReq{Conversation: c, From: newest - min(newest, 50) + 1, To: newest}
		if r, ok := x.receipts(asked).(*wirepb.PIMReceiptResp); ok {
			x.push(&wirepb.PIMReceipt{Conversation: c, Delivered: r.Delivered, Read: r.Read, ReadMs: r.ReadMs, Receipts: r.Receipts})
		}
	}
}

// members answers a PIMMembersReq, with all members on one page.
func (x *Session) members(m *wirepb.PIMMembersReq) wire.Message {
	c := pim.ConversationID(m.Conversation)
	l := x.server.logs[c]
	if l == nil || !c.IsGroup() || !l.member(c, x.key.user) {
		f := wire.ErrorFrame(pim.Errorf(pim.KindNotMember, "not a member"))
		f.RequestId = m.RequestId
		return f
	}
	resp := &wirepb.PIMMembersResp{RequestId: m.RequestId, Conversation: m.Conversation, Owner: string(l.owner())}
	for _, u := range slices.Sorted(maps.Keys(l.periods)) {
		if !l.member(c, u) || string(u) <= m.After {
			continue
		}
		since := l.periods[u][len(l.periods[u])-1].from
		one := &wirepb.Member{User: string(u), Since: uint64(since)}
		for i := range l.entries {
			if l.entries[i].Seq == since {
				one.SinceMs = int64(l.entries[i].Time())
			}
		}
		resp.Members = append(resp.Members, one)
	}
	return resp
}
