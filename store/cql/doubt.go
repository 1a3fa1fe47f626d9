package cql

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

// A node of Cassandra asks as many copies for a QUORUM read as it needs, among those that it takes for alive, and
// one more if they are slow. If two copies have just died it may ask both, and again both when the read is sent
// again: nobody is answered until the node has noticed, some 10 to 20 s later. Transactions go on
// meanwhile, because they ask all copies. So does a SERIAL read, which costs more. Hence a read that has no
// answer within readWithin is sent again with SERIAL, and if that is answered soon, others are sent with SERIAL at once,
// for doubtFor.
const (
	readWithin = time.Second
	doubtFor   = 10 * time.Second
)

// readAt reads with a consistency, from the beginning each time that it is called. It calls came when
// something has come.
type readAt func(ctx context.Context, consistency gocql.Consistency, came func()) error

// doubt decides with which consistency is read. The zero value is ready.
type doubt struct {
	until atomic.Pointer[time.Time] // reads ask all copies until then; nil: they never did
	asked func()                    // is called for each read that asks all copies; nil: nobody counts
}

// read calls read with QUORUM, or with SERIAL, or with the one and then the other.
func (d *doubt) read(ctx context.Context, read readAt) error {
	if until := d.until.Load(); until != nil && time.Now().Before(*until) {
		return d.all(ctx, read)
	}
	short, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(readWithin, func() { cancel(errLate) })
	defer late.Stop()
	err := read(short, gocql.Quorum, func() { late.Stop() })
	if err == nil || context.Cause(short) != errLate {
		return err
	}
	begun := time.Now()
	if err = d.all(ctx, read); err == nil && time.Since(begun) < readWithin {
		until := time.Now().Add(doubtFor)
		d.until.Store(&until)
	}
	return err
}

// all reads from all copies.
func (d *doubt) all(ctx context.Context, read readAt) error {
	if d.asked != nil {
		d.asked()
	}
	return read(ctx, gocql.Serial, func() {})
}

var errLate = errors.New("the copies that were asked do not answer")
