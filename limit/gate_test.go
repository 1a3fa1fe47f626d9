package limit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// visit is one connection that asks to come in.
type visit struct {
	at   time.Duration
	from netip.Addr
}

func (v visit) String() string { return fmt.Sprintf("%v %v", v.at, v.from) }

func visits(t *rapid.T) []visit {
	addrs := []string{"203.0.113.1", "203.0.113.2", "203.0.114.1", "10.1.2.3", "2001:db8::1", "2001:db8:0:1::1", "127.0.0.1"}
	var all []visit
	at := time.Duration(0)
	for range rapid.IntRange(1, 300).Draw(t, "visits") {
		at += time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond
		all = append(all, visit{at, netip.MustParseAddr(rapid.SampledFrom(addrs).Draw(t, "from"))})
	}
	return all
}

func half() float64 { return 0.5 }

// In no time are more let in than the burst and what the rate gives in that time: of all, of
// an address, and of a network.
func TestRatesHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rates{Accept: rapid.IntRange(1, 5).Draw(t, "accept"), Address: rapid.IntRange(1, 3).Draw(t, "address"), Network: rapid.IntRange(1, 3).Draw(t, "network")}
		g := NewGate(r, half)
		let := map[string][]time.Duration{}
		for _, v := range visits(t) {
			if verdict := g.Connection(v.at, v.from); verdict.Refused() {
				if verdict.After <= 0 || verdict.After > maxWindow {
					t.Fatalf("%v is told to come back in %v", v, verdict.After)
				}
				continue
			}
			let["all"] = append(let["all"], v.at)
			if v.from.IsLoopback() {
				continue
			}
			one, wide := 32, 24
			if v.from.Is6() {
				one, wide = 64, 48
			}
			for _, bits := range []int{one, wide} {
				p, _ := v.from.Prefix(bits)
				let[p.String()] = append(let[p.String()], v.at)
			}
		}
		for what, times := range let {
			rate, burst := r.Address, sourceBurst
			switch {
			case what == "all":
				rate, burst = r.Accept, acceptBurst
			case strings.HasSuffix(what, "/24"), strings.HasSuffix(what, "/48"):
				rate = r.Network
			}
			for i := range times {
				for j := i; j < len(times); j++ {
					most := float64(rate)*(times[j]-times[i]).Seconds() + float64(rate*burst) + 1e-6
					if n := j - i + 1; float64(n) > most {
						t.Fatalf("of %s %d were let in from %v to %v, at most %.2f may be", what, n, times[i], times[j], most)
					}
				}
			}
		}
	})
}

// Whoever is refused changes nothing: who comes next gets the verdict that he would get if only those
// who were let in had come.
func TestRefusedTakeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rates{Accept: rapid.IntRange(1, 5).Draw(t, "accept"), Address: rapid.IntRange(1, 3).Draw(t, "address"), Network: rapid.IntRange(1, 3).Draw(t, "network")}
		all := visits(t)
		g, without := NewGate(r, half), NewGate(r, half)
		last := all[len(all)-1]
		for _, v := range all[:len(all)-1] {
			if !g.Connection(v.at, v.from).Refused() {
				without.Connection(v.at, v.from)
			}
		}
		if got, want := g.Connection(last.at, last.from).Reason, without.Connection(last.at, last.from).Reason; got != want {
			t.Fatalf("%v: %v; %v if those who are refused had not come", last, got, want)
		}
	})
}

// A flood from very many addresses, each within its rate, puts out nobody's count: who is over
// its rate stays so, and who is not is let in as long as all together are.
func TestManyAddresses(t *testing.T) {
	g := NewGate(Rates{Address: 1, Network: 100_000}, half)
	busy, quiet := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("198.51.100.7")
	for range sourceBurst {
		if v := g.Connection(0, busy); v.Refused() {
			t.Fatal(v.Reason)
		}
	}
	flood := netip.MustParseAddr("11.0.0.1")
	for range 5000 { // most cells are touched, in each row
		if v := g.Connection(0, flood); v.Refused() {
			t.Fatalf("%v: %v", flood, v.Reason)
		}
		for range 7 {
			flood = flood.Next()
		}
	}
	if v := g.Connection(0, busy); v.Reason != Address {
		t.Errorf("the busy one: %v", v.Reason)
	}
	for range sourceBurst - 2 {
		if v := g.Connection(0, quiet); v.Refused() {
			t.Errorf("the quiet one: %v", v.Reason)
		}
	}
}

// Logins of a user's devices are counted apart, and together.
func TestLoginsOfDevices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := NewGate(Rates{User: 2, Device: 1}, half)
		counts, all := map[string]int{}, 0
		for range rapid.IntRange(1, 120).Draw(t, "logins") {
			device := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "device")
			verdict := g.Login(0, "alice", pim.DeviceID(device))
			want := None
			switch {
			case counts[device] == loginBurst:
				want = DeviceLogins
			case all == 2*loginBurst:
				want = UserLogins
			default:
				counts[device]++
				all++
			}
			if verdict.Reason != want {
				t.Fatalf("%s after %v: %v, want %v", device, counts, verdict.Reason, want)
			}
		}
	})
}

// Every reason has a label and a text, and its error a time to come back.
func TestReasons(t *testing.T) {
	g := NewGate(Rates{}, half)
	labels := map[string]bool{}
	for r := range reasons {
		if texts[r].label == "" || texts[r].text == "" || labels[r.String()] {
			t.Errorf("reason %d: %q, %q", r, texts[r].label, texts[r].text)
		}
		labels[r.String()] = true
		if r == None {
			continue
		}
		err, ok := g.Later(r).Err().(*pim.Error)
		if !ok || err.RetryAfter < min(laterFrom, startingFrom) || err.Kind != r.Kind() {
			t.Errorf("%v: %v", r, err)
		}
	}
	if (Verdict{}).Err() != nil {
		t.Error("who is let in gets an error")
	}
}

// No rate is no bound, and costs no memory.
func TestNoBounds(t *testing.T) {
	g := NewGate(Rates{}, half)
	for range 10_000 {
		if v := g.Connection(0, netip.MustParseAddr("203.0.113.7")); v.Refused() {
			t.Fatal(v.Reason)
		}
		if v := g.Login(0, "alice", "phone"); v.Refused() {
			t.Fatal(v.Reason)
		}
	}
	if g.addresses.cells != nil || g.devices.cells != nil {
		t.Error("it holds cells")
	}
}

// The policy alone, for an address that floods and for one that is let in.
func BenchmarkConnection(b *testing.B) {
	for name, rates := range map[string]Rates{
		"refused": {Accept: 1000, Address: 1, Network: 1},
		"let-in":  {Accept: 1000_000, Address: 1000_000, Network: 1000_000},
	} {
		b.Run(name, func(b *testing.B) {
			g := NewGate(rates, half)
			from := netip.MustParseAddr("203.0.113.7")
			now := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				now += time.Microsecond
				g.Connection(now, from)
			}
		})
	}
}
