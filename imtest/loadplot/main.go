// Command loadplot draws the slices of benchmarks as an SVG: throughput, and CPU for
// 1,000 messages, over the time. It reads what tools/benchmarks.sh prints:
//
//	tools/benchmarks.sh sustained >sustained.json
//	go run ./imtest/loadplot <sustained.json >docs/sustained.svg
//
// Each line of JSON with slices is a line in the picture, named by its "binary".
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/load"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "loadplot:", err)
		os.Exit(1)
	}
}

// named is a report with what tools/benchmarks.sh adds to it.
type named struct {
	Binary string `json:"binary"`
	load.Report
}

// maxRuns bounds the lines of a picture: it has that many colours.
const maxRuns = 2

func run(in io.Reader, out io.Writer) error {
	var runs []named
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var r named
			if err := json.Unmarshal(line, &r); err != nil {
				return pim.Errorf(pim.KindInvalid, "line %d: %w", len(runs)+1, err)
			}
			if len(r.Slices) > 0 {
				runs = append(runs, r)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if len(runs) == 0 || len(runs) > maxRuns {
		return pim.Errorf(pim.KindInvalid, "%d lines with slices: there must be 1 to %d", len(runs), maxRuns)
	}
	w := bufio.NewWriter(out)
	draw(w, runs)
	return w.Flush()
}
