package load

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// chat is a run of a workload in which users talk: Direct, Group, Fill, Cold or Relay.
type chat struct {
	cfg    *Config
	size   int     // users of one conversation
	users  []*user // by number; nil for users who are not connected
	active []*user // the users who are connected
	copies uint64  // deliveries of each message; 0 for Fill, where nobody receives
	tag    uint64  // marks the messages of this run

	epoch     time.Time
	pingAfter int64 // ns without a write, after which a user pings
	from      atomic.Int64
	stopped   atomic.Bool   // nobody sends
	quota     atomic.Uint32 // messages that each conversation gets; 0: no limit
	alarms    chan alarm    // of users who never send, see arm

	ack, delivery, lag histogram
}

// never is a time that no run reaches.
const never = math.MaxInt64

// byQuota reports whether the run ends after a number of messages, not after a time.
func (r *chat) byQuota() bool { return r.cfg.Workload == Fill || r.cfg.Workload == Cold }

func (r *chat) relay() bool { return r.cfg.Workload == Relay }

// clock returns nanoseconds since the run began.
func (r *chat) clock() int64 { return int64(time.Since(r.epoch)) }

// wall converts now, as clock returns it, to milliseconds since 1970.
func (r *chat) wall(now int64) int64 { return r.epoch.UnixMilli() + now/int64(time.Millisecond) }

// runChat connects all users, lets them talk, waits until every acknowledged message
// has arrived, and reports.
func runChat(ctx context.Context, cfg *Config) (Report, error) {
	r := &chat{cfg: cfg, size: 2, users: make([]*user, cfg.Users), tag: rand.Uint64(), epoch: time.Now(), alarms: make(chan alarm, cfg.Users)}
	if cfg.Workload == Group {
		r.size = cfg.GroupSize
	}
	if cfg.Workload != Fill {
		r.copies = uint64(r.size - 1)
	}
	r.from.Store(never)
	m := cfg.meter()
	idle, err := m.read(ctx)
	if err != nil {
		return Report{}, err
	}
	defer r.close()
	if err := r.connect(ctx); err != nil {
		return Report{}, err
	}
	connected, err := m.read(ctx)
	if err != nil {
		return Report{}, err
	}
	cfg.isUp()
	rep := r.report()
	rep.ConnectSeconds = time.Duration(r.clock()).Seconds()
	rep.BytesPerConnection = float64(connected.rss-idle.rss) / float64(cfg.Users)

	ctx, fail := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	r.serve(ctx, &work, fail)
	switch cfg.Workload {
	case Fill:
		err = r.measureFill(ctx, &m, &rep)
	case Cold:
		err = r.measureCold(ctx, &m, &rep)
	default:
		err = r.measure(ctx, &m, &rep)
	}
	fail(context.Canceled)
	r.close()
	work.Wait()
	return rep, err
}

// connect opens all connections and gives the users their conversations.
func (r *chat) connect(ctx context.Context) error {
	r.cfg.Log.Info("connecting", "users", r.cfg.Users)
	if err := each(ctx, r.cfg.Users, r.cfg.Dialing, r.open); err != nil {
		return err
	}
	for _, u := range r.users {
		if u != nil {
			r.active = append(r.active, u)
		}
	}
	r.stopped.Store(r.byQuota()) // a pass of Fill or Cold clears it
	return r.converse(ctx)
}

// open connects the n-th user.
func (r *chat) open(ctx context.Context, n int) error {
	if r.cfg.Workload == Fill && !r.sends(n) {
		return nil
	}
	l, limit, idle, err := r.dial(ctx, n)
	if err != nil {
		return err
	}
	if r.cfg.Rate == 0 {
		limit = min(limit, r.cfg.Window)
	}
	places := 1
	for places < 2*limit {
		places *= 2
	}
	r.users[n] = &user{
		link: l, run: r, index: uint32(n), limit: limit,
		sends:  r.sends(n),
		flying: make([]flight, places),
	}
	if n == 0 {
		r.pingAfter = int64(idle / 2)
	}
	return nil
}

// sends reports whether the n-th user sends.
func (r *chat) sends(n int) bool {
	if r.cfg.Workload == Group {
		return n%r.size < r.cfg.Senders
	}
	return !r.cfg.OneWay || n%2 == 0
}

