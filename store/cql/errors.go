package cql

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// refused reports whether err says that a request was not carried out, and will not be. After any
// other error nobody knows.
func refused(err error) bool {
	var unavailable *gocql.RequestErrUnavailable
	var bootstrapping *gocql.RequestErrBootstrapping
	return errors.As(err, &unavailable) || errors.As(err, &bootstrapping) || mistaken(err) ||
		errors.Is(err, gocql.ErrNoConnections) || errors.Is(err, gocql.ErrNoStreams) || errors.Is(err, gocql.ErrSessionClosed)
}

// mistaken reports whether err says that a request can't be carried out as it is. To send it again
// would be in vain.
func mistaken(err error) bool {
	return answers(err, gocql.ErrCodeProtocol, gocql.ErrCodeCredentials, gocql.ErrCodeSyntax, gocql.ErrCodeUnauthorized,
		gocql.ErrCodeInvalid, gocql.ErrCodeConfig, gocql.ErrCodeAlreadyExists)
}

// answers reports whether err is an answer of Cassandra with one of codes.
func answers(err error, codes ...int) bool {
	var answer gocql.RequestError
	return errors.As(err, &answer) && slices.Contains(codes, answer.Code())
}

// unavailable returns the error of a call that failed with err and had no effect.
func unavailable(op string, err error) error {
	var own *pim.Error
	if errors.As(err, &own) {
		return err
	}
	return &pim.Error{Op: op, Kind: pim.KindUnavailable, Text: "Cassandra: " + err.Error(), Err: err}
}

// midway returns the error of a write that failed with err, and that has taken effect in part, or
// may have.
func midway(err error) error {
	if err == nil || errors.Is(err, store.ErrUnknown) {
		return err
	}
	return &pim.Error{Op: "commit", Kind: pim.KindUnavailable, Text: err.Error(), Err: errors.Join(store.ErrUnknown, err)}
}

// Pauses before a request is sent again.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// pause waits before the request is sent again for the n-th time, from 0. It returns false if the
// context ends meanwhile.
func pause(ctx context.Context, n int) bool {
	d := lastPause
	if n < 6 {
		d = min(firstPause<<n, lastPause)
	}
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// tries is how often a read is sent.
const tries = 4

// again calls read until it succeeds, at most tries times. Its error is the context's, or of
// KindUnavailable or KindCorrupt.
func (s *Store) again(ctx context.Context, read func() error) error {
	for n := 0; ; n++ {
		err := read()
		if err == nil || errors.Is(err, gocql.ErrNotFound) {
			s.health.ok()
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var own *pim.Error
		if errors.As(err, &own) {
			return err
		}
		s.health.fails(err)
		if mistaken(err) || n+1 == tries || !pause(ctx, n) {
			return unavailable("read", err)
		}
		s.metrics.retries.Inc()
	}
}

// readAgain is again for a read that may ask all copies, see doubt.go.
func (s *Store) readAgain(ctx context.Context, read readAt) error {
	return s.again(ctx, func() error { return s.doubt.read(ctx, read) })
}
