package pebble

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	crdb "github.com/cockroachdb/pebble/v2"
)

// A long chunk is kept apart from its log: it lies under a key of its own, in the
// order in which such chunks are written, and the log's key holds a reference to it.
// Pebble merges its levels by key. So it merges a new key of a log with the log's older
// keys and writes the older values again; the more the store holds, the more often.
// Chunks that are written in the order of their keys overlap with no older table. Pebble
// moves their tables from level to level without writing them again.
//
// Two commits may run side by side, so each takes a stream of its own while its batch is
// being applied. The keys of one stream are written in order, and a table holds the keys
// of only one stream, see tableSplits.

const (
	// separateBytes is the least size of a chunk that is kept apart. The second key
	// costs more than a hundred bytes of value, see chunk.go.
	separateBytes = 2 << 10

	// maxStreams is how many streams a store can have. The committers use one each.
	// Versions of pim that had more commits at a time have written to the others.
	maxStreams = 16
)

// stream is a range of keys for chunks that are kept apart. One commit at a time owns it.
type stream struct {
	id   byte
	next uint64 // the number of the next chunk
}

// streams holds a store's streams that no commit owns. take returns the one that was
// given back last, so a store with few concurrent commits writes to few streams.
type streams struct {
	mu   sync.Mutex
	idle []*stream
}

// init finds the next number of each stream. Open must not ignore its error: a stream
// that began at 0 again would overwrite chunks.
func (s *streams) init(db *crdb.DB) error {
	it, err := db.NewIter(&crdb.IterOptions{LowerBound: valueKey(0, 0), UpperBound: valueKey(maxStreams, 0)})
	if err != nil {
		return err
	}
	defer it.Close()
	s.idle = make([]*stream, maxStreams)
	for id := range byte(maxStreams) {
		st := &stream{id: id}
		found := it.SeekLT(valueKey(id+1, 0))
		if err := it.Error(); err != nil { // the next seek would forget err
			return err
		}
		if found && it.Key()[1] == id {
			st.next = binary.BigEndian.Uint64(it.Key()[2:]) + 1
		}
		s.idle[maxStreams-1-id] = st
	}
	return nil
}

// take returns a stream, which the caller owns until it calls give, or nil if all
// streams are taken.
func (s *streams) take() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return nil
	}
	st := s.idle[n-1]
	s.idle = s.idle[:n-1]
	return st
}

// give takes back a stream.
func (s *streams) give(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, st)
}

// A reference stands under a log's key in place of a chunk. It is a 0 byte and then the
// chunk's key without its first byte. No chunk begins with a 0 byte, because no chunk has
// 0 records.
const referenceBytes = valueKeyBytes

// putReference fills dst, of referenceBytes bytes, with a reference to a chunk.
func putReference(dst []byte, stream byte, number uint64) {
	putValueKey(dst, stream, number)
	dst[0] = 0
}

// apartKey returns the key of the chunk that value, from under a log's key, refers to. ok is
// false if value is no reference.
func apartKey(value []byte) (key []byte, ok bool) {
	if len(value) != referenceBytes || value[0] != 0 {
		return nil, false
	}
	return append([]byte{prefixValue}, value[1:]...), true
}

const errGone = errMalformed("log: a chunk that was kept apart is not there")

// chunkOf returns the chunk that value, from under a log's key, holds or refers to. The
// caller may read the chunk until it closes closer.
func (s *Store) chunkOf(value []byte) (chunk []byte, closer io.Closer, err error) {
	if len(value) == 0 || value[0] != 0 {
		return value, io.NopCloser(nil), nil
	}
	key, ok := apartKey(value)
	if !ok {
		return nil, nil, errChunk
	}
	chunk, closer, err = s.db.Get(key)
	if errors.Is(err, crdb.ErrNotFound) {
		return nil, nil, errGone
	}
	return chunk, closer, err
}

// tableSplits makes tables end where a stream begins or ends, see
// crdb.SpanPolicyFunc. A table with keys of two streams would overlap with all tables
// that hold keys between them.
func tableSplits(start []byte) (crdb.SpanPolicy, []byte, error) {
	for id := range byte(maxStreams + 1) {
		if end := valueKey(id, 0); string(start) < string(end) {
			return crdb.SpanPolicy{}, end, nil
		}
	}
	return crdb.SpanPolicy{}, nil, nil
}
