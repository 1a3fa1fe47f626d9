package weak

import (
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim/imtest/tunlink"
)

// Twenty seconds of chat over the article's mobile network, with more cuts.
// The figures are printed and decide nothing.
func TestWeakNetwork(t *testing.T) {
	t.Parallel()
	if err := tunlink.Available(); err != nil {
		t.Logf("nothing was tested: %v", err)
		return
	}
	c := Defaults()
	c.Users, c.Duration, c.CutEvery, c.CutFor = 6, 20*time.Second, 8*time.Second, time.Second
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := report.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	if report.Messages != 200 || report.Up.Lost == 0 || report.Up.Cut == 0 {
		t.Errorf("%+v", report)
	}
}
