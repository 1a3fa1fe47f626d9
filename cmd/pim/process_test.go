package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pim-im/pim/imtest/load"
	"github.com/pim-im/pim/imtest/replay"
)

func TestSignalStopsTheServer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "serve", "--json", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--listen-tcp", "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var l listening
	if err := json.NewDecoder(out).Decode(&l); err != nil {
		t.Error(err)
	}
	if l.PID != cmd.Process.Pid || l.TCP != "" {
		t.Errorf("process %d says %+v", cmd.Process.Pid, l)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestDataInUse(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "serve", "--data", serve(t).data, "--listen", "127.0.0.1:0", "--listen-tcp", "")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitUnavailable || !strings.Contains(string(out), "another server uses this data; stop it") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestBench(t *testing.T) {
	n := serve(t)
	// At a fixed rate something is sent, however long the disk takes for an answer.
	brief := []string{"--users", "4", "--rate", "100", "--duration", "200ms", "--warmup", "0s"}
	var r load.Report
	if err := json.Unmarshal([]byte(n.ok("", append([]string{"bench", "direct", "--json"}, brief...)...)[0]), &r); err != nil {
		t.Fatal(err)
	}
	if r.Workload != load.Direct || r.Users != 4 || r.Sent == 0 || r.Delivered != r.Sent || r.Err() != nil {
		t.Errorf("report %+v", r)
	}
	n.ok("", append([]string{"bench", "relay"}, brief...)...)
	n.ok("", append([]string{"bench", "direct", "--one-way", "--conversations", "4"}, brief...)...)
	n.ok("", "bench", "sync", "--conversations", "3", "--messages", "6", "--syncs", "3")
	n.ok("", "bench", "fill", "--users", "4", "--conversations", "4", "--messages", "40", "--seed", "7")
	cold := strings.Join(n.ok("", "bench", "cold", "--users", "4", "--conversations", "4", "--seed", "7"), "\n")
	if !strings.Contains(cold, "first ") || !strings.Contains(cold, "second ") || !strings.Contains(cold, "sent        8, delivered 8") {
		t.Errorf("the cold run says\n%s", cold)
	}
	n.refuses("the seed of the fill", exitUsage, "bench", "cold")
	n.refuses("paired", exitUsage, "bench", "direct", "--users", "3")
	n.refuses("must be one of", exitUsage, "bench", "everything")
	n.refuses("more than 0", exitUsage, "bench", "direct", "--duration", "0s")
	n.refuses("nothing was sent", exitUsage, "bench", "direct", "--users", "2", "--rate", "0.001", "--duration", "50ms", "--warmup", "0s")
}

// chatLog is a short recording with a name that only some tools cope with.
const chatLog = `{"at":0,"kind":"message","user":"[al]\\` + "`" + `_^{|}-","text":"hello"}
{"at":10,"kind":"join","user":"bob"}
{"at":20,"kind":"message","user":"bob","text":"hi"}
{"at":30,"kind":"leave","user":"bob"}
{"at":40,"kind":"message","user":"carol","text":"still here"}
`

func TestReplay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log.jsonl")
	if err := os.WriteFile(file, []byte(chatLog), 0o600); err != nil {
		t.Fatal(err)
	}
	n := serve(t)
	for _, args := range [][]string{
		{"replay", file, "--lurkers", "3", "--json"},
		{"replay", file, "--lurkers", "3", "--readers", "4", "--seed", "7", "--json"},
		{"replay", file, "--json", "--tcp", "--kill-server-every", "1s"},
		{"replay", file, "--json", "--server", n.url, "--data", n.data},
	} {
		stdout, stderr, status := pimWith(t.Context(), "", args...)
		var r replay.Report
		if err := json.Unmarshal([]byte(stdout), &r); err != nil || status != exitOK {
			t.Errorf("pim %v: status %d, %v\n%s%s", args, status, err, stdout, stderr)
			continue
		}
		if r.Messages != 3 || r.Deliveries != r.ExpectedDeliveries || r.Deliveries == 0 || r.Err() != nil {
			t.Errorf("pim %v: %+v", args, r)
		}
	}
	n.refuses("leave out --server", exitUsage, "replay", file, "--kill-server-every", "1s")
	n.refuses("write tcp://", exitUsage, "replay", file, "--tcp")
	n.refuses("no such file", exitUsage, "replay", file+"x")
	_, stderr, status := pimWith(t.Context(), "", "replay", file, "--server", "http://127.0.0.1:1", "--data", n.data)
	if status != exitUnavailable || !strings.Contains(stderr, "no server answers at http://127.0.0.1:1") {
		t.Errorf("no server: status %d, %q", status, stderr)
	}
}
