// Package conv is the writer: it gives every entry of a conversation its seq,
// its server time and its place in the display order, and makes it durable
// together with the offline lists of everyone who is to read it.
//
// # Invariants
//
//   - I1: an answer, and any push, follows the commit of the entry and of every
//     member's offline list.
//   - I2: a client message ID has one effect. Those of a log's last entries are
//     remembered, in the snapshot and the log behind it; an older one is found in
//     the log by the time that it carries. Most conversations never look for one.
//   - I3: seqs are dense, since the store appends after the last seq or not at all.
//   - I7: a conversation's state in memory is a cache of its log. When an append
//     fails, for whatever reason, the state is thrown away, loaded again, and the
//     requests are stepped again: those whose entries took effect after all are
//     now found to be duplicates, and get the first answer.
//
// # Outline
//
//	Submit ─► queue of a shard ─► step, one request after the other (pure)
//	                             │ until the queue is empty: one batch
//	                             ▼
//	                             one Commit for the batch (group commit)
//	                             │ durable
//	                             ▼
//	                             Outlet: answers, then pushes
//
// A shard owns the conversations that hash to it and is one goroutine: while it
// commits, the next batch gathers in its queue. Batches grow with the load and
// with the slowness of the disk, without a timer.
//
// # Memory
//
// A conversation's state takes a few kilobytes, and which of them are in memory is
// bounded (Options.Memory). One that is not there is loaded by two reads of bounded
// size: its snapshot, and the entries behind that.
//
// # Keys
//
// A batch writes, for each conversation in it, one chunk of the log and one line
// for each member, however many entries the batch adds. A line for each message and
// member, and a cell for each client message ID, were tried and left.
package conv
