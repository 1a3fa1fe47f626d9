// Package real plays random schedules on real sockets: users with several
// devices, each behind a fault proxy of its own, whose apps are killed, and a
// server that loses its power. In the end everything is healed, and the checker
// of package imtest says whether anything was lost, doubled or misordered.
//
//	app (SDK, memory or SQLite; TypeScript SDK, its store in a file) ── fault.Proxy ── server
//
// An app is killed between any two of its actions: in this process by taking its
// store away, or as a process of its own by SIGKILL. The server is an imtest.Lab, whose
// power cut loses what was not synced, or a process that is killed by SIGKILL too.
package real
