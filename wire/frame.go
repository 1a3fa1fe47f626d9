package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// Version is the protocol version of this package.
const Version = 1

// WebSocketPath is where a server upgrades to WebSocket.
const WebSocketPath = "/v1/ws"

// QUICProtocol is what a client asks for, and a server agrees to, in the TLS handshake of QUIC
// (ALPN).
const QUICProtocol = "pim"

// Type is a frame's first byte.
type Type uint8

// The frame types of v1. Numbers are never used again for something else.
const (
	TypeHello    Type = 1
	TypeWelcome  Type = 2
	TypeSendReq  Type = 3
	TypeSendAck  Type = 4
	TypePush     Type = 5
	TypePushAck  Type = 6
	TypeSyncReq  Type = 7
	TypeSyncResp Type = 8
	TypePullReq  Type = 9
	TypePullResp Type = 10
	TypeTimeReq  Type = 11
	TypeTimeResp Type = 12
	TypePing     Type = 13
	TypePong     Type = 14
	TypeGoAway   Type = 15
	TypeError    Type = 16

	TypeReceiptReq  Type = 17
	TypeReceiptResp Type = 18
	TypeLook        Type = 19
	TypeReceipt     Type = 20
	TypeTyping      Type = 21
	TypePresence    Type = 22
	TypeMembersReq  Type = 23
	TypeMembersResp Type = 24

	TypeDevicesReq  Type = 40
	TypeDevicesResp Type = 41
)

var typeNames = [...]string{
	"?", "Hello", "Welcome", "PIMSendReq", "PIMSendAck", "PIMPush", "PIMPushAck", "PIMSyncReq", "PIMSyncResp",
	"PIMPullReq", "PIMPullResp", "PIMTimeReq", "PIMTimeResp", "PIMPing", "PIMPong", "PIMGoAway", "PIMError",
	"PIMReceiptReq", "PIMReceiptResp", "PIMLook", "PIMReceipt",
	"PIMTyping", "PIMPresence", "PIMMembersReq", "PIMMembersResp",
	TypeDevicesReq: "PIMDevicesReq", TypeDevicesResp: "PIMDevicesResp",
}

// String returns the frame's name in docs/protocol.md.
func (t Type) String() string {
	if t != 0 && int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("frame type %d", uint8(t))
}

// Message is a frame's body.
type Message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVT([]byte) error
}

// TypeOf returns the frame type whose body m is; 0 if m is not a body.
func TypeOf(m Message) Type {
	switch m.(type) {
	case *wirepb.Hello:
		return TypeHello
	case *wirepb.Welcome:
		return TypeWelcome
	case *wirepb.PIMSendReq:
		return TypeSendReq
	case *wirepb.PIMSendAck:
		return TypeSendAck
	case *wirepb.PIMPush:
		return TypePush
	case *wirepb.PIMPushAck:
		return TypePushAck
	case *wirepb.PIMSyncReq:
		return TypeSyncReq
	case *wirepb.PIMSyncResp:
		return TypeSyncResp
	case *wirepb.PIMPullReq:
		return TypePullReq
	case *wirepb.PIMPullResp:
		return TypePullResp
	case *wirepb.PIMTimeReq:
		return TypeTimeReq
	case *wirepb.PIMTimeResp:
		return TypeTimeResp
	case *wirepb.PIMPing:
		return TypePing
	case *wirepb.PIMPong:
		return TypePong
	case *wirepb.PIMGoAway:
		return TypeGoAway
	case *wirepb.PIMError:
		return TypeError
	case *wirepb.PIMReceiptReq:
		return TypeReceiptReq
	case *wirepb.PIMReceiptResp:
		return TypeReceiptResp
	case *wirepb.PIMLook:
		return TypeLook
	case *wirepb.PIMReceipt:
		return TypeReceipt
	case *wirepb.PIMTyping:
		return TypeTyping
	case *wirepb.PIMPresence:
		return TypePresence
	case *wirepb.PIMMembersReq:
		return TypeMembersReq
	case *wirepb.PIMMembersResp:
		return TypeMembersResp
	case *wirepb.PIMDevicesReq:
		return TypeDevicesReq
	case *wirepb.PIMDevicesResp:
		return TypeDevicesResp
	}
	return 0
}

