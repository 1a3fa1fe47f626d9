package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pim-im/pim/imtest/avalanche"
)

// small is a run that takes no time.
var small = []string{"sim", "avalanche", "--clients", "2000", "--accept", "30", "--for", "1m", "--dies", "1@10s"}

func TestSimAvalanche(t *testing.T) {
	out, errs, status := pimWith(t.Context(), "", small...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) < 4 {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	for i, policy := range []string{"nothing", "jitter", "lbs", "both"} {
		if line := lines[len(lines)-4+i]; !strings.HasPrefix(line, "| 2000 | "+policy+" | on | ") {
			t.Errorf("line %q", line)
		}
	}

	picture := filepath.Join(t.TempDir(), "sites.svg")
	out, errs, status = pimWith(t.Context(), "", append(small, "--policy", "both", "--no-admission", "--json", "--svg", picture)...)
	var r avalanche.Report
	if err := json.Unmarshal([]byte(out), &r); status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s%s", status, err, out, errs)
	}
	if r.Policy != "both" || r.Admission || r.Lost != 400 || r.OutAtEnd != 0 || len(r.Series) != 60 || len(r.Series[0].Sites) != 5 {
		t.Errorf("%+v", r)
	}
	if svg, err := os.ReadFile(picture); err != nil || !strings.Contains(string(svg), "site 4") {
		t.Errorf("%v: %s", err, svg)
	}
}

func TestSimAvalancheTakesNoNonsense(t *testing.T) {
	for _, wrong := range [][]string{
		{"--dies", "1"}, {"--dies", "x@3s"}, {"--dies", "1@3"}, {"--dies", "7@3s"}, {"--lbs-away", "3s-x"}, {"--sites", "1"}, {"--sites", "0"}, {"--lbs", "0"}, {"--policy", "luck"},
	} {
		if out, errs, status := pimWith(t.Context(), "", append(small, wrong...)...); status == 0 || errs == "" {
			t.Errorf("%q: status %d: %s%s", wrong, status, out, errs)
		}
	}
}
