package replay

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// entry returns what a member is handed of a reference whose steps sayings made.
func entry(s *placed) pim.Entry {
	return pim.Entry{
		Conversation: "g:x", Seq: s.ack.Seq, Anchor: s.ack.Seq, Kind: s.kind, Sender: s.user, ClientID: s.id,
		Local: pim.Millis(s.ack.Seq), Server: s.ack.Server, Payload: []byte(s.text),
	}
}

// Whatever goes wrong with what a member gets, it is counted as what it is.
func TestCompareNotices(t *testing.T) {
	ref := &reference{first: []pim.UserID{owner, "ann"}, anchor: map[pim.Seq]pim.Seq{}}
	var log []pim.Entry
	for i, text := range []string{"", "one", "two", "three"} {
		s := placed{step: step{kind: pim.EntryMessage, user: "ann", text: text}, id: pim.ClientMessageID{byte(i + 1)}}
		s.ack.Seq, s.ack.Anchor, s.ack.Server = pim.Seq(i+1), pim.Seq(i+1), pim.Millis(i+1)
		ref.steps = append(ref.steps, s)
		ref.anchor[s.ack.Seq] = s.ack.Seq
		log = append(log, entry(&s))
	}
	expected := ref.expected([]pim.UserID{"ann"})["ann"]
	for _, test := range []struct {
		name                      string
		change                    func([]pim.Entry) []pim.Entry
		lost, doubled, misordered int
	}{
		{"nothing", func(l []pim.Entry) []pim.Entry { return l }, 0, 0, 0},
		{"one is missing", func(l []pim.Entry) []pim.Entry { return slices.Delete(l, 1, 2) }, 1, 0, 0},
		{"one comes twice", func(l []pim.Entry) []pim.Entry { return append(l, l[1]) }, 0, 1, 0},
		{"two change places", func(l []pim.Entry) []pim.Entry { l[1], l[2] = l[2], l[1]; return l }, 0, 0, 1},
		{"another text", func(l []pim.Entry) []pim.Entry { l[1].Payload = []byte("zwei"); return l }, 1, 0, 0},
		{"another anchor", func(l []pim.Entry) []pim.Entry { l[2].Anchor = 1; return l }, 0, 0, 1},
		{"sent twice, stored twice", func(l []pim.Entry) []pim.Entry { e := l[3]; e.Seq = 5; return append(l, e) }, 0, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r Report
			ref.compare(&findings{&r}, "ann", "was handed", expected, test.change(slices.Clone(log)))
			if r.Lost != test.lost || r.Doubled != test.doubled || r.Misordered != test.misordered {
				t.Errorf("lost %d, doubled %d, misordered %d: %v", r.Lost, r.Doubled, r.Misordered, r.Findings)
			}
			if (r.Err() == nil) != (test.lost+test.doubled+test.misordered == 0) {
				t.Errorf("verdict %v", r.Err())
			}
		})
	}
}

// server builds pim and returns the command that serves.
func serverCommand(t *testing.T) []string {
	bin := filepath.Join(t.TempDir(), "pim")
	if err := build(bin); err != nil {
		t.Fatal(err)
	}
	return []string{bin, "serve"}
}

// A real log, real connections, and a server that is killed: nothing is lost,
// doubled or misordered.
func TestReplayRealLog(t *testing.T) {
	command := serverCommand(t)
	for name, tcp := range map[string]bool{"WebSocket": false, "TCP": true} {
		t.Run(name, func(t *testing.T) {
			log, err := os.ReadFile("testdata/ubuntu-irc-2016-11-02.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfterN(string(log), "\n", 601)
			report, err := Run(t.Context(), Config{
				Log: strings.NewReader(strings.Join(lines[:600], "")), Lurkers: 20, TCP: tcp,
				ServerCommand: command, KillEvery: 500 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := report.Err(); err != nil {
				t.Errorf("%v: %v", err, report.Findings)
			}
			if report.Deliveries != report.ExpectedDeliveries || report.Deliveries == 0 || report.Kills == 0 {
				t.Errorf("%+v", report)
			}
		})
	}
}
