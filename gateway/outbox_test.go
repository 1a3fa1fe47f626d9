package gateway

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// held returns how many bytes of memory o holds; o may be nil.
func (o *outbox) held() int {
	if o == nil {
		return 0
	}
	held := cap(o.under.bytes) + cap(o.spare)
	for _, c := range o.chunks {
		held += cap(c.bytes)
	}
	return held
}

// Whatever is queued, and however much of it each write takes, the frames come out once, whole and
// in order; a send counts as answered once, when its answer is written; and no buffer that others
// may get holds what is still to be written.
func TestOutboxAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type frame struct {
			size   int
			number uint32
			answer bool
		}
		o := new(outbox)
		var (
			queued   []frame // and not wholly written
			stream   []byte  // all that was queued and is not written
			numbers  uint32
			inFlight int32
		)
		queue := func(t *rapid.T) {
			f := frame{number: numbers, answer: rapid.Bool().Draw(t, "answer")}
			f.size = rapid.OneOf(rapid.IntRange(8, 100), rapid.IntRange(8, 3*chunkBytes)).Draw(t, "size")
			numbers++
			b := o.room(f.size)
			if cap(b)-len(b) < f.size {
				t.Fatalf("room for %d bytes in place of %d", cap(b)-len(b), f.size)
			}
			body := bytes.Repeat([]byte{byte(f.number)}, f.size)
			binary.BigEndian.PutUint32(body, f.number)
			o.put(append(b, body...))
			if f.answer {
				o.answers()
				inFlight++
			}
			queued, stream = append(queued, f), append(stream, body...)
		}
		written := func(t *rapid.T, buf []byte, n int) {
			if !bytes.HasPrefix(stream, buf) {
				t.Fatalf("%d bytes to be written are not the next ones", len(buf))
			}
			stream = stream[n:]
			inFlight -= o.wrote(n)
			if o.spare != nil { // as others would that get it from the pool
				spoiled := o.spare[:cap(o.spare)]
				for i := range spoiled {
					spoiled[i] = 0xff
				}
			}
			left := len(stream)
			for i := len(queued) - 1; i >= 0; i-- { // forget the frames that are written
				if left -= queued[i].size; left <= 0 {
					queued = queued[i:]
					break
				}
			}
			if len(stream) == 0 {
				queued = nil
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"queue": queue,
			"write": func(t *rapid.T) {
				buf := o.take()
				if (buf == nil) != (len(stream) == 0) {
					t.Fatalf("%d bytes are to be written, %d wait", len(buf), len(stream))
				}
				if buf == nil {
					return
				}
				buf = buf[:min(len(buf), writeStep)]
				n := rapid.OneOf(rapid.Just(len(buf)), rapid.IntRange(0, len(buf))).Draw(t, "taken")
				if rapid.Bool().Draw(t, "meanwhile") {
					queue(t)
				}
				written(t, buf, n)
			},
			"": func(t *rapid.T) {
				if o.bytes != len(stream) {
					t.Fatalf("%d bytes wait, want %d", o.bytes, len(stream))
				}
				// The answer of a frame that waits as a whole is not written.
				least := int32(0)
				most := int32(0)
				for i, f := range queued {
					if f.answer {
						most++
						if i > 0 {
							least++
						}
					}
				}
				if inFlight < least {
					t.Fatalf("%d are in flight, and %d answers are not written", inFlight, least)
				}
				if len(stream) == 0 && inFlight != 0 {
					t.Fatalf("%d are in flight, and all is written", inFlight)
				}
				if o.under.bytes == nil && inFlight != most {
					t.Fatalf("%d are in flight, want %d", inFlight, most)
				}
				if small := o.small(); small && (o.under.bytes != nil || o.bytes > writeStep || len(stream) == 0) {
					t.Fatalf("%d bytes, %d under way, are small", o.bytes, len(o.under.bytes))
				}
				for i, c := range o.chunks {
					if len(c.bytes) == 0 || len(c.bytes) > chunkBytes && c.answers > 1 {
						t.Fatalf("chunk %d has %d bytes and %d answers", i, len(c.bytes), c.answers)
					}
				}
				if held := o.held(); held > 4*(len(stream)+3*chunkBytes) {
					t.Fatalf("%d bytes are held for %d", held, len(stream))
				}
			},
		})
	})
}

// An outbox that was used before takes no more memory for small frames.
func TestOutboxIsUsedAgain(t *testing.T) {
	o := new(outbox)
	frame := make([]byte, 300)
	use := func() {
		for range 3 {
			o.put(append(o.room(len(frame)), frame...))
		}
		o.wrote(len(o.take()))
	}
	use()
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
