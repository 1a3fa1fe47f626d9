package replay

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

func TestReadScript(t *testing.T) {
	s, err := readScript(strings.NewReader(`
{"at": 0, "kind": "message", "user": "ann", "text": "hi"}
{"at": 10, "kind": "join", "user": "bob"}
{"at": 20, "kind": "join", "user": "bob"}
{"at": 30, "kind": "rename", "user": "bob", "to": "bob 2"}
{"at": 40, "kind": "leave", "user": "cat"}
{"at": 50, "kind": "leave", "user": "cat"}
{"at": 60, "kind": "message", "user": "cat", "text": "back"}
`))
	if err != nil {
		t.Fatal(err)
	}
	ms := time.Millisecond
	want := []step{
		{0, pim.EntryMessage, "ann", "hi"},
		{10 * ms, pim.EntryJoin, "bob", ""},
		{30 * ms, pim.EntryLeave, "bob", ""},
		{30 * ms, pim.EntryJoin, "bob%202", ""},
		{40 * ms, pim.EntryLeave, "cat", ""},
		{60 * ms, pim.EntryJoin, "cat", ""},
		{60 * ms, pim.EntryMessage, "cat", "back"},
	}
	if !slices.Equal(s.steps, want) {
		t.Errorf("steps\n%v, want\n%v", s.steps, want)
	}
	if !slices.Equal(s.first, []pim.UserID{"ann", "cat"}) || !slices.Equal(s.later, []pim.UserID{"bob", "bob%202"}) {
		t.Errorf("first %v, later %v", s.first, s.later)
	}
}

func TestReadScriptRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "{", `{"kind": "shout", "user": "ann"}`, `{"kind": "message", "user": ""}`,
		`{"at": -1, "kind": "join", "user": "ann"}`,
		`{"at": 9223372036854775807, "kind": "join", "user": "ann"}`,
		`{"kind": "message", "user": "ann", "text": "` + strings.Repeat("x", pim.MaxPayload+1) + `"}`,
		strings.Repeat(" ", maxLine+1),
	} {
		if _, err := readScript(strings.NewReader(bad)); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}

// The slowest replay of the longest log ends at a time that a Duration holds.
func TestBoundsOfTheScript(t *testing.T) {
	if end := float64(maxAt) * float64(time.Millisecond) / slowest; end >= float64(1<<63-1) {
		t.Errorf("the end is at %g ns", end)
	}
	for _, speed := range []float64{-1, slowest / 2, fastest * 2, math.NaN(), math.Inf(1)} {
		c := Config{Speed: speed, Log: strings.NewReader(`{"kind": "join", "user": "ann"}`)}
		if _, err := c.script(); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("speed %g: %v", speed, err)
		}
	}
}

func FuzzReadScript(f *testing.F) {
	f.Add(`{"at": 0, "kind": "message", "user": "ann", "text": "hi"}`)
	f.Add(`{"at": 1, "kind": "rename", "user": "a b", "to": "c/d:e%"}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := readScript(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, st := range s.steps {
			if err := st.user.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
