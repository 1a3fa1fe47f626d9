package server_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/bus/bustest"
	"github.com/pim-im/pim/server"
)

// docs/operations.md has every metric.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, config(t), server.Options{Bus: bustest.NewNetwork().Join(bus.Node{Name: "a"})})
	n.connect("alice", "1", "http").says(pim.Direct("alice", "bob"), "x")
	_, page := n.page("/metrics")
	found := regexp.MustCompile(`(?m)^# HELP (pim_\w+) `).FindAllStringSubmatch(page, -1)
	if len(found) < 20 {
		t.Fatalf("%d metrics on the page\n%s", len(found), page)
	}
	for _, m := range found {
		if !regexp.MustCompile(`\b` + m[1] + `\b`).Match(doc) {
			t.Errorf("docs/operations.md does not have %s", m[1])
		}
	}
	if !strings.Contains(string(doc), "message_ids") {
		t.Error("docs/operations.md does not have the reason message_ids")
	}
}
