package load

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

// relayEnv makes the test binary the process that Config.RelayCommand starts.
const relayEnv = "PIM_LOAD_TEST_RELAY"

func TestMain(m *testing.M) {
	if os.Getenv(relayEnv) != "" {
		err := ServeRelay(context.Background(), "127.0.0.1:0", func(addr string) { fmt.Println("listening on", addr) })
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(leaks.Patiently(m))
}
