package limit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/pim-im/pim"
)

// The stories in testdata/gate.txt. A line of input is a time, who comes, and how often:
//
//	2s 203.0.113.7 x40
//	2s alice/phone x3
//
// "crowd" are clients of which each has a network of its own. A line of output says how many of
// them are let in, why the others are not, and when the first and the last of those are told to
// come back. Chance always says the middle.
func TestStories(t *testing.T) {
	var g *Gate
	crowd := 0 // how many have come
	datadriven.RunTest(t, "testdata/gate.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "gate":
			var r Rates
			for key, field := range map[string]*int{"accept": &r.Accept, "address": &r.Address, "network": &r.Network, "user": &r.User, "device": &r.Device} {
				if d.HasArg(key) {
					d.ScanArgs(t, key, field)
				}
			}
			g = NewGate(r, half)
			return ""
		case "come":
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				fmt.Fprintf(&out, "%s: %s\n", strings.TrimSpace(line), come(t, g, strings.Fields(line), &crowd))
			}
			return out.String()
		}
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
		return ""
	})
}

// come plays one line and returns what became of it.
func come(t *testing.T, g *Gate, fields []string, crowd *int) string {
	at, err := time.ParseDuration(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	times := 1
	if len(fields) > 2 {
		if _, err := fmt.Sscanf(fields[2], "x%d", &times); err != nil {
			t.Fatal(err)
		}
	}
	let := 0
	var refused []Verdict
	for range times {
		var v Verdict
		if user, device, ok := strings.Cut(fields[1], "/"); ok {
			v = g.Login(at, pim.UserID(user), pim.DeviceID(device))
		} else if fields[1] == "crowd" {
			*crowd++
			v = g.Connection(at, netip.AddrFrom4([4]byte{80, byte(*crowd >> 8), byte(*crowd), 1}))
		} else if fields[1] == "unknown" {
			v = g.Connection(at, netip.Addr{})
		} else {
			v = g.Connection(at, netip.MustParseAddr(fields[1]))
		}
		if v.Refused() {
			refused = append(refused, v)
		} else {
			let++
		}
	}
	if len(refused) == 0 {
		return fmt.Sprintf("%d in", let)
	}
	first, last := refused[0], refused[len(refused)-1]
	if first.Reason != last.Reason {
		return fmt.Sprintf("%d in, %d refused: %v, then %v", let, len(refused), first.Reason, last.Reason)
	}
	return fmt.Sprintf("%d in, %d refused: %v, back in %v to %v", let, len(refused), first.Reason, first.After, last.After)
}
