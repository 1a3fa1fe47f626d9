package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pim-im/pim"
)

// run1 returns a line as tools/benchmarks.sh prints it, with that many slices.
func run1(binary string, slices int) string {
	var b strings.Builder
	for i := range slices {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"seconds":60,"delivered_per_s":%d,"server_cpu_s_per_1000":0.0%d}`, 100_000+i, 10+i)
	}
	return fmt.Sprintf(`{"name":"sustained","binary":%q,"workload":"direct","slices":[%s]}`, binary, b.String())
}

func TestPictureIsXMLWithALineForEachRun(t *testing.T) {
	for _, slices := range []int{1, 2, 30} {
		var out bytes.Buffer
		in := run1("before", slices) + "\n" + `{"workload":"relay"}` + "\n" + run1("after <&>", slices)
		if err := run(strings.NewReader(in), &out, false); err != nil {
			t.Fatal(err)
		}
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
				for _, a := range e.Attr {
					if a.Name.Local == "points" && len(strings.Fields(a.Value)) != slices {
						t.Errorf("%d slices are drawn as %q", slices, a.Value)
					}
				}
			}
		}
		if lines != 4 {
			t.Errorf("%d lines, want two for each run", lines)
		}
		if s := out.String(); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Error("a place is no number")
		}
	}
}

func TestWhatCannotBeDrawn(t *testing.T) {
	three := strings.Repeat(run1("x", 2)+"\n", 3)
	for _, in := range []string{"", "{}", "x", three} {
		if err := run(strings.NewReader(in), io.Discard, false); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

// An error names the line as an editor counts it. Empty lines count, but hold no run.
func TestLinesAreCounted(t *testing.T) {
	err := run(strings.NewReader(run1("x", 2)+"\n\n{}\n{"), io.Discard, false)
	if pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "line 4 ") {
		t.Error(err)
	}
	if err := run(strings.NewReader(run1("x", 2)+"\n\n"), io.Discard, true); err != nil {
		t.Error(err)
	}
	if err := run(strings.NewReader("\n"), io.Discard, true); pim.KindOf(err) != pim.KindInvalid {
		t.Errorf("a table of nothing: %v", err)
	}
}

func TestCount(t *testing.T) {
	for v, want := range map[float64]string{0: "0", -0.2: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -115: "-115", -4321: "-4,321"} {
		if got := count(v); got != want {
			t.Errorf("count(%g) = %s, want %s", v, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	in := strings.Join([]string{
		`{"name":"one-way","binary":"before","workload":"direct","one_way":true,"window":8,"delivered_per_s":100,"server_cpu_s_per_1000":0.02}`,
		`{"name":"one-way","binary":"after","workload":"direct","one_way":true,"window":8,"delivered_per_s":1234567,"server_cpu_s_per_1000":0.01}`,
		`{"name":"one-way","binary":"before","workload":"direct","one_way":true,"window":8,"delivered_per_s":300,"server_cpu_s_per_1000":0.04}`,
		`{"name":"cold","binary":"after","workload":"cold","conversations":9,"sent":18,"first_message_cpu_ms":0.5,"loads":9}`,
	}, "\n")
	var out bytes.Buffer
	if err := run(strings.NewReader(in), &out, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| | messages/s before | messages/s after |",
		"| one-way, W = 8 | 200 | 1,234,567 |",
		"| 0.0300 | 0.0100 |",
		"| cold |  | 0.50 |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "---") && strings.Count(line, "|") != strings.Count(out.String()[:strings.Index(out.String(), "\n")], "|") {
			t.Errorf("%d columns in %q", strings.Count(line, "|"), line)
		}
	}
}
