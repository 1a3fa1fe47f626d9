package gateway

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/wire"
)

// BenchmarkDeliver is one message to the connected members of a group.
func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{1, 64, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := &lab{begun: time.Now()}
			x.gw = New(x.options(func(l *Limits) { l.QueueBytes = 64 << 20 }))
			defer x.gw.Close()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			e := pim.Entry{Seq: 1, Anchor: 1, Sender: "other", Device: "d", Payload: make([]byte, 100)}
			p := conv.Published{
				Conversation: "g:x",
				Entries:      []conv.Encoded{{Seq: e.Seq, Sender: e.Sender, Device: e.Device, Data: wire.AppendEntry(nil, &e)}},
			}
			var conns []*conn
			unsent := func(c *conn) bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.sending
			}
			for i := range n {
				near, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				far, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				defer near.Close()
				c := newConn(x.gw, far, lengths)
				c.user, c.device = pim.UserID(fmt.Sprint("user-", i)), "phone"
				if _, _, ok := x.gw.Sessions.add(c, 10); !ok {
					b.Fatal("too many connections")
				}
				conns, p.Members = append(conns, c), append(p.Members, c.user)
				go io.Copy(io.Discard, near)
			}
			pushes := []conv.Published{p}
			b.ReportAllocs()
			for b.Loop() {
				x.gw.Sessions.Deliver(nil, pushes)
				for _, c := range conns { // what is not written yet would make later writes fewer
					for unsent(c) {
						runtime.Gosched()
					}
				}
			}
		})
	}
}
