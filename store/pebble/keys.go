package pebble

import (
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// The first byte of a key says what it is. See the package documentation for
// the layout. Names are preceded by their length, so that no name's keys lie
// between another's, whatever bytes they hold.
const (
	prefixFormat   = 0x00
	prefixAge      = 0x01
	prefixCell     = 'c'
	prefixExpiring = 'e'
	prefixLog      = 'l'
)

const seqBytes = 8

func logKeyLen(log store.Log) int { return 2 + len(log) + seqBytes }

// putLogKey fills key, of logKeyLen bytes, with that of the chunk of log that
// ends at last.
func putLogKey(key []byte, log store.Log, last pim.Seq) {
	key[0], key[1] = prefixLog, byte(len(log))
	n := 2 + copy(key[2:], log)
	binary.BigEndian.PutUint64(key[n:], uint64(last))
}

// appendLogKey appends the key of the chunk of log that ends at last.
func appendLogKey(dst []byte, log store.Log, last pim.Seq) []byte {
	dst = append(dst, prefixLog, byte(len(log)))
	dst = append(dst, log...)
	return binary.BigEndian.AppendUint64(dst, uint64(last))
}

// chunkEnd returns the last seq of the chunk at a key of a log.
func chunkEnd(key []byte) pim.Seq {
	return pim.Seq(binary.BigEndian.Uint64(key[len(key)-seqBytes:]))
}

func cellKeyLen(p store.Partition, key string) int { return 2 + len(p) + len(key) }

// putCellKey fills dst, of cellKeyLen bytes, with the key of a cell.
func putCellKey(dst []byte, p store.Partition, key string) {
	dst[0] = prefixCell
	putCellName(dst[1:], p, key)
}

// appendCellKey appends the key of a cell.
func appendCellKey(dst []byte, p store.Partition, key string) []byte {
	dst = append(dst, prefixCell, byte(len(p)))
	dst = append(dst, p...)
	return append(dst, key...)
}

// cellBounds returns the range of keys of the cells of p after after.
func cellBounds(p store.Partition, after string) (lower, upper []byte) {
	lower = make([]byte, 0, cellKeyLen(p, after)+1)
	lower = append(appendCellKey(lower, p, after), 0)
	if after == "" {
		lower = lower[:len(lower)-1] // no key is empty
	}
	return lower, successor(appendCellKey(nil, p, ""))
}

// successor returns the first key after all that begin with prefix, in prefix's
// place. The first byte of a prefix is not 0xff, so there is one.
func successor(prefix []byte) []byte {
	for prefix[len(prefix)-1] == 0xff {
		prefix = prefix[:len(prefix)-1]
	}
	prefix[len(prefix)-1]++
	return prefix
}

const bucketBytes = 4

func expiringKeyLen(p store.Partition, key string) int { return cellKeyLen(p, key) + bucketBytes }

// putExpiringKey fills dst, of expiringKeyLen bytes, with the key of a cell in
// bucket b.
func putExpiringKey(dst []byte, b bucket, p store.Partition, key string) {
	dst[0] = prefixExpiring
	binary.BigEndian.PutUint32(dst[1:], uint32(b))
	putCellName(dst[1+bucketBytes:], p, key)
}

// appendBucketKey appends the key before all of bucket b.
func appendBucketKey(dst []byte, b bucket) []byte {
	return binary.BigEndian.AppendUint32(append(dst, prefixExpiring), uint32(b))
}

func putCellName(dst []byte, p store.Partition, key string) {
	dst[0] = byte(len(p))
	n := 1 + copy(dst[1:], p)
	copy(dst[n:], key)
}
