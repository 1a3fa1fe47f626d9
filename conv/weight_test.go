package conv_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// The memory for conversations is bounded whatever their first entries bring: a group's
// members, large settings, a few messages. That holds though nobody writes to them again.
func TestFewEntriesAreCounted(t *testing.T) {
	const bound = 1 << 20
	crowd := make([]pim.UserID, 1000)
	for i := range crowd {
		crowd[i] = pim.UserID(fmt.Sprintf("member%d", i))
	}
	for name, test := range map[string]struct {
		conversations int
		most          float64 // conversations that fit into the bound
		requests      func(n int) []*conv.Request
	}{
		"groups": {20, 7, func(n int) []*conv.Request {
			r := message("", "maker", "")
			r.Kind, r.Members = pim.EntryCreate, crowd
			return []*conv.Request{r}
		}},
		"settings": {100, 40, func(n int) (all []*conv.Request) {
			user := pim.UserID(fmt.Sprint("u", n))
			for i := range 10 {
				r := message(pim.Own(user), user, "")
				r.Kind = pim.EntryCommand
				r.Payload = wire.AppendCommand(nil, &pim.Command{Kind: pim.CommandContact, Subject: fmt.Sprint("x", i), Value: []byte(strings.Repeat("v", 4096))})
				all = append(all, r)
			}
			return all
		}},
		"messages": {1000, 700, func(n int) (all []*conv.Request) {
			for range 15 {
				all = append(all, message(pim.Direct("a", pim.UserID(fmt.Sprint("b", n))), "a", "x"))
			}
			return all
		}},
	} {
		t.Run(name, func(t *testing.T) {
			rec, registry := newRecorder(), prometheus.NewRegistry()
			w := conv.New(storetest.NewMemory(), conv.Options{
				Outlet: rec, Shards: 1, Memory: bound, Metrics: conv.NewMetrics(registry), Logger: quiet(),
			})
			defer w.Close()
			for n := range test.conversations {
				for _, r := range test.requests(n) {
					if _, err := persist(w, rec, r); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := atMost(t, registry, test.most); n == 0 || n > test.most {
				t.Errorf("%v of %d conversations are in memory, want at most %v", n, test.conversations, test.most)
			}
		})
	}
}

// A look-up of an old client message ID makes a conversation remember more IDs. Their memory
// is counted, though nothing new is written.
func TestLookUpsAreCounted(t *testing.T) {
	const bound, conversations, most = 1 << 20, 40, 25
	st, rec, registry := storetest.NewMemory(), newRecorder(), prometheus.NewRegistry()
	now := time.UnixMilli(1_795_000_000_000)
	options := conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return now }}
	w := conv.New(st, options)
	var first []*conv.Request
	for n := range conversations {
		for _, size := range []int{500, 500, 500, 1} { // the last batch writes the snapshot of all entries before
			batch := make([]*conv.Request, size)
			for i := range batch {
				r := message(pim.Direct("a", pim.UserID(fmt.Sprint("b", n))), "a", "x")
				r.ClientID, r.Local = pim.NewClientMessageID(now), pim.MillisOf(now)
				batch[i] = rec.track(r)
			}
			if len(first) == n {
				first = append(first, batch[0])
			}
			w.Submit(batch)
			for _, r := range batch {
				if a := rec.wait(r); a.Err != nil {
					t.Fatal(a.Err)
				}
			}
		}
	}
	w.Close()
	options.Memory, options.Metrics = bound, conv.NewMetrics(registry)
	w = conv.New(st, options)
	defer w.Close()
	for _, r := range first {
		if a, err := persist(w, rec, r); err != nil || !a.Duplicate || a.Seq != 1 {
			t.Fatalf("answered with %+v, %v", a, err)
		}
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := atMost(t, registry, most); n == 0 || n > most {
		t.Errorf("%v of %d conversations are in memory, want at most %v", n, conversations, most)
	}
}
