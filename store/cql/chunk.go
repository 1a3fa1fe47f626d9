package cql

import (
	"encoding/binary"

	"github.com/pim-im/pim"
)

// A chunk is the value of a row: a uvarint with the number of records, then for each record a
// uvarint with its length and its bytes. A long append becomes several chunks, so that a reader of
// one record, or who erases one, does not load much more than chunkBytes.
const chunkBytes = 64 << 10

// nextChunk returns how many of records, at least one, go into the next chunk.
func nextChunk(records [][]byte) (n int) {
	for size := 0; n < len(records); n++ {
		if size += binary.MaxVarintLen32 + len(records[n]); n > 0 && size > chunkBytes {
			break
		}
	}
	return n
}

// putChunk returns the chunk of records.
func putChunk(records [][]byte) []byte {
	size := binary.MaxVarintLen64
	for _, r := range records {
		size += binary.MaxVarintLen32 + len(r)
	}
	value := binary.AppendUvarint(make([]byte, 0, size), uint64(len(records)))
	for _, r := range records {
		value = binary.AppendUvarint(value, uint64(len(r)))
		value = append(value, r...)
	}
	return value
}

// chunk is a row of a log, read.
type chunk struct {
	part    int64
	first   pim.Seq
	records [][]byte // parts of the row's value, each without room behind it
}

// last returns the seq of the chunk's last record, which names the row.
func (c *chunk) last() pim.Seq { return c.first + pim.Seq(len(c.records)) - 1 }

// parseChunk returns the chunk whose last record is at seq last.
func parseChunk(value []byte, part, last int64) (chunk, error) {
	count, n := binary.Uvarint(value)
	// A record takes at least one byte, so the value's length bounds count.
	if n <= 0 || count == 0 || count > uint64(len(value)-n) || count > uint64(last) {
		return chunk{}, errMalformed(last)
	}
	c := chunk{part: part, first: pim.Seq(last) - pim.Seq(count) + 1, records: make([][]byte, count)}
	rest := value[n:]
	for i := range c.records {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return chunk{}, errMalformed(last)
		}
		end := n + int(size)
		c.records[i], rest = rest[n:end:end], rest[end:]
	}
	if len(rest) > 0 {
		return chunk{}, errMalformed(last)
	}
	return c, nil
}

func errMalformed(last int64) error {
	return pim.Errorf(pim.KindCorrupt, "malformed chunk of a log at seq %d", last)
}
