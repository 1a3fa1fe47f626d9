package main

import (
	"io"

	"github.com/pim-im/pim/imtest/chart"
	"github.com/pim-im/pim/imtest/load"
)

// panels are the two charts of the picture.
var panels = []struct {
	title string
	value func(load.Slice) float64
}{
	{"messages a second", func(s load.Slice) float64 { return s.DeliveredPerS }},
	{"server CPU, seconds for 1,000 messages", func(s load.Slice) float64 { return s.ServerCPU }},
}

// draw writes the picture of runs.
func draw(w io.Writer, runs []named) {
	picture := chart.Picture{Label: "Throughput and CPU over the time"}
	seconds := 0.0
	for _, r := range runs {
		picture.Keys = append(picture.Keys, label(r))
		seconds = max(seconds, total(r.Slices))
	}
	picture.Ticks, picture.Unit = ticks(seconds)
	for _, p := range panels {
		panel := chart.Panel{Title: p.title}
		for _, r := range runs {
			var line []chart.Point
			begun := 0.0
			for _, s := range r.Slices {
				line = append(line, chart.Point{X: (begun + s.Seconds/2) / seconds, Y: p.value(s)})
				begun += s.Seconds
			}
			panel.Lines = append(panel.Lines, line)
		}
		picture.Panels = append(picture.Panels, panel)
	}
	picture.Draw(w)
}

// ticks returns the ticks of an axis of so many seconds, and their unit.
func ticks(seconds float64) (ticks []chart.Tick, unit string) {
	each, unit := 60.0, "min"
	if seconds < 180 {
		each, unit = 1, "s"
	}
	step := chart.Nice(seconds / each / 8)
	for t := 0.0; t <= seconds/each+step/1000; t += step {
		ticks = append(ticks, chart.Tick{X: t * each / seconds, Text: chart.Number(t, step)})
	}
	return ticks, unit
}

func label(r named) string {
	if r.Binary == "" {
		return string(r.Workload)
	}
	return r.Binary
}

// total returns how long all slices took.
func total(slices []load.Slice) (seconds float64) {
	for _, s := range slices {
		seconds += s.Seconds
	}
	return seconds
}
