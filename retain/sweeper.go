package retain

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultEvery is how far apart passes are.
	DefaultEvery = time.Hour
	// pause follows each page of the index and each trim, so that messages do not wait: the rest
	// of the time is theirs.
	pause    = 50 * time.Millisecond
	pageLogs = 256  // conversations in a page
	trimStep = 4096 // entries in a trim, at most
)

// Options are what a Sweeper needs. Without Registerer nothing is measured; all else must be there.
type Options struct {
	Store store.Store
	// Trim is conv.Writers.Trim.
	Trim func(ctx context.Context, c pim.ConversationID, upTo pim.Seq) error
	// Age is for how long entries are kept, at least pim.DedupWindow; 0: for ever. A conversation
	// may say less (inbox.Retained).
	Age time.Duration
	// Every is about how long it takes from the end of a pass to the beginning of the next; 0:
	// DefaultEvery. The first one begins sooner.
	Every      time.Duration
	Now        func() time.Time
	Mono       func() time.Duration // a clock that nobody sets
	Gate       func() error         // asked before each read and trim; if it fails, the pass ends
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Sweeper removes old entries until it is closed.
type Sweeper struct {
	// Set at construction.
	Options
	trimmed     prometheus.Counter
	passed      prometheus.Gauge
	cancel      context.CancelFunc
	running     sync.WaitGroup
	started     time.Time     // Now at New
	startedMono time.Duration // Mono at New

	// Owned by run.
	loaded bool // the rest was read from the store
	place  place
	clock  slowClock
}

// New starts a Sweeper. It must be closed before the store.
func New(o Options) *Sweeper {
	s := &Sweeper{
		Options: o, started: o.Now(), startedMono: o.Mono(),
		trimmed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pim_retain_trimmed_total", Help: "Entries removed because they were older than entries are kept.",
		}),
		passed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pim_retain_pass_timestamp_seconds", Help: "When the last pass over all conversations ended, in seconds since 1970; 0: none has since the start.",
		}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.trimmed, s.passed)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.running.Go(func() { s.run(ctx) })
	return s
}

// Close interrupts the pass under way and waits for its end. The next Sweeper over the store goes on
// there.
func (s *Sweeper) Close() {
	s.cancel()
	s.running.Wait()
}

// run makes passes until ctx ends. It begins each at random, so that the nodes of one store, or of
// one machine, seldom do so together. A node that has just started has other things to do.
func (s *Sweeper) run(ctx context.Context) {
	every := cmp.Or(s.Every, DefaultEvery)
	for wait := every/60 + rand.N(every/4); s.sleep(ctx, wait) == nil; wait = every/2 + rand.N(every) {
		switch err := s.pass(ctx); {
		case err == nil:
			s.passed.Set(float64(s.Now().Unix()))
		case ctx.Err() == nil:
			s.Logger.Warn("old messages are not removed now; the next pass goes on", "err", err)
		}
	}
}

// sleep returns after d, or when ctx ends with its error.
func (s *Sweeper) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pass goes through the conversations from the place where the pass before has stopped to the end.
func (s *Sweeper) pass(ctx context.Context) error {
	if err := s.Gate(); err != nil {
		return err
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	retaining, err := s.retaining(ctx)
	if err != nil {
		return err
	}
	now := s.clock.now(pim.MillisOf(s.Now()), s.Mono())
	for s.skip(retaining); s.place.walk < walks; s.skip(retaining) {
		if err := s.Gate(); err != nil {
			return err
		}
		cells, err := s.Store.List(ctx, s.place.walk.partition(), s.place.after, pageLogs)
		if err != nil {
			return err
		}
		if err := s.page(ctx, cells, now); err != nil {
			return err
		}
		w, after := s.place.walk+1, ""
		if len(cells) == pageLogs {
			w, after = s.place.walk, cells[pageLogs-1].Key
		}
		if err := s.goTo(ctx, w, after); err != nil {
			return err
		}
		if err := s.sleep(ctx, pause); err != nil {
			return err
		}
		now = s.clock.now(pim.MillisOf(s.Now()), s.Mono())
	}
	return s.goTo(ctx, 0, "")
}

// page trims the logs of cells, of the present walk, that have old entries at the time now. It writes
// into the index what it has found.
func (s *Sweeper) page(ctx context.Context, cells []store.Cell, now pim.Millis) error {
	due, err := s.due(ctx, cells, now)
	if err != nil || len(due) == 0 {
		return err
	}
	begins := make([]store.Read, len(due))
	for i := range due {
		begins[i] = firstOf(due[i].conversation)
	}
	if err := s.Store.Read(ctx, begins); err != nil && ctx.Err() != nil {
		return err
	}
	found := &store.Write{}
	for i, d := range due {
		front, oldest, err := s.sweep(ctx, d, &begins[i], now)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil: // the other conversations go on
			if err := s.Gate(); err != nil {
				return err
			}
			s.failed(string(d.conversation), err)
		case oldest == 0: // no entry is left: those to come are from now or later
			found.Cells = append(found.Cells, inbox.LogCell(d.conversation, front, now))
		default:
			found.Cells = append(found.Cells, inbox.LogCell(d.conversation, front, oldest))
		}
	}
	if len(found.Cells) == 0 {
		return nil
	}
	return store.Commit(ctx, s.Store, []*store.Write{found}, store.Relaxed)
}

// due is a conversation that may have old entries: those up to the server time cut.
type due struct {
	conversation pim.ConversationID
	cut          pim.Millis
	own          bool // its own time says so, and may change meanwhile
}

