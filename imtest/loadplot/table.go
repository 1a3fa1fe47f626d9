package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/pim-im/pim/imtest/load"
)

// column is one figure. A table has a column of it for each binary.
type column struct {
	title string
	value func(*named) float64
	show  func(float64) string
}

// chatColumns are the figures of users who talk, or of one who only writes.
var chatColumns = []column{
	{"messages/s", func(r *named) float64 { return r.DeliveredPerS }, count},
	{"slowest slice", func(r *named) float64 { return r.SlowestPerS }, count},
	{"CPU", func(r *named) float64 { return r.ServerCPU }, cpu},
	{"dearest slice", func(r *named) float64 { return r.DearestCPU }, cpu},
	{"p50 ms", func(r *named) float64 { return r.DeliveryP50 }, ms},
	{"p99 ms", func(r *named) float64 { return r.DeliveryP99 }, ms},
}

// tables holds the columns of each kind of workload.
var tables = map[load.Workload][]column{
	load.Direct: chatColumns, load.Group: chatColumns, load.Relay: chatColumns, load.Fill: chatColumns[:4],
	load.Cold: {
		{"first: CPU ms", func(r *named) float64 { return r.FirstCPU }, ms},
		{"second: CPU ms", func(r *named) float64 { return r.SecondCPU }, ms},
		{"loads", func(r *named) float64 { return float64(r.Loads) }, count},
		{"loads again", func(r *named) float64 { return float64(r.LoadsAgain) }, count},
		{"first: p99 ms", func(r *named) float64 { return r.AckP99 }, ms},
		{"second: p99 ms", func(r *named) float64 { return r.SecondAckP99 }, ms},
	},
	load.Sync: {
		{"list KB", func(r *named) float64 { return float64(r.SyncListBytes) / 1000 }, ms},
		{"login KB", func(r *named) float64 { return float64(r.SyncBytes) / 1000 }, ms},
		{"login ms", func(r *named) float64 { return r.SyncMS }, ms},
		{"sync again: CPU ms", func(r *named) float64 { return r.SyncCPU }, cpu},
		{"p50 ms", func(r *named) float64 { return r.SyncP50 }, ms},
		{"reconnect: CPU ms", func(r *named) float64 { return r.ReconnectCPU }, cpu},
	},
	load.Idle: {
		{"bytes a connection", func(r *named) float64 { return r.BytesPerConnection }, count},
	},
}

// order is the order of the tables.
var order = []load.Workload{load.Relay, load.Direct, load.Group, load.Fill, load.Cold, load.Sync, load.Idle}

// table writes the runs as tables in Markdown, one for each workload: a row for each
// kind of run, with the median of the runs of each binary.
func table(w io.Writer, runs []named) {
	var binaries []string
	for _, r := range runs {
		if !slices.Contains(binaries, r.Binary) {
			binaries = append(binaries, r.Binary)
		}
	}
	for _, workload := range order {
		columns := tables[workload]
		var rows []string
		cells := map[string]map[string][]named{} // by row and binary
		for _, r := range runs {
			if r.Workload != workload {
				continue
			}
			row := r.row()
			if cells[row] == nil {
				cells[row] = map[string][]named{}
				rows = append(rows, row)
			}
			cells[row][r.Binary] = append(cells[row][r.Binary], r)
		}
		if rows == nil {
			continue
		}
		head := "| |"
		for _, c := range columns {
			for _, b := range binaries {
				head += fmt.Sprintf(" %s %s |", c.title, b)
			}
		}
		fmt.Fprintf(w, "%s\n|%s\n", head, strings.Repeat("---|", strings.Count(head, "|")-1))
		for _, row := range rows {
			fmt.Fprintf(w, "| %s |", row)
			for _, c := range columns {
				for _, b := range binaries {
					fmt.Fprintf(w, " %s |", c.median(cells[row][b]))
				}
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w)
	}
}

// row names what a run did, so that runs that did the same share a row.
func (r *named) row() string {
	name := r.Name
	switch {
	case r.Workload == load.Idle || r.Workload == load.Cold:
		return name
	case r.Workload == load.Sync:
		return fmt.Sprintf("%s, %d conversations, %d messages", name, r.Conversations, r.Sent)
	case r.Workload == load.Fill:
		return name + ", the fill"
	case r.Rate > 0:
		name += fmt.Sprintf(", %g/s", r.Rate)
	default:
		name += fmt.Sprintf(", W = %d", r.Window)
	}
	if r.OneWay && !strings.Contains(name, "one-way") {
		name += ", one-way"
	}
	return name
}

// median returns the column's median over runs, as text; "" if there are no runs.
func (c *column) median(runs []named) string {
	if len(runs) == 0 {
		return ""
	}
	values := make([]float64, len(runs))
	for i := range runs {
		values[i] = c.value(&runs[i])
	}
	slices.Sort(values)
	n := len(values)
	return c.show((values[(n-1)/2] + values[n/2]) / 2)
}

func cpu(v float64) string { return fmt.Sprintf("%.4f", v) }

func ms(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// count returns v with a comma between thousands.
func count(v float64) string {
	s := fmt.Sprintf("%.0f", math.Abs(v))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v <= -0.5 { // memory that shrank
		s = "-" + s
	}
	return s
}
