package load

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// runSync has other users, one for each conversation, send Messages to a user who is
// away. Then it measures how that user's device gets them: first with nothing in its
// storage, then once more with nothing new, then again and again.
func runSync(ctx context.Context, cfg *Config) (Report, error) {
	m := cfg.meter()
	cfg.Log.Info("writing offline messages", "conversations", cfg.Conversations, "messages", cfg.Messages)
	begun := time.Now()
	err := each(ctx, cfg.Conversations, cfg.Dialing, func(ctx context.Context, n int) error {
		return writeOffline(ctx, cfg, n)
	})
	if err != nil {
		return Report{}, err
	}
	rep := Report{Workload: cfg.Workload, Users: 1, Conversations: cfg.Conversations, Payload: cfg.Payload, Sent: uint64(cfg.Messages)}
	rep.ConnectSeconds = time.Since(begun).Seconds()
	before, err := m.read(ctx)
	if err != nil {
		return rep, err
	}
	own := ownCPU()
	cfg.Log.Info("syncing")
	d := newSyncer(cfg, device)
	if err := d.first(ctx, &rep); err != nil {
		return rep, err
	}
	own = ownCPU() - own
	after, err := m.read(ctx)
	if err != nil {
		return rep, err
	}
	d.count(&rep)
	rep.cost(after.cpu-before.cpu, own, rep.Delivered)
	rep.ServerRSS = after.rss
	if err := d.again(ctx, &rep); err != nil {
		return rep, err
	}
	return rep, d.repeat(ctx, &m, &rep)
}

// share returns how many of the messages the n-th conversation gets.
func (cfg *Config) share(n int) int {
	return cfg.Messages*(n+1)/cfg.Conversations - cfg.Messages*n/cfg.Conversations
}

// reader returns the user who was away. The users who send have the numbers before it.
func (cfg *Config) reader() pim.UserID { return cfg.user(cfg.Conversations) }

// writeOffline connects the n-th user and has it send its share.
func writeOffline(ctx context.Context, cfg *Config, n int) error {
	l, welcome, err := connect(ctx, cfg, cfg.Server, cfg.user(n), device, 0)
	if err != nil {
		return err
	}
	defer l.nc.Close()
	defer context.AfterFunc(ctx, func() { l.nc.Close() })()
	cfg.isUp()
	window := 64
	if limit := int(welcome.Limits.GetInFlight()); limit > 0 {
		window = min(window, limit)
	}
	c := pim.Direct(cfg.user(n), cfg.reader())
	body := make([]byte, cfg.Payload)
	inFlight, share := 0, cfg.share(n)
	for i := 0; i < share || inFlight > 0; {
		for ; i < share && inFlight < window; i++ {
			now := time.Now()
			id := pim.NewClientMessageID(now)
			s := stamp{run: cfg.Seed, sender: uint32(n), counter: uint32(i)}
			s.put(body)
			err := l.send(&wirepb.PIMSendReq{
				Conversation: string(c), ClientMessageId: id[:], LocalMs: now.UnixMilli(), Attempt: 1, Payload: body,
			})
			if err != nil {
				return err
			}
			inFlight++
		}
		ack, err := await[*wirepb.PIMSendAck](l)
		if err != nil {
			return err
		}
		if ack.Seq > uint64(share) {
			return pim.Errorf(pim.KindInvalid, "the users of seed %d have talked before: each run needs a seed of its own", cfg.Seed)
		}
		inFlight--
	}
	return nil
}

// syncer is a device that was away.
type syncer struct {
	cfg     *Config
	device  pim.DeviceID
	streams map[string]*stream // by conversation
	sum     received
	serial  uint64
	pulls   uint64 // PIMPullReq so far
}

// pullsAhead is how many pulls wait for their answer at the same time.
const pullsAhead = 8

func newSyncer(cfg *Config, d pim.DeviceID) *syncer {
	return &syncer{cfg: cfg, device: d, streams: map[string]*stream{}}
}

