package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// blind is an engine among a server, an app and a network that say anything, in any order: all inputs are
// drawn at random, from so few values that they often fit. It tells where two engines differ, and where one
// falls over. It says nothing of what is right.
type blind struct {
	*Device
	r *rand.Rand

	now      time.Duration
	attempts []uint64              // that were dialled
	requests []uint64              // that the engine has made
	sent     []pim.ClientMessageID // that the engine has transmitted
	queued   []pim.ClientMessageID
	ids      uint64
}

func newBlind(seed uint64) *blind {
	w := NewWorld(seed)
	b := &blind{Device: w.NewDevice("user0", "device0"), r: w.rng, now: time.Hour}
	c := &b.config
	c.Page, c.LazyGap = 1+b.r.IntN(6), 1+b.r.IntN(20)
	switch b.r.IntN(8) {
	case 0:
		c.Watch = true
	case 1:
		c.Peek = true
	case 2, 3:
		c.Confirms = true
	}
	if b.r.IntN(2) == 0 {
		c.User = ""
	}
	return b
}

// play runs a few processes on one store.
func (b *blind) play() {
	for range 1 + b.r.IntN(3) {
		b.recorder.begin(b.Device)
		config := b.config
		config.Random = b.recorder.random(config.Random)
		b.engine = engine.New(config, b.disk.snapshot())
		b.attempts, b.requests, b.sent = nil, nil, nil
		b.gives(engine.Start{})
		for range 40 + b.r.IntN(200) {
			b.passes()
			b.gives(b.input())
		}
	}
}

// passes lets time pass: often up to what the engine waits for.
func (b *blind) passes() {
	switch at, ok := b.engine.Deadline(); {
	case b.r.IntN(4) == 0 && ok && at > b.now:
		b.now = at
	case b.r.IntN(2) == 0:
		b.now += time.Duration(b.r.IntN(400)) * time.Millisecond
	case b.r.IntN(30) == 0:
		b.now += time.Duration(b.r.IntN(200_000)) * time.Second
	}
	if b.r.IntN(60) == 0 {
		b.wall += pim.Millis(b.r.IntN(20_000_000) - 10_000_000)
	}
}

func (b *blind) gives(in engine.Input) {
	now := engine.Time{Mono: b.now, Wall: epoch + pim.Millis(b.now/time.Millisecond) + b.wall}
	err := b.engine.Step(now, in)
	out := b.engine.Take()
	b.recorder.step(b.engine, now, in, &out, err)
	b.disk.apply(&out.Store)
	for _, d := range out.Dials {
		b.attempts = append(b.attempts, d.Attempt)
	}
	for _, m := range out.Frames {
		switch m := m.(type) {
		case *wirepb.PIMSendReq:
			b.sent = append(b.sent, pim.ClientMessageID(m.ClientMessageId))
		case interface{ GetRequestId() uint64 }:
			b.requests = append(b.requests, m.GetRequestId())
		}
	}
	for _, r := range out.Reads {
		b.gives(engine.FromStore{ID: r.ID, Entries: b.disk.read(r)})
	}
}

