package client

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"pgregory.net/rapid"
)

// In whatever order entries and messages come, the timeline shows what sorting everything
// would show: entries by their places, after them the outbox in its order, and a message
// that has become an entry only once.
func TestTimeline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var line timeline
		entries := map[pim.Seq]pim.Entry{} // as they are shown
		log := map[pim.Seq]pim.Entry{}     // as they are
		pending := map[pim.ClientMessageID]engine.Pending{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := pim.ClientMessageID{byte(rapid.IntRange(1, 12).Draw(t, "message"))}
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0: // queued, or a new state
				if slices.ContainsFunc(mapValues(entries), func(e pim.Entry) bool { return e.ClientID == id }) {
					continue
				}
				p := engine.Pending{Outgoing: engine.Outgoing{ID: id, Number: uint64(id[0]), Local: 100}, State: rapid.SampledFrom([]SendState{Queued, InFlight, Delayed, Failed}).Draw(t, "state")}
				pending[id] = p
				line.put(p)
			case 1: // delivered
				if _, ok := pending[id]; !ok {
					continue
				}
				seq := pim.Seq(len(entries) + 1)
				e := pim.Entry{Seq: seq, Anchor: pim.Seq(rapid.IntRange(1, int(seq)).Draw(t, "anchor")), ClientID: id, Local: 100, Server: 200}
				line.sent(id, Sent{Seq: seq, Anchor: e.Anchor, Server: e.Server}, "alice", "phone")
				delete(pending, id)
				entries[seq] = e
				// The entry of a message that was sent again by hand may have the local
				// time of its first transmission.
				e.Local = pim.Millis(rapid.SampledFrom([]int{100, 50}).Draw(t, "local"))
				log[seq] = e
			case 2: // somebody else's
				seq := pim.Seq(len(entries) + 1)
				e := pim.Entry{Seq: seq, Anchor: pim.Seq(rapid.IntRange(1, int(seq)).Draw(t, "anchor")), ClientID: pim.ClientMessageID{99, byte(seq)}, Local: 70, Server: 200}
				entries[seq], log[seq] = e, e
				line.insert(e)
			case 3: // the entry itself comes, or comes once more
				if len(log) > 0 {
					seq := pim.Seq(rapid.IntRange(1, len(log)).Draw(t, "seq"))
					entries[seq] = log[seq]
					line.insert(log[seq])
				}
			}
		}
		want := []string{}
		for _, e := range slices.SortedFunc(slices.Values(mapValues(entries)), func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) }) {
			want = append(want, fmt.Sprint(e.Seq))
		}
		for _, p := range slices.SortedFunc(slices.Values(mapValues(pending)), func(a, b engine.Pending) int { return cmp.Compare(a.Number, b.Number) }) {
			want = append(want, fmt.Sprint(p.ID[0], p.State))
		}
		got := []string{}
		for _, m := range line.items() {
			if m.Pending() {
				got = append(got, fmt.Sprint(m.Entry.ClientID[0], m.State))
			} else {
				got = append(got, fmt.Sprint(m.Entry.Seq))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("shows %v, want %v", got, want)
		}
	})
}

func mapValues[K comparable, V any](m map[K]V) (list []V) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// What retention has removed leaves the timeline, and an answer about it adds nothing.
func TestTimelineIsTrimmed(t *testing.T) {
	var line timeline
	for seq := pim.Seq(1); seq <= 4; seq++ {
		line.insert(pim.Entry{Seq: seq, Anchor: seq, Kind: pim.EntryMessage, ClientID: pim.ClientMessageID{byte(seq)}, Server: 1})
	}
	line.put(engine.Pending{Outgoing: engine.Outgoing{ID: pim.ClientMessageID{9}, Number: 1}})
	line.put(engine.Pending{Outgoing: engine.Outgoing{ID: pim.ClientMessageID{10}, Number: 2}})
	line.trim(4)
	line.sent(pim.ClientMessageID{9}, Sent{Seq: 2, Anchor: 2, Duplicate: true}, "alice", "phone")
	line.sent(pim.ClientMessageID{10}, Sent{Seq: 3, Anchor: 3, Server: 1}, "alice", "phone")
	if items := line.items(); len(items) != 1 || items[0].Entry.Seq != 4 || line.front != 4 {
		t.Errorf("%+v, front %d", items, line.front)
	}
}
