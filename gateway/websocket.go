package gateway

import (
	"encoding/binary"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// WebSocket framing, RFC 6455 section 5.2. The library upgrades and unmasks. Headers are
// read here, since the buffer may hold only half of one.

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	maxHeader = 14 // bytes, with the longest length and a mask
)

// appendServerHeader appends the header of a final, unmasked frame of n bytes.
func appendServerHeader(b []byte, op byte, n int) []byte {
	b = append(b, 0x80|op)
	switch {
	case n < 126:
		return append(b, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
}

// appendServerClose appends a close frame.
func appendServerClose(b []byte, code uint16, text string) []byte {
	text = wire.Cut(text, 120)
	b = appendServerHeader(b, opClose, 2+len(text))
	return append(binary.BigEndian.AppendUint16(b, code), text...)
}

// wsFrame is one frame of the WebSocket layer.
type wsFrame struct {
	op      byte
	final   bool
	payload []byte // unmasked, in place
}

// cutWebSocket splits the first frame from buf, as wire.CutTCP does for TCP. It unmasks
// the payload in place, which is valid as long as buf is.
func cutWebSocket(buf []byte, limit int) (f wsFrame, rest []byte, need int, err error) {
	if len(buf) < 2 {
		return f, buf, 2, nil
	}
	f.op, f.final = buf[0]&0x0f, buf[0]&0x80 != 0
	if buf[0]&0x70 != 0 {
		return f, buf, 0, pim.Errorf(pim.KindInvalid, "a WebSocket frame with reserved bits set")
	}
	if buf[1]&0x80 == 0 {
		return f, buf, 0, pim.Errorf(pim.KindInvalid, "a WebSocket frame from a client that is not masked")
	}
	n, at := uint64(buf[1]&0x7f), 2
	switch n {
	case 126:
		if len(buf) < 4 {
			return f, buf, 4, nil
		}
		n, at = uint64(binary.BigEndian.Uint16(buf[2:])), 4
	case 127:
		if len(buf) < 10 {
			return f, buf, 10, nil
		}
		n, at = binary.BigEndian.Uint64(buf[2:]), 10
	}
	if f.op >= opClose && (n > 125 || !f.final) {
		return f, buf, 0, pim.Errorf(pim.KindInvalid, "a WebSocket control frame that is too long or fragmented")
	}
	if n > uint64(limit) {
		return f, buf, 0, pim.Errorf(pim.KindTooLarge, "a frame of %d bytes, at most %d are allowed", n, limit)
	}
	end := at + 4 + int(n)
	if len(buf) < end {
		return f, buf, end, nil
	}
	f.payload = buf[at+4 : end : end]
	ws.Cipher(f.payload, [4]byte(buf[at:at+4]), 0)
	return f, buf[end:], 0, nil
}

// join adds part to the message of the fragments before it, which is nil if there are none,
// and returns the message when it is whole.
func join(message *[]byte, part wsFrame, limit int) ([]byte, error) {
	if (part.op == opContinuation) != (*message != nil) {
		return nil, pim.Errorf(pim.KindInvalid, "WebSocket fragments out of order")
	}
	if part.final && *message == nil {
		if len(part.payload) == 0 {
			return nil, pim.Errorf(pim.KindInvalid, "an empty frame has no type")
		}
		return part.payload, nil
	}
	if len(*message)+len(part.payload) > limit {
		return nil, pim.Errorf(pim.KindTooLarge, "a frame of more than %d bytes", limit)
	}
	if *message == nil {
		*message = []byte{}
	}
	*message = append(*message, part.payload...)
	if !part.final {
		return nil, nil
	}
	whole := *message
	*message = nil
	if len(whole) == 0 {
		return nil, pim.Errorf(pim.KindInvalid, "an empty frame has no type")
	}
	return whole, nil
}

// codeOf returns the close code for a frame that cannot be read.
func codeOf(err error) wire.Code {
	if pim.KindOf(err) == pim.KindTooLarge {
		return wire.CodeTooLarge
	}
	return wire.CodeProtocol
}
