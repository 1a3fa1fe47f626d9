package writers

import (
	"os"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(role) == "" {
		goleak.VerifyTestMain(leaks.Patiently(m))
		return
	}
	if err := serveWriter(); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

// decode returns the entries of p.
func decode(p *conv.Published) []pim.Entry {
	entries := make([]pim.Entry, len(p.Entries))
	for i, e := range p.Entries {
		var err error
		if entries[i], err = wire.ParseEntry(p.Conversation, e.Data); err != nil {
			panic(err)
		}
	}
	return entries
}
