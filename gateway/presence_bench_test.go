package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// BenchmarkPresence is one coming or going of a user at whom n others look, each over a connection
// of its own: the judgement of who may see the user, the frames and the writes.
func BenchmarkPresence(b *testing.B) {
	for _, n := range []int{1, 100, 999} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, err := pebble.Open(b.TempDir(), pebble.Options{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			x := &lab{begun: time.Now()}
			o := x.options(func(l *Limits) { l.QueueBytes = 64 << 20 })
			o.Reader = inbox.New(s)
			x.gw = New(o)
			defer x.gw.Close()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			connects := func(u pim.UserID) *conn {
				near, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				far, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { near.Close() })
				c := newConn(x.gw, far, lengths)
				c.user, c.device = u, "phone"
				if _, _, ok := x.gw.Sessions.add(c, 10); !ok {
					b.Fatal("too many connections")
				}
				go io.Copy(io.Discard, near)
				return c
			}
			var w store.Write
			lookers := make([]*conn, n)
			for i := range lookers {
				u := pim.UserID(fmt.Sprint("user-", i))
				contact := pim.Setting{Command: pim.Command{Kind: pim.CommandContact, Subject: string(u)}, At: pim.Seq(i + 1)}
				w.Cells = append(w.Cells, store.CellWrite{Partition: inbox.Settings("bob"), Cell: inbox.SettingCell(&contact, uint64(i+1))})
				lookers[i] = connects(u)
				x.gw.Sessions.looks.set(lookers[i], []pim.ConversationID{"u:bob"}, 0)
			}
			if err := store.Commit(context.Background(), s, []*store.Write{&w}, store.Durable); err != nil {
				b.Fatal(err)
			}
			bob := connects("bob")
			told := telling{subject: x.gw.Sessions.looks.subjects["u:bob"], news: lookers}
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 {
					x.gw.Sessions.remove(bob)
				} else if _, _, ok := x.gw.Sessions.add(bob, 10); !ok {
					b.Fatal("too many connections")
				}
				x.gw.tell(told)
			}
			b.StopTimer()
			if looks := len(told.subject.lookers); looks != n {
				b.Fatalf("%d look in the end", looks)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/looker")
		})
	}
}
