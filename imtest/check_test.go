package imtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
)

const group = pim.ConversationID("g:aaaaaaaaaaaaaaaaaaaaaaaa")

// run is a small run: a list of entries, and what was observed of them. A test case
// bends it before history records it in a History.
type run struct {
	log    []pim.Entry
	acks   []imtest.Ack
	sends  []imtest.Send
	handed map[pim.UserID][]pim.Entry
	finals map[pim.UserID][]pim.Entry
	lines  map[pim.UserID]pim.Seq
	more   func(*imtest.History)
}

// In goodRun alice creates a group with bob and writes two messages, the second of them
// with an earlier local time. carol joins, bob leaves, alice writes once more.
func goodRun() *run {
	r := &run{
		handed: make(map[pim.UserID][]pim.Entry), finals: make(map[pim.UserID][]pim.Entry), lines: make(map[pim.UserID]pim.Seq),
	}
	r.add(pim.EntryCreate, 1000, "", "alice", "bob")
	r.add(pim.EntryMessage, 3000, "one")
	r.add(pim.EntryMessage, 2000, "late") // before seq 2 on the screen
	r.log[2].Anchor, r.acks[2].Anchor = 2, 2
	r.add(pim.EntryJoin, 4000, "", "carol")
	r.add(pim.EntryLeave, 5000, "", "bob")
	r.add(pim.EntryMessage, 6000, "two")
	for user, p := range map[pim.UserID][2]int{"alice": {1, 6}, "bob": {1, 5}, "carol": {4, 6}} {
		r.handed[user] = slices.Clone(r.log[p[0]-1 : p[1]])
		r.finals[user] = slices.Clone(r.log[p[0]-1 : p[1]])
		r.lines[user] = pim.Seq(p[1])
	}
	return r
}

func (r *run) add(kind pim.EntryKind, local pim.Millis, text string, members ...pim.UserID) {
	e := pim.Entry{
		Conversation: group, Seq: pim.Seq(len(r.log) + 1), Kind: kind, Sender: "alice", Device: "phone",
		Local: local, Server: 3000 + pim.Millis(len(r.log))*1000, Members: members, Payload: []byte(text),
	}
	e.Anchor = e.Seq
	e.ClientID[0] = byte(e.Seq)
	if n := len(r.log); n > 0 {
		e.Count = r.log[n-1].Count
	}
	if kind == pim.EntryMessage {
		e.Count++
	}
	r.log = append(r.log, e)
	conv := group
	if kind == pim.EntryCreate {
		conv = ""
	}
	r.sends = append(r.sends, imtest.Send{
		Conversation: conv, Sender: "alice", Device: "phone", ClientID: e.ClientID, Kind: kind,
		Members: members, Payload: imtest.PayloadSum(e.Payload),
	})
	r.acks = append(r.acks, imtest.Ack{
		User: "alice", Device: "phone", ClientID: e.ClientID, Conversation: group,
		Seq: e.Seq, Anchor: e.Anchor, Server: e.Server, Count: e.Count,
	})
}

// everywhere bends an entry wherever it was seen, and its acknowledgement with it.
func (r *run) everywhere(seq pim.Seq, bend func(*pim.Entry)) {
	lists := [][]pim.Entry{r.log}
	for u := range r.handed {
		lists = append(lists, r.handed[u], r.finals[u])
	}
	for _, list := range lists {
		for i := range list {
			if list[i].Seq == seq {
				bend(&list[i])
			}
		}
	}
	e := &r.log[seq-1]
	a := &r.acks[seq-1]
	a.Anchor, a.Server, a.Count, a.ClientID = e.Anchor, e.Server, e.Count, e.ClientID
}

// by makes another user the sender of an entry.
func (r *run) by(seq pim.Seq, user pim.UserID) {
	r.everywhere(seq, func(e *pim.Entry) { e.Sender = user })
	r.sends[seq-1].Sender, r.acks[seq-1].User = user, user
}

func (r *run) history() *imtest.History {
	h := imtest.NewHistory()
	for _, s := range r.sends {
		h.Sent(s)
	}
	for _, a := range r.acks {
		h.Acked(a)
	}
	if r.log != nil {
		h.Log(group, r.log)
	}
	for u, entries := range r.handed {
		d := imtest.Device{User: u, Device: "phone"}
		h.Opened(d, 0)
		for _, e := range entries {
			h.Handed(d, 0, e, false)
		}
	}
	for u, entries := range r.finals {
		h.Final(u, group, entries)
	}
	for u, newest := range r.lines {
		h.Line(u, group, newest)
	}
	if r.more != nil {
		r.more(h)
	}
	return h
}