// input draws one of those of an app and a network, or a frame.
func (b *blind) input() engine.Input {
	id, c := uint64(b.r.IntN(6)), b.conversation()
	switch b.r.IntN(56) {
	case 0:
		return engine.NoToken{Attempt: b.attempt(), Err: b.err()}
	case 1:
		codes := []wire.Code{0, 0, wire.CodeShutdown, wire.CodeReplaced, wire.CodeUnauthorized, wire.CodeTooLarge, wire.CodeUnsupported, wire.CodeOverloaded}
		lost := engine.Lost{Attempt: b.attempt(), Err: errors.New("lost"), Code: codes[b.r.IntN(len(codes))]}
		if b.r.IntN(3) == 0 {
			lost.Err, lost.Code = &pim.Error{Kind: pim.KindOverloaded, Text: "full", RetryAfter: time.Duration(2*b.r.IntN(9)-1) * time.Second}, 0
		}
		return lost
	case 2:
		return engine.Arriving{Attempt: b.attempt(), At: b.now - time.Duration(b.r.IntN(2000))*time.Millisecond}
	case 3:
		return engine.Pause{On: b.r.IntN(2) == 0}
	case 4:
		return engine.NetworkChanged{Name: fmt.Sprint("net", b.r.IntN(3))}
	case 5:
		return engine.Reconnect{}
	case 6:
		return engine.Online{On: b.r.IntN(4) > 0}
	case 7:
		return engine.Foreground{On: b.r.IntN(2) == 0}
	case 8, 9, 10, 11:
		return engine.Tick{}
	case 12, 13, 14:
		return engine.Send{Message: b.outgoing(c)}
	case 15, 16:
		return engine.Do{ID: b.id(), Command: b.command()}
	case 17:
		return engine.Resend{ID: b.known(b.queued)}
	case 18:
		return engine.Discard{ID: b.known(b.queued)}
	case 19:
		return engine.Confirm{Number: uint64(b.r.IntN(30)), Answers: []engine.Outgoing{b.outgoing(c)}}
	case 20:
		return engine.Follow{Conversation: c, After: b.seq()}
	case 21:
		return engine.Open{Conversation: c}
	case 22:
		return engine.Reading{Conversation: c, On: b.r.IntN(3) > 0}
	case 23, 24:
		return engine.Fill{ID: id, Conversation: c, Before: b.seq(), Limit: b.r.IntN(4)}
	case 25:
		return engine.Ask{ID: 10 + id, Conversation: c, From: b.seq(), To: b.seq(), Limit: b.r.IntN(9), NewestFirst: b.bool(), Changes: b.bool()}
	case 26:
		return engine.AskReceipts{ID: 20 + id, Conversation: c, From: b.seq(), To: b.seq(), Readers: b.bool(), After: b.user()}
	case 27:
		return engine.AskMembers{ID: 30 + id, Conversation: c, After: b.user()}
	case 28:
		return engine.Look{Conversations: []pim.ConversationID{c}, Users: []pim.UserID{b.user()}}
	case 29:
		return engine.Typing{Conversation: c}
	case 30:
		return engine.Unask{ID: uint64(b.r.IntN(36))}
	case 31:
		return engine.Close{}
	case 32, 33:
		return engine.Dialled{Attempt: b.attempt(), Token: "token"}
	}
	f := engine.Frame{Attempt: b.attempt(), Message: b.frame()}
	if b.engine.State() == engine.Connecting && b.r.IntN(2) == 0 {
		if b.r.IntN(2) == 0 {
			return engine.Dialled{Attempt: b.attempt(), Token: "token"}
		}
		f.Message = b.welcome()
	}
	return f
}

func (b *blind) welcome() *wirepb.Welcome {
	w := &wirepb.Welcome{User: "user0", ServerMs: int64(b.millis()), StorageBehind: b.r.IntN(9) == 0, AckSerial: uint64(b.r.IntN(4)), ReconnectWindowMs: uint32(b.r.IntN(2000))}
	if b.r.IntN(30) == 0 {
		w.User = "user1"
	}
	w.Store = []string{"", "store 0", "store 0", "store 0", "store 1"}[b.r.IntN(5)]
	if b.r.IntN(4) > 0 {
		w.Limits = &wirepb.Limits{InFlight: uint32(b.r.IntN(5)), PageEntries: uint32(b.r.IntN(9)), IdleMs: uint32(b.r.IntN(100_000)), HeartbeatMs: uint32(b.r.IntN(400_000))}
	}
	return w
}

