package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim/imtest/leaks"
	"go.uber.org/goleak"
)

// TestMain lets the test binary act as pim: commands that start a pim process start this
// binary, and so do tests that need a process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
	}
	for _, v := range os.Environ() { // the tests must not get the settings of whoever runs them
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PIM_") && !slices.Contains([]string{"PIM_UPDATE", "PIM_SEED", "PIM_FIRST_SEED"}, name) {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(leaks.Patiently(m))
}

// node is a server that this process runs, as `pim serve` does.
type node struct {
	t    *testing.T
	url  string
	tcp  string
	data string
}

// serve starts a server on free ports and stops it at the test's end.
func serve(t *testing.T, args ...string) *node {
	t.Helper()
	n := &node{t: t, data: filepath.Join(t.TempDir(), "data")}
	ctx, cancel := context.WithCancel(context.Background())
	out, w := io.Pipe()
	var log bytes.Buffer
	status := make(chan int, 1)
	go func() {
		args := append([]string{"serve", "--json", "--data", n.data, "--listen", "127.0.0.1:0", "--listen-tcp", "127.0.0.1:0", "--drain-window", "0s", "--shed-target", "0s", "--no-consent"}, args...)
		status <- run(ctx, args, streams{strings.NewReader(""), w, &log})
		w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if s := <-status; s != exitOK {
			t.Errorf("serve ended with status %d:\n%s", s, log.String())
		}
	})
	var l listening
	if err := json.NewDecoder(out).Decode(&l); err != nil {
		t.Fatalf("serve printed no address: %v", err)
	}
	n.url, n.tcp = l.URL, "tcp://"+l.TCP
	return n
}

// args completes a client command.
func (n *node) args(args []string) []string {
	return append(args, "--server", n.url, "--data", n.data)
}

// pim runs a client command to its end.
func (n *node) pim(stdin string, args ...string) (stdout, stderr string, status int) {
	n.t.Helper()
	return pimWith(n.t.Context(), stdin, n.args(args)...)
}

// ok runs a client command that must succeed, and returns its lines.
func (n *node) ok(stdin string, args ...string) []string {
	n.t.Helper()
	stdout, stderr, status := n.pim(stdin, args...)
	if status != exitOK {
		n.t.Fatalf("pim %s: status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
}

// refuses runs a client command that must end with status and say want.
func (n *node) refuses(want string, status int, args ...string) {
	n.t.Helper()
	_, stderr, got := n.pim("", args...)
	if got != status || !strings.Contains(stderr, want) {
		n.t.Errorf("pim %s: status %d, %q; want %d with %q", strings.Join(args, " "), got, stderr, status, want)
	}
}

func pimWith(ctx context.Context, stdin string, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = run(ctx, args, streams{strings.NewReader(stdin), &out, &errs})
	return out.String(), errs.String(), status
}

// terminal is a client command that goes on running: a test types lines into it and reads
// what it prints.
type terminal struct {
	t      *testing.T
	in     *io.PipeWriter
	lines  *bufio.Scanner
	cancel context.CancelFunc
	status chan int
}

// open starts a client command.
func (n *node) open(args ...string) *terminal {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in, inW := io.Pipe()
	outR, out := io.Pipe()
	term := &terminal{n.t, inW, bufio.NewScanner(outR), cancel, make(chan int, 1)}
	go func() {
		term.status <- run(ctx, n.args(args), streams{in, out, out})
		out.Close()
	}()
	n.t.Cleanup(func() {
		cancel()
		inW.Close()
		outR.Close()
	})
	return term
}

func (term *terminal) types(line string) {
	term.t.Helper()
	if _, err := io.WriteString(term.in, line+"\n"); err != nil {
		term.t.Fatal(err)
	}
}

// sees reads lines until one is want.
func (term *terminal) sees(want string) {
	term.t.Helper()
	var seen []string
	for term.lines.Scan() {
		if term.lines.Text() == want {
			return
		}
		seen = append(seen, term.lines.Text())
	}
	term.t.Fatalf("never saw %q, only %q", want, seen)
}

// ends closes the input and returns the status.
func (term *terminal) ends() int {
	term.in.Close()
	for term.lines.Scan() { // what is still printed must not block the command
	}
	return <-term.status
}
