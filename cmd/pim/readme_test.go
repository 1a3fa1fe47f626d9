package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// snippet returns the Go code of a README as a program whose first argument is a token.
func snippet(t *testing.T, readme, url string) string {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	_, code, ok := strings.Cut(string(text), "```go\n")
	code, _, ends := strings.Cut(code, "```")
	if !ok || !ends || strings.Count(string(text), "```go") != 1 {
		t.Fatalf("%s: want one block of Go", readme)
	}
	code = strings.NewReplacer("{ … }", "{ panic(err) }", "http://127.0.0.1:7400", url).Replace(code)
	return `package main

import (
	"context"
	"fmt"
	"os"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

func main() {
	ctx, token := context.Background(), os.Args[1]
	` + code + `
}
`
}

// The Go code of the READMEs compiles. It prints messages only, although its user has also
// given commands.
func TestReadmeSnippet(t *testing.T) {
	n := serve(t)
	n.ok("/mute\n", "chat", "--as", "alice", "--to", "bob")
	n.ok("", "group", "create", "--as", "bob", "alice")
	n.ok("", "send", "--as", "bob", "--to", "alice", "hi")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, readme := range []string{"README.md", "README.zh-CN.md"} {
		dir := t.TempDir()
		source, overlay, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "program")
		if err := os.WriteFile(source, []byte(snippet(t, filepath.Join(root, readme), n.url)), 0o600); err != nil {
			t.Fatal(err)
		}
		replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "examples", "readme", "main.go"): source}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(overlay, replace, 0o600); err != nil {
			t.Fatal(err)
		}
		build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./examples/readme")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s does not compile: %v\n%s", readme, err, out)
		}
		printed := runUntil(t, exec.Command(program, n.token("alice", "1h")), "alice hello")
		if !strings.Contains(printed, "stored as ") || !strings.Contains(printed, "bob hi\n") {
			t.Errorf("%s prints %q", readme, printed)
		}
		if strings.ContainsFunc(printed, func(r rune) bool { return r == unicode.ReplacementChar || r != '\n' && unicode.IsControl(r) }) {
			t.Errorf("%s prints what is no text: %q", readme, printed)
		}
	}
}

// runUntil runs a command until it has printed a line, and returns all it printed.
func runUntil(t *testing.T, cmd *exec.Cmd, line string) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var all strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if lines.Text() == line {
			return all.String()
		}
	}
	t.Errorf("%q was never printed, only %q", line, all.String())
	return ""
}
