package conv

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

// asked is an Outlet that hands each answer to whoever waits for it.
type asked struct{}

func (asked) Deliver(answers []Answer, _ []Published) {
	for _, a := range answers {
		a.Request.Origin.(chan Answer) <- a
	}
}

// BenchmarkErase erases in a conversation of a million messages, while another member sends one message after
// the other: nothing, the first message, and each tenth message. It prints how long the erase takes, and how
// long the message waits that waits longest: go test -run '^$' -bench Erase -benchtime 1x -timeout 20m ./conv.
func BenchmarkErase(b *testing.B) {
	const messages, batch = 1_000_000, 10_000
	st := benchStore(b, b.TempDir())
	defer st.Close()
	w := New(st, Options{Outlet: asked{}, Shards: 1})
	defer w.Close()
	group := &Request{Kind: pim.EntryCreate, Sender: "bob", ClientID: id(1), Members: []pim.UserID{"ann", "carl", "dan"}, Origin: make(chan Answer, 1)}
	w.Submit([]*Request{group})
	c := group.Conversation
	if a := <-group.Origin.(chan Answer); a.Err != nil {
		b.Fatal(a.Err)
	}
	n := uint64(1)
	made := func(from pim.UserID, kind pim.EntryKind, refers pim.Seq) *Request {
		n++
		r := message(c, from, n, pim.MillisOf(time.Now()))
		r.Kind, r.Refers, r.Origin = kind, refers, make(chan Answer, 1)
		if kind == pim.EntryMessage {
			r.Payload = make([]byte, 100)
		} else {
			r.Payload = nil
		}
		return r
	}
	var last pim.Seq
	for i := range messages / batch {
		some := make([]*Request, batch)
		for j := range some {
			from := pim.UserID("bob")
			switch {
			case i+j == 0:
				from = "ann"
			case j%10 == 0:
				from = "carl"
			}
			some[j] = made(from, pim.EntryMessage, 0)
		}
		w.Submit(some)
		for _, r := range some {
			a := <-r.Origin.(chan Answer)
			if a.Err != nil {
				b.Fatal(a.Err)
			}
			last = a.Seq
		}
	}
	for _, by := range []pim.UserID{"dan", "ann", "carl"} {
		b.Run(fmt.Sprint(by), func(b *testing.B) {
			for range b.N {
				x := made(by, pim.EntryErase, last)
				begun := time.Now()
				w.Submit([]*Request{x})
				var waits []time.Duration
				for done := false; !done; {
					r := made("bob", pim.EntryMessage, 0)
					sent := time.Now()
					w.Submit([]*Request{r})
					<-r.Origin.(chan Answer)
					waits = append(waits, time.Since(sent))
					select {
					case <-x.Origin.(chan Answer):
						done = true
					default:
					}
				}
				b.ReportMetric(float64(time.Since(begun).Milliseconds()), "erase-ms")
				b.ReportMetric(float64(slices.Max(waits).Milliseconds()), "longest-wait-ms")
			}
		})
	}
}
