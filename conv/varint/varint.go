// Package varint writes and reads numbers and texts, one after the other, in the
// variable-length encoding of encoding/binary. Snapshots consist of them.
package varint

import (
	"encoding/binary"
	"errors"

	"github.com/pim-im/pim"
)

// Encoder appends values to B. The zero value is ready.
type Encoder struct{ B []byte }

// Number appends n.
func (e *Encoder) Number(n uint64) { e.B = binary.AppendUvarint(e.B, n) }

// Times appends each of times, which may be negative.
func (e *Encoder) Times(times ...pim.Millis) {
	for _, t := range times {
		e.B = binary.AppendVarint(e.B, int64(t))
	}
}

// Text appends the length of s in bytes, and s.
func (e *Encoder) Text(s string) { e.B = append(binary.AppendUvarint(e.B, uint64(len(s))), s...) }

// ErrMalformed is a Decoder's error if a value is not there, or not valid.
var ErrMalformed = errors.New("malformed value")

// Decoder takes values off B, in the order in which an Encoder appended them. The first value
// that is not there sets Err; that value and all after it are zero.
type Decoder struct {
	B   []byte
	Err error
}

// Fail sets Err to ErrMalformed. A caller calls it if a value that it has read is not valid.
func (d *Decoder) Fail() { d.B, d.Err = nil, ErrMalformed }

// Number returns the next number.
func (d *Decoder) Number() uint64 {
	v, n := binary.Uvarint(d.B)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.B = d.B[n:]
	return v
}

// Time returns the next time.
func (d *Decoder) Time() pim.Millis {
	v, n := binary.Varint(d.B)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.B = d.B[n:]
	return pim.Millis(v)
}

// Bytes returns the next n bytes, a part of B. If B is shorter, Bytes returns n zeros, but at
// most 32.
func (d *Decoder) Bytes(n int) []byte {
	if n > len(d.B) {
		d.Fail()
		return make([]byte, min(n, 32))
	}
	b := d.B[:n]
	d.B = d.B[n:]
	return b
}

// Text returns the next text.
func (d *Decoder) Text() string {
	n := d.Number()
	if n > uint64(len(d.B)) {
		d.Fail()
		return ""
	}
	return string(d.Bytes(int(n)))
}

// End returns Err. If B has bytes left, it sets Err first.
func (d *Decoder) End() error {
	if len(d.B) > 0 {
		d.Fail()
	}
	return d.Err
}
