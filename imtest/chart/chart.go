// Package chart draws lines over a common axis, as pictures in SVG that can be read on a light page and
// on a dark one.
package chart

import (
	"fmt"
	"html"
	"io"
	"math"
)

// The measures of a picture, in pixels.
const (
	width       = 860
	left, right = 78, 24
	panelHeight = 176
	panelGap    = 70
	top         = 52
)

// MaxLines bounds the lines of a panel: there are as many colours.
const MaxLines = 5

const style = `<style>
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #59636e }
.title { font-size: 14px; font-weight: 600; fill: #1f2328 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.run { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round }
.run0 { stroke: #0969da } .run1 { stroke: #bc4c00 } .run2 { stroke: #1a7f37 } .run3 { stroke: #8250df } .run4 { stroke: #bf3989 }
.key0 { fill: #0969da; font-weight: 600 } .key1 { fill: #bc4c00; font-weight: 600 }
.key2 { fill: #1a7f37; font-weight: 600 } .key3 { fill: #8250df; font-weight: 600 }
.key4 { fill: #bf3989; font-weight: 600 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 }
.title { fill: #f0f6fc }
.grid { stroke: #3d444d }
.run0 { stroke: #4493f8 } .run1 { stroke: #f0883e } .run2 { stroke: #3fb950 } .run3 { stroke: #ab7df8 } .run4 { stroke: #db61a2 }
.key0 { fill: #4493f8 } .key1 { fill: #f0883e } .key2 { fill: #3fb950 } .key3 { fill: #ab7df8 } .key4 { fill: #db61a2 }
}
</style>
`

// Picture is some panels, one below the other.
type Picture struct {
	Label  string   // for whoever does not see it
	Keys   []string // what the lines of each panel are, at most MaxLines. The last one has the first colour
	Ticks  []Tick   // of the common axis
	Unit   string   // of the ticks
	Panels []Panel
}

// Tick is a place on the common axis.
type Tick struct {
	X    float64 // 0: at the left, 1: at the right
	Text string
}

// Panel is lines of one measure, which begins at 0.
type Panel struct {
	Title string
	Lines [][]Point // in the order of Picture.Keys
}

// Point is a point of a line.
type Point struct {
	X float64 // 0: at the left, 1: at the right
	Y float64 // in the panel's measure, at least 0
}

// Draw writes the picture. Errors of w are not returned: give it a bufio.Writer.
func (p *Picture) Draw(w io.Writer) {
	height := top + len(p.Panels)*(panelHeight+panelGap) - 24
	fmt.Fprintf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n%s", width, height, html.EscapeString(p.Label), style)
	x := width - right
	for i := len(p.Keys) - 1; i >= 0; i-- {
		fmt.Fprintf(w, "<text class=\"key%d\" x=\"%d\" y=\"22\" text-anchor=\"end\">%s</text>\n", p.colour(i), x, html.EscapeString(p.Keys[i]))
		x -= 24 + 8*len(p.Keys[i])
	}
	for i := range p.Panels {
		p.panel(w, &p.Panels[i], top+i*(panelHeight+panelGap))
	}
	fmt.Fprintln(w, "</svg>")
}

// colour returns the number of a line's colour.
func (p *Picture) colour(i int) int { return len(p.Keys) - 1 - i }

func (p *Picture) panel(w io.Writer, panel *Panel, y int) {
	highest := 0.0
	for _, line := range panel.Lines {
		for _, point := range line {
			highest = max(highest, point.Y)
		}
	}
	step := Nice(highest / 4)
	most := step * max(math.Ceil(highest/step), 1)
	bottom := y + panelHeight
	fmt.Fprintf(w, "<text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", left, y-14, html.EscapeString(panel.Title))
	for v := 0.0; v <= most+step/2; v += step {
		at := float64(bottom) - v/most*panelHeight
		fmt.Fprintf(w, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", left, at, width-right, at)
		fmt.Fprintf(w, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left-8, at+4, Number(v, step))
	}
	for _, t := range p.Ticks {
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", across(t.X), bottom+18, html.EscapeString(t.Text))
	}
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", width-right, bottom+34, html.EscapeString(p.Unit))
	for i, line := range panel.Lines {
		fmt.Fprintf(w, "<polyline class=\"run run%d\" points=\"", p.colour(i))
		for _, point := range line {
			fmt.Fprintf(w, "%.1f,%.1f ", across(point.X), float64(bottom)-point.Y/most*panelHeight)
		}
		fmt.Fprintln(w, "\"/>")
	}
}

func across(x float64) float64 { return left + x*(width-left-right) }

// Nice returns the smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is at
// least v; 1 if v is not positive.
func Nice(v float64) float64 {
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

// Number returns v as a label of an axis with that step.
func Number(v, step float64) string {
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