func without(list []pim.Entry, seq pim.Seq) []pim.Entry {
	return slices.DeleteFunc(slices.Clone(list), func(e pim.Entry) bool { return e.Seq == seq })
}

var bob = imtest.Device{User: "bob", Device: "phone"}

func TestCheck(t *testing.T) {
	tests := []struct {
		name string
		bend func(*run)
		want string // "I1 3": the invariants and seqs that are named, in order
	}{
		{"a good run", func(r *run) {}, ""},
		{"a good run without the stored log", func(r *run) { r.log = nil }, ""},
		{"a resend that was answered twice", func(r *run) {
			a := r.acks[2]
			a.Duplicate, a.Device = true, "tablet"
			r.acks = append(r.acks, a)
		}, ""},
		{"a device that lost its storage gets all again", func(r *run) {
			r.more = func(h *imtest.History) {
				h.Opened(bob, 1)
				for _, e := range r.finals["bob"] {
					h.Handed(bob, 1, e, false)
				}
			}
		}, ""},

		{"I1: the entry is gone from the log's end", func(r *run) {
			r.log = r.log[:5]
			for u := range r.handed {
				r.handed[u], r.finals[u] = without(r.handed[u], 6), without(r.finals[u], 6)
			}
		}, "I1 6"},
		{"I1: another entry is at its seq", func(r *run) {
			was := r.acks[2]
			r.everywhere(3, func(e *pim.Entry) { e.ClientID[0] = 9 })
			r.acks[2] = was
		}, "I1 3, I3 3"},
		{"I1: the answer tells of another time", func(r *run) { r.acks[2].Server++ }, "I1 3"},
		{"I1: a reader does not pull it", func(r *run) { r.finals["bob"] = without(r.finals["bob"], 2) }, "I1 2"},
		{"I1: it is in no offline list", func(r *run) { r.lines["bob"] = 4 }, "I1 5"},
		{"I1: there is no offline list", func(r *run) { r.lines["carol"] = 0 }, "I1 4, I1 5, I1 6"},
		{"I1: nobody sent what was acknowledged", func(r *run) {
			a := r.acks[5]
			a.ClientID[0] = 9
			r.acks = append(r.acks, a)
		}, "I1 6, I1 6, I7 6"},

		{"I2: a message stands twice", func(r *run) {
			r.everywhere(6, func(e *pim.Entry) { e.ClientID, e.Payload = r.log[1].ClientID, r.log[1].Payload })
			r.acks = r.acks[:5]
		}, "I2 6"},
		{"I2: two answers differ", func(r *run) {
			a := r.acks[1]
			a.Seq, a.Duplicate = 3, true
			r.acks = append(r.acks[:2], r.acks[3:]...)
			r.acks = append(r.acks, a)
		}, "I1 3, I2 3"},

		{"I2: refused, and in the log", func(r *run) {
			r.acks = r.acks[:5]
			r.more = func(h *imtest.History) { h.Refused("alice", r.sends[5].ClientID) }
		}, "I2 6"},
		{"I2: refused and acknowledged", func(r *run) {
			r.more = func(h *imtest.History) { h.Refused("alice", r.sends[5].ClientID) }
		}, "I2 6"},
		{"refused, and nowhere", func(r *run) {
			r.more = func(h *imtest.History) { h.Refused("alice", pim.ClientMessageID{99}) }
		}, ""},

		{"I3: a hole", func(r *run) {
			r.log = without(r.log, 3)
			for u := range r.handed {
				r.handed[u], r.finals[u] = without(r.handed[u], 3), without(r.finals[u], 3)
			}
			r.acks = slices.Delete(r.acks, 2, 3)
		}, "I3 3, I3 4"},
		{"I3: an entry changes", func(r *run) { r.handed["bob"][1].Payload = []byte("other") }, "I3 2"},
		{"I3: server time falls", func(r *run) { r.everywhere(5, func(e *pim.Entry) { e.Server = 5900 }) }, "I3 5"},
		{"I3: the count is wrong", func(r *run) { r.everywhere(5, func(e *pim.Entry) { e.Count++ }) }, "I3 5, I3 6"},
		{"I3: the anchor is not the rule's", func(r *run) { r.everywhere(3, func(e *pim.Entry) { e.Anchor = 3 }) }, "I3 3"},
		{"I3: an entry that nobody sent", func(r *run) { r.sends = r.sends[:5]; r.acks = r.acks[:5] }, "I3 6"},
		{"I3: nobody named who joined", func(r *run) { r.sends[3].Members = []pim.UserID{"dave"} }, "I3 4"},
		{"a join names a member too, and somebody twice", func(r *run) {
			r.sends[3].Members = []pim.UserID{"carol", "alice", "carol"}
		}, ""},
		{"I3: a join leaves out whom it named", func(r *run) { r.sends[3].Members = []pim.UserID{"carol", "dave"} }, "I3 4"},
		{"I3: an entry that was seen and is gone", func(r *run) {
			r.more = func(h *imtest.History) {
				e := r.log[5]
				e.Seq = 7
				h.Pulled("alice", e)
			}
		}, "I3 7"},

		{"I4: a device lacks an entry", func(r *run) { r.handed["bob"] = without(r.handed["bob"], 3) }, "I4 3"},
		{"I4: a device has an entry twice", func(r *run) { r.handed["bob"] = append(r.handed["bob"], r.log[4]) }, "I4 5"},
		{"I4: not ascending", func(r *run) {
			h := r.handed["bob"]
			h[1], h[2] = h[2], h[1]
		}, "I4 2"},
		{"I4: an entry from before the joining", func(r *run) { r.handed["carol"] = append(r.log[2:3:3], r.handed["carol"]...) }, "I4 3"},
		{"I4: an entry from after the leaving", func(r *run) { r.finals["bob"] = append(r.finals["bob"], r.log[5]) }, "I4 6"},
		{"I4: in the order of seqs, not of display", func(r *run) {
			r.more = func(h *imtest.History) { h.Shown(bob, group, []pim.Seq{1, 2, 3, 4, 5}) }
		}, "I4 3"},
		{"I4: not all is shown", func(r *run) {
			r.more = func(h *imtest.History) { h.Shown(bob, group, []pim.Seq{1, 3, 5}) }
		}, "I4 2, I4 4"},
		{"I4: nothing is shown", func(r *run) {
			r.more = func(h *imtest.History) { h.Shown(bob, group, nil) }
		}, "I4 1, I4 2, I4 3, I4 4, I4 5"},
		{"I4: what is not bob's is shown, and something twice", func(r *run) {
			r.more = func(h *imtest.History) { h.Shown(bob, group, []pim.Seq{1, 3, 2, 4, 5, 6, 6}) }
		}, "I4 6, I4 6, I4 6"},
		{"I3: a stranger wrote", func(r *run) { r.by(6, "eve") }, "I3 6"},
		{"I3: carol let herself in", func(r *run) { r.by(4, "carol") }, "I3 4"},
		{"I3: bob wrote after he had left", func(r *run) { r.by(6, "bob") }, "I3 6"},
		{"I3: carol, who is not the owner, removed bob", func(r *run) { r.by(5, "carol") }, "I3 5"},
		{"in display order", func(r *run) {
			r.more = func(h *imtest.History) { h.Shown(bob, group, []pim.Seq{1, 3, 2, 4, 5}) }
		}, ""},
		{"I4: a lost storage is not filled again", func(r *run) {
			r.handed["bob"] = r.handed["bob"][:1]
			r.more = func(h *imtest.History) {
				h.Opened(bob, 1)
				for _, e := range r.finals["bob"][1:] {
					h.Handed(bob, 1, e, false)
				}
			}
		}, "I4 1"},

		{"I5: a push was withheld and no pull made up for it", func(r *run) {
			r.handed["bob"] = without(r.handed["bob"], 3)
			r.more = func(h *imtest.History) { h.Dropped(group, 3) }
		}, "I4 3, I5 3"},

		{"I6: a cell falls", func(r *run) {
			r.more = func(h *imtest.History) {
				h.Wrote("p", "k", 5, true)
				h.Saw(h.Now(), "p", "k", 4)
			}
		}, "I6 0"},
		{"I6: a cell falls that was only seen", func(r *run) {
			r.more = func(h *imtest.History) {
				h.Saw(h.Now(), "p", "k", 5)
				h.Saw(h.Now(), "p", "k", 4)
			}
		}, "I6 0"},
		{"a late answer of an early read, a lower write", func(r *run) {
			r.more = func(h *imtest.History) {
				h.Wrote("p", "k", 4, true)
				since := h.Now()
				h.Wrote("p", "k", 6, true)
				h.Saw(since, "p", "k", 4)
				h.Wrote("p", "k", 2, true)
				h.Saw(h.Now(), "p", "k", 6)
			}
		}, ""},
		{"a crash loses what was not durable", func(r *run) {
			r.more = func(h *imtest.History) {
				h.Wrote("p", "k", 4, true)
				h.Wrote("p", "k", 6, false)
				h.Crash()
				h.Saw(h.Now(), "p", "k", 4)
			}
		}, ""},
		{"I6: a crash loses what was durable", func(r *run) {
			r.more = func(h *imtest.History) {
				h.Wrote("p", "k", 4, true)
				h.Crash()
				h.Saw(h.Now(), "p", "k", 3)
			}
		}, "I6 0"},

		{"I7: two entries were seen at one seq", func(r *run) {
			r.handed["bob"][2].ClientID[0] = 77
		}, "I7 3"},
		{"I7: two were acknowledged at one seq", func(r *run) { r.acks[2].Seq = 2 }, "I1 2, I7 2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := goodRun()
			test.bend(r)
			found := imtest.Check(r.history())
			if s := named(found); s != test.want {
				t.Errorf("found %q, want %q: %v", s, test.want, found)
			}
		})
	}
}

