package pim_test

import (
	"testing"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// What retains come to, one after the other.
func TestRetention(t *testing.T) {
	const notice = 24
	type said struct{ age, at pim.Millis }
	for name, test := range map[string]struct {
		said []said
		want map[pim.Millis]pim.Millis // by the time: for how long entries are kept
	}{
		"nothing":                    {nil, map[pim.Millis]pim.Millis{1: 0}},
		"shorter than for ever":      {[]said{{7, 100}}, map[pim.Millis]pim.Millis{100: 0, 123: 0, 124: 7}},
		"shorter than before":        {[]said{{30, 100}, {7, 200}}, map[pim.Millis]pim.Millis{200: 30, 223: 30, 224: 7}},
		"longer":                     {[]said{{7, 100}, {30, 200}}, map[pim.Millis]pim.Millis{200: 30}},
		"for ever":                   {[]said{{7, 100}, {0, 200}}, map[pim.Millis]pim.Millis{200: 0, 1000: 0}},
		"taken back in time":         {[]said{{7, 100}, {0, 123}}, map[pim.Millis]pim.Millis{123: 0, 124: 0, 1000: 0}},
		"lengthened in time":         {[]said{{7, 100}, {20, 110}}, map[pim.Millis]pim.Millis{110: 0, 123: 0, 124: 20}},
		"back to what held":          {[]said{{30, 100}, {7, 200}, {30, 210}}, map[pim.Millis]pim.Millis{210: 30, 224: 30}},
		"said again and again":       {[]said{{7, 100}, {7, 110}, {7, 120}}, map[pim.Millis]pim.Millis{123: 0, 124: 7}},
		"shortened in the notice":    {[]said{{20, 100}, {7, 110}}, map[pim.Millis]pim.Millis{124: 0, 133: 0, 134: 7}},
		"taken back, and said again": {[]said{{7, 100}, {0, 110}, {7, 120}}, map[pim.Millis]pim.Millis{124: 0, 143: 0, 144: 7}},
	} {
		var r pim.Retention
		for _, s := range test.said {
			r = r.Said(s.age, s.at, notice)
		}
		for now, want := range test.want {
			if got := r.At(now); got != want {
				t.Errorf("%s: at %d entries are kept for %d, want %d", name, now, got, want)
			}
		}
	}
	if r := (pim.Retention{}).Said(30, 100, notice).Said(7, 110, 0); r.At(110) != 7 {
		t.Errorf("without a notice: %+v", r)
	}
	for _, server := range []pim.Millis{0, 5, 20, 50} {
		r := pim.Retention{Age: 7, Before: 30, From: 100}.Within(server)
		if server == 0 && (r.Age != 7 || r.Before != 30) || server != 0 && (r.Age != min(7, server) || r.Before != min(30, server)) {
			t.Errorf("on a server that keeps entries for %d: %+v", server, r)
		}
	}
}

// Nothing is removed that some retain of the notice time behind us keeps, and when the last retain is
// older than that, it holds.
func TestRetentionGivesNotice(t *testing.T) {
	longer := func(a, b pim.Millis) bool { return b != 0 && (a == 0 || a > b) }
	rapid.Check(t, func(t *rapid.T) {
		notice := pim.Millis(rapid.IntRange(0, 30).Draw(t, "notice"))
		type said struct{ age, until pim.Millis } // the next retain came at until
		all := []said{{}}
		var r pim.Retention
		now := pim.Millis(1000)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			now += pim.Millis(rapid.IntRange(0, 20).Draw(t, "later"))
			if rapid.Bool().Draw(t, "says") {
				age := pim.Millis(rapid.IntRange(0, 5).Draw(t, "age"))
				all[len(all)-1].until = now
				all = append(all, said{age: age})
				r = r.Said(age, now, notice)
			}
			held := r.At(now)
			for i, s := range all {
				if (i == len(all)-1 || s.until > now-notice) && longer(s.age, held) {
					t.Fatalf("entries are kept for %d at %d, and %+v kept them for longer", held, now, s)
				}
			}
			if i := len(all) - 2; i >= 0 && now >= all[i].until+notice && held != all[i+1].age {
				t.Fatalf("entries are kept for %d at %d: %+v", held, now, all)
			}
		}
	})
}
