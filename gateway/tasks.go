package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// task is a request whose answer may be large. A connection's tasks are served
// one at a time, by a goroutine that the connection has only meanwhile.
type task struct {
	id   uint64             // the client's request_id
	sync *inbox.SyncRequest // one of the five is set
	pull *inbox.PullRequest
	read *inbox.ReceiptRequest
	who  *inbox.MembersRequest

	devices *wirepb.PIMDevicesReq
}

// taskRun is a stretch of time in which a connection has tasks. It begins with a task, and ends when none
// waits.
type taskRun struct {
	conn    *conn              // set at construction
	begun   time.Time          // likewise
	waiting []task             // guarded by the connection's mu, as is cancel
	cancel  context.CancelFunc // ends the run's context; nil: no goroutine has taken the run yet
}

const maxTasks = 64 // waiting, for each connection

// keptServers is how many goroutines wait for a taskRun at most, of all connections.
const keptServers = 8

// queueTask queues t, or refuses it if maxTasks are waiting. If there is no run, serve begins one.
func (c *conn) queueTask(t task) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	run := c.tasks
	if run == nil {
		run = &taskRun{conn: c, begun: time.Now()}
	}
	if len(run.waiting) == maxTasks {
		c.mu.Unlock()
		c.refuseTask(c.gw.ctx, t.id, "", pim.Errorf(pim.KindOverloaded, "%d requests of this connection are waiting", maxTasks))
		return
	}
	run.waiting = append(run.waiting, t)
	c.begins = c.begins || c.tasks == nil
	c.tasks = run
	c.mu.Unlock()
}

// serve has the tasks of the read that was handled served. It is called when the read's frames are handled: from
// handle, deeper in the stack of the reading goroutine, giving the run away would make that stack grow.
func (c *conn) serve() {
	if !c.begins {
		return
	}
	c.begins = false
	c.mu.Lock()
	run := c.tasks
	c.mu.Unlock()
	if !c.gw.serveRun(run) {
		c.abort()
	}
}

// serveRun has run served by a goroutine that waits, or by a new one. It reports false once Close has
// begun.
func (g *Gateway) serveRun(run *taskRun) bool {
	return g.servers.Give(run) || g.start(func() { g.serveRuns(run) })
}

// serveRuns serves run and then others.
func (g *Gateway) serveRuns(run *taskRun) {
	for ok := true; ok; {
		run, ok = g.serveInContext(run)
	}
}

// serveInContext serves run and then others with one context, until that is cancelled. It returns the run
// that is to be served then, if there is one. It makes the context, because the stack of the reading
// goroutine would grow by that, to 4 KiB, and that goroutine stays.
func (g *Gateway) serveInContext(run *taskRun) (*taskRun, bool) {
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	for {
		run.conn.serveTasks(ctx, cancel, run) // also if the gateway has closed: it ends the run then
		next, ok := g.servers.Next()
		if !ok || ctx.Err() != nil {
			return next, ok
		}
		run = next
	}
}

// serveTasks serves the tasks of run until none waits, the gateway closes, or no answer can be
// queued any more. ctx is the run's, which cancel ends. Nobody calls cancel after the run.
func (c *conn) serveTasks(ctx context.Context, cancel context.CancelFunc, run *taskRun) {
	c.gw.Overload.Waited(limit.Tasks, time.Since(run.begun))
	c.mu.Lock()
	run.cancel = cancel
	c.mu.Unlock()
	for {
		c.mu.Lock()
		if len(run.waiting) == 0 || c.closing || ctx.Err() != nil {
			c.tasks = nil
			c.mu.Unlock()
			return
		}
		t := run.waiting[0]
		run.waiting = run.waiting[1:]
		c.mu.Unlock()
		switch {
		case t.sync != nil:
			c.serveSync(ctx, t.id, t.sync)
		case t.pull != nil:
			c.servePull(ctx, t.id, t.pull)
		case t.read != nil:
			c.serveReceipts(ctx, t.id, t.read)
		case t.devices != nil:
			c.serveDevices(ctx, t.devices)
		default:
			c.serveMembers(ctx, t.id, t.who)
		}
	}
}