// dial connects the n-th user to the server or, through the relay, to its partner.
func (r *chat) dial(ctx context.Context, n int) (l *link, inFlight int, idle time.Duration, err error) {
	if r.relay() {
		l, err := dialRelay(ctx, r.cfg.Server, uint32(n/2))
		return l, maxInFlight, never, err
	}
	l, welcome, err := connect(ctx, r.cfg, r.cfg.serverOf(n), r.cfg.user(n), device, 0)
	if err != nil {
		return nil, 0, 0, err
	}
	inFlight, idle = maxInFlight, never
	if limits := welcome.Limits; limits != nil {
		if limits.InFlight > 0 {
			inFlight = min(inFlight, int(limits.InFlight))
		}
		if limits.IdleMs > 0 {
			idle = time.Duration(limits.IdleMs) * time.Millisecond
		}
	}
	return l, inFlight, idle, nil
}

// serverOf returns the server of the n-th user. Over all pairs, the second of a pair is on each
// server equally often, wherever the first is.
func (cfg *Config) serverOf(n int) string {
	servers := 1 + len(cfg.Others)
	pair := n / 2
	if k := (pair + n%2*(pair/servers)) % servers; k > 0 {
		return cfg.Others[k-1]
	}
	return cfg.Server
}

// create creates the group of users and returns its ID.
func (r *chat) create(users []*user) (pim.ConversationID, error) {
	now := time.Now()
	id := pim.NewClientMessageID(now)
	members := make([]string, len(users))
	for i := range users {
		members[i] = string(r.cfg.user(int(users[0].index) + i))
	}
	err := users[0].send(&wirepb.PIMSendReq{
		ClientMessageId: id[:], LocalMs: int64(pim.MillisOf(now)), Attempt: 1,
		Kind: wirepb.EntryKind_ENTRY_KIND_CREATE, Members: members,
	})
	if err != nil {
		return "", err
	}
	ack, err := await[*wirepb.PIMSendAck](users[0].link)
	if err != nil {
		return "", err
	}
	return pim.ConversationID(ack.Conversation), nil
}

// serve starts the goroutines that run beside the measuring. They end when ctx has
// ended and the connections are closed.
func (r *chat) serve(ctx context.Context, work *sync.WaitGroup, fail context.CancelCauseFunc) {
	for _, u := range r.active {
		work.Go(func() {
			if err := u.start(); err != nil && ctx.Err() == nil {
				r.cfg.Log.Error("a user's connection", "user", r.cfg.user(int(u.index)), "err", err)
				fail(err)
			}
		})
	}
	work.Go(func() { r.ticker(ctx) })
	work.Go(func() { r.acknowledgeAlone(ctx) })
	if r.cfg.Rate > 0 && !r.byQuota() {
		work.Go(func() { r.pace(ctx) })
	}
}

func (r *chat) close() {
	for _, u := range r.users {
		if u != nil {
			u.nc.Close()
		}
	}
}

// wait waits for d. If ctx ends sooner, it returns the cause.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// each calls f for 0 … n-1, at most parallel at a time, until the first error.
func each(ctx context.Context, n, parallel int, f func(ctx context.Context, i int) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var next atomic.Int64
	var work sync.WaitGroup
	for range min(n, parallel) {
		work.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					fail(err)
				}
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}

// tickEvery is the longest time that an acknowledgement waits. It is also the shortest
// time between two PIMPushAcks if the second rides along with another frame. The SDK
// does the same.
const tickEvery = 200 * time.Millisecond

// ticker calls every user's tick once in tickEvery, spread over that time.
func (r *chat) ticker(ctx context.Context) {
	const parts = 20
	for part := 0; wait(ctx, tickEvery/parts) == nil; part = (part + 1) % parts {
		for i := part; i < len(r.active); i += parts {
			u := r.active[i]
			u.lock()
			u.tick()
			u.release() // the reading goroutine sees the error, too
		}
	}
}

// pace transmits at the configured rate, evenly; the senders take turns. The first
// message comes after one interval, so a run shorter than that sends nothing.
func (r *chat) pace(ctx context.Context) {
	var senders []*user
	for _, u := range r.active {
		if u.sends {
			senders = append(senders, u)
		}
	}
	start, gap := r.clock(), float64(time.Second)/r.cfg.Rate
	for n := 0; !r.stopped.Load(); n++ {
		due := start + int64(float64(n+1)*gap)
		if early := due - r.clock(); early > 0 && wait(ctx, time.Duration(early)) != nil {
			return
		}
		u := senders[n%len(senders)]
		u.lock()
		u.schedule(due)
		u.acknowledge(false) // u sends: receivers have their timers, see arm
		u.release()
	}
}
