package gateway

import (
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// framing is how the frames of pim's protocol lie in a stream of bytes.
type framing uint8

const (
	lengths   framing = iota // four bytes of length before each frame: TCP and TLS
	webSocket                // RFC 6455, see websocket.go
)

// unit is what cut splits off: a frame of pim's protocol, or a control frame or fragment of the
// WebSocket layer.
type unit struct {
	kind    unitKind
	payload []byte // of a frame or a ping
}

type unitKind uint8

const (
	unitNone  unitKind = iota // a fragment or a pong: nothing to do
	unitFrame                 // payload is a whole frame
	unitPing                  // to be answered with appendPong
	unitClose                 // the client is closing
)

// cut splits the first unit from buf, whose frames have at most limit bytes. If buf holds only
// a part of a unit, need is the length that buf must have for the next try. The payload is a
// part of buf, unless it was joined: message holds the WebSocket fragments of an unfinished
// frame between two calls, and is nil if there is none. cut may change buf.
func (f framing) cut(buf []byte, limit int, message *[]byte) (u unit, rest []byte, need int, err error) {
	if f == lengths {
		frame, rest, need, err := wire.CutTCP(buf, limit)
		if frame != nil {
			u = unit{unitFrame, frame}
		}
		return u, rest, need, err
	}
	part, rest, need, err := cutWebSocket(buf, limit)
	if err != nil || need > 0 {
		return u, rest, need, err
	}
	switch part.op {
	case opPing:
		u = unit{unitPing, part.payload}
	case opPong:
	case opClose:
		u.kind = unitClose
	case opBinary, opContinuation:
		frame, err := join(message, part, limit)
		if frame != nil {
			u = unit{unitFrame, frame}
		}
		return u, rest, 0, err
	default:
		err = pim.Errorf(pim.KindInvalid, "a WebSocket message that is not binary")
	}
	return u, rest, 0, err
}

// appendHeader appends the header of a frame of n bytes for the client: at most maxHeader
// bytes.
func (f framing) appendHeader(b []byte, n int) []byte {
	if f == webSocket {
		return appendServerHeader(b, opBinary, n)
	}
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// fillHeader takes b, which has maxHeader free bytes and then a frame. It writes the frame's header
// right before the frame, and returns header and frame.
func (f framing) fillHeader(b []byte) []byte {
	var room [maxHeader]byte
	header := f.appendHeader(room[:0], len(b)-maxHeader)
	at := maxHeader - len(header)
	copy(b[at:], header)
	return b[at:]
}

// appendPong appends the answer to a unitPing.
func (f framing) appendPong(b, payload []byte) []byte {
	return append(appendServerHeader(b, opPong, len(payload)), payload...)
}

// appendClose appends what comes after the last frame: a close frame of the WebSocket layer, or
// nothing.
func (f framing) appendClose(b []byte, code uint16, text string) []byte {
	if f == webSocket {
		return appendServerClose(b, code, text)
	}
	return b
}