// queuePage queues b among the entries, once at most half of QueueBytes of them is unsent. It
// reports false if the connection is closing. b is from newPage, and belongs to the connection
// from then on. A writer that delivers may wait for c.mu, so while c.mu is held nothing is encoded
// and nothing large is copied. queuePage writes a small page itself if the socket has room, because a
// sending goroutine would cost more than the write.
func (c *conn) queuePage(b []byte) bool {
	b = c.framing.fillHeader(b)
	e, ok := c.beginWithin(entries, c.gw.Limits.QueueBytes/2)
	if !ok {
		return false
	}
	e.whole(b)
	if e.end() {
		d := directs.Get().(*direct)
		if !d.send(c) {
			c.startSender()
		}
		directs.Put(d)
	}
	return true
}

// newPage returns the slice to which the caller appends a frame of about size bytes, for queuePage.
func newPage(size int) []byte { return make([]byte, maxHeader, maxHeader+size) }

// refuseTask answers a task with err, unless ctx has ended: then nobody is left to answer.
func (c *conn) refuseTask(ctx context.Context, id uint64, conversation string, err error) {
	if ctx.Err() != nil {
		return
	}
	if pim.KindOf(err) == pim.KindUnknown {
		c.log().Error("request failed", "err", err)
	}
	m := c.gw.refusal(err)
	m.RequestId, m.Conversation = id, named(conversation)
	c.reply(m)
}

// recentWithin is how many bytes a page has at most that is the only one, and that no frame with the
// newest conversations comes ahead of: they are within its first bytes in any case.
const recentWithin = 16 << 10

func (c *conn) serveSync(ctx context.Context, id uint64, req *inbox.SyncRequest) {
	c.gw.Metrics.syncs.Inc()
	c.gw.Acks.Settle(ctx, c.user, c.device)
	req.Later = func(write func(context.Context)) { c.gw.Acks.Later(c.user, write) }
	page, err := c.gw.Reader.Sync(ctx, *req)
	if err != nil {
		c.refuseTask(ctx, id, "", err)
		return
	}
	if page.Next != "" || page.Size() > recentWithin {
		recent, err := c.gw.Reader.Recent(ctx, *req)
		if err != nil {
			c.refuseTask(ctx, id, "", err)
			return
		}
		if len(recent) > 0 {
			first := inbox.SyncPage{Summaries: recent}
			if !c.queuePage(appendSync(newPage(first.Size()), &wirepb.PIMSyncResp{RequestId: id, Recent: true}, recent)) {
				return
			}
		}
	}
	if first := req.After == ""; first || len(page.Summaries) > 0 {
		c.mu.Lock()
		c.catching = len(page.Summaries) > 0
		c.mu.Unlock()
	}
	resp := wirepb.PIMSyncResp{RequestId: id, NextAfter: string(page.Next)}
	for _, f := range page.Fronts {
		resp.Fronts = append(resp.Fronts, &wirepb.Front{Conversation: string(f.Conversation), Front: uint64(f.Front)})
	}
	c.queuePage(appendSync(newPage(page.Size()), &resp, page.Summaries))
}

// appendSync appends the frame of resp, which has no Summaries yet, with list.
func appendSync(b []byte, resp *wirepb.PIMSyncResp, list []inbox.Summary) []byte {
	var m *wirepb.Summary // made for the first one: most syncs find nothing new
	return wire.AppendSyncResp(b, resp, len(list), func(i int) (*wirepb.Summary, []byte) {
		if m == nil {
			m = new(wirepb.Summary)
		}
		s := &list[i]
		m.Conversation, m.Newest, m.Acked, m.Count = string(s.Conversation), uint64(s.Newest), uint64(s.Acked), s.Count
		m.LastCut, m.Left, m.Invited, m.Whole, m.Own, m.OwnCount = s.Cut, s.Left, s.Invited, s.Whole, uint64(s.Own), s.OwnCount
		m.Read, m.ReadCount, m.ReadAt = uint64(s.Read), s.ReadCount, uint64(s.ReadAt)
		if m.Front = 0; s.Front > 1 {
			m.Front = uint64(s.Front)
		}
		m.Marked, m.MarkedAt = s.Marked, uint64(s.MarkedAt)
		m.Named, m.OwnAll, m.AllCount, m.ReadNamed, m.ReadAll = s.Named, s.OwnAll, s.All, s.ReadNamed, s.ReadAll
		return m, s.Last
	})
}

