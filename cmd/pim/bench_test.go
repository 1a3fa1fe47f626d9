package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pim-im/pim/imtest/load"
)

// TestBenchFlags gives flags that the workload does not heed, and numbers that make no
// sense. None of them may start a run of something else.
func TestBenchFlags(t *testing.T) {
	for args, want := range map[string]string{
		"direct --syncs 3":           "--syncs is not for direct, only for sync",
		"direct --group-size 3":      "--group-size is not for direct, only for group",
		"direct --messages 3":        "--messages is not for direct, only for sync, fill",
		"group --conversations 3":    "--conversations is not for group",
		"group --one-way":            "--one-way is not for group, only for direct, relay",
		"idle --rate 3":              "--rate is not for idle",
		"sync --users 3":             "--users is not for sync",
		"fill --duration 3s":         "--duration is not for fill",
		"cold --messages 3":          "--messages is not for cold, only for sync, fill",
		"relay --conversations 3":    "--conversations is not for relay",
		"direct --window 3 --rate 3": "--window and --rate are two ways to send; give one",
		"direct --users 0":           "--users 0: it must be more than 0",
		"direct --users=-1":          "--users -1: it must be more than 0",
		"direct --window 0":          "--window 0: it must",
		"direct --rate 0":            "--rate 0: it must",
		"direct --rate NaN":          "--rate NaN: it must",
		"direct --payload 0":         "--payload 0: it must",
		"direct --slice 0s":          "--slice 0s: it must",
		"direct --slice=-1s":         "--slice -1s: it must",
		"direct --duration 0s":       "--duration 0s: it must",
		"direct --warmup=-1s":        "--warmup -1s: it must be 0s or more",
		"direct --conversations=-1":  "--conversations -1: it must",
		"direct --seed 0":            "--seed 0: it must",
		"group --senders 0":          "--senders 0: it must",
		"group --group-size=-3":      "--group-size -3: it must",
		"fill --messages=-1":         "--messages -1: it must",
		"sync --syncs 0":             "--syncs 0: it must",
		"direct --devices 2":         "--devices is not for direct, only for sync",
		"direct --rate x":            "--rate: expected a float",
	} {
		_, stderr, status := pimWith(t.Context(), "", append([]string{"bench"}, strings.Fields(args)...)...)
		if status != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("pim bench %s: status %d, %s", args, status, stderr)
		}
	}
	for _, args := range []string{"direct --warmup 0s --window 3", "relay --users 4 --rate 10", "fill --messages 10 --slice 1s", "cold --rate 3 --seed 3"} {
		if _, err := parsed(t, append([]string{"bench"}, strings.Fields(args)...)...); err != nil {
			t.Errorf("pim bench %s: %v", args, err)
		}
	}
	// One file serves all commands, and so all workloads; but its numbers must make sense.
	if _, err := parsed(t, "--config", configuration(t, `{"syncs": 3, "window": 3}`), "bench", "direct", "--rate", "3"); err != nil {
		t.Error(err)
	}
	if _, err := parsed(t, "--config", configuration(t, `{"users": 0}`), "bench", "direct"); err == nil {
		t.Error("no users are taken from the configuration file")
	}
}

// A report says nothing of what was not measured.
func TestBenchPrintsWhatWasMeasured(t *testing.T) {
	slices := []load.Slice{{Seconds: 1}}
	for name, c := range map[string]struct {
		rep           load.Report
		with, without []string
	}{
		"a fill has no receivers": {
			load.Report{Workload: load.Fill, Sent: 7, DeliveredPerS: 5, ServerRSS: 1 << 20, Slices: slices},
			[]string{"sent        7 (5/s)", "CPU s per 1,000 messages"},
			[]string{"deliver"},
		},
		"direct": {
			load.Report{Workload: load.Direct, Sent: 7, Delivered: 6, DeliveredPerS: 5, ServerRSS: 1 << 20, Slices: slices},
			[]string{"sent        7, delivered 6 (5/s)", "delivery", "the dearest", "CPU s per 1,000 deliveries"},
			nil,
		},
		"turned away":      {load.Report{Workload: load.Direct, TurnedAway: 3, Slices: slices}, []string{"3 were refused"}, nil},
		"no metrics":       {load.Report{Workload: load.Direct, Slices: slices}, []string{"the slowest"}, []string{"CPU", "RSS"}},
		"idle, no metrics": {load.Report{Workload: load.Idle}, []string{"connections"}, []string{"RSS", "bytes"}},
	} {
		var out bytes.Buffer
		if err := printBench(&out, &c.rep); err != nil {
			t.Fatal(err)
		}
		for _, s := range c.with {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: %q is missing in\n%s", name, s, out.String())
			}
		}
		for _, s := range c.without {
			if strings.Contains(out.String(), s) {
				t.Errorf("%s: %q stands in\n%s", name, s, out.String())
			}
		}
	}
}
