package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/pim-im/pim/imtest/load"
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

func TestBench(t *testing.T) {
	n := serve(t)
	var r load.Report
	if err := json.Unmarshal([]byte(n.ok("", "bench", "direct", "--users", "4", "--duration", "200ms", "--warmup", "0s", "--json")[0]), &r); err != nil {
		t.Fatal(err)
	}
	if r.Workload != load.Direct || r.Users != 4 || r.Sent == 0 || r.Delivered != r.Sent || r.Err() != nil {
		t.Errorf("report %+v", r)
	}
	n.ok("", "bench", "relay", "--users", "4", "--duration", "200ms", "--warmup", "0s")
	n.refuses("paired", exitUsage, "bench", "direct", "--users", "3")
	n.refuses("must be one of", exitUsage, "bench", "everything")
}
