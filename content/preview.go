package content

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Preview returns the text that stands for a payload where there is room for nothing
// else: its text, or, if it has none, the text of the message that it forwards. payload
// may be the beginning of one (cut), as in a server's list. Then Preview returns the text
// as far as it is there, and not half a code point at its end. whole reports whether
// that is all of the text.
//
// Preview shows what it can of payloads that Parse refuses, too. The text is empty if
// there is none, or if payload is neither text nor an envelope.
func Preview(payload []byte, cut bool) (text string, whole bool) {
	return preview(payload, !cut, 0)
}

func preview(payload []byte, whole bool, forwards int) (string, bool) {
	if !IsEnvelope(payload) {
		return textOf(payload, whole)
	}
	body := payload[len(mark):]
	text, all := find(body, textField)
	if len(text) > 0 {
		return textOf(text, all)
	}
	forward, all := find(body, forwardField)
	if forward == nil || forwards == MaxForwards {
		return "", whole
	}
	inner, allOfIt := find(forward, contentField)
	return preview(inner, all && allOfIt, forwards+1)
}

// textOf returns text without the incomplete code point that it may end with if it is not
// whole; "" if it is no text.
func textOf(text []byte, whole bool) (string, bool) {
	if !whole {
		text = wholeRunes(text)
	}
	if !utf8.Valid(text) {
		return "", false
	}
	return string(text), whole
}

// find returns the first value of the field num, a part of body. If body ends within the
// value, whole is false. Without the field, value is nil, and whole reports whether body
// can be read to its end.
func find(body []byte, num protowire.Number) (value []byte, whole bool) {
	for len(body) > 0 {
		found, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return nil, false
		}
		if body = body[n:]; found == num && kind == protowire.BytesType {
			length, n := protowire.ConsumeVarint(body)
			if n < 0 {
				return nil, false
			}
			body = body[n:]
			return body[:min(length, uint64(len(body)))], length <= uint64(len(body))
		}
		if n = protowire.ConsumeFieldValue(found, kind, body); n < 0 {
			return nil, false
		}
		body = body[n:]
	}
	return nil, true
}

// cut returns the beginning of text, at most most bytes, without half a code point.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return string(wholeRunes([]byte(text[:most])))
}

// wholeRunes returns text without the incomplete code point that it may end with.
func wholeRunes(text []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if end := text[len(text)-n:]; utf8.RuneStart(end[0]) {
			if !utf8.FullRune(end) {
				return text[:len(text)-n]
			}
			break
		}
	}
	return text
}
