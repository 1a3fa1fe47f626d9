package replay

import (
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
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
		{at: 0, kind: pim.EntryMessage, user: "ann", text: "hi"},
		{at: 10 * ms, kind: pim.EntryJoin, user: "bob"},
		{at: 30 * ms, kind: pim.EntryLeave, user: "bob"},
		{at: 30 * ms, kind: pim.EntryJoin, user: "bob%202"},
		{at: 40 * ms, kind: pim.EntryLeave, user: "cat"},
		{at: 60 * ms, kind: pim.EntryJoin, user: "cat"},
		{at: 60 * ms, kind: pim.EntryMessage, user: "cat", text: "back"},
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
	} {
		if _, err := readScript(strings.NewReader(bad)); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}

// A line that cannot be played as it stands is refused with its number, never
// changed or left out.
func TestReadScriptNamesTheLine(t *testing.T) {
	const good = `{"at": 5, "kind": "message", "user": "ann", "text": "hi"}` + "\n\n"
	long := `{"at": 6, "kind": "message", "user": "ann", "text": "` // up to its last quote
	filled := func(size int) string {
		return long + `"` + strings.Repeat(" ", size-len(long)-len(`"}`)) + "}"
	}
	for bad, want := range map[string]string{
		`{"at": 6, "kind": "message", "user": "ann", "text": "` + "\xff" + `"}`: "invalid UTF-8",
		`{"at": 6, "kind": "message", "user": "ann", "text": "\ud800"}`:         "surrogate",
		`{"at": 6, "kind": "message", "user": "ann", "text": "x", "reply": 1}`:  `unknown field "reply"`,
		`{"at": 6, "kind": "message", "user": "ann", "Text": "x"}`:              `unknown field "Text"`,
		`{"at": 6, "kind": "message", "user": "ann", "text": "x", "text": "y"}`: `field "text" stands twice`,
		`{"at": 6, "kind": "message", "user": "ann", "text": "x"}]x`:            "something follows",
		`{"at": 6, "kind": "message", "user": "ann", "text": "x"} {"at": 7}`:    "something follows",
		`{"at": 4, "kind": "message", "user": "ann", "text": "x"}`:              "at goes back from 5 to 4",
		`{"kind": "message", "user": "ann", "text": "x"}`:                       "at goes back from 5 to 0",
		`{"at": 6.5, "kind": "message", "user": "ann", "text": "x"}`:            "whole number",
		`{"at": "6", "kind": "message", "user": "ann", "text": "x"}`:            "whole number",
		`{"at": 6, "kind": "join", "user": "bob", "text": "bye"}`:               "kind join has no text",
		`{"at": 6, "kind": "message", "user": "ann", "text": "x", "to": "bob"}`: "kind message has no to",
		`{"at": 6, "kind": "message", "user": "ann", "text": "x"`:               "unexpected EOF",
		`{"at": 6, "kind": "message", "user": "ann"}`:                           "must have a text",
		`{"at": 6, "kind": "message", "user": "ann", "text": null}`:             "must have a text",
		`[]`: "an array stands where an object is expected",
		"\ufeff" + `{"at": 6, "kind": "message", "user": "ann", "text": "x"}`: "byte order mark",
		filled(maxLine + 1):            "line 3 is longer than 1048576 bytes",
		filled(maxLine+1) + "\r\n":     "line 3 is longer than 1048576 bytes",
		strings.Repeat(" ", 3*maxLine): "line 3 is longer than 1048576 bytes",
	} {
		_, err := readScript(strings.NewReader(good + bad))
		if pim.KindOf(err) != pim.KindInvalid || !strings.Contains(err.Error(), "line 3") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want line 3 and %q", bad, err, want)
		}
	}
	for _, right := range []string{filled(maxLine), filled(maxLine) + "\r\n", filled(maxLine) + "\n"} {
		if _, err := readScript(strings.NewReader(good + right)); err != nil {
			t.Error(err)
		}
	}
	broken := errors.New("broken")
	if _, err := readScript(io.MultiReader(strings.NewReader(good), iotest.ErrReader(broken))); !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 3 cannot be read") {
		t.Error(err)
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
