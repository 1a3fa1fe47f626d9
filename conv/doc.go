// Package conv is the writer. It gives every entry of a conversation its seq, its server
// time and its place in the display order, and makes the entry durable together with the
// offline lists of everyone who is to read it.
//
// # Invariants
//
//   - I1: an answer or a push is delivered only after the entry and every member's offline
//     list are durable.
//   - I2: a client message ID has one effect. Package dedup finds the entry that has it.
//   - I3: seqs are dense, since the store appends after the log's last seq or not at all.
//   - I7: a conversation's state in memory is a cache of its log. When an append fails, for
//     whatever reason, the state is thrown away and loaded again, and the requests are
//     stepped again: those whose entries took effect after all are duplicates then, and get
//     the first answer. A refusal that follows from the state is given only after an append
//     behind it, or when the log's fence was raised after the request had come, and then its
//     last seq and its fence were compared or read again. So it holds whatever of the same
//     request is under way to the store. What another log means for the conversation raises
//     the fence, too, see effects.go.
//
// # Outline
//
//	Submit ─► driver ─► machine ─► one batch of the conversation ─► store.Begin
//	            ▲  ▲       │                                           │
//	            │  └───────┴─► look-up: a load, an old ID, …           │ outcome
//	            └──────────────────────────────────────────────────────┘
//	            │
//	            └─► Outlet: answers, then pushes
//
// A machine is one conversation. It is pure: requests, what was looked up, outcomes and
// the time go in, batches, look-ups, answers and pushes come out. It has at most one batch
// and one look-up under way, and what comes meanwhile waits for the next batch. So batches
// grow with the load and with the slowness of the disk. The stories in testdata show it.
//
// A driver is one goroutine for many machines. It waits for the store only while the store
// has no space for more writes: look-ups have goroutines of their own, and store.Begin tells
// the outcome of a write later. The store gathers the writes of many machines for one fsync.
//
// # Memory
//
// A conversation's state takes a few kilobytes, and a bound (Options.Memory) says how much
// of them is in memory. A load asks for the log's last seq and its fence, and takes two reads
// of bounded size: the snapshot, and the entries behind it.
//
// # Keys
//
// A batch writes one chunk of the log and one line for each member, however many entries
// it adds. A line for each message and member, and a cell for each client message ID, were
// tried and given up.
package conv
