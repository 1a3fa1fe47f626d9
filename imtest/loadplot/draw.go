package main

import (
	"fmt"
	"html"
	"io"
	"math"

	"github.com/pim-im/pim/imtest/load"
)

// The measures of the picture, in pixels.
const (
	width, height = 860, 520
	left, right   = 78, 24
	panelHeight   = 176
	panelGap      = 70
	top           = 52
)

// style makes the picture readable on a light and on a dark page.
const style = `<style>
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #59636e }
.title { font-size: 14px; font-weight: 600; fill: #1f2328 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.run { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round }
.run0 { stroke: #0969da } .run1 { stroke: #bc4c00 }
.key0 { fill: #0969da; font-weight: 600 } .key1 { fill: #bc4c00; font-weight: 600 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.title { fill: #f0f6fc }
.grid { stroke: #3d444d }
.run0 { stroke: #4493f8 } .run1 { stroke: #f0883e }
.key0 { fill: #4493f8 } .key1 { fill: #f0883e }
}
</style>
`

// panel is one of the two charts.
type panel struct {
	title string
	value func(load.Slice) float64
}

var panels = []panel{
	{"messages a second", func(s load.Slice) float64 { return s.DeliveredPerS }},
	{"server CPU, seconds for 1,000 messages", func(s load.Slice) float64 { return s.ServerCPU }},
}

// draw writes the picture of runs.
func draw(w io.Writer, runs []named) {
	fmt.Fprintf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Throughput and CPU over the time\">\n%s", width, height, style)
	x := width - right
	for i := len(runs) - 1; i >= 0; i-- {
		fmt.Fprintf(w, "<text class=\"key%d\" x=\"%d\" y=\"22\" text-anchor=\"end\">%s</text>\n", colour(i, runs), x, html.EscapeString(label(runs[i])))
		x -= 24 + 8*len(label(runs[i]))
	}
	seconds := 0.0
	for _, r := range runs {
		seconds = max(seconds, total(r.Slices))
	}
	for i, p := range panels {
		p.draw(w, runs, top+i*(panelHeight+panelGap), seconds)
	}
	fmt.Fprintln(w, "</svg>")
}

// colour returns the number of a run's colour. The last run, which shows how things are
// now, has colour 0.
func colour(i int, runs []named) int { return len(runs) - 1 - i }

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

func (p panel) draw(w io.Writer, runs []named, y int, seconds float64) {
	highest := 0.0
	for _, r := range runs {
		for _, s := range r.Slices {
			highest = max(highest, p.value(s))
		}
	}
	step := nice(highest / 4)
	most := step * math.Ceil(highest/step)
	bottom := y + panelHeight
	fmt.Fprintf(w, "<text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", left, y-14, p.title)
	for v := 0.0; v <= most+step/2; v += step {
		at := float64(bottom) - v/most*panelHeight
		fmt.Fprintf(w, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", left, at, width-right, at)
		fmt.Fprintf(w, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left-8, at+4, number(v, step))
	}
	across := func(t float64) float64 { return left + t/seconds*(width-left-right) }
	unit, name := 60.0, "min"
	if seconds < 180 {
		unit, name = 1, "s"
	}
	each := nice(seconds / unit / 8)
	for t := 0.0; t <= seconds/unit+each/1000; t += each {
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", across(t*unit), bottom+18, number(t, each))
	}
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", width-right, bottom+34, name)
	for i, r := range runs {
		fmt.Fprintf(w, "<polyline class=\"run run%d\" points=\"", colour(i, runs))
		begun := 0.0
		for _, s := range r.Slices {
			middle := begun + s.Seconds/2
			begun += s.Seconds
			fmt.Fprintf(w, "%.1f,%.1f ", across(middle), float64(bottom)-p.value(s)/most*panelHeight)
		}
		fmt.Fprintln(w, "\"/>")
	}
}

// nice returns the smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is at
// least v; 1 if v is not positive.
func nice(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// number returns v as a label of an axis with that step.
func number(v, step float64) string {
	switch {
	case v == 0:
		return "0"
	case step >= 1000:
		return fmt.Sprintf("%gk", math.Round(v/100)/10)
	}
	decimals := 0
	for s := step; decimals < 6 && math.Abs(s-math.Round(s)) > 1e-9; s *= 10 {
		decimals++
	}
	return fmt.Sprintf("%.*f", decimals, v)
}
