package imtest_test

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
)

// recalled adds a recall of the message at seq 6 and of its edit, and retired an erase by alice up to
// seq 6 in its place.
func (r *run) recalled() {
	r.refer(pim.EntryRecall, 6, "")
	r.erase(6)
	r.erase(7)
}

func (r *run) retired() {
	r.refer(pim.EntryErase, 6, "")
	for _, seq := range []pim.Seq{2, 3, 6, 7} {
		r.erase(seq)
	}
}

// The checker knows what lists show, what is displayed of a message, and what recalls and erases
// take.
func TestCheckKept(t *testing.T) {
	alice := imtest.Device{User: "alice", Device: "phone"}
	edit := pim.Fold{Target: 6, Edit: pim.Edit{Seq: 7, Payload: []byte("second")}}
	recall := pim.Fold{Target: 6, Recall: pim.Mark{Seq: 8}}
	changed, recalled, retired := func(*run) {}, (*run).recalled, (*run).retired
	for _, test := range []struct {
		name string
		then func(*run)
		kept func(h *imtest.History, log []pim.Entry)
		want string
	}{
		{"a list that is right", changed, func(h *imtest.History, _ []pim.Entry) {
			h.Listed(bob, group, imtest.Listed{Unread: 2})
		}, ""},
		{"a list that counts entries", changed, func(h *imtest.History, _ []pim.Entry) {
			h.Listed(bob, group, imtest.Listed{Unread: 4})
		}, "unread 0"},
		{"a list with a read position that nobody gave", changed, func(h *imtest.History, _ []pim.Entry) {
			h.Listed(bob, group, imtest.Listed{Read: 3})
		}, "unread 0"},
		{"a list that is marked by nobody", changed, func(h *imtest.History, _ []pim.Entry) {
			h.Listed(bob, group, imtest.Listed{Unread: 2, Marked: true})
		}, "unread 0"},
		{"an edit", changed, func(h *imtest.History, log []pim.Entry) {
			h.Kept(alice, group, log, map[pim.Seq]pim.Fold{6: edit})
		}, ""},
		{"an edit that is not displayed", changed, func(h *imtest.History, log []pim.Entry) {
			h.Kept(alice, group, log, nil)
		}, "fold 6"},
		{"who has left is not told", changed, func(h *imtest.History, log []pim.Entry) {
			h.Kept(bob, group, log[:5], nil)
		}, ""},
		{"a recall", recalled, func(h *imtest.History, log []pim.Entry) {
			h.Kept(alice, group, log, map[pim.Seq]pim.Fold{6: recall})
		}, ""},
		{"a recall that is not displayed", recalled, func(h *imtest.History, log []pim.Entry) {
			h.Kept(alice, group, log, nil)
		}, "fold 6"},
		{"what was recalled is on the disk", recalled, func(h *imtest.History, log []pim.Entry) {
			log[5].Payload, log[6].Payload = []byte("two"), []byte("second")
			h.Kept(alice, group, log, map[pim.Seq]pim.Fold{6: recall})
		}, "fold 6, recall 6, recall 7"},
		{"an erase", retired, func(h *imtest.History, log []pim.Entry) {
			h.Kept(alice, group, log, nil)
		}, ""},
		{"what was erased is displayed as its edit", retired, func(h *imtest.History, log []pim.Entry) {
			h.Kept(alice, group, log, map[pim.Seq]pim.Fold{6: edit})
		}, "fold 6"},
		{"what was erased is on the disk", retired, func(h *imtest.History, log []pim.Entry) {
			log[1].Payload, log[6].Payload = []byte("one"), []byte("second")
			h.Kept(alice, group, log, nil)
		}, "erase 2, erase 7, fold 2"},
		{"who has left is not told of an erase", retired, func(h *imtest.History, log []pim.Entry) {
			log[1].Payload = []byte("one")
			h.Kept(bob, group, log[:5], nil)
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := goodRun()
			r.refer(pim.EntryEdit, 6, "second")
			test.then(r)
			log := slices.Clone(r.log)
			r.more = func(h *imtest.History) { test.kept(h, log) }
			if got := named(imtest.Check(r.history())); got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
	for _, test := range []struct {
		name string
		then func(*run)
		want string
	}{
		{"what was recalled is in the log", func(r *run) { r.refer(pim.EntryRecall, 6, "") }, "recall 6, recall 7"},
		{"what was erased is in the log", func(r *run) {
			r.retired()
			r.everywhere(3, func(e *pim.Entry) { e.Payload, e.Erased = []byte("late"), false })
			r.everywhere(7, func(e *pim.Entry) { e.Payload, e.Erased = []byte("second"), false })
		}, "erase 3, erase 7"},
		{"more was erased", func(r *run) {
			r.refer(pim.EntryErase, 2, "")
			r.erase(2)
			r.erase(3)
		}, "erase 3"},
	} {
		r := goodRun()
		r.refer(pim.EntryEdit, 6, "second")
		test.then(r)
		if got := named(imtest.Check(r.history())); got != test.want {
			t.Errorf("%s: found %q, want %q", test.name, got, test.want)
		}
	}
}

// The checker knows whom messages mention, what the log counts of that, and what lists show of it.
func TestCheckMentions(t *testing.T) {
	carol := imtest.Device{User: "carol", Device: "phone"}
	for _, test := range []struct {
		name string
		bend func(*run)
		want string
	}{
		{"a good run", func(*run) {}, ""},
		{"a list without a mention of all", func(r *run) {
			r.more = func(h *imtest.History) { h.Listed(carol, group, imtest.Listed{Unread: 2, Mentions: 1}) }
		}, "mentions 0"},
		{"a list with a mention from before the joining", func(r *run) {
			r.more = func(h *imtest.History) { h.Listed(carol, group, imtest.Listed{Unread: 2, Mentions: 3}) }
		}, "mentions 0"},
		{"a name that does not count", func(r *run) {
			r.everywhere(6, func(e *pim.Entry) { e.Mentions = []pim.Mention{{User: "carol"}} })
		}, "mentions 6"},
		{"a name that counts from before the joining", func(r *run) {
			r.everywhere(6, func(e *pim.Entry) { e.Mentions = []pim.Mention{{User: "carol", Count: 4}} })
		}, "mentions 6"},
		{"all are counted twice", func(r *run) { r.everywhere(7, func(e *pim.Entry) { e.AllCount++ }) }, "mentions 7"},
		{"nobody meant all", func(r *run) { r.sends[6].MentionAll = false }, "I3 7"},
		{"somebody else was named", func(r *run) { r.sends[5].Mentions = []pim.UserID{"bob"} }, "I3 6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := goodRun()
			r.refer(pim.EntryMessage, 0, "all of you")
			r.everywhere(6, func(e *pim.Entry) { e.Mentions = []pim.Mention{{User: "carol", Count: 3}} })
			r.everywhere(7, func(e *pim.Entry) { e.MentionAll, e.AllCount = true, 1 })
			r.sends[5].Mentions, r.sends[6].MentionAll = []pim.UserID{"carol"}, true
			r.more = func(h *imtest.History) { h.Listed(carol, group, imtest.Listed{Unread: 2, Mentions: 2}) }
			test.bend(r)
			if got := named(imtest.Check(r.history())); got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}