// newMessage returns an empty body for t, nil if t is not of this version.
func newMessage(t Type) Message {
	switch t {
	case TypeHello:
		return new(wirepb.Hello)
	case TypeWelcome:
		return new(wirepb.Welcome)
	case TypeSendReq:
		return new(wirepb.PIMSendReq)
	case TypeSendAck:
		return new(wirepb.PIMSendAck)
	case TypePush:
		return new(wirepb.PIMPush)
	case TypePushAck:
		return new(wirepb.PIMPushAck)
	case TypeSyncReq:
		return new(wirepb.PIMSyncReq)
	case TypeSyncResp:
		return new(wirepb.PIMSyncResp)
	case TypePullReq:
		return new(wirepb.PIMPullReq)
	case TypePullResp:
		return new(wirepb.PIMPullResp)
	case TypeTimeReq:
		return new(wirepb.PIMTimeReq)
	case TypeTimeResp:
		return new(wirepb.PIMTimeResp)
	case TypePing:
		return new(wirepb.PIMPing)
	case TypePong:
		return new(wirepb.PIMPong)
	case TypeGoAway:
		return new(wirepb.PIMGoAway)
	case TypeError:
		return new(wirepb.PIMError)
	case TypeReceiptReq:
		return new(wirepb.PIMReceiptReq)
	case TypeReceiptResp:
		return new(wirepb.PIMReceiptResp)
	case TypeLook:
		return new(wirepb.PIMLook)
	case TypeReceipt:
		return new(wirepb.PIMReceipt)
	case TypeTyping:
		return new(wirepb.PIMTyping)
	case TypePresence:
		return new(wirepb.PIMPresence)
	case TypeDevicesReq:
		return new(wirepb.PIMDevicesReq)
	case TypeDevicesResp:
		return new(wirepb.PIMDevicesResp)
	case TypeMembersReq:
		return new(wirepb.PIMMembersReq)
	case TypeMembersResp:
		return new(wirepb.PIMMembersResp)
	}
	return nil
}

// Append appends the frame with body m to dst. It panics if m is not a body of
// this protocol, which is a defect of the caller.
func Append(dst []byte, m Message) []byte {
	t := TypeOf(m)
	if t == 0 {
		panic(fmt.Sprintf("wire: %T is not a frame's body", m))
	}
	n := m.SizeVT()
	dst = append(dst, byte(t))
	at := len(dst)
	dst = append(dst, make([]byte, n)...)
	if _, err := m.MarshalToSizedBufferVT(dst[at:]); err != nil {
		panic(fmt.Sprintf("wire: marshal %s: %v", t, err)) // the buffer has its size: cannot happen
	}
	return dst
}

// Decode reads one frame. The body shares nothing with frame. A frame of a type
// that this version does not know gives a nil Message and no error: skip it.
func Decode(frame []byte) (Type, Message, error) {
	if len(frame) == 0 {
		return 0, nil, pim.Errorf(pim.KindInvalid, "an empty frame has no type")
	}
	t := Type(frame[0])
	m := newMessage(t)
	if m == nil {
		return t, nil, nil
	}
	if err := m.UnmarshalVT(frame[1:]); err != nil {
		return t, nil, pim.Errorf(pim.KindInvalid, "%s: %w", t, err)
	}
	return t, m, nil
}

// TCPHeader is the number of bytes before each frame over TCP.
const TCPHeader = 4

// AppendTCP appends frame with the length that precedes it over TCP.
func AppendTCP(dst, frame []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(frame)))
	return append(dst, frame...)
}

// CutTCP cuts the first frame off buf, which holds what came over a TCP connection;
// frame and rest are parts of buf. If buf holds no whole frame yet, CutTCP returns a
// nil frame and, in need, how many bytes buf must have for the next try. A length of 0
// (KindInvalid) or above limit (KindTooLarge) is an error: the connection cannot be
// read any further.
func CutTCP(buf []byte, limit int) (frame, rest []byte, need int, err error) {
	if len(buf) < TCPHeader {
		return nil, buf, TCPHeader, nil
	}
	n := binary.BigEndian.Uint32(buf)
	if n == 0 {
		return nil, buf, 0, pim.Errorf(pim.KindInvalid, "an empty frame has no type")
	}
	if uint64(n) > uint64(limit) {
		return nil, buf, 0, pim.Errorf(pim.KindTooLarge, "a frame of %d bytes, at most %d are allowed", n, limit)
	}
	need = TCPHeader + int(n)
	if len(buf) < need {
		return nil, buf, need, nil
	}
	return buf[TCPHeader:need:need], buf[need:], 0, nil
}
