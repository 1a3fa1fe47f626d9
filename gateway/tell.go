package gateway

import (
	"container/heap"
	"context"
	"hash/maphash"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// lookFrame is what a user is told of a subject.
type lookFrame struct {
	data []byte // nil: nothing is told
	hash uint64
	ends bool // the look, since the user may not be told anything
}

// send decides which of lookers are sent their frames: those whose last one was another.
func (l *looks) send(s *subject, lookers []*conn, frame func(*conn) *lookFrame) (sent []*conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.failed = 0
	for _, c := range lookers {
		last, looks := s.lookers[c]
		if !looks {
			continue
		}
		f := frame(c)
		if f.data != nil && f.hash != last {
			s.lookers[c] = f.hash
			sent = append(sent, c)
		}
		if f.ends {
			k := l.looking[c]
			k.user.count(-1) // the ids are distinct
			k.ids = slices.DeleteFunc(k.ids, func(id pim.ConversationID) bool { return id == s.id })
			l.leave(c, s.id)
		}
	}
	return sent
}

// failure notes that s could not be told. It is told after a rest that is twice as long after each
// failure.
func (l *looks) failure(s *subject, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subjects[s.id] != s {
		return // nobody looks at it
	}
	s.failed = min(s.failed+1, maxFailures)
	if s.rests {
		s.until = now.Add(lookEvery << s.failed)
		heap.Fix(&l.resting, s.place)
	}
	s.changed = true
	l.mark(s)
}

// owe notes that c was not sent the frame that send had decided on. The caller must call again when
// c has taken what waits for it.
func (l *looks) owe(s *subject, c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, looks := s.lookers[c]; looks {
		s.lookers[c] = owed
	}
}

// again has all told that c is owed. It reports whether the caller must start work.
func (l *looks) again(c *conn) (start bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.looking[c]
	if k == nil {
		return false
	}
	for _, id := range k.ids {
		if s := l.subjects[id]; s.lookers[c] == owed {
			start = l.mark(s) || start
		}
	}
	return start
}

// changed notes that what is known of a subject may have changed.
func (s *Sessions) changed(id pim.ConversationID) {
	if s.looks.change(id) {
		s.startTelling()
	}
}

// tellOwed has c told what was left out while it was slow.
func (s *Sessions) tellOwed(c *conn) {
	if s.looks.again(c) {
		s.startTelling()
	}
}

// startTelling starts the work of the looks.
func (s *Sessions) startTelling() {
	g := s.gateway.Load()
	g.start(func() { s.looks.work(g.ctx, g.tell, g.sendComputed) })
}

// Acknowledged notes that an acknowledgement of a conversation was stored.
func (s *Sessions) Acknowledged(id pim.ConversationID) {
	if _, _, direct := id.DirectUsers(); !direct {
		return
	}
	if g := s.gateway.Load(); g != nil && g.Homes != nil {
		g.Homes.Changed(id)
		return
	}
	s.changed(id)
}

// published notes of which subjects p may have changed what is known: the conversation, those that
// a user has read, and the user whose settings it changes. Among several nodes the lookers of the
// last two hear of it from a home, wherever they are, and only the conversation is noted here.
func (s *Sessions) published(p *conv.Published) {
	if s.looks.some.Load() == 0 {
		return
	}
	if s.gateway.Load().Homes != nil {
		if _, own := p.Conversation.OwnUser(); !own {
			s.changed(p.Conversation)
		}
		return
	}
	if _, own := p.Conversation.OwnUser(); !own || p.Settings {
		s.changed(p.Conversation)
	}
	for _, id := range p.Read {
		s.changed(id)
	}
}

// tell tells the lookers of a subject what is new.
func (g *Gateway) tell(t telling) {
	if user, own := t.id.OwnUser(); own {
		g.tellPresence(t, user)
		return
	}
	if len(t.news) > 0 {
		g.tellReceipts(t)
	}
	if len(t.typing) > 0 {
		g.tellTyping(t)
	}
}

// computed is what is to be told once it is durable.
type computed struct {
	telling
	users  []pim.UserID // of news
	frames []lookFrame
}

// barrierPatience is for how long sendComputed waits for the disk.
const barrierPatience = 5 * time.Second

// sendComputed sends what tellReceipts has computed since the last call: one barrier is for all of
// it. Nobody is told of a read that a crash may take back.
func (g *Gateway) sendComputed() {
	l := &g.Sessions.looks
	some := l.computed
	l.computed = nil
	if len(some) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, barrierPatience)
	defer cancel()
	err := g.Reader.Barrier(ctx)
	for _, c := range some {
		if err != nil {
			g.tellAgain(c.telling, err)
		} else {
			g.sendNew(c.telling, c.users, c.frames)
		}
	}
}

