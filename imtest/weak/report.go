package weak

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/imtest/tunlink"
)

// Report is the result of a run. Durations are in seconds.
type Report struct {
	Network    string `json:"network"`
	Users      int    `json:"users"`
	Messages   int    `json:"messages"`
	Deliveries int    `json:"deliveries"` // over all messages: how many users are to get each

	Lost       int `json:"lost"`
	Doubled    int `json:"doubled"`
	Misordered int `json:"misordered"`
	Late       int `json:"late"` // deliveries after more than Config.Within, or never seen
	Failed     int `json:"failed"`
	Resent     int `json:"resent"` // transmissions after the first of a message

	SendToAck      Percentiles `json:"send_to_ack"`
	SendToDelivery Percentiles `json:"send_to_delivery"`

	Cuts          int     `json:"cuts"`
	Reconnects    int     `json:"reconnects"`     // over all users
	LongestOutage float64 `json:"longest_outage"` // longest time that an SDK knew itself to be without a connection

	Up   tunlink.Stats `json:"up"`
	Down tunlink.Stats `json:"down"`

	Findings []string `json:"findings,omitempty"` // what the checker of the invariants says, at most 20 lines
	within   time.Duration
}

// Percentiles are of durations in seconds.
type Percentiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// percentiles sorts d. Pn is the least duration that n percent do not exceed.
func percentiles(d []time.Duration) Percentiles {
	slices.Sort(d)
	at := func(percent int) float64 {
		if len(d) == 0 {
			return 0
		}
		return d[max(0, (len(d)*percent+99)/100-1)].Seconds()
	}
	return Percentiles{N: len(d), P50: at(50), P90: at(90), P99: at(99), Max: at(100)}
}

const maxFindings = 20

// judge takes in what the checker has found: each violation as lost, doubled or
// misordered, whichever is nearest.
func (r *Report) judge(violations []imtest.Violation) {
	for _, v := range violations {
		switch v.Invariant {
		case "I2":
			r.Doubled++
		case "I3", "I6", "I7":
			r.Misordered++
		default:
			switch {
			case strings.Contains(v.Text, "twice"):
				r.Doubled++
			case strings.Contains(v.Text, "after seq"):
				r.Misordered++
			default:
				r.Lost++
			}
		}
		if len(r.Findings) < maxFindings {
			r.Findings = append(r.Findings, v.String())
		}
	}
}

// Err returns why the run was not sound; nil if it was.
func (r *Report) Err() error {
	switch {
	case r.Lost+r.Doubled+r.Misordered > 0:
		return pim.Errorf(pim.KindConflict, "lost %d, doubled %d, misordered %d", r.Lost, r.Doubled, r.Misordered)
	case r.Late > 0:
		return pim.Errorf(pim.KindTimeout, "%d deliveries took more than %v", r.Late, r.within)
	}
	return nil
}

// Print prints r for people.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\n%d users, %d messages, %d deliveries, %d cuts\n", r.Network, r.Users, r.Messages, r.Deliveries, r.Cuts)
	fmt.Fprintf(w, "lost %d, doubled %d, misordered %d, later than %v %d, failed %d\n", r.Lost, r.Doubled, r.Misordered, r.within, r.Late, r.Failed)
	fmt.Fprintf(t, "seconds\tn\tp50\tp90\tp99\tmax\t\n")
	for _, row := range []struct {
		name string
		p    Percentiles
	}{{"send to ack", r.SendToAck}, {"send to delivery", r.SendToDelivery}} {
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", row.name, row.p.N, row.p.P50, row.p.P90, row.p.P99, row.p.Max)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "messages sent again %d, reconnects %d, longest time without a connection %.1f s\n", r.Resent, r.Reconnects, r.LongestOutage)
	for _, way := range []struct {
		name string
		s    tunlink.Stats
	}{{"up", r.Up}, {"down", r.Down}} {
		fmt.Fprintf(w, "packets %s: %d passed (%d late), %d lost, %d lost in cuts\n", way.name, way.s.Passed, way.s.Reordered, way.s.Lost+way.s.Overflowed, way.s.Cut)
	}
	for _, f := range r.Findings {
		fmt.Fprintln(w, f)
	}
	_, err := fmt.Fprintln(w)
	return err
}
