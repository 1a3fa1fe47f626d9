// Package pebble is the storage engine inside the server's process, on
// CockroachDB's Pebble. It keeps logs and cells in one directory.
//
// # Layout, version 3 (2026-11-28)
//
// One Commit is one batch of Pebble's and at most one fsync. Every key begins
// with a byte that says what it is; numbers in keys are big-endian, so that they
// order.
//
//	key                                          value
//	0x00                                         "3", the version of this layout
//	0x01                                         operand, whose version is the age
//	'l' len(log) log lastseq:8                   chunk, or reference to one
//	'v' stream:1 number:8                        chunk
//	'c' len(partition) partition key             operand
//	'e' week:4 len(partition) partition key      operand
//	'g' len(partition) partition                 operand, whose version is a generation
//	'p' len(partition) partition generation:4 key operand
//
// len is one byte. It makes the name's end known, so the keys of "a" and "ab"
// never mix, and a name may hold any bytes.
//
//   - A chunk is what one append added to a log, under the seq of its last
//     record: uvarint number of records, then for each uvarint length and bytes.
//     It has at most 256 records, and 64 KiB unless it is a single record; a
//     longer append becomes several. The record at seq s is in the first chunk
//     whose key is s or more.
//
//   - A chunk of 2 KiB or more is kept apart, under a key that begins with 'v', in the
//     order in which such chunks were written; see values.go. The log's key holds a
//     reference to it: a 0 byte, its stream and its number.
//
//   - An operand is a cell's uvarint version and its value. It is written with
//     Merge, under the merger "pim.cell.v1": the highest version wins, and of
//     equal ones the greater value. So a write needs no read.
//
//   - The age is about how long the store has been open in all, in milliseconds,
//     see age.go. Since 2026-11-28; a store that has none gets one.
//
//   - 'e' holds cells that expire, by the week of their expiry in the store's age.
//     When a week is over, one range deletion drops all of it. A cell therefore
//     stays at least until it expires, and at most a week and three hours longer
//     that the store is open. Before 2026-11-28 the weeks were those of the wall clock.
//
//   - 'p' holds the cells of passing partitions, under the partition's generation; that
//     is in 'g', and 0 where there is none. See passing.go. Their operands may also
//     be a 0 byte and a uvarint version: the cell is forgotten up to that version.
//
// Version 1 had no passing partitions, version 2 no chunks apart. Their stores are read,
// and are of version 3 from then on: an earlier pim refuses them, since it would not see
// what they hold there.
//
// Pebble's own files are in the format FormatValueSeparation.
//
// A store of another layout version is refused. A later version that can read
// this one must say here since when, and how it migrates.
//
// # What is promised, and where it is kept
//
//   - An acknowledged write survives a crash: apply, in commit.go.
//   - An append follows the log's last record: logs.go orders the appends to one
//     log, commit.go compares.
//   - A reader sees only durable records, although Pebble shows them earlier:
//     logs.go. Cells are not held back: one may be seen a moment before the write
//     is durable.
//   - A disk error is an error, not an end of the process, and never a false
//     acknowledgement: guard.go.
//   - What keeps the store from writing is said by Health, in the log, and in the
//     error of each Commit: health.go.
//
// After a failure of the write-ahead log or the manifest (KindUnavailable, or
// KindDiskFull if the disk had no room) the store reads but does not write until
// it is opened again. Free space below Options.MinFreeBytes, a memtable that
// cannot be written out, and a stuck disk also stop writes, and end by
// themselves. Corruption (KindCorrupt) stops writes for good.
//
// One thing is not always found: a bit that flips in the newest write-ahead log
// between a crash and the Open after it. Pebble must tell it from a write that the
// crash cut off, by promises that later blocks of the log make. There are none for
// the last 32 KiB, and after commits of more than 32 KiB they promise too little;
// then the store opens with what was written before the bit. A sector that cannot
// be read is an error in any case.
package pebble
