package gateway

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pim-im/pim/wire/wirepb"
	"pgregory.net/rapid"
)

// held returns how many bytes of memory o holds; o may be nil.
func (o *outbox) held() int {
	if o == nil {
		return 0
	}
	held := cap(o.under.bytes) + cap(o.spare)
	for _, q := range o.queues {
		for _, c := range q.chunks {
			held += cap(c.bytes)
		}
	}
	return held
}

// outboxModel is an outbox as it is described: two rows of frames, and a write under way.
type outboxModel struct {
	o       *outbox
	rows    [queueNames][]modelFrame // of which nothing was taken
	number  uint32                   // of the last frame
	under   []byte                   // what is left of the write under way; nil: there is none
	from    queueName                // of that write
	answers int32                    // in that write
}

type modelFrame struct {
	bytes         []byte
	answer, tells bool
}

func (m *outboxModel) queue(t *rapid.T) {
	q := rapid.SampledFrom([]queueName{commands, entries}).Draw(t, "queue")
	size := rapid.OneOf(rapid.IntRange(8, 100), rapid.IntRange(8, 3*chunkBytes)).Draw(t, "size")
	m.number++
	f := modelFrame{bytes: bytes.Repeat([]byte{byte(m.number)}, size)}
	binary.BigEndian.PutUint32(f.bytes, m.number)
	if size > chunkBytes && rapid.Bool().Draw(t, "adopt") {
		m.o.adopt(q, bytes.Clone(f.bytes))
	} else {
		b := m.o.room(q, size)
		if cap(b)-len(b) < size {
			t.Fatalf("room for %d bytes in place of %d", cap(b)-len(b), size)
		}
		m.o.put(q, append(b, f.bytes...))
	}
	if q == entries {
		switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
		case what == 0:
			f.answer = true
			m.o.answers()
		case what == 1 && !m.o.behind:
			f.tells = true
			m.o.fallBehind()
		}
	}
	m.rows[q] = append(m.rows[q], f)
}

// write takes what is next and writes some of it.
func (m *outboxModel) write(t *rapid.T) {
	buf := m.take(t)
	if buf == nil {
		return
	}
	n := min(len(buf), writeStep)
	n = rapid.OneOf(rapid.Just(n), rapid.IntRange(0, n)).Draw(t, "taken")
	if rapid.Bool().Draw(t, "meanwhile") {
		m.queue(t)
	}
	m.wrote(t, n)
}

// take returns what is next, and checks that it is.
func (m *outboxModel) take(t *rapid.T) []byte {
	buf := m.o.take()
	if m.under == nil {
		m.begin(t, buf)
	}
	if !bytes.Equal(buf, m.under) {
		t.Fatalf("%d bytes are to be written, not the %d that are left", len(buf), len(m.under))
	}
	return buf
}

// wrote notes that n bytes of what take returned are written.
func (m *outboxModel) wrote(t *rapid.T, n int) {
	answered, want := m.o.wrote(n), int32(0)
	if m.under = m.under[n:]; len(m.under) == 0 {
		m.under, want = nil, m.answers
	}
	if answered != want {
		t.Fatalf("%d sends are answered, want %d", answered, want)
	}
	spoiled := m.o.spare[:cap(m.o.spare)] // as others would that get it from the pool
	for i := range spoiled {
		spoiled[i] = 0xff
	}
}

// begin checks that buf, with which a write begins, is whole frames of the queue whose turn it is.
func (m *outboxModel) begin(t *rapid.T, buf []byte) {
	m.from, m.answers = commands, 0
	if len(m.rows[commands]) == 0 {
		m.from = entries
	}
	if buf == nil && len(m.rows[m.from]) > 0 {
		t.Fatalf("nothing is to be written, and %d frames wait", len(m.rows[m.from]))
	}
	frames := 0
	for left := buf; len(left) > 0; frames++ {
		row := m.rows[m.from]
		if len(row) == 0 || !bytes.HasPrefix(left, row[0].bytes) {
			t.Fatalf("frame %d of a write of %d bytes is not the one that is due, or not whole", frames, len(buf))
		}
		if row[0].answer {
			m.answers++
		}
		left, m.rows[m.from] = left[len(row[0].bytes):], row[1:]
	}
	if frames > 1 && len(buf) > chunkBytes {
		t.Fatalf("%d frames are written at once, %d bytes", frames, len(buf))
	}
	m.under = bytes.Clone(buf)
}

