package clienttest

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Session is one connection to a Server.
type Session struct {
	server *Server
	key    deviceKey
	open   bool
	behind bool         // pushes were dropped
	looks  []string     // conversations
	users  []pim.UserID // that are looked at
	out    func(wire.Message)
	pushes []wire.Message // that Pushes has not returned yet; only if out is nil
}

// Connect returns a new session. Its answers and pushes go, in order, to out,
// which must not block and must not call the server. If out is nil, Handle
// returns the answers and Pushes the pushes.
func (s *Server) Connect(out func(wire.Message)) *Session { return &Session{server: s, out: out} }

// Handle takes a frame of the client, and answers it as Connect says. The token of a
// Hello is the user's ID.
func (x *Session) Handle(m wire.Message) []wire.Message {
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	answers := x.handle(m)
	if x.out == nil {
		return answers
	}
	for _, a := range answers {
		x.out(a)
	}
	return nil
}

// Pushes returns the pushes to this session since the last call.
func (x *Session) Pushes() []wire.Message {
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	p := x.pushes
	x.pushes = nil
	return p
}

func (x *Session) push(m wire.Message) {
	if x.out != nil {
		x.out(m)
		return
	}
	x.pushes = append(x.pushes, m)
}

// Close ends the session.
func (x *Session) Close() {
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	if x.server.sessions[x.key] == x {
		delete(x.server.sessions, x.key)
		x.server.tellPresence(x.key.user)
	}
	x.open = false
}

func (x *Session) handle(m wire.Message) []wire.Message {
	if hello, ok := m.(*wirepb.Hello); ok {
		return x.hello(hello)
	}
	if !x.open {
		return nil
	}
	switch m := m.(type) {
	case *wirepb.PIMSendReq:
		return []wire.Message{x.send(m)}
	case *wirepb.PIMPushAck:
		d := x.server.device(x.key)
		d.serial = max(d.serial, m.Serial)
		for _, a := range m.Acks {
			c := pim.ConversationID(a.Conversation)
			d.acked[c] = max(d.acked[c], pim.Seq(a.Seq))
		}
		maps.DeleteFunc(d.fronts, func(c pim.ConversationID, front pim.Seq) bool {
			return slices.ContainsFunc(m.Fronts, func(f *wirepb.Front) bool { return f.Conversation == string(c) && f.Front >= uint64(front) })
		})
	case *wirepb.PIMSyncReq:
		page := x.sync(m)
		if list := page.Conversations; m.Recent > 0 && m.After == "" && (len(list) > int(m.Recent) || page.NextAfter != "") {
			return []wire.Message{x.recent(m), page}
		}
		return []wire.Message{page}
	case *wirepb.PIMPullReq:
		return x.pull(m)
	case *wirepb.PIMReceiptReq:
		return []wire.Message{x.receipts(m)}
	case *wirepb.PIMMembersReq:
		return []wire.Message{x.members(m)}
	case *wirepb.PIMLook:
		return x.look(m)
	case *wirepb.PIMTyping:
		x.types(pim.ConversationID(m.Conversation))
	case *wirepb.PIMTimeReq:
		now := int64(x.server.Now())
		return []wire.Message{&wirepb.PIMTimeResp{T1: m.T1, T2: now, T3: now}}
	case *wirepb.PIMPing:
		pong := &wirepb.PIMPong{Nonce: m.Nonce, ServerMs: int64(x.server.Now()), Behind: x.behind}
		x.behind = false
		return []wire.Message{pong}
	}
	return nil
}

func (x *Session) hello(m *wirepb.Hello) []wire.Message {
	if admit := x.server.Admit; admit != nil {
		if err := admit(m); err != nil {
			code := wire.CodeUnavailable
			if err.Kind == pim.KindUnauthorized {
				code = wire.CodeUnauthorized
			}
			return []wire.Message{
				wire.ErrorFrame(err),
				&wirepb.PIMGoAway{Code: uint32(code), Text: err.Text, Reconnect: code.Reconnect()},
			}
		}
	}
	x.key, x.open = deviceKey{pim.UserID(m.Token), pim.DeviceID(m.Device)}, true
	x.server.sessions[x.key] = x
	x.server.tellPresence(x.key.user)
	serial := x.server.device(x.key).serial
	limits := &x.server.Limits
	return []wire.Message{&wirepb.Welcome{
		Version: wire.Version, User: m.Token, ServerMs: int64(x.server.Now()), Limits: limits,
		StorageBehind: serial > m.AckSerial, AckSerial: serial, Store: x.server.Store,
	}}
}