func (d *syncer) connect(ctx context.Context) (*link, error) {
	l, _, err := connect(ctx, d.cfg, d.cfg.Server, d.cfg.reader(), d.device, d.serial)
	return l, err
}

// first connects with nothing in storage: sync, pull what the list does not settle,
// acknowledge everything.
func (d *syncer) first(ctx context.Context, rep *Report) error {
	l, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer l.nc.Close()
	defer context.AfterFunc(ctx, func() { l.nc.Close() })()
	start, base := time.Now(), l.received+l.written
	list, err := d.sync(l, true, func() {
		rep.SyncFirstPageBytes = l.received + l.written - base
		rep.SyncFirstPageMS = milliseconds(time.Since(start))
	})
	if err != nil {
		return err
	}
	rep.SyncListBytes = l.received + l.written - base
	rep.SyncListMS = milliseconds(time.Since(start))
	if list, err = d.settle(list); err != nil {
		return err
	}
	if err := d.pullAll(l, list); err != nil {
		return err
	}
	rep.Seconds = time.Since(start).Seconds()
	rep.SyncMS = milliseconds(time.Since(start))
	rep.SyncBytes = l.received + l.written - base
	return d.acknowledge(ctx, l)
}

// again connects once more, with everything in storage.
func (d *syncer) again(ctx context.Context, rep *Report) error {
	start := time.Now()
	l, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer l.nc.Close()
	defer context.AfterFunc(ctx, func() { l.nc.Close() })()
	list, err := d.sync(l, false, func() {})
	if err != nil {
		return err
	}
	rep.ReconnectBytes = l.received + l.written
	rep.ReconnectMS = milliseconds(time.Since(start))
	if len(list) > 0 {
		return pim.Errorf(pim.KindInternal, "%d conversations are listed as new after everything was acknowledged", len(list))
	}
	return nil
}

// syncLimit is how many conversations a page lists: as many as the SDK asks for.
const syncLimit = 1000

// sync reads the list of changed conversations, or of all if full is set, page by page as
// the SDK does. It calls onFirst after the first page.
func (d *syncer) sync(l *link, full bool, onFirst func()) (list []*wirepb.Summary, err error) {
	for page, after := uint64(1), ""; ; page++ {
		err := l.send(&wirepb.PIMSyncReq{RequestId: page, Full: full, After: after, Limit: syncLimit, Brief: true, Fronts: after == ""}) // as the SDK asks
		if err != nil {
			return nil, err
		}
		resp, err := await[*wirepb.PIMSyncResp](l)
		if err != nil {
			return nil, err
		}
		if page == 1 {
			onFirst()
		}
		list = append(list, resp.Conversations...)
		if after = resp.NextAfter; after == "" {
			return list, nil
		}
	}
}

// settle takes in the entries of the summaries that settle their conversations. It
// returns the other summaries: their conversations must be pulled.
func (d *syncer) settle(list []*wirepb.Summary) (rest []*wirepb.Summary, err error) {
	for _, s := range list {
		settled := false
		if s.Whole && s.Last.GetSeq() == s.Newest {
			if settled, err = d.settles(s); err != nil {
				return nil, err
			}
		}
		if !settled {
			rest = append(rest, s)
		}
	}
	return rest, nil
}

// settles takes in the whole entry of s if that is the next one.
func (d *syncer) settles(s *wirepb.Summary) (bool, error) {
	t := d.stream(s.Conversation)
	if s.Newest != t.have+1 {
		return false, nil
	}
	counter, err := d.counter(s.Conversation, s.Last)
	if err != nil {
		return false, err
	}
	_, gap := t.push(0, counter, s.Newest)
	return !gap, nil // after a gap the conversation is pulled, which shows what is wrong
}

