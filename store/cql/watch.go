package cql

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim"
)

const (
	// checkEvery is how often the cluster is checked although no node has come up: the driver may have missed
	// one, or somebody has altered the keyspace.
	checkEvery = time.Minute

	// checkAgain is when it is checked again if it could not be asked, or something was wrong.
	checkAgain = time.Second
)

// safety knows why the cluster would lose what it acknowledges, as far as somebody has looked.
type safety struct{ wrong atomic.Pointer[pim.Error] }

// err returns nil, or an error of KindUnavailable that says what to set.
func (s *safety) err() error {
	if wrong := s.wrong.Load(); wrong != nil {
		return wrong
	}
	return nil
}

// watch checks the cluster when a node has come up, and now and then, until ctx ends. While a
// node would lose what it has acknowledged, the store takes no writes. There is a moment between the time that
// such a node comes up and the end of the check.
func (s *Store) watch(ctx context.Context, keyspace string) {
	t := time.NewTimer(checkEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.session.came:
		case <-t.C:
		}
		if s.check(ctx, keyspace) {
			t.Reset(checkEvery)
		} else {
			t.Reset(checkAgain)
		}
	}
}

// check checks the cluster once, and logs what has changed. It returns whether all is well.
func (s *Store) check(ctx context.Context, keyspace string) bool {
	_, err := checkCluster(ctx, s.session, keyspace, s.accepted)
	was := s.safety.err()
	switch kind := pim.KindOf(err); {
	case err == nil:
		if was != nil {
			s.logger.Info("the cluster keeps again what it acknowledges: the store takes writes")
		}
		s.safety.wrong.Store(nil)
	case kind == pim.KindInvalid || kind == pim.KindNotFound || kind == pim.KindCorrupt:
		if was == nil || was.Error() != unsafe(err).Error() {
			s.logger.Error("the store takes no writes: the cluster would lose what it acknowledges", "error", err)
		}
		s.safety.wrong.Store(unsafe(err))
	}
	return err == nil
}

// unsafe returns the error of calls while the cluster is as err says.
func unsafe(err error) *pim.Error {
	return &pim.Error{Op: "store", Kind: pim.KindUnavailable, Text: err.Error(), Err: err}
}
