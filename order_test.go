package pim_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/conformance"
	"pgregory.net/rapid"
)

type said struct {
	ID, Sender    string
	Local, Server pim.Millis
	Seq           pim.Seq
}

// The worked cases of the display order, for every implementation of it.
func TestWorkedCases(t *testing.T) {
	const path = "testdata/display-order.json"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Window  pim.Millis `json:"window_ms"`
		Slack   pim.Millis `json:"slack_ms"`
		Vectors []struct {
			Name     string
			Messages []said
			Anchors  map[string]pim.Seq
			Order    []string
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if file.Window != pim.OrderWindow || file.Slack != pim.OrderSlack {
		t.Errorf("window %d and slack %d, the cases have %d and %d", pim.OrderWindow, pim.OrderSlack, file.Window, file.Slack)
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			senders := map[string]*pim.Anchors{}
			names := map[pim.Seq]string{}
			var places []pim.Place
			for _, m := range v.Messages {
				if senders[m.Sender] == nil {
					senders[m.Sender] = new(pim.Anchors)
				}
				anchor := senders[m.Sender].Next(m.Seq, m.Local, m.Server)
				if anchor != v.Anchors[m.ID] {
					t.Errorf("anchor of %s is %d, want %d", m.ID, anchor, v.Anchors[m.ID])
				}
				e := pim.Entry{Seq: m.Seq, Anchor: anchor, Local: m.Local, Server: m.Server}
				places = append(places, e.Place())
				names[m.Seq] = m.ID
			}
			slices.SortFunc(places, pim.Place.Compare)
			for i, p := range places {
				if names[p.Seq] != v.Order[i] {
					t.Errorf("place %d shows %s, want %s", i, names[p.Seq], v.Order[i])
				}
			}
			conformance.Ran(t, path, v.Name)
		})
	}
}

// conversation draws messages of a few senders whose local times wander around
// the server's, late resends and wrong clocks among them.
func conversation(t *rapid.T) []said {
	var all []said
	server := pim.Millis(1_700_000_000_000)
	for i := range rapid.IntRange(1, 80).Draw(t, "messages") {
		server += pim.Millis(rapid.SampledFrom([]int64{0, 1, 500, 60_000, 179_999, 181_000}).Draw(t, "passes"))
		off := rapid.SampledFrom([]int64{-400_000, -181_000, -180_000, -60_000, -300, 0, 300, 1_000, 5_000_000}).Draw(t, "off")
		all = append(all, said{
			Sender: rapid.SampledFrom([]string{"ann", "bob", "cat"}).Draw(t, "sender"),
			Local:  server + pim.Millis(off+rapid.Int64Range(-5, 5).Draw(t, "jitter")), Server: server, Seq: pim.Seq(i + 1),
		})
	}
	return all
}

// Anchors drops old peaks and never differs from the rule as written.
func TestAnchorsAreTheRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := conversation(t)
		senders := map[string]*pim.Anchors{}
		for i, m := range all {
			if senders[m.Sender] == nil {
				senders[m.Sender] = new(pim.Anchors)
			}
			want := m.Seq
			for _, e := range all[:i] {
				if e.Sender == m.Sender && pim.Clamp(e.Local, e.Server) > pim.Clamp(m.Local, m.Server) {
					want = e.Seq
					break
				}
			}
			if got := senders[m.Sender].Next(m.Seq, m.Local, m.Server); got != want {
				t.Fatalf("anchor of %+v is %d, the rule gives %d", m, got, want)
			}
		}
	})
}