// erasuresInFrame is how many erasures one frame tells. A user ID has at most 64 bytes.
const erasuresInFrame = 1000

func (c *conn) servePull(ctx context.Context, id uint64, req *inbox.PullRequest) {
	c.gw.Metrics.pulls.Inc()
	page, err := c.gw.Reader.Pull(ctx, c.user, *req)
	if err != nil {
		c.refuseTask(ctx, id, string(req.Conversation), err)
		return
	}
	c.gw.Metrics.pulled.Add(float64(len(page.Entries)))
	for some := range slices.Chunk(page.Erasures, erasuresInFrame) {
		resp := &wirepb.PIMPullResp{
			RequestId: id, Conversation: string(req.Conversation), From: uint64(page.From), To: uint64(page.From) - 1, Newest: uint64(page.Newest),
		}
		for _, x := range some {
			resp.Erasures = append(resp.Erasures, &wirepb.Erasure{By: string(x.By), Upto: uint64(x.UpTo)})
		}
		if !c.queuePage(wire.Append(newPage(1+resp.SizeVT()), resp)) {
			return
		}
	}
	from, rest := page.From, pulled(&page)
	for done := false; !done; {
		n, size := wire.Fit(len(rest), rest.size)
		done = n == len(rest)
		to := page.To
		if !done {
			to = rest[n-1].seq
		}
		resp := &wirepb.PIMPullResp{
			RequestId: id, Conversation: string(req.Conversation), From: uint64(from), To: uint64(to),
			Newest: uint64(page.Newest), Done: done,
		}
		if req.Changes {
			c.gw.tellRetention(resp, req.Conversation, page.Retained)
		}
		if page.Front > 1 {
			resp.Front = uint64(page.Front)
		}
		if l := &page.Line; done && l.Newest != 0 {
			resp.Standing = &wirepb.Standing{
				Newest: uint64(l.Newest), Count: l.Count, Own: uint64(l.Own), OwnCount: l.OwnCount,
				Named: l.Named, OwnAll: l.OwnAll, AllCount: l.All,
			}
		}
		entries, folds := rest[:n].split()
		if !c.queuePage(wire.AppendPullResp(newPage(1+resp.SizeVT()+size), resp, entries, folds)) {
			return
		}
		from, rest = to+1, rest[n:]
	}
}

// part is an entry with its fold, which one frame holds together. Either may be missing.
type part struct {
	seq         pim.Seq
	entry, fold []byte
}

type parts []part

// pulled returns the parts of page, ascending.
func pulled(page *inbox.Page) parts {
	all := make(parts, 0, max(len(page.Entries), len(page.Folds)))
	folds := page.Folds
	for _, e := range page.Entries {
		p := part{seq: e.Seq, entry: e.Data}
		if len(folds) > 0 && folds[0].Seq == e.Seq {
			p.fold, folds = folds[0].Data, folds[1:]
		}
		all = append(all, p)
	}
	for _, f := range folds { // of a page without entries
		all = append(all, part{seq: f.Seq, fold: f.Data})
	}
	return all
}

// size returns how many bytes of a frame part i takes, without one wire.EntryOverhead.
func (p parts) size(i int) int {
	n := len(p[i].entry) + len(p[i].fold)
	if p[i].entry != nil && p[i].fold != nil {
		n += wire.EntryOverhead
	}
	return n
}

func (p parts) split() (entries, folds [][]byte) {
	entries = make([][]byte, 0, len(p))
	for i := range p {
		if p[i].entry != nil {
			entries = append(entries, p[i].entry)
		}
		if p[i].fold != nil {
			folds = append(folds, p[i].fold)
		}
	}
	return entries, folds
}

// tellRetention puts into resp for how long conv, which says r, keeps its entries. A user's own log
// keeps them for ever.
func (g *Gateway) tellRetention(resp *wirepb.PIMPullResp, conv pim.ConversationID, r pim.Retention) {
	if _, own := conv.OwnUser(); own {
		return
	}
	resp.RetainMs, resp.ServerRetainMs = int64(r.Age), g.Retain.Milliseconds()
	if pim.MillisOf(g.Now()) < r.From {
		resp.RetainBeforeMs, resp.RetainFromMs = int64(r.Before), int64(r.From)
	}
}