// frame draws what a server says to a connection that stands.
func (b *blind) frame() wire.Message {
	c, request := string(b.conversation()), b.request()
	switch b.r.IntN(24) {
	case 0, 1, 2, 3:
		id := b.known(b.sent)
		a := &wirepb.PIMSendAck{
			ClientMessageId: id[:], Conversation: c, Seq: uint64(b.seq()), Anchor: uint64(b.seq()), ServerMs: int64(b.millis()), Count: uint64(b.r.IntN(9)),
			Duplicate: b.r.IntN(5) == 0, AllCount: uint64(b.r.IntN(2)),
		}
		for range b.r.IntN(3) {
			a.MentionCounts = append(a.MentionCounts, uint64(b.r.IntN(3)))
		}
		return a
	case 4, 5, 6, 7:
		p := &wirepb.PIMPush{Conversation: c, Behind: b.r.IntN(9) == 0}
		at := b.seq()
		for range b.r.IntN(5) {
			p.Entries = append(p.Entries, b.entry(pim.ConversationID(c), at))
			at += pim.Seq(1 + b.r.IntN(5)/4)
		}
		return p
	case 8, 9, 10, 11, 12:
		return b.page(c, request)
	case 13, 14, 15:
		return b.list(request)
	case 16:
		at := int64(b.millis())
		return &wirepb.PIMTimeResp{T1: int64(b.now) - int64(b.r.IntN(1e9)), T2: at, T3: at}
	case 17:
		return &wirepb.PIMPong{Nonce: 1, Behind: b.r.IntN(4) == 0}
	case 18:
		g := &wirepb.PIMGoAway{Code: uint32([]wire.Code{wire.CodeShutdown, wire.CodeReplaced, wire.CodeUnauthorized, wire.CodeOverloaded, 5000}[b.r.IntN(5)]), Reconnect: b.r.IntN(4) > 0}
		g.WindowMs, g.Alternatives = uint32(b.r.IntN(3)*1000), []string{"wss://other", "tls://one:7401", "ws://open"}[:b.r.IntN(4)]
		return g
	case 19, 20:
		e := &wirepb.PIMError{Kind: wirepb.ErrorKind(b.r.IntN(18)), Text: "no", Retryable: b.bool(), RetryAfterMs: uint32(b.r.IntN(3) * 700)}
		switch b.r.IntN(5) {
		case 0, 1:
			id := b.known(b.sent)
			e.ClientMessageId = id[:]
		case 2, 3:
			e.RequestId = request
		}
		return e
	case 21:
		return &wirepb.PIMReceiptResp{RequestId: request, Conversation: c, Read: 3, Receipts: []*wirepb.Receipt{{Seq: 2, Read: 1, Members: 3}}, Readers: []*wirepb.Reader{{User: "user1", Read: true, ReadMs: 9}}}
	case 22:
		return &wirepb.PIMMembersResp{RequestId: request, Conversation: c, Owner: "user1", Members: []*wirepb.Member{{User: "user1", Since: 1, SinceMs: 5}}}
	}
	return []wire.Message{
		&wirepb.PIMReceipt{Conversation: c, Delivered: 4, Read: 2, ReadMs: 7}, &wirepb.PIMTyping{Conversation: c, Users: []string{"user1"}},
		&wirepb.PIMPresence{User: "user1", SeenMs: 5}, nil,
	}[b.r.IntN(4)]
}

func (b *blind) page(c string, request uint64) *wirepb.PIMPullResp {
	from := b.seq()
	p := &wirepb.PIMPullResp{RequestId: request, Conversation: c, From: uint64(from), Done: b.r.IntN(4) > 0}
	at := from
	for range b.r.IntN(6) {
		p.Entries = append(p.Entries, b.entry(pim.ConversationID(c), at))
		at += pim.Seq(1 + b.r.IntN(6)/5)
	}
	p.To = max(uint64(at)+uint64(b.r.IntN(2)), 1) - 1
	p.Newest = max(p.To, uint64(b.seq()))
	if b.r.IntN(6) == 0 {
		p.Newest = uint64(b.seq())
	}
	if b.r.IntN(5) == 0 {
		p.Front = uint64(b.seq())
	}
	if b.r.IntN(4) == 0 {
		f := &wirepb.Fold{Target: uint64(from), Upto: uint64(b.seq())}
		if b.bool() {
			f.Edit = &wirepb.Edit{Seq: uint64(b.seq()), By: string(b.user()), Payload: []byte("edit")}
		}
		if b.r.IntN(3) == 0 {
			f.Recall = &wirepb.Mark{Seq: uint64(b.seq()), By: string(b.user())}
		}
		p.Folds = append(p.Folds, f)
	}
	if b.r.IntN(8) == 0 {
		p.Erasures = append(p.Erasures, &wirepb.Erasure{By: string(b.user()), Upto: uint64(b.seq())})
	}
	if b.r.IntN(4) == 0 {
		p.Standing = &wirepb.Standing{Newest: uint64(b.seq()), Count: 5, Own: uint64(b.seq()), OwnCount: 3, Named: uint64(b.r.IntN(3)), AllCount: uint64(b.r.IntN(3))}
	}
	return p
}

