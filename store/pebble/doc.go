// Package pebble is the storage engine inside the server's process, on
// CockroachDB's Pebble. It keeps logs and cells in one directory.
//
// # Layout, version 4 (2026-11-29)
//
// A commit carries out the writes that one committer has taken from a queue. It is one
// batch of Pebble's and at most one fsync; a commit that meets the move of a passing
// partition takes more, see passing.go. Every key begins with a byte that says what the key
// is. Numbers in keys are big-endian, so keys sort by number.
//
//	key                                          value
//	0x00                                         "4", the version of this layout
//	0x01                                         operand, whose version is the age
//	0x02                                         how far a copy to this store has come
//	'l' len(log) log lastseq:8                   chunk, or reference to one
//	'l' len(log) log 2^64-1:8                    fence:8, or fence:8 trimmed:8
//	'v' stream:1 number:8                        chunk
//	'n' number:8                                 note
//	'c' len(partition) partition key             operand
//	'e' week:4 len(partition) partition key      operand
//	'g' len(partition) partition                 operand, whose version is a generation
//	'p' len(partition) partition generation:4 key operand
//
// len is one byte. It says where the name ends, so the keys of "a" and "ab" never mix,
// and a name may hold any bytes.
//
//   - A chunk holds the records that one append added to a log. Its key holds the seq
//     of its last record, and its value a uvarint with the number of records, then for
//     each record a uvarint length and the bytes. A chunk has at most 256 records, and
//     at most 64 KiB unless it holds a single record. A longer append becomes several
//     chunks. The record at seq s is in the first chunk whose lastseq is s or more.
//
//   - A chunk of 2 KiB or more is kept apart, under a key that begins with 'v'. Such
//     chunks lie in the order in which they were written, see separate.go. The log's key
//     holds a reference to the chunk: a 0 byte, the chunk's stream and its number.
//
//   - To erase a record is to write its chunk again, under the same key, see erase.go.
//
//   - A log's fence is a number, 0 where the key is missing. It stands behind the log's
//     chunks, so one seek finds both. Stores have fences since 2026-11-29; an earlier pim
//     does not see them, and does no harm, because it is the only writer.
//
//   - To trim a log is to delete its first chunks, see trim.go. Up to which seq it is trimmed
//     stands behind its fence, and is 0 where it is missing. If no chunk is left, that is the
//     log's last seq.
//
//   - A note says from which keys a commit has taken bytes that are to leave the files: for each
//     range of keys a uvarint length and the first key, a uvarint length and the last one. See
//     purge.go. Stores have notes since 2026-11-29; an earlier pim leaves them as they are.
//
//   - An operand is a cell's uvarint version and its value. It is written with
//     Merge, under the merger "pim.cell.v1": the highest version wins, and of
//     equal versions the greater value. So a write needs no read.
//
//   - A store that another one is being copied to has "restoring" in place of the layout's version, so
//     that no pim takes it for a whole one, see restore.go.
//
//   - The age is about how long the store has been open in all, in milliseconds,
//     see age.go. Stores have an age since 2026-11-28; an older store gets one.
//
//   - 'e' holds cells that expire, by the week of their expiry in the store's age.
//     When a week is over, one range deletion drops all of its cells. So a cell stays
//     at least until it expires, and at most a week and three hours longer, counting
//     only the time that the store is open. Before 2026-11-28 the weeks were those of
//     the wall clock.
//
//   - 'p' holds the cells of passing partitions, under the partition's generation. The
//     generation is stored under 'g'; where that key is missing it is 0. See passing.go.
//     An operand of a passing cell may also be a 0 byte and a uvarint version: the cell
//     is forgotten up to that version. The key of another cell that is forgotten is deleted.
//
// Version 1 had no passing partitions, version 2 kept no chunks apart, and in version 3 no log
// was trimmed. Open reads their stores and marks them as version 4. From then on an earlier
// pim refuses them, because it would not see what they hold there. It would take a log with no
// record left for a new one, and use its seqs again.
//
// Pebble's own files are in the format FormatValueSeparation.
//
// A store of another layout version is refused. A later version that can read
// this one must say here since when, and how it migrates.
//
// # What is promised, and which file keeps the promise
//
//   - An acknowledged write survives a crash: fsync, in commit.go.
//   - A crash that loses a relaxed write loses all later ones, too: a relaxed write has its
//     outcome when it is in the write-ahead log, of which a crash cuts off the end. write,
//     in commit.go.
//   - An append follows the log's last record: logs.go orders the appends to one
//     log, commit.go compares.
//   - A reader sees only durable records, although Pebble shows them earlier:
//     logs.go. Cells are not held back: a reader may see one a moment before its write
//     is durable. Barrier waits for that moment: barrier.go.
//   - A disk error becomes an error of the call. It ends no process and never becomes a
//     false acknowledgement: guard.go.
//   - Erased bytes leave the files within Options.PurgeEvery, and what a purge takes: purge.go.
//   - Health, the node's log and the error of each write say why the store does not
//     write: health.go.
//
// After a failure of the write-ahead log or the manifest (KindUnavailable, or
// KindDiskFull if the disk had no room) the store reads but does not write until
// it is opened again. Free space below Options.MinFreeBytes, a want of file
// descriptors, a memtable that cannot be written out, and a stuck disk also stop writes;
// the store accepts writes again when the trouble ends. Corruption (KindCorrupt) stops
// writes for good.
//
// One fault is not always found: a bit that flips in the newest write-ahead log
// between a crash and the next Open. Pebble must tell it from a write that the crash
// cut off, and does so by promises that later blocks of the log make. There are none
// for the last 32 KiB, and after commits of more than 32 KiB they promise too little.
// In these cases the store opens with what was written before the bit. A sector that
// cannot be read is an error in any case.
package pebble