// pullAll pulls every conversation of list to its newest entry.
func (d *syncer) pullAll(l *link, list []*wirepb.Summary) error {
	waiting := 0
	for len(list) > 0 || waiting > 0 {
		for ; len(list) > 0 && waiting < pullsAhead; list = list[1:] {
			if err := d.ask(l, list[0].Conversation, 1); err != nil {
				return err
			}
			waiting++
		}
		resp, err := await[*wirepb.PIMPullResp](l)
		if err != nil {
			return err
		}
		if err := d.take(resp); err != nil {
			return err
		}
		switch {
		case !resp.Done:
		case resp.To < resp.Newest && resp.From <= resp.To:
			err = d.ask(l, resp.Conversation, resp.To+1)
		default:
			waiting--
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *syncer) ask(l *link, conversation string, from uint64) error {
	d.pulls++
	return l.send(&wirepb.PIMPullReq{
		RequestId: d.pulls, Conversation: conversation, From: from, Limit: pim.MaxPageEntries,
	})
}

// take checks one frame of pulled entries.
func (d *syncer) take(resp *wirepb.PIMPullResp) error {
	s := d.stream(resp.Conversation)
	for _, e := range resp.Entries {
		counter, err := d.counter(resp.Conversation, e)
		if err != nil {
			return err
		}
		s.pull(0, counter, e.Seq)
	}
	s.settle(resp.To)
	return nil
}

// stream returns what was received of the conversation.
func (d *syncer) stream(conversation string) *stream {
	s := d.streams[conversation]
	if s == nil {
		fresh := newStream(1, &d.sum)
		s = &fresh
		d.streams[conversation] = s
	}
	return s
}

// counter returns which of its sender's messages e is.
func (d *syncer) counter(conversation string, e *wirepb.Entry) (uint32, error) {
	var st stamp
	if !st.get(e.Payload, d.cfg.Seed) {
		return 0, pim.Errorf(pim.KindInternal, "%s holds an entry that nobody of this run wrote", conversation)
	}
	return st.counter, nil
}

// acksAtOnce is how many acknowledgements of one user the server holds until they are
// stored, which takes up to a second. It may drop those above that (4,096 conversations),
// see section 7 of docs/protocol.md.
const acksAtOnce = 4000

// ackPause is how long the server has to store acksAtOnce acknowledgements.
const ackPause = 1500 * time.Millisecond

// acknowledge acknowledges everything and waits until the server has read that. It
// pauses after each acksAtOnce acknowledgements, so that the server drops none.
func (d *syncer) acknowledge(ctx context.Context, l *link) error {
	acked := 0
	m := &wirepb.PIMPushAck{}
	for c, s := range d.streams {
		m.Acks = append(m.Acks, &wirepb.Ack{Conversation: c, Seq: s.have})
		if len(m.Acks) < 1000 {
			continue
		}
		if err := d.flush(l, m); err != nil {
			return err
		}
		if acked += 1000; acked%acksAtOnce == 0 {
			if err := wait(ctx, ackPause); err != nil {
				return err
			}
		}
	}
	if err := d.flush(l, m); err != nil {
		return err
	}
	if err := l.send(&wirepb.PIMPing{Nonce: 1}); err != nil {
		return err
	}
	_, err := await[*wirepb.PIMPong](l)
	return err
}

func (d *syncer) flush(l *link, m *wirepb.PIMPushAck) error {
	if len(m.Acks) == 0 {
		return nil
	}
	d.serial++
	m.Serial = d.serial
	err := l.send(m)
	m.Acks = m.Acks[:0]
	return err
}

func (d *syncer) count(rep *Report) {
	rep.Delivered, rep.Pulled = d.sum.got, d.sum.pulled
	rep.Doubled, rep.Misordered = d.sum.doubled, d.sum.misordered
	rep.Lost = rep.Sent - min(rep.Sent, rep.Delivered)
	rep.DeliveredPerS = float64(rep.Delivered) / rep.Seconds
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
