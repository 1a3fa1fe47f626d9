// Package route brings requests to the nodes that write their conversations, and the answers back.
//
// The Router of a node stands between its gateway and its writers. Which node writes a conversation
// is said by package placement. If it is this one, a request goes to the writers as in a pim of one
// node: a function call. Else it travels over the bus, waits in a table here, and its answer comes
// back to this table.
//
//	gateway ─► Router ─────────────────► conv.Writers ─► Router ─► gateway
//	             │   ▲                                     │
//	   KindSubmit│   │KindAnswer                           ├─► home: pushes
//	             ▼   │                                     │
//	           other nodes ◄───────────────────────────────┘ KindAnswer
//
// # What holds
//
//   - Each request of a connection is answered once. The first answer counts, from whichever node.
//   - A request may be written by any node, by several at a time and again (I2, I7): that costs a
//     conflict and is otherwise without harm. So a Router never asks whether it should write what
//     other nodes send it, and nothing is ever sent on from node to node.
//   - A request that has no answer is sent again: after 2 s without a word of it from the node, at once if
//     the bus tells of a gap (100 ms after the gap before, at the earliest), if the node refuses because it is stopping or its clock is off, or if
//     the view gives the conversation to another node. What this node's own writers refuse because of its clock goes to another node as well. After 15 s it is refused, and may be sent again.
//   - A node that keeps silent twice is not asked for 5 s, and what it ought to write is written here. A node
//     whose store is slow does not keep silent: when a request comes again it says that it is under way.
//   - The requests of one user reach a node in the order in which they were submitted, also after a
//     loss. Users are divided into lanes. The messages of a lane to a node are numbered; if one is missing, the node
//     takes none of those behind it, until all that still waits for it comes again, in order, in a new round.
//     While the view changes, two nodes may write what one user sends, so an
//     order between two requests that were under way at that moment is not promised.
//   - A refusal that is final is handed out only when no node can write the request any more, see withdraw.go.
//   - The writers read from the store before they take a read command. Other users don't wait for it, whichever node they are at, see reads.go.
//   - 8 MiB at most are under way to a node, and what is more waits in the table. So what is sent again after a loss has room, see window.go.
//   - A node that joins or stops has its busy conversations loaded by their next writers before the view changes, see warm.go.
//   - Everything that waits is bounded, in number and in bytes, for a user and for a node.
package route
