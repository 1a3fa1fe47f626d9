// Package wire is protocol v1: frame types, bodies, framing. docs/protocol.md is
// the specification, with the flow and what a client must do; this package is
// its Go form, and testdata/ holds vectors that every SDK can run.
//
// # Frames
//
// A frame is one type byte and a protobuf body (wirepb/pim.proto):
//
//	+------+----------------------+
//	| type | body, protobuf       |
//	+------+----------------------+
//	 1 byte  0 … MaxFrame-1 bytes
//
// Over WebSocket (path /v1/ws) a frame is one binary message. Over TCP each
// frame follows its length:
//
//	+-------------------+------+----------------------+
//	| length, uint32 BE | type | body                 |   length counts type and body
//	+-------------------+------+----------------------+
//
// # Flow
//
//	client                         server
//	Hello                ────────►
//	                     ◄──────── Welcome
//	PIMSyncReq           ────────►             which conversations are behind
//	                     ◄──────── PIMSyncResp
//	PIMPullReq           ────────►             their entries, page by page
//	                     ◄──────── PIMPullResp (one or more frames)
//	PIMSendReq           ────────►             durable first, then
//	                     ◄──────── PIMSendAck
//	                     ◄──────── PIMPush     a hint, never repeated
//	PIMPushAck           ────────►             cumulative, for each conversation
//	PIMPing              ────────►
//	                     ◄──────── PIMPong
//
// A reader skips frame types and fields that it does not know.
//
// History: v1, November 2026, the first.
package wire
