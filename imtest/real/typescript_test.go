package real

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pim-im/pim/imtest/seeds"
)

// typeScript returns a function that makes a command of an app that runs the TypeScript SDK in Node. broken names what is broken
// in it on purpose; empty: nothing.
func typeScript(t *testing.T, broken string) func() *exec.Cmd {
	t.Helper()
	script, err := filepath.Abs("../../sdk/ts/build/test/app.js")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("node", "--check", script).CombinedOutput(); err != nil {
		t.Fatalf("make conformance compiles the app of the TypeScript SDK, which this test needs: %v\n%s", err, out)
	}
	return func() *exec.Cmd {
		cmd := exec.Command("node", "--experimental-websocket", "--no-warnings", script)
		cmd.Env = append(os.Environ(), "PIM_BROKEN="+broken)
		return cmd
	}
}

// The same as TestRandomSchedulesOfProcesses, and half of the devices run the TypeScript SDK.
func TestRandomSchedulesInTwoLanguages(t *testing.T) {
	playProcesses(t, seeds.Many(200), self("app"), typeScript(t, ""))
}

// As TestBrokenStoresAreNoticed, with an app of the TypeScript SDK.
func TestBrokenTypeScriptIsNoticed(t *testing.T) {
	in := func(app func() *exec.Cmd) func(*phone) {
		return func(p *phone) { p.self, p.memory, p.spec.File = app, nil, filepath.Join(t.TempDir(), "store") }
	}
	noticed(t, in(typeScript(t, "")), in(typeScript(t, "forgetful")), in(typeScript(t, "renaming")))
}
