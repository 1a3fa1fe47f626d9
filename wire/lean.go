package wire

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// A body of very small elements decodes to objects of fifty times its size. Bodies
// that may have many such elements are read here without decoding them as a whole.

// ReadPushAck reads the body of a PIMPushAck: it calls ack for each acknowledgement, and front for
// each front, in order, and returns the serial. The conversation that they get is a part of body,
// and they must not keep it. An error is KindInvalid; they may have been called before it.
func ReadPushAck(body []byte, ack, front func(conversation []byte, seq uint64)) (serial uint64, err error) {
	for len(body) > 0 {
		num, value, n := cutField(body)
		if n < 0 {
			return 0, unreadable(TypePushAck, n)
		}
		switch {
		case num == 1 && value.is(protowire.VarintType):
			serial = value.number
		case (num == 2 || num == 3) && value.is(protowire.BytesType):
			conversation, seq, err := readAck(value.bytes)
			if err != nil {
				return 0, err
			}
			if num == 2 {
				ack(conversation, seq)
			} else {
				front(conversation, seq)
			}
		case num <= 3:
			return 0, pim.Errorf(pim.KindInvalid, "%s: field %d has wire type %d", TypePushAck, num, value.kind)
		}
		body = body[n:]
	}
	return serial, nil
}

// readAck reads an Ack or a Front, whose fields are of the same types.
func readAck(body []byte) (conversation []byte, seq uint64, err error) {
	for len(body) > 0 {
		num, value, n := cutField(body)
		if n < 0 {
			return nil, 0, unreadable(TypePushAck, n)
		}
		switch {
		case num == 1 && value.is(protowire.BytesType):
			conversation = value.bytes
		case num == 2 && value.is(protowire.VarintType):
			seq = value.number
		case num <= 2:
			return nil, 0, pim.Errorf(pim.KindInvalid, "%s: field %d of an ack or front has wire type %d", TypePushAck, num, value.kind)
		}
		body = body[n:]
	}
	return conversation, seq, nil
}

// field is the value of a field: its wire type and, of two types, what is in it.
type field struct {
	kind   protowire.Type
	number uint64 // of a VarintType
	bytes  []byte // of a BytesType
}

func (f field) is(t protowire.Type) bool { return f.kind == t }

// cutField reads the first field of body; n is its length, or, if below 0, an error
// code of protowire.
func cutField(body []byte) (num protowire.Number, value field, n int) {
	num, kind, n := protowire.ConsumeTag(body)
	if n < 0 {
		return 0, field{}, n
	}
	value.kind = kind
	m := 0
	switch kind {
	case protowire.VarintType:
		value.number, m = protowire.ConsumeVarint(body[n:])
	case protowire.BytesType:
		value.bytes, m = protowire.ConsumeBytes(body[n:])
	default:
		m = protowire.ConsumeFieldValue(num, kind, body[n:])
	}
	if m < 0 {
		return 0, field{}, m
	}
	return num, value, n + m
}

func unreadable(t Type, n int) error {
	return pim.Errorf(pim.KindInvalid, "%s: %w", t, protowire.ParseError(n))
}

// Fields of a PIMSendReq.
const (
	membersField  = 7
	mentionsField = 10
)

// ReadSendReq decodes the body of a PIMSendReq into m, which must be empty, and returns
// how many members and how many mentions the body has. If the members are more than most, m gets
// none of them; if the mentions are more than pim.MaxMentions, m may get none of them. An error is
// KindInvalid.
func ReadSendReq(body []byte, m *wirepb.PIMSendReq, most int) (members, mentions int, err error) {
	if len(body) > 2*most { // a member takes two bytes at least
		if members = count(body, membersField); members > most {
			body = without(body, membersField)
		}
		if mentions = count(body, mentionsField); mentions > pim.MaxMentions {
			body = without(body, mentionsField)
		}
	}
	if err := m.UnmarshalVT(body); err != nil {
		return 0, 0, pim.Errorf(pim.KindInvalid, "%s: %w", TypeSendReq, err)
	}
	return max(members, len(m.Members)), max(mentions, len(m.Mentions)), nil
}

// count returns how often body has the field num, up to where it cannot be read.
func count(body []byte, num protowire.Number) int {
	times := 0
	for len(body) > 0 {
		f, _, n := cutField(body)
		if n < 0 {
			break
		}
		if f == num {
			times++
		}
		body = body[n:]
	}
	return times
}

// without returns a copy of body without the field num.
func without(body []byte, num protowire.Number) []byte {
	var rest []byte
	for len(body) > 0 {
		f, _, n := cutField(body)
		if n < 0 {
			return append(rest, body...) // for the decoder to refuse
		}
		if f != num {
			rest = append(rest, body[:n]...)
		}
		body = body[n:]
	}
	return rest
}
