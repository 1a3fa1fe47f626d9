package avalanche

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/pim-im/pim/imtest/chart"
)

// MaxLines bounds the runs, and the sites of a run, that a picture shows.
const MaxLines = chart.MaxLines

// Draw draws what happened in some runs of the same length, a line for each, named by names: at most MaxLines.
func Draw(w io.Writer, names []string, runs []*Report) {
	p := picture("What happens to each policy when a site dies", len(runs[0].Series))
	p.Keys = names
	for _, panel := range []struct {
		title string
		value func(*Report, *Second) float64
	}{
		{"clients that are connected, %", func(r *Report, s *Second) float64 { return 100 * float64(r.Clients-s.Out) / float64(r.Clients) }},
		{"attempts to connect, in a second", func(_ *Report, s *Second) float64 {
			return s.total(func(m *Moment) int { return m.Attempts })
		}},
		{"of these, refused", func(_ *Report, s *Second) float64 { return s.total(func(m *Moment) int { return m.Refused }) }},
		{"questions to the LBS, in a second", func(_ *Report, s *Second) float64 { return float64(s.Questions) }},
		{"connections of the fullest site, % of its capacity", func(r *Report, s *Second) float64 {
			most := 0
			for i := range s.Sites {
				most = max(most, s.Sites[i].Connections)
			}
			return 100 * float64(most) / float64(r.Capacity)
		}},
	} {
		var lines [][]chart.Point
		for _, r := range runs {
			lines = append(lines, line(r, func(s *Second) float64 { return panel.value(r, s) }))
		}
		p.Panels = append(p.Panels, chart.Panel{Title: panel.title, Lines: lines})
	}
	p.Draw(w)
}

// DrawSites draws one run, with a line for each of the first MaxLines sites.
func DrawSites(w io.Writer, r *Report) {
	p := picture("What happens at each site when one dies", len(r.Series))
	sites := min(r.Sites, MaxLines)
	for i := range sites {
		p.Keys = append(p.Keys, fmt.Sprintf("site %d", i))
	}
	p.Panels = append(p.Panels, chart.Panel{Title: "clients of all sites that are connected, %", Lines: [][]chart.Point{
		line(r, func(s *Second) float64 { return 100 * float64(r.Clients-s.Out) / float64(r.Clients) }),
	}})
	for _, panel := range []struct {
		title string
		value func(*Moment) float64
	}{
		{"connections, % of the capacity", func(m *Moment) float64 { return 100 * float64(m.Connections) / float64(r.Capacity) }},
		{"attempts to connect, in a second", func(m *Moment) float64 { return float64(m.Attempts) }},
		{"of these, refused", func(m *Moment) float64 { return float64(m.Refused) }},
		{"of these, let in", func(m *Moment) float64 { return float64(m.LetIn) }},
	} {
		var lines [][]chart.Point
		for i := range sites {
			lines = append(lines, line(r, func(s *Second) float64 { return panel.value(&s.Sites[i]) }))
		}
		p.Panels = append(p.Panels, chart.Panel{Title: panel.title, Lines: lines})
	}
	p.Draw(w)
}

// total returns the sum of a value over all sites.
func (s *Second) total(of func(*Moment) int) float64 {
	sum := 0
	for i := range s.Sites {
		sum += of(&s.Sites[i])
	}
	return float64(sum)
}

// line returns a value over the seconds of a run.
func line(r *Report, value func(*Second) float64) []chart.Point {
	var points []chart.Point
	for i := range r.Series {
		points = append(points, chart.Point{X: float64(i+1) / float64(len(r.Series)), Y: value(&r.Series[i])})
	}
	return points
}

// picture returns one without panels, of so many seconds.
func picture(label string, seconds int) *chart.Picture {
	p := &chart.Picture{Label: label, Unit: "time of the run"}
	step := math.Ceil(chart.Nice(float64(seconds)/6)/30) * 30
	for at := 0.0; at <= float64(seconds); at += step {
		p.Ticks = append(p.Ticks, chart.Tick{X: at / float64(seconds), Text: (time.Duration(at) * time.Second).String()})
	}
	return p
}
