package imtest_test

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/wire"
)

// The checker knows that what was trimmed leaves, and that nothing else changes.
func TestCheckTrims(t *testing.T) {
	carol := imtest.Device{User: "carol", Device: "phone"}
	nothing, none := func(*run) {}, func(*run, *imtest.History) {}
	for _, test := range []struct {
		name string
		upTo pim.Seq
		bend func(*run)
		more func(*run, *imtest.History)
		want string
	}{
		{"a part", 2, nothing, none, ""},
		{"all", 6, nothing, none, ""},
		{"a device that was told", 4, nothing, func(r *run, h *imtest.History) {
			h.Front(carol, group, 5)
			h.Kept(carol, group, r.log, nil)
			h.Shown(carol, group, []pim.Seq{5, 6})
			h.Listed(carol, group, imtest.Listed{Unread: 1})
		}, ""},
		{"a device that was not told", 4, nothing, func(r *run, h *imtest.History) {
			h.Front(carol, group, 0)
			h.Kept(carol, group, r.handed["carol"], nil)
			h.Shown(carol, group, []pim.Seq{4, 5, 6})
		}, "trim 5"},
		{"a device that was told of an earlier trim", 4, nothing, func(_ *run, h *imtest.History) { h.Front(carol, group, 4) }, "trim 5"},
		{"a list that counts from the front", 3, nothing, func(_ *run, h *imtest.History) {
			h.Listed(bob, group, imtest.Listed{Unread: 0})
		}, "unread 0"},
		{"an anchor from before the front", 4, func(r *run) { r.late(2500, 4) }, none, ""},
		{"a wrong anchor from before the front", 4, func(r *run) { r.late(2500, 3) }, none, "I3 6"},
		{"an anchor behind an entry whose anchor was trimmed", 2, func(r *run) { r.late(1500, 4) }, none, ""},
		{"an anchor behind another anchor", 2, func(r *run) { r.late(1500, 5) }, none, "I3 6"},
		{"a count that begins again", 4, func(r *run) { r.log[1].Count = 1 }, none, "I1 6, I3 6, I3 6, I3 6, I3 6, I3 6"},
		{"a hole above the front", 2, func(r *run) {
			r.log = without(r.log, 3)
			for u := range r.finals {
				r.handed[u], r.finals[u] = without(r.handed[u], 3), without(r.finals[u], 3)
			}
			r.acks = slices.Delete(r.acks, 2, 3)
		}, none, "I3 3, I3 4"},
		{"it is in the log", 2, func(r *run) { r.log = append(r.handed["bob"][1:2:2], r.log...) }, none, "trim 2"},
		{"it is pulled", 2, func(r *run) { r.finals["bob"] = r.handed["bob"] }, none, "trim 1, trim 2"},
		{"more is gone", 2, func(r *run) { r.finals["bob"] = without(r.finals["bob"], 3) }, none, "I1 3"},
		{"a device keeps what it was told of", 4, nothing, func(r *run, h *imtest.History) {
			h.Front(carol, group, 5)
			h.Kept(carol, group, r.handed["carol"], map[pim.Seq]pim.Fold{2: {Target: 2}})
			h.Shown(carol, group, []pim.Seq{4, 5, 6})
		}, "trim 2, trim 4, trim 4"},
		{"a device drops too much", 4, nothing, func(_ *run, h *imtest.History) {
			h.Front(carol, group, 6)
			h.Shown(carol, group, []pim.Seq{6})
		}, "I4 5, trim 6"},
		{"an answer to what was trimmed", 4, nothing, func(r *run, h *imtest.History) {
			h.Acked(imtest.Ack{User: "alice", Device: "phone", ClientID: r.sends[1].ClientID, Conversation: group, Seq: 2, Anchor: 2, Duplicate: true})
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := goodRun()
			gone := r.log[:test.upTo]
			r.log = r.log[test.upTo:]
			for u := range r.finals {
				r.finals[u] = slices.DeleteFunc(r.finals[u], func(e pim.Entry) bool { return e.Seq <= test.upTo })
			}
			test.bend(r)
			r.more = func(h *imtest.History) {
				h.Trimmed(group, test.upTo+1, gone)
				test.more(r, h)
			}
			found := imtest.Check(r.history())
			if got := named(found); got != test.want {
				t.Errorf("found %q, want %q: %v", got, test.want, found)
			}
		})
	}
}

// All is trimmed, and a device of bob's that has not heard of it reads an earlier message. The server says the count of the last
// entry if he is a member, and else of the last one that he could read.
func TestCheckReadOfWhatWasTrimmed(t *testing.T) {
	left := func(*run) {}
	backAgain := func(r *run) {
		r.add(pim.EntryJoin, 7000, "", "bob")
		r.add(pim.EntryMessage, 8000, "three")
		for user := range r.handed {
			r.handed[user] = append(r.handed[user], r.log[6:]...)
			r.lines[user] = 8
		}
	}
	for _, test := range []struct {
		name  string
		then  func(*run)
		count uint64
		want  string
	}{
		{"left: the count of what is read", left, 1, ""},
		{"left: what he could read last", left, 2, ""},
		{"left: the last entry, which he could not read", left, 3, "unread 1"},
		{"left: more than there is", left, 4, "unread 1"},
		{"back again: the count of what is read", backAgain, 1, ""},
		{"back again: what he could read last before he had left", backAgain, 2, "unread 1"},
		{"back again: an entry in between", backAgain, 3, "unread 1"},
		{"back again: the last entry", backAgain, 4, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := goodRun()
			test.then(r)
			read := pim.Command{Kind: pim.CommandRead, Subject: string(group), Seq: 2, Count: test.count}
			e := pim.Entry{
				Conversation: pim.Own("bob"), Seq: 1, Anchor: 1, Kind: pim.EntryCommand, Sender: "bob", Device: "phone", Local: 9000, Server: 9000,
				ClientID: pim.ClientMessageID{99}, Payload: wire.AppendCommand(nil, &read),
			}
			r.sends = append(r.sends, imtest.Send{
				Conversation: e.Conversation, Sender: "bob", Device: "phone", ClientID: e.ClientID, Kind: e.Kind, Payload: imtest.SentSum(e.Kind, e.Payload),
			})
			gone := r.log
			r.log = nil
			clear(r.finals)
			r.more = func(h *imtest.History) {
				h.Trimmed(group, pim.Seq(len(gone)+1), gone)
				h.Log(e.Conversation, []pim.Entry{e})
			}
			found := imtest.Check(r.history())
			if got := named(found); got != test.want {
				t.Errorf("found %q, want %q: %v", got, test.want, found)
			}
		})
	}
}

// late gives the last message an earlier local time and this anchor. By the rule it is 2; 4 and 5 have
// later local times, too, and so has 3 if local is before 2000.
func (r *run) late(local pim.Millis, anchor pim.Seq) {
	lists := [][]pim.Entry{r.log}
	for u := range r.handed {
		lists = append(lists, r.handed[u], r.finals[u])
	}
	for _, list := range lists {
		for i := range list {
			if list[i].Seq == 6 {
				list[i].Local, list[i].Anchor = local, anchor
			}
		}
	}
	r.acks[5].Anchor = anchor
}
