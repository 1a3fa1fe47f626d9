// Command loadplot shows what tools/benchmarks.sh prints. It draws a picture (SVG) of the
// slices of one or two runs: throughput, and CPU for 1,000 messages, over time. With
// -table it prints tables in Markdown instead, with the median of the runs that are alike.
//
//	tools/benchmarks.sh sustained >sustained.json
//	go run ./imtest/loadplot <sustained.json >docs/sustained.svg
//	tools/benchmarks.sh one-way cold | go run ./imtest/loadplot -table
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/load"
)

func main() {
	asTable := flag.Bool("table", false, "print tables in Markdown instead of a picture")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: loadplot [-table] <FILE, with what tools/benchmarks.sh prints")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Stdout, *asTable); err != nil {
		fmt.Fprintln(os.Stderr, "loadplot:", err)
		os.Exit(1)
	}
}

// named is a report with what tools/benchmarks.sh adds to it.
type named struct {
	Name   string `json:"name"`
	Binary string `json:"binary"`
	load.Report
}

// maxRuns bounds the lines of a picture: it has that many colours.
const maxRuns = 2

func run(in io.Reader, out io.Writer, asTable bool) error {
	var runs []named
	lines := bufio.NewReader(in)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var r named
			if err := json.Unmarshal(line, &r); err != nil {
				return pim.Errorf(pim.KindInvalid, "line %d is no line of tools/benchmarks.sh: %w", n, err)
			}
			fill(&r)
			if asTable || len(r.Slices) > 0 {
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
	if len(runs) == 0 && asTable {
		return pim.Errorf(pim.KindInvalid, "there is no line of tools/benchmarks.sh")
	}
	w := bufio.NewWriter(out)
	if asTable {
		table(w, runs)
		return w.Flush()
	}
	if len(runs) == 0 || len(runs) > maxRuns {
		return pim.Errorf(pim.KindInvalid, "%d runs with slices: a picture shows 1 to %d, a table (-table) any number", len(runs), maxRuns)
	}
	draw(w, runs)
	return w.Flush()
}

// fill sets the parts of a report that only some workloads have, so that they are not nil.
func fill(r *named) {
	if r.FirstMessages == nil {
		r.FirstMessages = &load.FirstMessages{}
	}
	if r.Again == nil {
		r.Again = &load.Again{}
	}
}
