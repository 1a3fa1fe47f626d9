package pebble

import (
	"encoding/binary"
	"math/bits"

	"github.com/pim-im/pim"
)

// A chunk holds the records that one append adds to a log, as one value: a uvarint with
// the number of records, then for each record a uvarint with its length and its bytes.
// The chunk's key holds its last seq. One key for many records is what makes a batched
// append cheap: a key costs more than a hundred bytes of value.
//
// A long append is split into several chunks, so that a reader of one record never loads
// much more than chunkBytes.
const (
	chunkRecords = 256
	chunkBytes   = 64 << 10
)

// nextChunk returns how many of records, at least one, go into the next chunk,
// and the size of its value.
func nextChunk(records [][]byte) (n, size int) {
	for n < len(records) && n < chunkRecords {
		r := uvarintLen(uint64(len(records[n]))) + len(records[n])
		if n > 0 && size+r > chunkBytes {
			break
		}
		size += r
		n++
	}
	return n, uvarintLen(uint64(n)) + size
}

// putChunk fills dst, of the size that nextChunk returned, with records.
func putChunk(dst []byte, records [][]byte) {
	n := binary.PutUvarint(dst, uint64(len(records)))
	for _, r := range records {
		n += binary.PutUvarint(dst[n:], uint64(len(r)))
		n += copy(dst[n:], r)
	}
}

// errMalformed is the cause of a KindCorrupt: this engine cannot have written the
// value. The string says what the value should have been.
type errMalformed string

func (e errMalformed) Error() string { return "malformed " + string(e) }

const (
	errChunk = errMalformed("chunk of a log")
	errHole  = errMalformed("log: it has a hole")
)

// chunk walks over the records of a chunk's value.
type chunk struct {
	first pim.Seq
	count int
	rest  []byte
}

// parseChunk begins a walk over value, the chunk that ends at seq last.
func parseChunk(value []byte, last pim.Seq) (chunk, error) {
	count, n := binary.Uvarint(value)
	// A record takes at least one byte, so the value's length bounds count.
	if n <= 0 || count == 0 || count > uint64(len(value)-n) || count > uint64(last) {
		return chunk{}, errChunk
	}
	return chunk{first: last - pim.Seq(count) + 1, count: int(count), rest: value[n:]}, nil
}

// next returns the next record, as a part of the value.
func (c *chunk) next() ([]byte, error) {
	size, n := binary.Uvarint(c.rest)
	if n <= 0 || size > uint64(len(c.rest)-n) {
		return nil, errChunk
	}
	record := c.rest[n : n+int(size)]
	c.rest = c.rest[n+int(size):]
	c.count--
	if c.count == 0 && len(c.rest) > 0 {
		return nil, errChunk
	}
	return record, nil
}

// uvarintLen returns the number of bytes of v as a uvarint.
func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
