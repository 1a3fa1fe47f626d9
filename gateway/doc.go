// Package gateway holds the long connections of clients: WebSocket and TCP, with
// or without TLS.
//
// # One connection
//
// One goroutine reads; it decodes every frame that one read brought in and hands
// all sends among them to the writers at once. A second goroutine exists only
// while there is something to write; it writes everything that has gathered in
// one call. So an idle connection is one small stack and no buffer: plain
// connections wait for bytes before they take a read buffer from the pool.
//
// Frames to a client gather in conn.out:
//
//   - answers to sends: bounded by Limits.InFlight, since a send is in flight until
//     its answer is written, and above the limit nothing more is read;
//   - other answers at once (pongs, times, refusals): each waits for room, and the
//     connection is not read meanwhile;
//   - answers to pulls and syncs: made one at a time, each only when out has room;
//   - pushes: bounded by Limits.QueueBytes. Above it the device is behind: its
//     pushes are dropped until out is empty, and then it is told to sync.
//
// Limits of time need no timer for each connection: a janitor looks at one when a limit
// of it may end (wheel.go). What a silent connection does not need is given back: the
// stack that its goroutine has grown (renew.go), and garbage (trim.go).
package gateway