// refer adds an entry that refers to the message at target. bob and carol get it, too.
func (r *run) refer(kind pim.EntryKind, target pim.Seq, text string) {
	r.add(kind, 7000, text)
	e := &r.log[len(r.log)-1]
	e.Refers, r.sends[len(r.log)-1].Refers = target, target
	r.handed["alice"], r.handed["carol"] = append(r.handed["alice"], *e), append(r.handed["carol"], *e)
	r.finals["alice"], r.finals["carol"] = append(r.finals["alice"], *e), append(r.finals["carol"], *e)
	r.lines["alice"], r.lines["carol"] = e.Seq, e.Seq
}

// erase empties the message at seq wherever it was seen.
func (r *run) erase(seq pim.Seq) {
	r.everywhere(seq, func(e *pim.Entry) { e.Payload, e.Erased = nil, true })
}

// named names invariants and seqs, in order.
func named(found []imtest.Violation) string {
	var names []string
	for _, v := range found {
		names = append(names, v.Invariant+" "+digits(v.Seq))
	}
	return strings.Join(names, ", ")
}

func digits(s pim.Seq) string { return string(rune('0' + s)) }

// The owner of a group is the member who has been there longest. alice, who made the
// group, has left. Then bob, whom its creation names, may remove carol, but carol may
// not remove bob.
func TestCheckKnowsTheOwner(t *testing.T) {
	for by, want := range map[pim.UserID]string{"bob": "", "carol": "I3 4", "alice": "I3 4"} {
		r := &run{handed: make(map[pim.UserID][]pim.Entry), finals: make(map[pim.UserID][]pim.Entry), lines: make(map[pim.UserID]pim.Seq)}
		r.add(pim.EntryCreate, 1000, "", "alice", "bob")
		r.add(pim.EntryJoin, 2000, "", "carol")
		r.add(pim.EntryLeave, 3000, "", "alice")
		gone := pim.UserID("carol")
		if by == "carol" {
			gone = "bob"
		}
		r.add(pim.EntryLeave, 4000, "", gone)
		r.by(4, by)
		for user, p := range map[pim.UserID][2]int{"alice": {1, 3}, "bob": {1, 4}, "carol": {2, 4}} {
			r.handed[user] = slices.Clone(r.log[p[0]-1 : p[1]])
			r.finals[user] = slices.Clone(r.log[p[0]-1 : p[1]])
			r.lines[user] = pim.Seq(p[1])
		}
		var got []string
		found := imtest.Check(r.history())
		for _, v := range found {
			if v.Invariant == "I3" {
				got = append(got, v.Invariant+" "+digits(v.Seq))
			}
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s removes %s: found %q, want %q: %v", by, gone, s, want, found)
		}
	}
}
