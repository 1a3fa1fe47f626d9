package sqlite

import (
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// Holes are stored as three varints each: from, to, and 1 if it is lazy.

func encodeHoles(holes []client.Hole) []byte {
	var b []byte
	for _, h := range holes {
		lazy := uint64(0)
		if h.Lazy {
			lazy = 1
		}
		b = binary.AppendUvarint(b, uint64(h.From))
		b = binary.AppendUvarint(b, uint64(h.To))
		b = binary.AppendUvarint(b, lazy)
	}
	return b
}

func decodeHoles(b []byte) ([]client.Hole, error) {
	var holes []client.Hole
	for len(b) > 0 {
		var v [3]uint64
		for i := range v {
			n := 0
			if v[i], n = binary.Uvarint(b); n <= 0 {
				return nil, pim.Errorf(pim.KindCorrupt, "holes: %x is not one", b)
			}
			b = b[n:]
		}
		holes = append(holes, client.Hole{From: pim.Seq(v[0]), To: pim.Seq(v[1]), Lazy: v[2] == 1})
	}
	return holes, nil
}
