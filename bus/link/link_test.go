package link

import (
	"context"
	"math"
	"reflect"
	"testing"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/link/linkpb"
	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// What Node does is tested by the suite in bustest.

func drawName(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,63}`).Draw(t, label)
}

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Uint64()
		h := head{
			kind: frameKind(rapid.IntRange(1, 7).Draw(t, "type")), from: drawName(t, "from"),
			run: number.Draw(t, "run"), toRun: number.Draw(t, "to run"), link: number.Draw(t, "link"), number: number.Draw(t, "number"),
			message: bus.Kind(rapid.Uint8().Draw(t, "kind")), id: number.Draw(t, "id"), waitMS: rapid.Uint32().Draw(t, "wait"), failed: rapid.Bool().Draw(t, "failed"),
		}
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		frame, err := h.seal(append(make([]byte, headRoom), body...))
		if err != nil {
			t.Fatal(err)
		}
		got, gotBody, err := open(frame)
		if err != nil || got != h || string(gotBody) != string(body) {
			t.Fatalf("%+v and %x became %+v and %x, %v", h, body, got, gotBody, err)
		}
	})
}

// TestNodeIsComplete fails when bus.Node gets a field that does not go to the others.
// A frame of version 1 is read as it was meant: the length of the head, the head, and the body.
func TestFrameOfVersion1(t *testing.T) {
	frame := []byte("\x00\x1b\x08\x03\x12\x02n1\x18\x80\xc8\xaf\xa0\x25\x20\x09\x28\x02\x30\x2a\x38\x04\x40\x07\x48\xd0\x0f\x50\x01body")
	got, body, err := open(frame)
	want := head{kind: frameMessage, from: "n1", run: 10_000_000_000, toRun: 9, link: 2, number: 42, message: bus.KindPush, id: 7, waitMS: 2000, failed: true}
	if err != nil || got != want || string(body) != "body" {
		t.Errorf("%+v and %q, %v", got, body, err)
	}
}

func TestNodeIsComplete(t *testing.T) {
	node := bus.Node{
		Name: "a", Run: 7, Protocol: 3, Site: "west", Roles: bus.RoleHome, Weight: 5, Draining: true, Address: "https://a.example",
		Load: bus.Load{Connections: 11, MaxConnections: 12, AcceptRate: 13, Memory: math.MaxInt64, WebSocket: 14, TCP: 15, Unready: true},
	}
	for _, v := range []reflect.Value{reflect.ValueOf(node), reflect.ValueOf(node.Load)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("the test has no value for %s", v.Type().Field(i).Name)
			}
		}
	}
	got, err := decodeNode(&head{from: node.Name, run: node.Run}, encodeNode(&node)[headRoom:])
	if err != nil || got != node {
		t.Errorf("%+v became %+v, %v", node, got, err)
	}
}

// TestFramesOfLaterVersions has frames come that this version does not know.
func TestFramesOfLaterVersions(t *testing.T) {
	node, network := started(t)
	for _, pb := range []*linkpb.Head{
		{Type: 99, From: "b", Run: 1},
		{Type: 300, From: "b", Run: 1, ToRun: 1},
		{Type: linkpb.Type_TYPE_MESSAGE, From: "b", Run: 1, ToRun: 1, Link: 1, Number: 1, Kind: 1000},
	} {
		data, err := pb.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, 0xf8, 0x07, 0x01) // field 127
		network.receive(append([]byte{0, byte(len(data))}, data...))
	}
	if n := len(node.View().Nodes); n != 1 {
		t.Errorf("the view has %d nodes", n)
	}
}

// FuzzReceive has anything come.
func FuzzReceive(f *testing.F) {
	h := head{kind: frameRequest, from: "b", run: 1, toRun: 1, id: 1}
	frame, err := h.seal(make([]byte, headRoom))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	h.kind = frameBeat
	frame, _ = h.seal(encodeNode(&bus.Node{Site: "x"}))
	f.Add(frame)
	f.Fuzz(func(t *testing.T, frame []byte) {
		_, network := started(t)
		network.receive(frame)
	})
}

// started returns a started node on a network that goes nowhere.
func started(t *testing.T) (*Node, *nowhere) {
	network := &nowhere{}
	node, err := New(Options{Self: bus.Node{Name: "a", Site: "default", Run: 1}, Network: network})
	if err == nil {
		err = node.Start(context.Background(), &bus.Handler{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	return node, network
}

type nowhere struct{ receive func([]byte) }

func (n *nowhere) Open(_ context.Context, _ string, receive func([]byte)) error {
	n.receive = receive
	return nil
}
func (n *nowhere) Send(string, []byte) error { return nil }
func (n *nowhere) Broadcast([]byte) error    { return nil }
func (n *nowhere) Close()                    {}
