package process

import (
	"fmt"
	"os/exec"
)

// Build compiles pim to the file to, for tests that need the program itself. It needs
// the Go command and must be called within the module.
func Build(to string) error {
	out, err := exec.Command("go", "build", "-o", to, "github.com/pim-im/pim/cmd/pim").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}