func (m *outboxModel) check(t *rapid.T) {
	all, chunks, behind := 0, 0, false
	for q := range queueNames {
		waits := 0
		for _, f := range m.rows[q] {
			waits += len(f.bytes)
			behind = behind || f.tells
		}
		if q == m.from {
			waits += len(m.under)
		}
		if got := m.o.queues[q].bytes; got != waits {
			t.Fatalf("%d bytes of queue %d wait, want %d", got, q, waits)
		}
		all += waits
		chunks += len(m.o.queues[q].chunks)
	}
	if m.o.bytes() != all || m.o.behind != behind {
		t.Fatalf("%d bytes wait, want %d; behind %v, want %v", m.o.bytes(), all, m.o.behind, behind)
	}
	if small := m.under == nil && chunks == 1 && all <= writeStep; m.o.small() != small {
		t.Fatalf("small is %v with %d bytes in %d chunks", !small, all, chunks)
	}
	if held := m.o.held(); held > 4*(all+4*chunkBytes) {
		t.Fatalf("%d bytes are held for %d", held, all)
	}
}

// Whatever is queued, and however much of it each write takes, the frames of each queue come out
// once and in order; commands come first, but never inside a write under way; a send counts as
// answered once, when its answer is written; the device counts as behind until the frame that says
// so is taken; and no buffer that others may get holds what is still to be written.
func TestOutboxAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &outboxModel{o: new(outbox)}
		t.Repeat(map[string]func(*rapid.T){"queue": m.queue, "write": m.write, "": m.check})
		for buf := m.take(t); buf != nil; buf = m.take(t) {
			m.wrote(t, len(buf))
			m.check(t)
		}
		if rest := len(m.rows[commands]) + len(m.rows[entries]); rest > 0 || m.under != nil {
			t.Fatalf("%d frames never come out", rest)
		}
	})
}

// An outbox that was used before takes no more memory for small frames.
func TestOutboxIsUsedAgain(t *testing.T) {
	o := new(outbox)
	frame := make([]byte, 300)
	use := func() {
		for range 3 {
			o.put(entries, append(o.room(entries, len(frame)), frame...))
		}
		o.wrote(len(o.take()))
	}
	use()
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// holdSender makes c's sender seem to be at work, so that what is queued waits. The caller starts
// it afterwards.
func (c *conn) holdSender() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending = true
}

// A pong does not wait for the pushes that wait for a slow client. The acks, whose seqs the pushes
// go on from, stay in their place among them.
func TestPongPassesPushes(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.connect(websocket, "alice", "phone")
		c := x.conn("alice")
		x.calm(c)
		c.holdSender()
		c.queue("g:x", 1)
		c.answerOne()
		c.queue("g:x", 2)
		c.reply(&wirepb.PIMPong{Nonce: 7})
		c.startSender()
		expect[*wirepb.PIMPong](p)
		expect[*wirepb.PIMPush](p)
		expect[*wirepb.PIMSendAck](p)
		expect[*wirepb.PIMPush](p)
		x.calm(c)
	})
}

// A device that fell behind is told when it has taken the pushes that waited, however many answers
// are queued meanwhile: with answers always on their way it would never be told otherwise.
func TestToldBehindBeforeLaterAnswers(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.QueueBytes = 1000 })
	p := x.connect(false, "alice", "phone")
	c := x.conn("alice")
	x.calm(c)
	c.holdSender()
	behind := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.behind()
	}
	pushed := 0
	for c.queue("g:x", pushed+1); !behind(); c.queue("g:x", pushed+1) {
		pushed++
	}
	for range 3 {
		c.answerOne()
	}
	c.queue("g:x", pushed+2) // dropped, too
	c.handlePing(&wirepb.PIMPing{Nonce: 7})
	c.startSender()
	if m := expect[*wirepb.PIMPong](p); m.Nonce != 7 || m.Behind {
		t.Fatalf("before the pushes comes %v: the device would sync and pull what is on its way", m)
	}
	for i := range pushed {
		if m := expect[*wirepb.PIMPush](p); m.Behind || m.Entries[0].Seq != uint64(i+1) {
			t.Fatalf("push %d is %v", i+1, m)
		}
	}
	if m := expect[*wirepb.PIMPush](p); !m.Behind || len(m.Entries) > 0 {
		t.Fatalf("behind the pushes comes %v", m)
	}
	for range 3 {
		expect[*wirepb.PIMSendAck](p)
	}
	x.calm(c)
	if !c.queue("g:x", pushed+3) {
		t.Fatal("it is not pushed any more")
	}
	c.startSender()
	expect[*wirepb.PIMPush](p)
	x.calm(c)
}
