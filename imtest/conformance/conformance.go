// Package conformance notes which of the cases that every SDK is held to a test has run. make
// conformance compares what the tests of each language have noted with what the files hold, see
// tools/conformance.mjs.
package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Ran notes that the test has run the case name of file, a path from the root of the repository.
// It does nothing unless PIM_CONFORMANCE names a folder.
func Ran(t testing.TB, file, name string) {
	t.Helper()
	folder := os.Getenv("PIM_CONFORMANCE")
	if folder == "" {
		return
	}
	line, err := json.Marshal(struct {
		File string `json:"file"`
		Case string `json:"case"`
	}{file, name})
	if err != nil {
		t.Fatal(err)
	}
	// Tests of several packages append to one file: each line is one write.
	out, err := os.OpenFile(filepath.Join(folder, "go.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write(append(line, '\n')); err != nil {
		t.Error(err)
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
}