// tellReceipts computes the receipts of a conversation for those of its lookers for whom something is
// new. sendComputed sends them.
func (g *Gateway) tellReceipts(t telling) {
	users := usersOf(t.news)
	receipts, members, err := g.Reader.Live(g.ctx, t.id, users, &t.screen)
	if err != nil {
		g.tellAgain(t, err)
		return
	}
	frames := make([]lookFrame, len(users))
	for i, data := range encodeLive(t.id, receipts) {
		frames[i] = lookFrame{data: data, ends: !members[i]}
	}
	l := &g.Sessions.looks
	l.computed = append(l.computed, computed{t, users, frames})
}

// tellAgain has t told later, which failed with err. However many subjects fail, it warns once in
// warnEvery.
func (g *Gateway) tellAgain(t telling, err error) {
	if g.ctx.Err() != nil {
		return
	}
	g.Metrics.dropLook.Inc()
	l, now := &g.Sessions.looks, time.Now()
	l.failure(t.subject, now)
	if l.failures++; l.warned.IsZero() || now.Sub(l.warned) >= warnEvery {
		g.Logger.Warn("what is on screens cannot be told now", "subject", t.id, "failures", l.failures, "err", err)
		l.failures, l.warned = 0, now
	}
}

// sendNew sends the lookers of t the frames of their users, unless they were sent the same before.
func (g *Gateway) sendNew(t telling, users []pim.UserID, frames []lookFrame) {
	looks := &g.Sessions.looks
	for i := range frames {
		frames[i].hash = maphash.Bytes(g.Sessions.seed, frames[i].data) | 1
	}
	of := func(c *conn) *lookFrame {
		i, _ := slices.BinarySearch(users, c.user)
		return &frames[i]
	}
	sent := looks.send(t.subject, t.news, of)
	g.sendAll(sent, func(c *conn) []byte { return of(c).data }, func(c *conn) {
		looks.owe(t.subject, c)
		c.out.owes = true
	})
}

// sendAll sends each of conns a frame. One that is slow is left out: dropped is called for it, with
// its mu held.
func (g *Gateway) sendAll(conns []*conn, frame func(*conn) []byte, dropped func(*conn)) {
	var touched []*conn
	for _, c := range conns {
		e, ok := c.begin(commands)
		if !ok {
			continue
		}
		if c.waiting(commands)+c.waiting(entries) > lookUnsent {
			dropped(c)
			e.drop()
			g.Metrics.dropLook.Inc()
			continue
		}
		e.copy(frame(c))
		if e.end() {
			touched = append(touched, c)
		}
	}
	if len(touched) > 0 {
		var d direct
		d.start(touched)
	}
}

// encodeLive returns the frame of each of told, nil for nil. Users who are told the same share one.
func encodeLive(id pim.ConversationID, told []*inbox.Receipts) [][]byte {
	frames := make([][]byte, len(told))
	shared := -1 // the last one that was encoded
	for i, r := range told {
		switch {
		case r == nil:
		case shared >= 0 && len(r.Messages) > 0 && len(r.Messages) == len(told[shared].Messages) && &r.Messages[0] == &told[shared].Messages[0]:
			frames[i] = frames[shared]
		default:
			frames[i] = wire.Append(nil, &wirepb.PIMReceipt{
				Conversation: string(id), Delivered: uint64(r.Delivered), Read: uint64(r.Read), ReadMs: int64(r.ReadAt),
				Receipts: receiptsOf(r.Messages),
			})
			shared = i
		}
	}
	return frames
}
