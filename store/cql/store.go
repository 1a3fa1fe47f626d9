package cql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"golang.org/x/sync/semaphore"
)

// Store is a storage engine on a Cassandra cluster. Open makes one.
type Store struct {
	session     *session
	keyspace    string
	space       string // begins the name of every log and partition
	partSeqs    int64
	accepted    int // copies that are fewer than leastCopies and were asked for; 0: none
	writeWithin time.Duration
	maxBytes    int64
	room        *semaphore.Weighted // bytes of the writes under way
	locks       locks
	newest      newest
	health      health
	doubt       doubt
	safety      safety
	metrics     metrics
	logger      *slog.Logger
	unwatch     context.CancelFunc // ends watch, which closes watched
	watched     chan struct{}

	restore bool // Options.Restore
	noteMu  sync.Mutex
	note    string // of the copy, as this process knows it; guarded by noteMu

	mu     sync.Mutex
	closed bool // guarded by mu
	calls  sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open opens the store in a keyspace that Init has made. A node of Cassandra that does not answer holds it up for 20 s. Errors are of KindInvalid if the cluster would
// lose what it has acknowledged, as when a node acknowledges before a write is on disk; of
// KindNotFound or KindUnsupported if the keyspace is not there, or not as this version needs it; of
// KindUnavailable; of KindCorrupt if a table is not there any more, or another one. They say what to set, or the line to type.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	session, err := o.connectTo(ctx)
	if err != nil {
		return nil, err
	}
	s := &Store{
		session: session, keyspace: o.Keyspace, space: o.space, writeWithin: o.WriteWithin, maxBytes: o.MaxBytes,
		room: semaphore.NewWeighted(o.MaxBytes), restore: o.Restore,
		logger: o.Logger, watched: make(chan struct{}),
	}
	s.metrics.init()
	s.doubt.asked = s.metrics.allCopies.Inc
	m, err := o.checkMeta(ctx, session)
	if err == nil {
		s.partSeqs, s.accepted = m.partSeqs, m.copies
		var r Replication
		r, err = checkCluster(ctx, session, o.Keyspace, s.accepted)
		if errors.Is(err, errNotAsked) {
			// A node that hangs, or that this process does not reach, stops no process that runs already,
			// so it keeps none from starting. watch goes on asking it.
			o.Logger.Warn("a node of Cassandra does not tell its settings", "error", err)
			err = nil
		}
		if err == nil && r.copies() < leastCopies {
			o.Logger.Warn("Cassandra keeps one copy of everything: with its disk all messages are lost; this is for trying pim", "keyspace", o.Keyspace, "replication", r.String())
		}
	}
	if err == nil {
		err = s.checkRestore(ctx)
	}
	if err == nil {
		err = s.metrics.register(o.Registerer, s)
	}
	if err != nil {
		session.Close()
		return nil, err
	}
	watching, unwatch := context.WithCancel(context.Background())
	s.unwatch = unwatch
	go func() {
		defer close(s.watched)
		s.watch(watching, o.Keyspace)
	}()
	return s, nil
}

// connectTo connects to the keyspace. If that fails because the keyspace is not there, the error says so.
func (o *Options) connectTo(ctx context.Context) (*session, error) {
	made, err := o.connect()
	if err == nil {
		return made, nil
	}
	anywhere := *o
	anywhere.Keyspace = ""
	outside, failed := anywhere.connect()
	if failed != nil {
		return nil, failed // it names no keyspace, which is not what is wrong
	}
	defer outside.Close()
	if _, _, missing := readKeyspace(ctx, outside, o.Keyspace); pim.KindOf(missing) == pim.KindNotFound {
		return nil, pim.Errorf(pim.KindNotFound, "the cluster has no keyspace %q; make it: %s", o.Keyspace, o.initLine(true))
	}
	return nil, err
}

// enter begins a call, unless the store is closed. checks are what the call's arguments have come
// to. If enter returns nil, the caller must call calls.Done.
func (s *Store) enter(ctx context.Context, checks ...error) error {
	for _, err := range append(checks, ctx.Err()) {
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed()
	}
	s.calls.Add(1)
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return errClosed()
	}
	s.unwatch()
	<-s.watched
	s.calls.Wait()
	s.metrics.unregister()
	s.session.Close()
	return nil
}

// Barrier implements store.Store. It has nothing to wait for: what a read with QUORUM has found
// is on a quorum of nodes, or the read has written it there before it ended.
func (s *Store) Barrier(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.calls.Done()
	return nil
}

// leastBytes is what a write counts for at least.
const leastBytes = 16 << 10

// Begin implements store.Store. Writes to one log are carried out one after the other.
func (s *Store) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if w.Err = s.enter(ctx, w.Check(d), s.safety.err()); w.Err != nil {
			s.metrics.ended(w.Err)
			done(w)
			continue
		}
		size := min(max(leastBytes, sizeOf(w)), s.maxBytes)
		if w.Err = s.room.Acquire(ctx, size); w.Err != nil {
			done(w)
			s.calls.Done()
			continue
		}
		go func() {
			defer s.calls.Done()
			begun := time.Now()
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.writeWithin)
			defer cancel()
			w.Err = s.write(within, w)
			s.metrics.wrote(w, begun)
			s.room.Release(size)
			done(w)
		}()
	}
}

