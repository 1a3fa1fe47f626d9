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
// Pebble's levels are merged into each other by key, so a log's key that comes is
// merged with the log's older ones, and what lies under them is written again; the
// more a store holds, the more often. What comes in the order of its keys overlaps
// with nothing older. Pebble moves such tables from level to level without writing
// them again.
//
// Commits run side by side, so each takes a stream for as long as its batch is being
// applied. The keys of one stream come in order, and a table holds those of one
// stream only, see tableSplits.

const (
	// separateBytes is from which size on a chunk is kept apart. A key costs more than
	// a hundred bytes of value, see chunk.
	separateBytes = 2 << 10

	// maxStreams is how many commits are applied side by side with chunks kept apart.
	// With more of them, chunks stay under their logs' keys.
	maxStreams = 16
)

// stream is where one commit at a time writes the chunks that it keeps apart.
type stream struct {
	id   byte
	next uint64 // the number of the next chunk
}

// streams are those of a store. The one that was used last is taken first, so a store
// with few commits has few of them.
type streams struct {
	mu   sync.Mutex
	idle []*stream
}

// init finds where the streams go on. An error is not to be passed over: a stream that
// began anew would write over chunks.
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
		if err := it.Error(); err != nil { // the next seek forgets it
			return err
		}
		if found && it.Key()[1] == id {
			st.next = binary.BigEndian.Uint64(it.Key()[2:]) + 1
		}
		s.idle[maxStreams-1-id] = st
	}
	return nil
}

// take returns a stream of the caller's own until it gives it back; nil if there is
// none.
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

// give takes back a stream, if st is not nil.
func (s *streams) give(st *stream) {
	if st == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, st)
}

// A reference stands in a chunk's place. It is a 0, which no chunk begins with, since none
// has 0 records, and then the key of the chunk without its first byte.
const referenceBytes = valueKeyBytes

// putReference fills dst, of referenceBytes, with a reference to a chunk.
func putReference(dst []byte, stream byte, number uint64) {
	putValueKey(dst, stream, number)
	dst[0] = 0
}

// chunkOf returns the chunk that value, which is a log's, is or refers to. It may be
// read until closer is closed.
func (s *Store) chunkOf(value []byte) (chunk []byte, closer io.Closer, err error) {
	if len(value) == 0 || value[0] != 0 {
		return value, io.NopCloser(nil), nil
	}
	if len(value) != referenceBytes {
		return nil, nil, errChunk
	}
	chunk, closer, err = s.db.Get(append([]byte{prefixValue}, value[1:]...))
	if errors.Is(err, crdb.ErrNotFound) {
		return nil, nil, errMalformed("log: a chunk that was kept apart is not there")
	}
	return chunk, closer, err
}

// tableSplits makes tables end where a stream begins or ends, see
// crdb.SpanPolicyFunc: one that held keys of two streams would overlap with all of
// theirs between.
func tableSplits(start []byte) (crdb.SpanPolicy, []byte, error) {
	for id := range byte(maxStreams + 1) {
		if end := valueKey(id, 0); string(start) < string(end) {
			return crdb.SpanPolicy{}, end, nil
		}
	}
	return crdb.SpanPolicy{}, nil, nil
}
