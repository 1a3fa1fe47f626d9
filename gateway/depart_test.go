package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// A gateway that drains sends away as many clients at a time as it is told, fractions of one later. Clients that have gone
// by themselves do not count, and those that come meanwhile stay.
func TestDepartingGoBitByBit(t *testing.T) {
	virtual(t, nil, func(t *testing.T, x *lab) {
		var peers []*peer
		for i := range 10 {
			peers = append(peers, x.pipe(fmt.Sprint("user-", i), 0))
		}
		departing := x.gw.Departing()
		late := x.pipe("late", 0)
		gone := x.conn("user-0")
		peers[0].nc.Close()
		x.eventually("user-0 has gone", gone.Gone)

		f := Farewell{Window: 7 * time.Second, Others: func(transport string) []string { return []string{transport} }}
		told := 0
		hears := make(chan *wirepb.PIMGoAway, len(peers))
		for _, p := range peers[1:] {
			go func() {
				m, _ := p.next().(*wirepb.PIMGoAway)
				hears <- m
			}()
		}
		for i, c := range []struct {
			n    float64
			sent int
		}{{0.5, 0}, {0.5, 1}, {2.75, 2}, {0.25, 1}, {0, 0}, {100, 5}, {100, 0}} {
			if sent := departing.Next(c.n, f); sent != c.sent {
				t.Errorf("step %d: %d were sent away, want %d", i, sent, c.sent)
			}
			for ; told < 9 && c.sent > 0; c.sent-- {
				m := <-hears
				if m == nil || wire.Code(m.Code) != wire.CodeShutdown || !m.Reconnect || m.WindowMs != 7000 || len(m.Alternatives) != 1 || m.Alternatives[0] != TransportTCP {
					t.Errorf("told %v", m)
				}
				told++
			}
		}
		if told != 9 || departing.Left() != 0 {
			t.Errorf("%d were told to go, %d are left", told, departing.Left())
		}
		late.send(&wirepb.PIMPing{Nonce: 3})
		if m := expect[*wirepb.PIMPong](late); m.Nonce != 3 {
			t.Errorf("pong %v", m)
		}
	})
}
