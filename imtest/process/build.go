package process

import (
	"fmt"
	"os/exec"
	"strings"
)

// Build compiles pim, with build tags if there are any, to the file to, for tests that need the program
// itself. It needs the Go command and must be called within the module.
func Build(to string, tags ...string) error {
	out, err := exec.Command("go", "build", "-tags", strings.Join(tags, ","), "-o", to, "github.com/pim-im/pim/cmd/pim").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}
