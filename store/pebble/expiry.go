package pebble

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
)

// bucket is a week of the store's age. An expiring cell lies in the bucket of its
// expiry and stays until that week is over. Then one range deletion drops the whole
// bucket, which costs next to nothing however many cells it has.
type bucket uint32

const (
	weekMillis  = pim.Millis(7 * 24 * time.Hour / time.Millisecond)
	ageInterval = 10 * time.Minute // from one note of the age, and one sweep, to the next
	// ageError is by how much the age may have run ahead of the real time. The longest
	// lifetime in use is a week; a monotonic clock that is 1 % too fast gains less in it.
	ageError = pim.Millis(2 * time.Hour / time.Millisecond)
)

func bucketOf(t pim.Millis) bucket { return bucket(max(t, 0) / weekMillis) }

// buckets knows which buckets may hold cells, so that a Get of a cell that was never
// written looks into no others. There are at most as many as MaxLifetime has weeks, and
// a few.
type buckets struct {
	mu   sync.Mutex
	list atomic.Pointer[[]bucket] // ascending; replaced with mu held, never changed
}

// live returns the buckets from b on that have not been dropped.
func (k *buckets) live(b bucket) []bucket {
	list := k.list.Load()
	if list == nil {
		return nil
	}
	i, _ := slices.BinarySearch(*list, b)
	return (*list)[i:]
}

// add notes that b is about to be written.
func (k *buckets) add(b bucket) {
	if list := k.live(b); len(list) > 0 && list[0] == b {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []bucket
	if p := k.list.Load(); p != nil {
		list = *p
	}
	if i, found := slices.BinarySearch(list, b); !found {
		list = slices.Insert(slices.Clone(list), i, b)
		k.list.Store(&list)
	}
}

// passed removes the buckets before b from the list and reports whether there were any.
func (k *buckets) passed(b bucket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.list.Load()
	if p == nil {
		return false
	}
	i, _ := slices.BinarySearch(*p, b)
	rest := slices.Clone((*p)[i:])
	k.list.Store(&rest)
	return i > 0
}

// findBuckets adds the buckets that the database holds. It jumps from one to the next.
func (s *Store) findBuckets() error {
	it, err := s.db.NewIter(&crdb.IterOptions{
		LowerBound: []byte{prefixExpiring}, UpperBound: []byte{prefixExpiring + 1},
	})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		key := it.Key()
		if len(key) < 1+bucketBytes {
			it.Close()
			return errMalformed("key of an expiring cell")
		}
		b := bucket(binary.BigEndian.Uint32(key[1:]))
		s.buckets.add(b)
		if b+1 == 0 {
			break
		}
		ok = it.SeekGE(appendBucketKey(nil, b+1))
	}
	return it.Close()
}

// sweep drops the buckets whose week is over. If a crash brings a dropped bucket back,
// the first sweep after the next Open drops it again.
func (s *Store) sweep() error {
	now := bucketOf(s.age.now() - ageError)
	if !s.buckets.passed(now) {
		return nil
	}
	return s.db.DeleteRange(appendBucketKey(nil, 0), appendBucketKey(nil, now), crdb.NoSync)
}

// sweepEvery notes the age and sweeps until the store is closed.
func (s *Store) sweepEvery(interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			if err := s.enter(1); err != nil {
				return
			}
			if s.trouble() == nil {
				if err := errors.Join(s.noteAge(), s.sweep()); err != nil {
					s.log.Warn("store: expired cells were not dropped; they are, after the next Open", "err", err)
				}
			}
			s.leave(1)
		}
	}
}
