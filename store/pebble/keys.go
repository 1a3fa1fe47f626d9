package pebble

import (
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// The first byte of a key says what the key is. See the package documentation for the
// layout. The length of a name precedes it, so that no name's keys lie between
// another's, whatever bytes the names hold.
const (
	prefixFormat     = 0x00
	prefixAge        = 0x01
	prefixRestore    = 0x02
	prefixCell       = 'c'
	prefixExpiring   = 'e'
	prefixGeneration = 'g'
	prefixLog        = 'l'
	prefixNote       = 'n'
	prefixPassing    = 'p'
	prefixValue      = 'v'
)

const (
	seqBytes = 8
	fenceSeq = ^pim.Seq(0) // a log's fence stands behind its chunks, as if it were one that ends here
)

func logKeyLen(log store.Log) int { return 2 + len(log) + seqBytes }

// putLogKey fills key, of logKeyLen bytes, with the key of log's chunk that ends at
// last.
func putLogKey(key []byte, log store.Log, last pim.Seq) {
	key[0], key[1] = prefixLog, byte(len(log))
	n := 2 + copy(key[2:], log)
	binary.BigEndian.PutUint64(key[n:], uint64(last))
}

// appendLogKey appends the key of log's chunk that ends at last.
func appendLogKey(dst []byte, log store.Log, last pim.Seq) []byte {
	dst = append(dst, prefixLog, byte(len(log)))
	dst = append(dst, log...)
	return binary.BigEndian.AppendUint64(dst, uint64(last))
}

// chunkEnd returns the last seq of the chunk whose key is key.
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

// cellBounds returns the range of Pebble's keys that holds the cells of p with keys
// greater than after.
func cellBounds(p store.Partition, after string) (lower, upper []byte) {
	lower = make([]byte, 0, cellKeyLen(p, after)+1)
	lower = append(appendCellKey(lower, p, after), 0)
	if after == "" {
		lower = lower[:len(lower)-1] // no key is empty
	}
	return lower, successor(appendCellKey(nil, p, ""))
}

// successor returns the first key after all keys that begin with prefix. It uses
// prefix's memory. Such a key exists because no prefix begins with 0xff.
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

// appendBucketKey appends the key that sorts before all keys of bucket b.
func appendBucketKey(dst []byte, b bucket) []byte {
	return binary.BigEndian.AppendUint32(append(dst, prefixExpiring), uint32(b))
}

const generationBytes = 4

func passingKeyLen(p store.Partition, key string) int { return cellKeyLen(p, key) + generationBytes }

// putPassingKey fills dst, of passingKeyLen bytes, with the key of a cell of a passing
// partition.
func putPassingKey(dst []byte, g generation, p store.Partition, key string) {
	dst[0], dst[1] = prefixPassing, byte(len(p))
	n := 2 + copy(dst[2:], p)
	binary.BigEndian.PutUint32(dst[n:], uint32(g))
	copy(dst[n+generationBytes:], key)
}

// appendPassingKey appends the key of a cell of a passing partition.
func appendPassingKey(dst []byte, g generation, p store.Partition, key string) []byte {
	dst = append(dst, prefixPassing, byte(len(p)))
	dst = append(dst, p...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(g))
	return append(dst, key...)
}

// passingBounds returns the range of Pebble's keys that holds the cells of p in
// generation g with keys greater than after.
func passingBounds(g generation, p store.Partition, after string) (lower, upper []byte) {
	lower = make([]byte, 0, passingKeyLen(p, after)+1)
	lower = append(appendPassingKey(lower, g, p, after), 0)
	if after == "" {
		lower = lower[:len(lower)-1] // no key is empty
	}
	return lower, successor(appendPassingKey(nil, g, p, ""))
}

func generationKeyLen(p store.Partition) int { return 2 + len(p) }

func putGenerationKey(dst []byte, p store.Partition) {
	dst[0], dst[1] = prefixGeneration, byte(len(p))
	copy(dst[2:], p)
}

// appendGenerationKey appends the key of the generation of a passing partition.
func appendGenerationKey(dst []byte, p store.Partition) []byte {
	return append(append(dst, prefixGeneration, byte(len(p))), p...)
}

func putCellName(dst []byte, p store.Partition, key string) {
	dst[0] = byte(len(p))
	n := 1 + copy(dst[1:], p)
	copy(dst[n:], key)
}

const noteKeyBytes = 1 + 8

func noteKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixNote}, number)
}

const valueKeyBytes = 1 + 1 + 8

// putValueKey fills dst, of valueKeyBytes bytes, with the key of a chunk that is kept
// apart.
func putValueKey(dst []byte, stream byte, number uint64) {
	dst[0], dst[1] = prefixValue, stream
	binary.BigEndian.PutUint64(dst[2:], number)
}

func valueKey(stream byte, number uint64) []byte {
	key := make([]byte, valueKeyBytes)
	putValueKey(key, stream, number)
	return key
}
