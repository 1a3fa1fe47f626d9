package sites

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/pim-im/pim/imtest/cassandra"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/process"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

// build builds pim.
func build(t *testing.T) string {
	bin := filepath.Join(t.TempDir(), "pim")
	if err := process.Build(bin); err != nil {
		t.Fatal(err)
	}
	return bin
}

// has returns what start has started, which ends with the test.
func has(t *testing.T, start func() (*cassandra.Cluster, error)) *cassandra.Cluster {
	c, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// starts starts a pim, which ends with the test.
func starts(t *testing.T, o Options) *Pim {
	o.Dir = t.TempDir()
	p, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func logger() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}
