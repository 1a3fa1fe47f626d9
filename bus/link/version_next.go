//go:build pimnext

package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link/linkpb"
)

// A node that was built with the tag pimnext speaks as one of a later version would: its heads, what it says of itself
// and the bodies of its messages have fields that this version does not know, it has a role more, and now and then it sends
// types of frames and kinds of messages and requests that nobody knows yet.

const (
	laterRole    = bus.Role(1 << 7)
	laterKind    = bus.Kind(200)
	laterRequest = bus.Kind(201)
	laterType    = 50
	laterEvery   = 200 * time.Millisecond
)

// laterField is an unknown field of each protobuf message: number 2047, of three bytes. laterJSON is one of a body that is JSON, as those of
// bus.KindStatus are.
var (
	laterField = []byte{0xfa, 0x7f, 3, 'n', 'e', 'w'}
	laterJSON  = []byte(`"later":"new"`)
)

// ofVersion returns a network that adds to each frame what a later version would.
func ofVersion(n Network) Network { return &laterNetwork{n} }

type laterNetwork struct{ Network }

func (l *laterNetwork) Send(to string, frame []byte) error { return l.Network.Send(to, later(frame)) }

func (l *laterNetwork) Broadcast(frame []byte) error { return l.Network.Broadcast(later(frame)) }

// later returns the frame as a later version would send it.
func later(frame []byte) []byte {
	size := int(binary.BigEndian.Uint16(frame))
	var pb linkpb.Head
	if err := pb.UnmarshalVT(frame[2 : 2+size]); err != nil {
		panic(err) // this node has made it
	}
	head := append(append([]byte(nil), frame[2:2+size]...), laterField...)
	body := append([]byte(nil), frame[2+size:]...)
	if pb.Type == linkpb.Type_TYPE_BEAT {
		var node linkpb.Node
		if err := node.UnmarshalVT(body); err != nil {
			panic(err)
		}
		node.Roles |= uint32(laterRole)
		body, _ = node.MarshalVT()
	}
	if len(body)+len(laterJSON)+1 <= bus.MaxBody {
		body = withField(body)
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(len(head)))
	return append(append(out, head...), body...)
}

// withField returns a body with an unknown field. No protobuf message begins with a brace, which would be a group.
func withField(body []byte) []byte {
	if !bytes.HasPrefix(body, []byte("{")) {
		return append(body, laterField...)
	}
	more := append([]byte("{"), laterJSON...)
	if !bytes.Equal(body, []byte("{}")) {
		more = append(more, ',')
	}
	return append(more, body[1:]...)
}

// saysMore begins to send the others what nobody knows.
func (n *Node) saysMore() {
	n.work.Go(func() {
		tick := time.NewTicker(laterEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-n.ctx.Done():
				return
			}
			for _, other := range n.View().Nodes {
				if other.Name != n.name {
					n.sayMore(other.Name)
				}
			}
		}
	})
}

func (n *Node) sayMore(to string) {
	_ = n.Send(to, laterKind, []byte("of a later version"))
	ctx, cancel := context.WithTimeout(n.ctx, laterEvery)
	defer cancel()
	_, _ = n.Request(ctx, to, laterRequest, nil) // which others refuse
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.peers[to]; p != nil {
		n.push(&outgoing{to: p, head: head{kind: laterType, toRun: p.run}, frame: make([]byte, headRoom)})
	}
}
