// Package gateway holds the long connections of clients: WebSocket and TCP, with
// or without TLS, and QUIC.
//
// # One connection
//
// One goroutine reads. It decodes every frame that one read brought in and hands
// all sends among them to the writers at once. A plain connection waits for bytes
// before it takes a read buffer from the pool, so an idle one is one small stack and
// no buffer.
//
// Frames to a client gather in its outbox (outbox.go); an enqueuer puts them there (enqueue.go).
// They are written together, whole frames of up to 32 KiB in one call. Deliver writes them
// itself if the socket has room (direct.go). Else the sending goroutine does, which exists
// only while there is something to write. A third goroutine serves pulls and syncs. The connection
// has it only while there are any; then it serves another connection (tasks.go), and it writes
// small pages itself.
//
// An outbox has two queues. The queue of commands, such as pongs, leaves first. The queue of
// entries has the frames that say how far logs go: acks, pushes and pages. They stay in their
// order. What may wait in an outbox is bounded:
//
//   - Answers to sends: by Limits.InFlight. A send is in flight until its answer is
//     written, and at the limit nothing more is read.
//   - Commands: by Limits.QueueBytes. The goroutine that queues a command waits for room; if
//     it is the reading one, nothing more is read meanwhile. Only the pong of the WebSocket
//     layer is dropped instead.
//   - Answers to pulls and syncs: they are made one after the other, and each waits
//     for room.
//   - Pushes: by Limits.QueueBytes. A device above it is behind: a frame that tells it to
//     sync is queued, and its pushes are dropped until that frame is about to be written.
//
// What a connection sends is bounded by Limits.Rates: the reading goroutine of one that sends too
// much pauses between two reads (budget.go).
//
// Limits of time need no timer for each connection: a janitor looks at a connection
// when one of its limits may end (wheel.go). A silent connection gives back what it
// does not need: the grown stack of its goroutine (renew.go), and garbage (trim.go).
package gateway