// Anchors that were trimmed, or that begin in the middle of a log, say when the log
// must be read, and up to which seq. With what is found there they follow the rule.
func TestAnchorsForget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := conversation(t)
		senders := map[string]pim.Anchors{}
		var floor pim.Anchors
		asked := 0
		for i, m := range all {
			a, known := senders[m.Sender]
			if !known {
				a = floor
			}
			l := pim.Clamp(m.Local, m.Server)
			want, first := m.Seq, func(upTo pim.Seq) pim.Seq {
				for _, e := range all[:min(i, int(upTo))] {
					if e.Sender == m.Sender && pim.Clamp(e.Local, e.Server) > l {
						return e.Seq
					}
				}
				return 0
			}
			if seq := first(m.Seq); seq != 0 {
				want = seq
			}
			got := pim.Seq(0)
			if upTo, lost := a.Seek(l); lost {
				asked++
				got = first(upTo)
			}
			if got == 0 {
				got = a.Next(m.Seq, m.Local, m.Server)
			}
			if got != want {
				t.Fatalf("anchor of %+v is %d, the rule gives %d", m, got, want)
			}
			switch rapid.IntRange(0, 9).Draw(t, "then") {
			case 0, 1, 2:
				a.Trim(rapid.IntRange(0, 12).Draw(t, "bytes"))
			case 3:
				if seq, local := a.Peak(); seq != 0 {
					a = pim.Resumed(seq, local)
				}
			case 4: // another node takes over, and reads nothing
				floor, senders = pim.Forgotten(m.Seq, m.Server+pim.OrderSlack), map[string]pim.Anchors{}
				continue
			}
			senders[m.Sender] = a
		}
	})
}

// A message in order takes a few bytes, and only those of three minutes are kept.
func TestAnchorsAreSmall(t *testing.T) {
	var a pim.Anchors
	for i := range 100_000 {
		now := pim.Millis(1_700_000_000_000 + 50*i)
		if seq := pim.Seq(i + 1); a.Next(seq, now, now) != seq {
			t.Fatal("a message in order is not its own anchor")
		}
	}
	if kept := 20 * 181; a.Size() > 8*kept {
		t.Errorf("%d bytes for the %d messages of three minutes", a.Size(), kept)
	}
	a.Trim(512)
	a.Trim(512)
	if upTo, lost := a.Seek(1_700_000_000_000); !lost || upTo > 100_000 {
		t.Errorf("what was trimmed is looked for up to %d, %v", upTo, lost)
	}
}

// The order is total: every message has a place among those already shown. Without
// resends that is the last one.
func TestOrderIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		senders := map[string]*pim.Anchors{}
		last := map[string]pim.Millis{}
		plain := true
		var shown []pim.Place
		for _, m := range conversation(t) {
			if senders[m.Sender] == nil {
				senders[m.Sender] = new(pim.Anchors)
			}
			local := pim.Clamp(m.Local, m.Server)
			plain = plain && local >= last[m.Sender]
			last[m.Sender] = max(last[m.Sender], local)
			p := pim.Place{Anchor: senders[m.Sender].Next(m.Seq, m.Local, m.Server), Local: local, Seq: m.Seq}
			at, found := slices.BinarySearchFunc(shown, p, pim.Place.Compare)
			if found {
				t.Fatalf("two entries at %+v", p)
			}
			shown = slices.Insert(shown, at, p)
			if !slices.IsSortedFunc(shown, pim.Place.Compare) {
				t.Fatal("the order is not total")
			}
			if plain && at != len(shown)-1 {
				t.Fatalf("seq %d stands at place %d of %d, nothing was resent", m.Seq, at, len(shown))
			}
		}
	})
}

func BenchmarkAnchors(b *testing.B) {
	var a pim.Anchors
	b.ReportAllocs()
	for i := range b.N {
		a.Next(pim.Seq(i+1), pim.Millis(i), pim.Millis(i))
	}
}

// A sender takes memory for the peaks of the last three minutes only, at any rate of
// messages and after any burst.
func TestAnchorsTakeLittleMemory(t *testing.T) {
	var a pim.Anchors
	now, seq := pim.Millis(1_795_000_000_000), pim.Seq(0)
	send := func(n int, apart pim.Millis) {
		for range n {
			now += apart
			seq++
			a.Next(seq, now, now)
			if a.Memory() > 64+3*max(a.Size(), 1) {
				t.Fatalf("after %d entries, the last %d ms apart: %d bytes of peaks take %d", seq, apart, a.Size(), a.Memory())
			}
		}
	}
	for _, apart := range []pim.Millis{6_000, 1_000, 100, 6_000, 60_000, 10} {
		send(10_000, apart)
		if most := int(pim.OrderWindow/apart+2) * 6; a.Size() > 2*most+64 {
			t.Errorf("%d ms apart: %d bytes of peaks", apart, a.Size())
		}
	}
}
