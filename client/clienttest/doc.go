// Package clienttest is a small server for tests of clients. It keeps what it is
// sent in memory, speaks protocol v1, and misbehaves on request: it drops pushes,
// rejects messages, forgets nothing and proves nothing about the real server.
package clienttest
