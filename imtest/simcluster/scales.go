package simcluster

import (
	"fmt"
	"io"

	"github.com/pim-im/pim/imtest/chart"
)

// Scale is the size of a cluster.
type Scale struct {
	Users, Nodes int
	Name         string // for a picture
}

// Scales are from a team to a hundred million users, with 25,000 users on a node at the most.
var Scales = []Scale{
	{10_000, 4, "10⁴ users, 4 nodes"},
	{100_000, 4, "10⁵, 4"},
	{1_000_000, 40, "10⁶, 40"},
	{10_000_000, 400, "10⁷, 400"},
	{100_000_000, 4_000, "10⁸, 4,000"},
}

// Sizes are how many members the conversations have that are played in each scale.
var Sizes = []int{2, 20, 200, 2000}

// Draw draws reports, those of each size in the order of Scales: what each member of a conversation
// costs for one message.
func Draw(w io.Writer, reports map[int][]Report) {
	p := chart.Picture{Label: "What a message costs the nodes of a cluster, for each member of the conversation"}
	for i, s := range Scales {
		p.Ticks = append(p.Ticks, chart.Tick{X: place(i), Text: s.Name})
	}
	panels := []struct {
		title string
		value func(*Report) float64
	}{
		{"messages between nodes, for one message and member", (*Report).BusMessages},
		{"bytes between nodes, for one message and member", func(r *Report) float64 { return r.BusBytes }},
		{"look-ups of placement, for one message and member", func(r *Report) float64 { return r.Lookups }},
	}
	for _, size := range Sizes {
		p.Keys = append(p.Keys, fmt.Sprintf("%d members", size))
	}
	for _, panel := range panels {
		var lines [][]chart.Point
		for _, size := range Sizes {
			var line []chart.Point
			for i := range reports[size] {
				line = append(line, chart.Point{X: place(i), Y: panel.value(&reports[size][i]) / float64(size)})
			}
			lines = append(lines, line)
		}
		p.Panels = append(p.Panels, chart.Panel{Title: panel.title, Lines: lines})
	}
	p.Draw(w)
}

// place returns where scale i is drawn.
func place(i int) float64 { return 0.08 + 0.86*float64(i)/float64(len(Scales)-1) }
