package gateway

import (
	"fmt"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// queue pushes one entry to c, and reports whether the caller must start c's sender.
func (c *conn) queue(conversation string, seq int) (start bool) {
	e := pim.Entry{Seq: pim.Seq(seq), Sender: "other", Device: "d", Payload: fmt.Appendf(nil, "%d of %s", seq, conversation)}
	parts := splitPush(&conv.Published{
		Conversation: pim.ConversationID(conversation),
		Entries:      []conv.Encoded{{Seq: e.Seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}},
	})
	return c.push(&parts[0], 0, 1<<63)
}

// answerOne queues the answer to one send, and reports the same as queue.
func (c *conn) answerOne() (start bool) {
	c.mu.Lock()
	c.inFlight++
	c.mu.Unlock()
	return c.answer(&conv.Answer{Request: &conv.Request{Conversation: "g:x", Origin: c}, Seq: 1, Anchor: 1}, &ackScratch{})
}

// directly writes to c as a Deliver does, but the socket takes no more than room bytes. It
// calls meanwhile during the write, while c is not locked.
func (c *conn) directly(room int, meanwhile func()) (all bool) {
	var d direct
	d.try = func(fd uintptr) bool {
		if meanwhile != nil {
			meanwhile()
		}
		if room == 0 {
			d.n = -1 // what a write returns with EAGAIN
			return true
		}
		d.buf = d.buf[:min(room, len(d.buf))]
		return d.attempt(fd)
	}
	return d.send(c)
}

// counts returns c's counters.
func (c *conn) counts() (unsent int, inFlight int32, sending bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsent(), c.inFlight, c.sending
}

func count(is bool) int32 {
	if is {
		return 1
	}
	return 0
}

// spoil takes buffers from the pools and overwrites them, as other connections would: no
// buffer in a pool may hold what is still to be written.
func spoil() {
	var taken []*outbox
	for range 8 {
		o := takeOutbox()
		if o.spare == nil {
			o.spare = takeBuffer()
		}
		for i, b := 0, o.spare[:cap(o.spare)]; i < len(b); i++ {
			b[i] = 0xff
		}
		taken = append(taken, o)
	}
	for _, o := range taken {
		giveOutbox(o)
	}
}

// A socket takes any number of the bytes of a direct write. The rest is written once, before
// all that is queued later, and only by the sender that the caller starts. A send stays in
// flight until its answer is written.
func TestDirectWriteOfAPart(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		p := x.connect(websocket, "alice", "phone")
		c := x.conn("alice")
		seq := 0
		next := func() (start bool) { seq++; return c.queue("g:x", seq) }
		read := 0
		for room, size := 0, 1; room <= size; room++ {
			for _, more := range []bool{false, true} {
				x.calm(c)
				if !c.answerOne() || next() || next() {
					t.Fatal("not the first frame alone claims the sender")
				}
				size, _, _ = c.counts()
				var meanwhile func()
				if more {
					meanwhile = func() {
						if next() || c.answerOne() {
							t.Error("what is queued during a write claims the sender again")
						}
					}
				}
				all := c.directly(room, meanwhile)
				unsent, inFlight, sending := c.counts()
				if all != (room == size && !more) || all == sending {
					t.Fatalf("%d of %d bytes, more queued %v: all %v, sending %v", room, size, more, all, sending)
				}
				if want := count(room < size) + count(more); inFlight != want {
					t.Fatalf("%d of %d bytes: %d in flight, want %d", room, size, inFlight, want)
				}
				if !more && unsent != size-room {
					t.Fatalf("%d of %d bytes: %d unsent", room, size, unsent)
				}
				spoil()
				if next() == sending {
					t.Fatalf("sending %v, and what is queued claims the opposite", sending)
				}
				c.startSender()
				expect[*wirepb.PIMSendAck](p)
				for read < seq {
					if more && read == seq-1 { // the last was queued after the write
						expect[*wirepb.PIMSendAck](p)
					}
					read++
					m := expect[*wirepb.PIMPush](p)
					if e := m.Entries[0]; e.Seq != uint64(read) || string(e.Payload) != fmt.Sprintf("%d of g:x", read) {
						t.Fatalf("%d of %d bytes: got %v, %d is due", room, size, m, read)
					}
				}
			}
		}
		x.calm(c)
	})
}

