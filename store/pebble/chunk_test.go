package pebble

import (
	"bytes"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

func TestChunksKeepRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records [][]byte
		for range rapid.IntRange(1, 600).Draw(t, "records") {
			size := rapid.SampledFrom([]int{0, 1, 127, 128, 1000, 70_000}).Draw(t, "size")
			records = append(records, bytes.Repeat([]byte{byte(len(records))}, size))
		}
		var got [][]byte
		for rest := records; len(rest) > 0; {
			n, size := nextChunk(rest)
			if n < 1 || n > chunkRecords || n > 1 && size > chunkBytes+3 {
				t.Fatalf("a chunk of %d records, %d bytes", n, size)
			}
			value := make([]byte, size)
			putChunk(value, rest[:n])
			rest = rest[n:]
			end := pim.Seq(len(got) + n)
			c, err := parseChunk(value, end)
			if err != nil || c.count != n || c.first != pim.Seq(len(got)+1) {
				t.Fatalf("parse: %+v, %v", c, err)
			}
			for range n {
				r, err := c.next()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, r)
			}
		}
		if !slices.EqualFunc(got, records, bytes.Equal) {
			t.Fatal("records changed")
		}
	})
}

// FuzzChunk checks that no value makes the reader panic, loop or return more
// than the value holds, and that records that it accepts survive a write and a read.
func FuzzChunk(f *testing.F) {
	f.Fuzz(func(t *testing.T, value []byte, last uint64) {
		c, err := parseChunk(value, pim.Seq(last))
		if err != nil {
			return
		}
		if c.first < 1 || c.count < 1 || uint64(c.first)+uint64(c.count)-1 != last {
			t.Fatalf("%d records from %d, to end at %d", c.count, c.first, last)
		}
		var records [][]byte
		for c.count > 0 {
			r, err := c.next()
			if err != nil {
				return
			}
			records = append(records, r)
		}
		again := make([]byte, len(value)+10*len(records)+10)
		putChunk(again, records)
		d, err := parseChunk(again, pim.Seq(len(records)))
		for i := 0; err == nil && i < len(records)-1; i++ {
			var r []byte
			if r, err = d.next(); !bytes.Equal(r, records[i]) {
				t.Fatalf("record %d changed", i)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
