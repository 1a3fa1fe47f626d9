package load

// fields walks over a protobuf body without allocating. The hot path of the generator
// reads a few small fields in each of very many frames.
type fields struct {
	rest []byte
	num  int    // number of the current field
	val  uint64 // its value, if it is a varint
	data []byte // its bytes, if it has a length; part of the frame
	bad  bool   // the body is not protobuf
}

// next moves to the next field. It returns false at the end. If the rest cannot be
// read, it sets bad and returns false.
func (f *fields) next() bool {
	if len(f.rest) == 0 {
		return false
	}
	tag := f.varint()
	f.num = int(tag >> 3)
	switch tag & 7 {
	case 0:
		f.val = f.varint()
	case 1:
		f.data = f.take(8)
	case 2:
		f.data = f.take(f.varint())
	case 5:
		f.data = f.take(4)
	default:
		f.bad = true
	}
	return !f.bad
}

func (f *fields) varint() uint64 {
	if len(f.rest) > 0 && f.rest[0] < 0x80 {
		v := f.rest[0]
		f.rest = f.rest[1:]
		return uint64(v)
	}
	var v uint64
	for i, b := range f.rest {
		if i == 10 {
			break
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			f.rest = f.rest[i+1:]
			return v
		}
	}
	f.bad = true
	return 0
}

func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.rest)) {
		f.bad = true
		return nil
	}
	data := f.rest[:n:n]
	f.rest = f.rest[n:]
	return data
}

// ackFields returns the client message ID in a PIMSendAck's body.
func ackFields(body []byte) (id []byte, ok bool) {
	f := fields{rest: body}
	for f.next() {
		if f.num == 1 {
			id = f.data
		}
	}
	return id, !f.bad
}

// entryFields returns the fields of an Entry that the generator needs. kind is 1 for a
// message.
func entryFields(entry []byte) (seq, kind uint64, payload []byte, ok bool) {
	f := fields{rest: entry}
	for f.next() {
		switch f.num {
		case 1:
			seq = f.val
		case 4:
			kind = f.val
		case 11:
			payload = f.data
		}
	}
	return seq, kind, payload, !f.bad
}

// sendPayload returns the client message ID and the payload of a PIMSendReq. The relay
// hands on such frames unchanged.
func sendPayload(body []byte) (id, payload []byte, ok bool) {
	f := fields{rest: body}
	for f.next() {
		switch f.num {
		case 2:
			id = f.data
		case 5:
			payload = f.data
		}
	}
	return id, payload, !f.bad
}