// A socket without any room does not hold up Deliver, nor what others get from it.
func TestDeliverDoesNotWait(t *testing.T) {
	x := newLab(t, nil)
	x.connect(false, "alice", "phone") // reads nothing from here on
	p := x.connect(false, "bob", "phone")
	c := x.conn("alice")
	x.calm(c)
	err := c.raw.Write(func(fd uintptr) bool {
		junk := make([]byte, 64<<10)
		for {
			if _, errno := writeFile(fd, junk); errno != 0 {
				return true
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	e := pim.Entry{Seq: 1, Sender: "other", Device: "d"}
	x.gw.Sessions.Deliver(nil, []conv.Published{{
		Conversation: "g:x", Members: []pim.UserID{"alice", "bob"},
		Entries: []conv.Encoded{{Seq: e.Seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}},
	}})
	expect[*wirepb.PIMPush](p)
	if unsent, _, sending := c.counts(); unsent == 0 || !sending {
		t.Errorf("there was room: %d bytes unsent, sending %v", unsent, sending)
	}
}

// If a connection falls behind, is told to go or is closed during a direct write, the sender
// takes care of it after the write.
func TestDirectWriteMeanwhile(t *testing.T) {
	const enough = 1 << 20
	for name, during := range map[string]struct {
		happens func(x *lab, c *conn)
		after   func(x *lab, c *conn, p *peer)
	}{
		"a push is dropped": {
			func(x *lab, c *conn) {
				if t, ok := c.begin(entries); ok {
					t.fallBehind()
					t.drop()
				}
			},
			func(x *lab, c *conn, p *peer) {
				if m := expect[*wirepb.PIMPush](p); !m.Behind {
					x.t.Errorf("got %v, not that it is behind", m)
				}
				x.calm(c)
			},
		},
		"it is told to go": {
			func(x *lab, c *conn) { c.shut(wire.CodeIdle, "") },
			func(x *lab, c *conn, p *peer) { p.closedWith(wire.CodeIdle) },
		},
		"it is closed": {
			func(x *lab, c *conn) {
				var begun sync.WaitGroup
				begun.Add(1)
				go func() { begun.Done(); c.abort() }() // it waits for the write
				begun.Wait()
				x.eventually("it is closed", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return c.closed
				})
			},
			func(x *lab, c *conn, p *peer) {
				for p.next() != nil {
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, websocket bool) {
				for _, room := range []int{0, 10, enough} {
					x := newLab(t, nil)
					p := x.connect(websocket, "alice", "phone")
					c := x.conn("alice")
					x.calm(c)
					if !c.queue("g:x", 1) {
						t.Fatal("the sender is not to be started")
					}
					if all := c.directly(room, func() { during.happens(x, c) }); all {
						t.Fatalf("with room for %d bytes: it is all done", room)
					}
					c.startSender()
					if name != "it is closed" {
						expect[*wirepb.PIMPush](p)
					}
					during.after(x, c, p)
					p.nc.Close()
					x.eventually("nothing is left of it", func() bool { return x.gw.Open() == 0 })
				}
			})
		})
	}
}

// A direct write wakes whoever waits for room.
func TestDirectWriteEndsWaits(t *testing.T) {
	x := newLab(t, func(l *Limits) { l.QueueBytes, l.InFlight = 50, 1 })
	p := x.connect(false, "alice", "phone")
	c := x.conn("alice")
	x.calm(c)
	ready, _ := c.begin(commands)
	for range 4 {
		ready.frame(&wirepb.PIMPong{Nonce: 6, ServerMs: 1 << 60})
	}
	if !ready.end() {
		t.Fatal("the sender is not to be started")
	}
	replied := make(chan struct{})
	go func() { c.reply(&wirepb.PIMPong{Nonce: 7}); close(replied) }()
	x.eventually("the reply waits for room", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.changed != nil
	})
	c.directly(1<<20, nil)
	<-replied
	for _, nonce := range []uint64{6, 6, 6, 6, 7} {
		if m := expect[*wirepb.PIMPong](p); m.Nonce != nonce {
			t.Errorf("pong %d, want %d", m.Nonce, nonce)
		}
	}
	x.calm(c)
}

// Several Delivers and replies at the same time, over a socket with little room: the entries
// of each conversation come once and in order, and so do the replies.
func TestDirectWritesBesideReplies(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, func(l *Limits) { l.QueueBytes = 64 << 20 })
		p := x.connect(websocket, "alice", "phone")
		nc := x.conn("alice").nc.(interface{ SetWriteBuffer(int) error })
		if err := nc.SetWriteBuffer(4096); err != nil {
			t.Fatal(err)
		}
		const writers, each, pings = 4, 300, 200
		var work sync.WaitGroup
		for w := range writers {
			work.Go(func() {
				for seq := range each {
					e := pim.Entry{Seq: pim.Seq(seq + 1), Sender: "other", Device: "d", Payload: make([]byte, (seq*97+w*1009)%4000)}
					x.gw.Sessions.Deliver(nil, []conv.Published{{
						Conversation: pim.ConversationID(fmt.Sprint("g:", w)), Members: []pim.UserID{"alice"},
						Entries: []conv.Encoded{{Seq: e.Seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}},
					}})
				}
			})
		}
		work.Go(func() {
			for n := range pings {
				if _, err := p.nc.Write(p.frame(wire.Append(nil, &wirepb.PIMPing{Nonce: uint64(n + 1)}))); err != nil {
					t.Error(err)
				}
			}
		})
		var next [writers]uint64
		pongs := uint64(0)
		for range writers*each + pings {
			switch m := p.next().(type) {
			case *wirepb.PIMPong:
				if pongs++; m.Nonce != pongs {
					t.Fatalf("pong %d, %d is due", m.Nonce, pongs)
				}
			case *wirepb.PIMPush:
				w := m.Conversation[2] - '0'
				next[w]++
				if e := m.Entries[0]; e.Seq != next[w] || len(e.Payload) != (int(e.Seq-1)*97+int(w)*1009)%4000 {
					t.Fatalf("entry %d of %s, %d is due", e.Seq, m.Conversation, next[w])
				}
			default:
				t.Fatalf("got %v", m)
			}
		}
		work.Wait()
		x.calm(x.conn("alice"))
	})
}
