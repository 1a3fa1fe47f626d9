package replay

import (
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
	for _, bad := range []string{"", "{", `{"kind": "shout", "user": "ann"}`, `{"kind": "message", "user": ""}`} {
		if _, err := readScript(strings.NewReader(bad)); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: %v", bad, err)
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