// due returns those conversations of cells, of the present walk, that may have old entries at the
// time now, by the index of logs.
func (s *Sweeper) due(ctx context.Context, cells []store.Cell, now pim.Millis) ([]due, error) {
	var all []due
	var gets []store.Get
	logs := cells
	if s.place.walk.own() {
		logs = nil
		for _, cell := range cells {
			switch cut, err := cutOf(cell, now); {
			case err != nil:
				s.failed(cell.Key, err)
			case cut > 0:
				all = append(all, due{pim.ConversationID(cell.Key), cut, true})
				gets = append(gets, store.Get{Partition: inbox.Logs(s.place.walk.number()), Key: cell.Key})
			}
		}
		if len(gets) == 0 {
			return nil, nil
		}
		if err := s.Store.Get(ctx, gets); err != nil {
			return nil, err
		}
		for i := range gets {
			logs = append(logs, gets[i].Cell)
		}
	} else {
		for _, cell := range cells {
			all = append(all, due{conversation: pim.ConversationID(cell.Key), cut: now - millis(s.Age)})
		}
	}
	some := all[:0]
	for i, cell := range logs {
		switch _, oldest, err := inbox.ParseLogCell(cell); {
		case err != nil:
			s.failed(string(all[i].conversation), err)
		case oldest <= all[i].cut:
			some = append(some, all[i])
		}
	}
	return some, nil
}

// cutOf returns up to which server time entries are too old at the time now by what their
// conversation says in the cell retained; 0: none is.
func cutOf(retained store.Cell, now pim.Millis) (pim.Millis, error) {
	r, err := inbox.ParseRetainCell(retained)
	age := r.At(now)
	if err != nil || age == 0 {
		return 0, err
	}
	return max(now-age, 0), nil
}

// failed tells the operator of a conversation that keeps its old entries until the next pass.
func (s *Sweeper) failed(c string, err error) {
	s.Logger.Warn("old messages of a conversation are not removed now", "conversation", c, "err", err)
}

// firstOf reads the first record of c's log, and its end.
func firstOf(c pim.ConversationID) store.Read {
	return store.Read{Log: inbox.Entries(c), Limit: store.Limit{Records: 1, Bytes: 1}, WithLast: true}
}

// sweep trims the entries of d up to its cut, at the time now. It stops if somebody says meanwhile
// that they stay. begin was read as firstOf says. sweep returns the log's front, and a server time
// before which no entry that is left was written; 0: none is left.
func (s *Sweeper) sweep(ctx context.Context, d due, begin *store.Read, now pim.Millis) (front pim.Seq, oldest pim.Millis, err error) {
	c := d.conversation
	if begin.Err != nil {
		return 0, 0, begin.Err
	}
	if begin.Front > begin.Last {
		return begin.Front, 0, nil
	}
	if front = begin.First; len(begin.Records) == 0 {
		return front, 0, nil
	}
	if oldest, err = serverTime(c, begin.Records[0]); err != nil || oldest > d.cut {
		return front, oldest, err
	}
	upTo, next, err := s.newestOld(ctx, c, front, begin.Last, d.cut)
	if err != nil {
		return 0, 0, err
	}
	for to := front - 1; to < upTo; {
		if err := s.Gate(); err != nil {
			return 0, 0, err
		}
		if stays, err := s.stays(ctx, d, now); err != nil || stays {
			return to + 1, oldest, err
		}
		from := to
		to = min(to+trimStep, upTo)
		if err := s.Trim(ctx, c, to); err != nil {
			return 0, 0, err
		}
		s.trimmed.Add(float64(to - from))
		if err := s.sleep(ctx, pause); err != nil {
			return 0, 0, err
		}
	}
	return upTo + 1, next, nil
}

// stays reports whether the conversation of d keeps at the time now what it did not keep when d was
// found.
func (s *Sweeper) stays(ctx context.Context, d due, now pim.Millis) (bool, error) {
	if !d.own {
		return false, nil
	}
	retained, _, err := store.Lookup(ctx, s.Store, inbox.Retained(inbox.LogsOf(d.conversation)), string(d.conversation))
	if err != nil {
		return false, err
	}
	cut, err := cutOf(retained, now)
	return cut < d.cut, err
}

// newestOld returns the seq of c's newest entry up to the server time cut, and the server time of
// the entry behind it; 0: there is none up to last. The entry at front is one up to cut. Server
// times never decrease with the seqs, so newestOld reads few entries.
func (s *Sweeper) newestOld(ctx context.Context, c pim.ConversationID, front, last pim.Seq, cut pim.Millis) (upTo pim.Seq, next pim.Millis, err error) {
	for front < last {
		middle := front + (last-front+1)/2
		reads := []store.Read{{Log: inbox.Entries(c), From: middle, To: middle, Limit: store.Limit{Records: 1, Bytes: 1}}}
		if err := s.Store.Read(ctx, reads); err != nil {
			return 0, 0, err
		}
		if reads[0].First > middle { // somebody else trims
			front = middle
			continue
		}
		if len(reads[0].Records) == 0 {
			return 0, 0, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d, its last is %d", c, middle, last)
		}
		t, err := serverTime(c, reads[0].Records[0])
		if err != nil {
			return 0, 0, err
		}
		if t <= cut {
			front = middle
		} else {
			last, next = middle-1, t
		}
	}
	return front, next, nil
}

// serverTime returns the server time of the entry of c in record.
func serverTime(c pim.ConversationID, record []byte) (pim.Millis, error) {
	e, err := wire.ParseEntry(c, record)
	return e.Server, err
}