func sizeOf(w *store.Write) (n int64) {
	for _, r := range w.Records {
		n += int64(len(r))
	}
	for i := range w.Erase {
		n += int64(len(w.Erase[i].Rest))
	}
	for i := range w.Cells {
		n += int64(len(w.Cells[i].Value))
	}
	return n
}

// write carries out a write.
func (s *Store) write(ctx context.Context, w *store.Write) error {
	switch {
	case w.Follows():
		if err := s.follow(ctx, w); err != nil {
			return err
		}
		return midway(s.writeCells(ctx, w.Cells))
	case w.Trim != 0:
		// The last seq only grows, so the trim may be judged before the cells are written.
		e, err := s.end(ctx, s.log(w.Log))
		if err == nil {
			err = w.CheckTrim(e.last)
		}
		if err != nil {
			return unavailable("commit", err)
		}
	}
	if err := s.writeCells(ctx, w.Cells); err != nil || !w.TouchesLog() {
		return err
	}
	release, err := s.lock(ctx, w.Log)
	if err != nil {
		return midway(err)
	}
	defer release()
	if w.Raise {
		return midway(s.raise(ctx, s.log(w.Log)))
	}
	return midway(s.trim(ctx, w))
}

// follow appends and erases.
func (s *Store) follow(ctx context.Context, w *store.Write) error {
	release, err := s.lock(ctx, w.Log)
	if err != nil {
		return err
	}
	defer release()
	if len(w.Records) > 0 {
		if err := s.append(ctx, w); err != nil {
			return err
		}
	}
	if len(w.Erase) == 0 {
		return nil
	}
	begun, err := s.erase(ctx, w, w.After+pim.Seq(len(w.Records)))
	if begun || len(w.Records) > 0 {
		return midway(err)
	}
	return err
}

// lock returns when no other write of this process works on log.
func (s *Store) lock(ctx context.Context, log store.Log) (release func(), err error) {
	release, err = s.locks.acquire(ctx, string(log))
	if err != nil {
		return nil, unavailable("commit", fmt.Errorf("an earlier write of %q has taken too long: %w", log, err))
	}
	return release, nil
}

func (s *Store) log(l store.Log) []byte             { return []byte(s.space + string(l)) }
func (s *Store) partition(p store.Partition) []byte { return []byte(s.space + string(p)) }

// transact carries out a lightweight transaction. If it returns an error that is not refused, the
// transaction may take effect, or have done so.
func (s *Store) transact(ctx context.Context, b *gocql.Batch) (applied bool, err error) {
	s.metrics.transactions.Inc()
	s.metrics.rows.Add(float64(b.Size()))
	applied, iter, err := b.MapExecCASContext(ctx, map[string]any{})
	if err == nil {
		err = iter.Close()
	}
	if err != nil {
		s.health.fails(err)
		return false, err
	}
	s.health.ok()
	return applied, nil
}

// batch returns an empty batch.
func (s *Store) batch() *gocql.Batch { return s.session.Batch(gocql.UnloggedBatch) }

// until calls step until it says that it is over, pausing after errors that may pass. It is for
// steps that look where they stand each time. The outcome is unknown if a step may have had an effect
// that the next one has not seen.
func (s *Store) until(ctx context.Context, step func() (over bool, err error)) error {
	var p patience
	for {
		over, err := step()
		if over {
			return err
		}
		if err != nil {
			p.unknown = p.unknown || !refused(err) && !isRead(err)
		}
		if !p.after(ctx, err) {
			if err == nil {
				err = errors.New("others keep changing the log")
			}
			if err = unavailable("commit", err); p.unknown {
				return midway(err)
			}
			return err
		}
		s.metrics.retries.Inc()
	}
}

// isRead reports whether err is that of a read, which has no effect.
func isRead(err error) bool {
	var own *pim.Error
	return errors.As(err, &own)
}

// driverLog hands the driver's log to slog. What the driver tells at Info is of interest to those
// who look for a defect.
type driverLog struct{ log *slog.Logger }

func (l driverLog) Error(msg string, fields ...gocql.LogField) { l.tell(slog.LevelWarn, msg, fields) }

func (l driverLog) Warning(msg string, fields ...gocql.LogField) { l.tell(slog.LevelWarn, msg, fields) }

func (l driverLog) Info(msg string, fields ...gocql.LogField) { l.tell(slog.LevelDebug, msg, fields) }

func (l driverLog) Debug(msg string, fields ...gocql.LogField) { l.tell(slog.LevelDebug, msg, fields) }

func (l driverLog) tell(level slog.Level, msg string, fields []gocql.LogField) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, len(fields))
	for i, f := range fields {
		attrs[i] = slog.String(f.Name, f.Value.String())
	}
	l.log.LogAttrs(context.Background(), level, "cassandra: "+msg, attrs...)
}
