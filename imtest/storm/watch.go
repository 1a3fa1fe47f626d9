package storm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim/imtest"
)

// Row is a look at the storm.
type Row struct {
	At          time.Duration // since the storm began
	Gateways    []int         // connections of each; -1: it is dead, -2: it does not answer
	Connected   int           // clients
	Tries       int           // times that a client has begun to connect, so far
	Welcomed    int           // times that a client was let in, so far
	Refused     int           // by the gateways that are alive: connections and logins, so far
	Asked       int           // by the LBS that are alive: questions that they have answered, so far
	RSS         int64         // of the gateway that has most, bytes
	Messages    int           // deliveries between devices that stayed connected, since the row before
	P99         time.Duration // of these
	Interrupted int           // deliveries to or from devices that had lost their connection, since the row before
}

// Head is the head of a table of rows in Markdown.
const Head = "| s | connections of each gateway | clients in | tries | let in | refused | asked an LBS | most RSS, MB | deliveries | p99, ms | interrupted |\n|---|---|---|---|---|---|---|---|---|---|---|"

// String returns the row as one of a table in Markdown, see Head.
func (r Row) String() string {
	var gates []string
	for _, n := range r.Gateways {
		switch n {
		case -1:
			gates = append(gates, "dead")
		case -2:
			gates = append(gates, "?")
		default:
			gates = append(gates, fmt.Sprint(n))
		}
	}
	return fmt.Sprintf("| %.0f | %s | %d | %d | %d | %d | %d | %d | %d | %.1f | %d |", r.At.Seconds(), strings.Join(gates, " "), r.Connected, r.Tries, r.Welcomed,
		r.Refused, r.Asked, r.RSS>>20, r.Messages, float64(r.P99.Microseconds())/1000, r.Interrupted)
}

// watch looks at the gateways again and again, and holds them to their bounds.
type watch struct {
	s    *storm
	last []look // of each gateway

	mu          sync.Mutex
	took        []time.Duration // of the deliveries since the last row
	interrupted int
}

// look is what a gateway had.
type look struct {
	at          time.Time // when it was asked
	connections int
	was         bool
}

func newWatch(s *storm) *watch { return &watch{s: s, last: make([]look, s.Gateways)} }

// delivered takes note of a delivery.
func (w *watch) delivered(sent, handed time.Time, calm bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if calm {
		w.took = append(w.took, handed.Sub(sent))
	} else {
		w.interrupted++
	}
}

// run makes rows until ctx ends.
func (w *watch) run(ctx context.Context) {
	for {
		if row := w.look(ctx); ctx.Err() == nil {
			w.s.mu.Lock()
			w.s.report.Rows = append(w.s.report.Rows, row)
			w.s.mu.Unlock()
			w.s.Row(row)
		}
		if !imtest.Pause(ctx, w.s.Every) {
			return
		}
	}
}

// look asks all gateways at the same time.
func (w *watch) look(ctx context.Context) Row {
	row := Row{At: time.Since(w.s.begun), Gateways: make([]int, w.s.Gateways)}
	var mu sync.Mutex
	var work sync.WaitGroup
	for i, n := range w.s.gates.list {
		if n.dead.Load() {
			row.Gateways[i] = -1
			continue
		}
		work.Go(func() {
			asked := time.Now()
			f, err := n.scrape(ctx)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				row.Gateways[i] = f.connections
				row.Refused += f.refused
				row.Asked += f.asked
				row.RSS = max(row.RSS, f.rss)
				w.bounds(i, f, asked)
			case n.dead.Load():
				row.Gateways[i] = -1
			case ctx.Err() == nil:
				row.Gateways[i] = -2
				w.s.mu.Lock()
				w.s.report.Unready++
				w.s.mu.Unlock()
			}
		})
	}
	work.Wait()
	all := w.s.crowd.all()
	row.Connected, row.Tries, row.Welcomed = all.Connected, all.Tries, all.Welcomed
	w.mu.Lock()
	took := w.took
	row.Interrupted = w.interrupted
	w.took, w.interrupted = nil, 0
	w.mu.Unlock()
	slices.Sort(took)
	if row.Messages = len(took); row.Messages > 0 {
		row.P99 = took[(row.Messages*99+99)/100-1]
	}
	return row
}

// base is what a gateway takes without connections, under the load of a storm: most of it is conversations and the store's
// driver. each is for a connection, with what Go leaves uncollected.
const (
	base = 512 << 20
	each = 32 << 10
)

// bounds holds gateway i to its bounds. Between two looks no more connections can have come than its rate gives in the time
// from the one question to now, and the two seconds' worth that may come at once.
func (w *watch) bounds(i int, f figures, asked time.Time) {
	beyond := func(format string, args ...any) {
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		if len(w.s.report.Beyond) < 20 {
			w.s.report.Beyond = append(w.s.report.Beyond, fmt.Sprintf("%.0f s: gateway %d ", time.Since(w.s.begun).Seconds(), i+1)+fmt.Sprintf(format, args...))
		}
	}
	last := w.last[i]
	now := time.Now()
	w.last[i] = look{asked, f.connections, true}
	if most := w.s.report.MaxConnections; f.connections > most {
		beyond("has %d connections, of %d", f.connections, most)
	}
	if most := base + each*int64(w.s.report.MaxConnections); f.rss > most {
		beyond("takes %d MB of memory, of %d", f.rss>>20, most>>20)
	}
	if !last.was || w.s.Unprotected {
		return
	}
	rate := float64(w.s.AcceptRate)
	if came, most := f.connections-last.connections, rate*now.Sub(last.at).Seconds()+2*rate; float64(came) > most {
		beyond("has let in %d connections where its rate allows %.0f", came, most)
	}
}
