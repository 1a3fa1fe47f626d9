// Package clienttest is a small server for tests of clients. It keeps everything in
// memory, speaks protocol v1, and misbehaves on request: it drops pushes, rejects
// messages, goes back to a backup, and forgets client message IDs. It proves nothing
// about the real server.
package clienttest
