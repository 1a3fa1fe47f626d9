package link

import (
	"encoding/binary"
	"math"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link/linkpb"
)

// headRoom is how many bytes a frame has at most before its body: two of length, and the head.
const headRoom = 192

// MaxFrame is how many bytes a frame has at most.
const MaxFrame = headRoom + bus.MaxBody + 64<<10

type frameKind uint8

const (
	frameBeat    = frameKind(linkpb.Type_TYPE_BEAT)
	frameMark    = frameKind(linkpb.Type_TYPE_MARK)
	frameMessage = frameKind(linkpb.Type_TYPE_MESSAGE)
	frameRequest = frameKind(linkpb.Type_TYPE_REQUEST)
	frameAnswer  = frameKind(linkpb.Type_TYPE_ANSWER)
	frameCancel  = frameKind(linkpb.Type_TYPE_CANCEL)
	frameLeave   = frameKind(linkpb.Type_TYPE_LEAVE)
)

// head is linkpb.Head.
type head struct {
	kind       frameKind
	from       string
	run, toRun uint64
	link       uint64
	number     uint64
	message    bus.Kind
	id         uint64
	waitMS     uint32
	failed     bool
}

// seal writes h into the headRoom bytes before the body of frame, and returns the frame from its first byte
// on.
func (h *head) seal(frame []byte) ([]byte, error) {
	pb := linkpb.Head{
		Type: linkpb.Type(h.kind), From: h.from, Run: h.run, ToRun: h.toRun, Link: h.link, Number: h.number,
		Kind: uint32(h.message), Id: h.id, WaitMs: h.waitMS, Failed: h.failed,
	}
	size := pb.SizeVT()
	if size+2 > headRoom {
		return nil, pim.Errorf(pim.KindInternal, "a head of %d bytes", size)
	}
	start := headRoom - size - 2
	binary.BigEndian.PutUint16(frame[start:], uint16(size))
	_, err := pb.MarshalToSizedBufferVT(frame[start+2 : headRoom])
	return frame[start:], err
}

// open returns the head and the body of a frame.
func open(frame []byte) (h head, body []byte, err error) {
	if len(frame) < 2 || len(frame) > MaxFrame {
		return h, nil, pim.Errorf(pim.KindInvalid, "a frame of %d bytes", len(frame))
	}
	size := int(binary.BigEndian.Uint16(frame)) + 2
	if size > len(frame) {
		return h, nil, pim.Errorf(pim.KindInvalid, "a head of %d bytes in a frame of %d", size-2, len(frame))
	}
	var pb linkpb.Head
	if err := pb.UnmarshalVT(frame[2:size]); err != nil {
		return h, nil, pim.Errorf(pim.KindInvalid, "a head: %w", err)
	}
	if err := bus.CheckName("node", pb.From); err != nil {
		return h, nil, err
	}
	if pb.Type < 0 || pb.Type > 255 || pb.Kind > 255 {
		pb.Type, pb.Kind = 0, 0 // of a later version, and ignored
	}
	return head{
		kind: frameKind(pb.Type), from: pb.From, run: pb.Run, toRun: pb.ToRun, link: pb.Link, number: pb.Number,
		message: bus.Kind(pb.Kind), id: pb.Id, waitMS: pb.WaitMs, failed: pb.Failed,
	}, frame[size:len(frame):len(frame)], nil
}

// IsMessage reports whether a frame is a message that the receiver is told to miss if it is lost, and
// not a beat, a mark or a part of a request. It is for networks that lose frames on purpose.
func IsMessage(frame []byte) bool {
	h, _, err := open(frame)
	return err == nil && h.kind == frameMessage
}

// encodeNode returns n as the body of a beat, behind headRoom bytes.
func encodeNode(n *bus.Node) []byte {
	pb := linkpb.Node{
		Protocol: n.Protocol, Site: n.Site, Roles: uint32(n.Roles), Weight: n.Weight, Draining: n.Draining, Address: n.Address,
		Connections: unsigned(n.Load.Connections), MaxConnections: unsigned(n.Load.MaxConnections), AcceptRate: unsigned(n.Load.AcceptRate),
		Memory: unsigned(n.Load.Memory), WebsocketBytes: unsigned(n.Load.WebSocket), TcpBytes: unsigned(n.Load.TCP), Unready: n.Load.Unready,
	}
	frame := make([]byte, headRoom+pb.SizeVT())
	if _, err := pb.MarshalToSizedBufferVT(frame[headRoom:]); err != nil {
		panic("bus/link: a node that fits is not encoded: " + err.Error())
	}
	return frame
}

// decodeNode returns the node of a beat.
func decodeNode(h *head, body []byte) (bus.Node, error) {
	var pb linkpb.Node
	if err := pb.UnmarshalVT(body); err != nil {
		return bus.Node{}, pim.Errorf(pim.KindInvalid, "a beat of %s: %w", h.from, err)
	}
	if err := bus.CheckName("site", pb.Site); err != nil {
		return bus.Node{}, err
	}
	return bus.Node{
		Name: h.from, Run: h.run, Protocol: pb.Protocol, Site: pb.Site, Roles: bus.Role(pb.Roles), Weight: pb.Weight,
		Draining: pb.Draining, Address: pb.Address,
		Load: bus.Load{
			Connections: int(signed(pb.Connections)), MaxConnections: int(signed(pb.MaxConnections)), AcceptRate: int(signed(pb.AcceptRate)),
			Memory: signed(pb.Memory), WebSocket: signed(pb.WebsocketBytes), TCP: signed(pb.TcpBytes), Unready: pb.Unready,
		},
	}, nil
}

// unsigned returns n as frames have it, and 0 for what is below.
func unsigned[T int | int64](n T) uint64 { return uint64(max(n, 0)) }

// signed returns what unsigned made, and the largest number there is for what is above.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