func (b *blind) list(request uint64) *wirepb.PIMSyncResp {
	resp := &wirepb.PIMSyncResp{RequestId: request, Recent: b.r.IntN(6) == 0}
	for range b.r.IntN(4) {
		c := b.conversation()
		s := &wirepb.Summary{
			Conversation: string(c), Newest: uint64(b.seq()), Acked: uint64(b.seq()), Count: uint64(b.r.IntN(9)), Left: b.r.IntN(6) == 0, Whole: b.bool(),
			Own: uint64(b.seq()), OwnCount: uint64(b.r.IntN(5)), Named: uint64(b.r.IntN(3)), Read: uint64(b.seq()), ReadCount: uint64(b.r.IntN(5)),
			ReadAt: uint64(b.seq()), Marked: b.bool(), MarkedAt: uint64(b.seq()), AllCount: uint64(b.r.IntN(3)),
		}
		if b.r.IntN(3) > 0 {
			s.Last = b.entry(c, pim.Seq(s.Newest))
		}
		if b.r.IntN(5) == 0 {
			s.Front = uint64(b.seq())
		}
		resp.Conversations = append(resp.Conversations, s)
	}
	if b.r.IntN(5) == 0 {
		resp.NextAfter = string(b.conversation())
	}
	if b.r.IntN(4) == 0 {
		resp.Fronts = append(resp.Fronts, &wirepb.Front{Conversation: string(b.conversation()), Front: uint64(b.seq())})
	}
	return resp
}

func (b *blind) entry(c pim.ConversationID, seq pim.Seq) *wirepb.Entry {
	id := b.known(b.sent)
	if b.bool() {
		id = pim.ClientMessageID{9, byte(seq), byte(len(c))}
	}
	e := &wirepb.Entry{
		Seq: uint64(seq), Count: uint64(seq) / 2, Kind: wirepb.EntryKind(1 + b.r.IntN(12)), Sender: string(b.user()), Device: fmt.Sprint("device", b.r.IntN(2)),
		ClientMessageId: id[:], LocalMs: int64(b.millis()), ServerMs: int64(b.millis()), Payload: fmt.Append(nil, "entry ", seq),
	}
	if b.bool() {
		e.Kind = wirepb.EntryKind_ENTRY_KIND_MESSAGE
	}
	if c == "u:user0" {
		cmd := b.command()
		e.Kind, e.Sender, e.Payload = wirepb.EntryKind_ENTRY_KIND_COMMAND, "user0", wire.AppendCommand(nil, &cmd)
		return e
	}
	switch pim.EntryKind(e.Kind) {
	case pim.EntryMessage:
		if b.r.IntN(4) == 0 {
			e.Mentions = []*wirepb.Mention{{User: string(b.user()), Count: uint64(b.r.IntN(3))}}
			e.AllCount = uint64(b.r.IntN(2))
		}
	case pim.EntryCreate, pim.EntryJoin, pim.EntryLeave:
		e.Members = []string{string(b.user()), string(b.user())}
	default:
		e.Refers, e.Reaction, e.Removed = uint64(b.seq()), "x", b.r.IntN(3) == 0
	}
	return e
}

