package wire

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
	"google.golang.org/protobuf/encoding/protowire"
)

// The last entry of a Summary is made of the entry's stored bytes: fields are copied or left out,
// and none is decoded.

// Fields of an Entry.
const (
	entryKind    = 4
	entrySender  = 5
	entryLocal   = 8
	entryServer  = 9
	entryMembers = 10
	entryPayload = 11
	entryAhead   = 12
	entryNames   = 15
	entryInvited = 22
)

// entryTypes are the wire types of the fields of an Entry that this version knows.
var entryTypes = [...]protowire.Type{
	1: protowire.VarintType, 2: protowire.VarintType, 3: protowire.VarintType, entryKind: protowire.VarintType,
	entrySender: protowire.BytesType, 6: protowire.BytesType, 7: protowire.BytesType,
	entryLocal: protowire.VarintType, entryServer: protowire.VarintType,
	entryMembers: protowire.BytesType, entryPayload: protowire.BytesType,
	entryAhead: protowire.VarintType, 13: protowire.VarintType,
}

// eachField calls take for every field of an encoded entry; whole is the field with its tag. An
// error is KindCorrupt.
func eachField(entry []byte, take func(num protowire.Number, value field, whole []byte)) error {
	for len(entry) > 0 {
		num, value, n := cutField(entry)
		if n < 0 {
			return pim.Errorf(pim.KindCorrupt, "an entry that cannot be read: %w", protowire.ParseError(n))
		}
		if int64(num) < int64(len(entryTypes)) && !value.is(entryTypes[num]) {
			return pim.Errorf(pim.KindCorrupt, "an entry whose field %d has wire type %d", num, value.kind)
		}
		take(num, value, entry[:n])
		entry = entry[n:]
	}
	return nil
}

// CheckEntry returns an error of KindCorrupt if entry is no encoded Entry.
func CheckEntry(entry []byte) error {
	return eachField(entry, func(protowire.Number, field, []byte) {})
}

// AppendCut appends entry, which is encoded, to dst without its members, invitations and mentions, and with keep bytes of its
// payload at most, and reports whether the payload was cut. What this version does not know stays.
// An error is KindCorrupt.
func AppendCut(dst, entry []byte, keep int) (_ []byte, cut bool, err error) {
	err = eachField(entry, func(num protowire.Number, value field, whole []byte) {
		switch num {
		case entryMembers, entryNames, entryInvited: // a group's creation may name thousands
		case entryPayload:
			cut = len(value.bytes) > keep
			dst = appendBytes(dst, num, Cut(value.bytes, keep))
		default:
			dst = append(dst, whole...)
		}
	})
	return dst, cut, err
}

// AppendBrief appends what BriefEntry makes of entry, which is encoded, and reports whether the
// payload was cut. An error is KindCorrupt.
func AppendBrief(dst, entry []byte) (_ []byte, cut bool, err error) {
	err = eachField(entry, func(num protowire.Number, value field, whole []byte) {
		switch num {
		case entryKind, entrySender, entryLocal, entryServer, entryAhead:
			dst = append(dst, whole...)
		case entryPayload:
			cut = len(value.bytes) > briefPayload
			dst = appendBytes(dst, num, Cut(value.bytes, briefPayload))
		}
	})
	return dst, cut, err
}

// AppendSyncResp appends a PIMSyncResp frame of n Summaries to dst. resp has no Summaries. at returns the Summary i
// without its last entry, and the encoding of that entry, nil if there is none.
func AppendSyncResp(dst []byte, resp *wirepb.PIMSyncResp, n int, at func(i int) (s *wirepb.Summary, last []byte)) []byte {
	dst = append(dst, byte(TypeSyncResp))
	dst = appendUint(dst, 1, resp.RequestId)
	for i := range n {
		s, last := at(i)
		size := s.SizeVT()
		if last != nil {
			size += protowire.SizeTag(5) + protowire.SizeBytes(len(last))
		}
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 2, protowire.BytesType), uint64(size))
		dst = appendSummary(dst, s, last)
	}
	if resp.NextAfter != "" {
		dst = protowire.AppendString(protowire.AppendTag(dst, 3, protowire.BytesType), resp.NextAfter)
	}
	dst = appendUint(dst, 4, protowire.EncodeBool(resp.Recent))
	for _, f := range resp.Fronts {
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 5, protowire.BytesType), uint64(f.SizeVT()))
		if f.Conversation != "" {
			dst = protowire.AppendString(protowire.AppendTag(dst, 1, protowire.BytesType), f.Conversation)
		}
		dst = appendUint(dst, 2, f.Front)
	}
	return dst
}

func appendSummary(dst []byte, s *wirepb.Summary, last []byte) []byte {
	if s.Conversation != "" {
		dst = protowire.AppendString(protowire.AppendTag(dst, 1, protowire.BytesType), s.Conversation)
	}
	dst = appendUint(dst, 2, s.Newest)
	dst = appendUint(dst, 3, s.Acked)
	dst = appendUint(dst, 4, s.Count)
	if last != nil {
		dst = appendBytes(dst, 5, last)
	}
	dst = appendUint(dst, 6, protowire.EncodeBool(s.LastCut))
	dst = appendUint(dst, 7, protowire.EncodeBool(s.Left))
	dst = appendUint(dst, 8, protowire.EncodeBool(s.Whole))
	dst = appendUint(dst, 9, s.Own)
	dst = appendUint(dst, 10, s.OwnCount)
	dst = appendUint(dst, 11, s.Named)
	dst = appendUint(dst, 12, s.OwnAll)
	dst = appendUint(dst, 13, s.Read)
	dst = appendUint(dst, 14, s.ReadCount)
	dst = appendUint(dst, 15, s.ReadNamed)
	dst = appendUint(dst, 16, protowire.EncodeBool(s.Marked))
	dst = appendUint(dst, 17, s.ReadAt)
	dst = appendUint(dst, 18, s.MarkedAt)
	dst = appendUint(dst, 19, s.Front)
	dst = appendUint(dst, 20, s.AllCount)
	dst = appendUint(dst, 21, s.ReadAll)
	return appendUint(dst, 22, protowire.EncodeBool(s.Invited))
}

// appendUint appends a field, unless v is 0.
func appendUint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

func appendBytes(dst []byte, num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), b)
}