func (x *Session) send(m *wirepb.PIMSendReq) wire.Message {
	if reject := x.server.Reject; reject != nil {
		if err := reject(m); err != nil {
			return refusal(err, m)
		}
	}
	id, _ := wire.ClientID(m.ClientMessageId)
	c := pim.ConversationID(m.Conversation)
	if pim.EntryKind(m.Kind) == pim.EntryCreate {
		c = pim.NewGroup(x.key.user, id)
	}
	if l := x.server.logs[c]; l != nil && l.ids[id] != 0 {
		ack := ackOf(&l.entries[l.ids[id]-1], m)
		if ack.Duplicate = true; pim.Seq(ack.Seq) < l.front {
			ack = &wirepb.PIMSendAck{ClientMessageId: ack.ClientMessageId, Conversation: ack.Conversation, Seq: ack.Seq, Anchor: ack.Seq, Duplicate: true}
		}
		return ack
	}
	e, err := x.server.append(x.key, m)
	if err != nil {
		return refusal(err, m)
	}
	return ackOf(&e, m)
}

func refusal(err error, m *wirepb.PIMSendReq) wire.Message {
	f := wire.ErrorFrame(err)
	f.ClientMessageId = m.ClientMessageId
	return f
}

func ackOf(e *pim.Entry, m *wirepb.PIMSendReq) *wirepb.PIMSendAck {
	ack := &wirepb.PIMSendAck{
		ClientMessageId: e.ClientID[:], Conversation: string(e.Conversation), Seq: uint64(e.Seq),
		Anchor: uint64(e.Anchor), ServerMs: int64(e.Server), Count: e.Count,
		AheadMs: int64(e.Ahead), OrderMs: int64(e.Order), AllCount: e.AllCount,
	}
	for _, u := range e.Mentions {
		ack.MentionCounts = append(ack.MentionCounts, u.Count)
	}
	if e.Kind == pim.EntryCommand && !bytes.Equal(e.Payload, m.Payload) {
		ack.Payload = e.Payload
	}
	return ack
}

// recent returns what comes ahead of the first page that m asks for.
func (x *Session) recent(m *wirepb.PIMSyncReq) wire.Message {
	all := &wirepb.PIMSyncReq{RequestId: m.RequestId, Full: m.Full, Limit: math.MaxUint32, Brief: m.Brief}
	resp := x.sync(all)
	resp.Recent = true
	slices.SortStableFunc(resp.Conversations, func(a, b *wirepb.Summary) int {
		return cmp.Compare(b.Last.ServerMs-b.Last.AheadMs, a.Last.ServerMs-a.Last.AheadMs)
	})
	resp.Conversations = resp.Conversations[:min(int(m.Recent), len(resp.Conversations))]
	return resp
}

