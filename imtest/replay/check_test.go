package replay

import (
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
)

// entry returns the entry that a member is handed for s.
func entry(s *placed) pim.Entry {
	return pim.Entry{
		Conversation: "g:x", Seq: s.ack.Seq, Anchor: s.ack.Seq, Kind: s.kind, Sender: s.user, ClientID: s.id,
		Local: pim.Millis(s.ack.Seq), Server: s.ack.Server, Payload: []byte(s.text),
	}
}

// Whatever is wrong with the entries that a member gets, it is counted as lost, doubled
// or misordered.
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

// A violation that only the checker of the invariants notices counts too; what compare
// has counted does not count twice.
func TestJudge(t *testing.T) {
	found := []imtest.Violation{{Invariant: "I1"}, {Invariant: "I2"}, {Invariant: "I3"}, {Invariant: "I4"}}
	var r Report
	(&findings{&r}).judge(found)
	if r.Lost != 2 || r.Doubled != 1 || r.Misordered != 1 || len(r.Findings) != len(found) {
		t.Errorf("%+v", r)
	}
	r = Report{Lost: 1}
	(&findings{&r}).judge(found)
	if r.Lost != 1 || r.Doubled != 0 || r.Misordered != 0 || len(r.Findings) != len(found) {
		t.Errorf("after the comparison: %+v", r)
	}
}

// Entries of other conversations, which a server that ran before may have, neither
// count nor are compared, whether they come before the group is known or after.
func TestMemberKeepsTheGroupOnly(t *testing.T) {
	m := &member{user: "ann"}
	take := func(c pim.ConversationID, seq pim.Seq) {
		m.take(pim.Entry{Conversation: c, Seq: seq}, false, time.UnixMilli(int64(seq)))
	}
	take("g:old", 1)
	take("g:new", 1)
	take("g:old", 2)
	m.follow("g:new")
	take("g:new", 2)
	take("g:old", 3)
	handed, at := m.delivered()
	if n, err := m.count(); n != 2 || err != nil || len(handed) != 2 || handed[0].Seq != 1 || handed[1].Seq != 2 || !at[1].Equal(time.UnixMilli(2)) {
		t.Errorf("%d, %v: %v at %v", n, err, handed, at)
	}
}

// Entries that fill a hole are put at their places by seq; all others stay in the order
// of hand-over.
func TestLateEntriesHaveTheirPlace(t *testing.T) {
	m := &member{user: "ann", group: "g:new"}
	for _, x := range []struct {
		seq  pim.Seq
		late bool
	}{{1, false}, {9, false}, {7, true}, {8, true}, {11, false}, {10, false}, {5, true}, {6, true}, {5, true}} {
		m.take(pim.Entry{Conversation: "g:new", Seq: x.seq}, x.late, time.UnixMilli(int64(x.seq)))
	}
	var got []pim.Seq
	entries, _ := m.delivered()
	for _, e := range entries {
		got = append(got, e.Seq)
	}
	if want := []pim.Seq{1, 5, 5, 6, 7, 8, 9, 11, 10}; !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
}
