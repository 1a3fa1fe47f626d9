package storm

import (
	"testing"

	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }
