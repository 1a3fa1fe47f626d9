package load

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"

	"github.com/gobwas/ws"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// stamp is what the generator writes at the start of a payload, to check and to
// time the message where it arrives. Both ends are in this process, so one monotonic
// clock serves both.
type stamp struct {
	run     uint64 // names the run (chat.tag; Sync: Config.Seed), to tell messages of other runs apart
	at      int64  // transmission, nanoseconds since the run began; 0 before the measured time
	sender  uint32
	counter uint32 // 0, 1, 2 … for each sender in each conversation
}

const stampSize = 24

func (s *stamp) put(b []byte) {
	binary.LittleEndian.PutUint64(b, s.run)
	binary.LittleEndian.PutUint64(b[8:], uint64(s.at))
	binary.LittleEndian.PutUint32(b[16:], s.sender)
	binary.LittleEndian.PutUint32(b[20:], s.counter)
}

// get reads the stamp of payload into s. It returns false, and leaves s as it is, if
// payload is not a message of run.
func (s *stamp) get(payload []byte, run uint64) bool {
	if len(payload) < stampSize || binary.LittleEndian.Uint64(payload) != run {
		return false
	}
	s.run = run
	s.at = int64(binary.LittleEndian.Uint64(payload[8:]))
	s.sender = binary.LittleEndian.Uint32(payload[16:])
	s.counter = binary.LittleEndian.Uint32(payload[20:])
	return true
}

// putID writes a client message ID, a UUIDv7 made of the time, the sender, the
// counter and 18 bits of the run. An answer is matched by its counter.
func putID(b []byte, ms int64, run uint64, sender, counter uint32) {
	binary.BigEndian.PutUint64(b, uint64(ms)<<16|0x7000|run&0xfff)
	b[8] = 0x80 | byte(run>>12)&0x3f
	b[9], b[10], b[11] = byte(sender>>16), byte(sender>>8), byte(sender)
	binary.BigEndian.PutUint32(b[12:], counter)
}

// counterOf returns the counter in a client message ID that putID wrote; ok is false if
// id does not have 16 bytes.
func counterOf(id []byte) (counter uint32, ok bool) {
	if len(id) != 16 {
		return 0, false
	}
	return binary.BigEndian.Uint32(id[12:]), true
}

// template is a frame of which only a few bytes change from message to message.
// It is encoded once; a send copies it and fills in those bytes.
type template struct {
	frame []byte
	id    int // where the client message ID is
	local int // where local_ms is; 0 if it has none
	stamp int // where the payload is; 0 if it has none
}

// marker stands for a client message ID while a template is made. No conversation ID
// contains it, since those are UTF-8.
var marker = [16]byte{0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8}

// sendTemplate returns the PIMSendReq of messages to c.
func sendTemplate(c pim.ConversationID, payload int) template {
	body := make([]byte, payload)
	for i := range body {
		body[i] = byte('a' + i%26)
	}
	frame := wire.Append(nil, &wirepb.PIMSendReq{
		Conversation: string(c), ClientMessageId: marker[:], LocalMs: localFloor, Attempt: 1, Payload: body,
	})
	id := bytes.Index(frame, marker[:])
	return template{frame: frame, id: id, local: id + len(marker) + 1, stamp: len(frame) - payload}
}

// ackTemplate returns the PIMSendAck with which a user of the relay answers a message.
// It is as long as a server's.
func ackTemplate(c pim.ConversationID) template {
	frame := wire.Append(nil, &wirepb.PIMSendAck{
		ClientMessageId: marker[:], Conversation: string(c), Seq: 1 << 13, ServerMs: localFloor, Count: 1 << 13,
	})
	return template{frame: frame, id: bytes.Index(frame, marker[:])}
}

// localFloor is a time whose varint has 6 bytes, like that of every time until 2109.
const localFloor = 1 << 40

// putLocal writes ms as a varint of 6 bytes.
func putLocal(b []byte, ms int64) {
	for i := range 5 {
		b[i] = byte(ms>>(7*i)) | 0x80
	}
	b[5] = byte(ms>>35) & 0x7f
}

// framing is how frames lie in the byte stream.
type framing uint8

const (
	tcpFraming framing = iota // length, frame
	wsFraming                 // WebSocket; what we write is masked
)

// begin appends a frame's header to dst and returns where the frame starts. length is
// the frame's length in bytes, without the header.
func (f framing) begin(dst []byte, length int, op ws.OpCode) ([]byte, int) {
	if f == tcpFraming {
		dst = binary.BigEndian.AppendUint32(dst, uint32(length))
		return dst, len(dst)
	}
	dst = append(dst, 0x80|byte(op))
	switch {
	case length < 126:
		dst = append(dst, 0x80|byte(length))
	case length < 1<<16:
		dst = append(dst, 0x80|126, byte(length>>8), byte(length))
	default:
		dst = append(dst, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(length))
	}
	dst = append(dst, 0, 0, 0, 0) // the mask, see end
	return dst, len(dst)
}

// end finishes the frame that starts at start. Over WebSocket it masks the frame with a
// random key, as a browser does.
func (f framing) end(dst []byte, start int) {
	if f == wsFraming {
		key := rand.Uint32()
		binary.LittleEndian.PutUint32(dst[start-4:], key)
		mask(dst[start:], key)
	}
}

// mask applies a WebSocket mask to b; key is the mask read in little endian.
func mask(b []byte, key uint32) {
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * (i & 3)))
	}
}

// cut splits the first frame from buf, without copying. It returns a nil frame if buf
// holds no whole frame. Frames that the relay hands on are masked, and cut unmasks them
// in place; a server's frames are not masked.
func (f framing) cut(buf []byte) (op ws.OpCode, frame, rest []byte, err error) {
	if f == tcpFraming {
		frame, rest, _, err = wire.CutTCP(buf, pim.MaxFrame)
		return ws.OpBinary, frame, rest, err
	}
	if len(buf) < 2 {
		return 0, nil, buf, nil
	}
	head, length := 2, uint64(buf[1]&0x7f)
	switch {
	case length == 126 && len(buf) >= 4:
		head, length = 4, uint64(binary.BigEndian.Uint16(buf[2:]))
	case length == 127 && len(buf) >= 10:
		head, length = 10, binary.BigEndian.Uint64(buf[2:])
	case length >= 126:
		return 0, nil, buf, nil
	}
	if buf[0]&0x80 == 0 || length > pim.MaxFrame {
		return 0, nil, buf, pim.Errorf(pim.KindInvalid, "WebSocket frame of %d bytes, in parts: %t", length, buf[0]&0x80 == 0)
	}
	masked := buf[1]&0x80 != 0
	if masked {
		head += 4
	}
	end := head + int(length)
	if len(buf) < end {
		return 0, nil, buf, nil
	}
	frame = buf[head:end:end]
	if masked {
		mask(frame, binary.LittleEndian.Uint32(buf[head-4:]))
	}
	return ws.OpCode(buf[0] & 0x0f), frame, buf[end:], nil
}
