package chart

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

// A picture is XML with a line for each line of each panel, whatever its texts hold, and also if all
// is 0.
func TestDraw(t *testing.T) {
	p := Picture{
		Label: "<&>", Keys: []string{"a < b", "c"}, Ticks: []Tick{{0, "1 & 2"}, {1, "3"}}, Unit: "s",
		Panels: []Panel{
			{"zero", [][]Point{{{0, 0}, {1, 0}}, {{0.5, 0}}}},
			{"more > less", [][]Point{{{0, 3}, {1, 1e9}}, nil}},
		},
	}
	var out bytes.Buffer
	p.Draw(&out)
	lines := 0
	for d := xml.NewDecoder(bytes.NewReader(out.Bytes())); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if s := out.String(); lines != 4 || strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
		t.Errorf("%d lines in\n%s", lines, s)
	}
}

func TestNice(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, -1: 1, 1: 1, 1.2: 2, 2.2: 2.5, 2.6: 5, 6: 10, 0.0033: 0.005, 45_000: 50_000} {
		if got := Nice(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("Nice(%g) = %g, want %g", v, got, want)
		}
	}
	for _, c := range []struct {
		v, step float64
		want    string
	}{{0, 5, "0"}, {0.01, 0.005, "0.010"}, {0.0075, 0.0025, "0.0075"}, {150_000, 50_000, "150k"}, {2500, 2500, "2.5k"}, {30, 5, "30"}} {
		if got := Number(c.v, c.step); got != c.want {
			t.Errorf("Number(%g, %g) = %s, want %s", c.v, c.step, got, c.want)
		}
	}
}