func (x *Session) sync(m *wirepb.PIMSyncReq) *wirepb.PIMSyncResp {
	resp := &wirepb.PIMSyncResp{RequestId: m.RequestId}
	acked := x.server.device(x.key).acked
	limit := int(m.Limit)
	if limit == 0 {
		limit = 100
	}
	if fronts := x.server.device(x.key).fronts; m.Fronts && m.After == "" {
		for _, c := range slices.Sorted(maps.Keys(fronts))[:min(len(fronts), 100)] {
			resp.Fronts = append(resp.Fronts, &wirepb.Front{Conversation: string(c), Front: uint64(fronts[c])})
		}
	}
	settings := x.server.settings(x.key.user)
	for _, c := range x.server.conversations(x.key.user) {
		l := x.server.logs[c]
		newest := l.newest(c, x.key.user)
		if string(c) <= m.After || !m.Full && acked[c] >= newest {
			continue
		}
		if len(resp.Conversations) == limit {
			resp.NextAfter = resp.Conversations[limit-1].Conversation
			break
		}
		last := l.entries[newest-1]
		s := &wirepb.Summary{
			Conversation: string(c), Newest: uint64(newest), Acked: uint64(acked[c]), Count: last.Count,
			Last: protoOf(&last), Left: !l.member(c, x.key.user),
		}
		st := l.standing(c, x.key.user)
		s.Own, s.OwnCount, s.Named, s.OwnAll, s.AllCount = st.Own, st.OwnCount, st.Named, st.OwnAll, st.AllCount
		if read := settings["read/"+string(c)]; read.Seq <= newest {
			s.Read, s.ReadCount, s.ReadAt = uint64(read.Seq), read.Count, uint64(read.At)
			s.ReadNamed, s.ReadAll = min(read.Named, s.Named), min(read.All, s.AllCount)
		}
		marked := settings["6/"+string(c)]
		s.Marked, s.MarkedAt = marked.InForce(0), uint64(marked.At)
		if s.Front = uint64(l.front); newest < l.front {
			s.Last = nil
		} else if s.Whole = newest == acked[c]+1 && s.Last.SizeVT() <= 512; m.Brief && !s.Whole {
			s.Last, s.LastCut = wire.BriefEntry(s.Last)
		}
		resp.Conversations = append(resp.Conversations, s)
	}
	return resp
}

// pull answers in frames of at most three entries, so that a page takes several frames.
func (x *Session) pull(m *wirepb.PIMPullReq) []wire.Message {
	c := pim.ConversationID(m.Conversation)
	l := x.server.logs[c]
	if l == nil {
		l = new(log)
	}
	if l.newest(c, x.key.user) == 0 && !l.reads(c, x.key.user, 1) {
		f := wire.ErrorFrame(pim.Errorf(pim.KindNotMember, "user %s is not a member of %s", x.key.user, c))
		f.RequestId = m.RequestId
		return []wire.Message{f}
	}
	newest := uint64(l.newest(c, x.key.user))
	from, to, limit := max(m.From, 1), newest, uint64(100)
	if m.To != 0 {
		to = min(m.To, newest)
	}
	if m.Limit != 0 {
		limit = uint64(m.Limit)
	}
	if from <= to && to-from >= limit {
		if m.NewestFirst {
			from = to - limit + 1
		} else {
			to = from + limit - 1
		}
	}
	var frames []wire.Message
	begin := from
	superseded := x.server.superseded(x.key.user, c)
	for {
		resp := &wirepb.PIMPullResp{
			RequestId: m.RequestId, Conversation: m.Conversation, From: from, To: min(to, from+2), Newest: newest, Front: uint64(l.front),
		}
		for seq := from; seq <= resp.To; seq++ {
			if !m.Changes && seq >= uint64(l.front) && l.reads(c, x.key.user, pim.Seq(seq)) && !superseded[pim.Seq(seq)] {
				resp.Entries = append(resp.Entries, protoOf(&l.entries[seq-1]))
			}
		}
		resp.Folds = l.foldsOf(c, x.key.user, from, resp.To)
		if m.Changes && len(frames) == 0 {
			resp.Erasures = l.erasures(pim.Seq(newest))
		}
		if m.Changes {
			resp.RetainMs = l.retained()
		}
		settles := resp.From <= resp.To
		from = resp.To + 1
		if resp.Done = from > to; resp.Done && settles && !m.Changes && (m.NewestFirst || begin < uint64(l.front)) {
			resp.Standing = l.standing(c, x.key.user)
		}
		frames = append(frames, resp)
		if resp.Done {
			return frames
		}
	}
}

// retained returns for how long the last retain says that entries are kept.
func (l *log) retained() int64 {
	for _, e := range slices.Backward(l.entries) {
		if e.Kind == pim.EntryRetain {
			return int64(e.Retain)
		}
	}
	return 0
}

func protoOf(e *pim.Entry) *wirepb.Entry {
	m := new(wirepb.Entry)
	if err := m.UnmarshalVT(wire.AppendEntry(nil, e)); err != nil {
		panic(err) // it was just encoded
	}
	return m
}
