package wire

import (
	"bytes"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// What a later version adds to an entry or a command is the same after this version has
// read and written it.
func TestFieldsOfALaterVersion(t *testing.T) {
	unknown := []byte{0x98, 0x75, 7, 0xa2, 0x75, 2, 'h', 'i'}
	e := pim.Entry{Conversation: "g:x", Seq: 3, Anchor: 3, Kind: 300, Sender: "ann", ClientID: pim.ClientMessageID{1}, Payload: []byte("x"), Unknown: unknown}
	data := AppendEntry(nil, &e)
	var m wirepb.Entry
	if err := m.UnmarshalVT(data); err != nil || !bytes.Equal(m.ProtoReflect().GetUnknown(), unknown) {
		t.Errorf("encoded as %v, %v", &m, err)
	}
	got, err := ParseEntry("g:x", data)
	if err != nil || !bytes.Equal(got.Unknown, unknown) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	same(t, &got, &e)

	c := pim.Command{Kind: pim.CommandPin, Subject: "g:x", Unknown: unknown}
	if got, err := ParseCommand(AppendCommand(nil, &c)); err != nil || !bytes.Equal(got.Unknown, unknown) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	c.Kind = 99
	if _, err := ParseCommand(AppendCommand(nil, &c)); pim.KindOf(err) != pim.KindUnsupported {
		t.Errorf("a kind that is not known, from a client: %v", err)
	}
	if got, err := DecodeCommand(AppendCommand(nil, &c)); err != nil || got.Entity() != "99/g:x" {
		t.Errorf("a kind that is not known, stored: %+v, %v", got, err)
	}
}
