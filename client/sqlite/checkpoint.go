package sqlite

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pim-im/pim/client"
)

// With secure_delete SQLite writes over what is deleted. But it does so in its write-ahead log, and
// the file holds the bytes until a checkpoint writes the pages back; the write-ahead log holds what
// was written of them lately, until it is truncated. So after what takes payloads away follows a
// checkpoint that truncates the log. It follows a while later, so one is enough for many recalls. A
// program that ends before that has it done by Close, or by the next Open.

const (
	checkpointAfter = time.Minute
	// checkpointAgain is after how long a checkpoint is tried again that could not truncate the log,
	// because somebody was reading, or that failed.
	checkpointAgain = time.Minute
)

// checkpoints has a checkpoint done a while after payloads were taken away.
type checkpoints struct {
	mu     sync.Mutex
	timer  *time.Timer // nil: none is to be done
	closed bool
	doing  sync.WaitGroup
}

// erases reports whether b takes payloads away.
func erases(b *client.Batch) bool {
	for i := range b.Folds {
		if b.Folds[i].Recalled() {
			return true
		}
	}
	return len(b.Erasures)+len(b.Trims) > 0
}

// checkpointIn has a checkpoint done after d, unless one is to be done already.
func (s *Store) checkpointIn(d time.Duration) {
	c := &s.checkpoints
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil && !c.closed {
		c.doing.Add(1)
		c.timer = time.AfterFunc(d, s.checkpointNow)
	}
}

func (s *Store) checkpointNow() {
	c := &s.checkpoints
	defer c.doing.Done()
	c.mu.Lock()
	c.timer = nil // what is erased from now on has the next one
	c.mu.Unlock()
	if err := s.checkpoint(context.Background()); err != nil {
		s.checkpointIn(checkpointAgain)
	}
}

// checkpoint writes the write-ahead log back into the file, and truncates it. Writers wait for it, and
// it waits for readers, so it gives up long before a writer would.
func (s *Store) checkpoint(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout(500)"); err != nil {
		return err
	}
	defer conn.ExecContext(ctx, "PRAGMA "+busyTimeout)
	var busy, log, done int
	if err := conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &done); err != nil {
		return err
	}
	if busy != 0 {
		return errors.New("somebody reads")
	}
	return nil
}

// end waits for the checkpoint under way, and lets none begin. Closing the file does what one does.
func (c *checkpoints) end() {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil && c.timer.Stop() {
		c.doing.Done()
	}
	c.timer = nil
	c.mu.Unlock()
	c.doing.Wait()
}
