package replay

import (
	"fmt"
	"os/exec"
)

// build compiles the program under test.
func build(to string) error {
	out, err := exec.Command("go", "build", "-o", to, "github.com/pim-im/pim/cmd/pim").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}
