// Package cql is the storage engine on Apache Cassandra 5. It keeps logs and cells in one
// keyspace, for any number of processes that know nothing of each other.
//
// # Layout, schema 1 (2026-11-29)
//
//	log        ((log, part), last_seq) → chunk, origin     a chunk of a log
//	           ((log, part), 2^63-1)   → last, fence, front, swept, rev, newest: the part's head
//	cell       (partition, key) → value, written at the version
//	passing    the same, of passing partitions
//	expiring   ((partition, key)) → value, written at the version, with a time to live
//	meta       name → value: the schema's number, the schema that a process must know, the length of a part, how far a copy
//	           has come
//
// Names, keys and values may hold any bytes, and sort bytewise.
//
//   - A chunk holds records that one append added to a log, see chunk.go. Its row is named by the
//     seq of its last record. An append is one row, unless it is longer than 64 KiB.
//
//   - A log lies in parts of 1,024 seqs. An append that follows seq s goes to part s/1024,
//     whatever its length. So whoever knows what an append follows knows its part, and nobody has to
//     know which part is the newest in order to append.
//
//   - Each part has a head. The head of the newest part tells where the log ends, its fence and
//     its front. An append that takes last to another part closes its own part: from then on
//     last, fence, front and swept of that head never change. Whoever first needs the next part opens
//     it, which is to copy these four, see head.go. A reader who has found a closed part looks at the
//     next one. Where he begins is told by newest, in the head of part 0, and by what this process
//     has seen before; both may be behind.
//
//   - rev counts the erasures and trims in a part. Each of them compares it, because it replaces
//     chunks that it has read before. So neither writes what the other has changed.
//
//   - swept is the number of parts, from part 0 on, that a trim has emptied. Their heads stay.
//
// # Schemas
//
// Init makes the tables and nothing else does: Cassandra does not order changes of schemas that several
// nodes make at once. A later version of pim adds tables or columns by numbered migrations, see
// schema.go, while processes of the earlier version go on. Open refuses a schema that lacks what it needs, and
// one that says that an earlier version would lose or misread something.
//
// # What the cluster must be
//
// Open refuses a cluster that would lose what it has acknowledged: a node with commitlog_sync: periodic,
// or with another paxos_variant than v2, with which a refusal is final; a keyspace without durable
// writes, or with a replication whose copies a quorum can't count, or with fewer than three of them unless Init was asked
// for one; a table with other columns or keys, or with a setting by which cells are lost or come back. See check.go and
// tables.go. A node that comes up later is checked
// then, and while it is so set the store takes no writes, see watch.go.
//
// A node that stands still is asked last, see steady.go. What was sent to it before waits for
// Options.Timeout, and is sent to another one then.
//
// # What is written how
//
// The table log is written by lightweight transactions only, each on one part, with SERIAL and
// QUORUM. Its rows have the times of ballots. A write without a condition would have another
// clock's time, and could lose against a row that is older.
//
// Cells are written with QUORUM at their version as timestamp: the higher one wins, and of equal
// ones the greater value, bytewise. To forget is to delete at the version. Every write sets the
// value by UPDATE, so there are no row markers that would outlive it. An empty value is not null,
// which would be a deletion.
//
// Heads are read with SERIAL: such a read ends a transaction that has come half way. Chunks are
// read after the head, with QUORUM, which then shows all of that head's log. Cells are read with
// QUORUM. Where QUORUM has no answer within a second, SERIAL asks all copies, see doubt.go.
//
// # Outcomes
//
// Cassandra tells a coordinator's timeout from a refusal, and a client from neither if the
// connection breaks. A transaction whose outcome is not known is sent again. The second one finds
// the first one's effect, or prevents it:
//
//   - An append writes a random number with its last chunk. If the log has gone on, this number says
//     whose append it was. If it was another's, this one can't take effect any more. If the row is
//     trimmed, the outcome stays unknown.
//   - A raise and a trim have happened if the log's fence or its front has grown.
//   - An erasure reads the part's rev again.
//   - A write of cells may be repeated as often as one likes.
//
// A refusal is final: too few replicas are there, and nothing was carried out. A write of which nothing is
// under way ends after three refusals by different nodes, so it neither keeps its caller waiting nor other
// writes of its log. If an earlier request of it may take effect, it bears refusals for two seconds.
//
// If Options.WriteWithin passes meanwhile, the write ends with store.ErrUnknown. It may take effect
// later: a paused node carries out what waits in its sockets when it goes on.
//
// # Limits of what is promised
//
//   - An erasure of a record in a part before the log's newest one compares After and Fence with
//     the newest head just before it, not in the same transaction.
//   - Lifetimes are measured by the clocks of Cassandra's nodes, and each cell stays a day longer
//     than it must. A clock that is more than a day ahead ends lifetimes early.
//   - A List of a passing partition passes over the keys that were forgotten within the last day, and
//     over older ones until one compaction takes all tables that have cells of the partition.
//     It costs what it returns and what so many tombstones cost: one for each key, however often it was
//     written. Cassandra refuses to pass over more than 100,000.
//   - Bytes of what was erased, trimmed or forgotten leave the files by the compaction that
//     follows gc_grace_seconds.
package cql