func (b *blind) outgoing(c pim.ConversationID) engine.Outgoing {
	out := engine.Outgoing{ID: b.id(), Conversation: c, Kind: pim.EntryKind(1 + b.r.IntN(11)), Payload: fmt.Append(nil, "message ", b.ids)}
	if b.r.IntN(3) > 0 {
		out.Kind = pim.EntryMessage
	}
	switch out.Kind {
	case pim.EntryMessage:
		if b.r.IntN(3) == 0 {
			out.Mentions, out.MentionAll = []pim.UserID{b.user(), b.user()}, b.r.IntN(4) == 0
		}
	case pim.EntryCreate:
		out.Conversation, out.Members = "", []pim.UserID{b.user()}
	case pim.EntryJoin, pim.EntryLeave:
		out.Members = []pim.UserID{b.user()}
	default:
		out.Refers, out.Reaction = b.seq(), "x"
	}
	return out
}

func (b *blind) command() pim.Command {
	c := pim.Command{Kind: pim.CommandKind(1 + b.r.IntN(9)), Subject: string(b.conversation()), Removed: b.r.IntN(3) == 0, Known: b.seq()}
	switch c.Kind {
	case pim.CommandContact, pim.CommandBlock, pim.CommandNoReceipts, pim.CommandNoPresence:
		c.Subject = string(b.user())
	case pim.CommandRead:
		c.Removed, c.Seq, c.Count, c.Replaces = false, b.seq(), uint64(b.r.IntN(6)), b.r.IntN(6) == 0
	}
	if b.bool() {
		c.Kind, c.Removed, c.Seq, c.Subject = pim.CommandRead, false, max(1, b.seq()), string(b.conversation())
	}
	return c
}

func (b *blind) bool() bool { return b.r.IntN(2) == 0 }

func (b *blind) seq() pim.Seq { return pim.Seq(b.r.IntN([]int{4, 12, 40}[b.r.IntN(3)])) }

func (b *blind) user() pim.UserID { return pim.UserID(fmt.Sprint("user", b.r.IntN(3))) }

func (b *blind) conversation() pim.ConversationID {
	return []pim.ConversationID{"d:user0:user1", "d:user0:user1", "g:group", "u:user0"}[b.r.IntN(4)]
}

// millis returns about the present.
func (b *blind) millis() pim.Millis {
	return epoch + pim.Millis(b.now/time.Millisecond) + pim.Millis(b.r.IntN(2000)-1000)*pim.Millis(1+b.r.IntN(30)/29*10_000)
}

func (b *blind) err() *pim.Error {
	kind := pim.KindUnavailable
	if b.bool() {
		kind = pim.KindUnauthorized
	}
	return &pim.Error{Kind: kind, Text: "no", RetryAfter: time.Duration(b.r.IntN(3)) * time.Second}
}

func (b *blind) id() pim.ClientMessageID {
	b.ids++
	id := pim.ClientMessageID{1, byte(b.ids >> 8), byte(b.ids)}
	b.queued = append(b.queued, id)
	return id
}

// known returns one of ids, mostly a late one.
func (b *blind) known(ids []pim.ClientMessageID) pim.ClientMessageID {
	if len(ids) == 0 {
		return pim.ClientMessageID{7}
	}
	return ids[max(0, len(ids)-1-b.r.IntN(4))]
}

// attempt returns a number of an attempt, mostly the last one.
func (b *blind) attempt() uint64 {
	if len(b.attempts) == 0 || b.r.IntN(20) == 0 {
		return 1
	}
	return b.attempts[max(0, len(b.attempts)-1-b.r.IntN(20)/19)]
}

// request returns the number of a request, mostly one of the last.
func (b *blind) request() uint64 {
	if len(b.requests) == 0 {
		return 1
	}
	return b.requests[max(0, len(b.requests)-1-b.r.IntN(4))]
}

// Whatever the server, the app and the network say, the engine does not fall over.
func TestBlind(t *testing.T) {
	first, n := seeds.Schedules(t, seeds.Many(100), "PIM_BLIND")
	for seed := first; seed < first+n; seed++ {
		func() {
			defer func() {
				if p := recover(); p != nil {
					t.Fatalf("PIM_SEED=%d: the engine falls over: %v", seed, p)
				}
			}()
			newBlind(seed).play()
		}()
	}
}
