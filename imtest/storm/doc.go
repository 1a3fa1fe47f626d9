// Package storm plays in real processes what package avalanche plays in virtual time: gateways with one store, thousands
// of connected clients in processes of their own, and messages that flow, while one gateway after the other is killed
// with SIGKILL. It watches what becomes of the gateways that are left, of the clients, and of the messages.
//
// The clients are those of the Go SDK, with its policy. They have nothing to say: they send heartbeats, and come back
// as they are told by an LBS. The messages are those of package soak, whose checker judges them.
//
// With Config.Unprotected gateways let in whoever comes, and clients ask no LBS and come back within a second, to show what
// that is for.
package storm
