package engine

import (
	"testing"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// After any operations the counts are those of a recount, and what is kept ahead comes out
// in order.
func TestConversationsCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs := conversations{byID: make(map[pim.ConversationID]*conversation)}
		id := rapid.SampledFrom([]pim.ConversationID{"a", "b", "c"})
		seq := rapid.Custom(func(t *rapid.T) pim.Seq { return pim.Seq(rapid.IntRange(0, 12).Draw(t, "seq")) })
		cs.restore(&Conversation{ID: "a", Known: 9, Newest: 12, Holes: []Hole{{From: 2, To: 3}, {From: 4, To: 3}}})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			c := cs.get(id.Draw(t, "conversation"))
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				cs.setTarget(c, rapid.SampledFrom([]pim.Seq{0, 3, unknownSeq}).Draw(t, "target"))
			case 1:
				c.known += seq.Draw(t, "more")
				cs.arrived(c)
			case 2:
				c.known++
				cs.setHoles(c, c.holes.with(Hole{From: c.known, To: c.known, Lazy: rapid.Bool().Draw(t, "lazy")}))
				c.known++
			case 3:
				from := seq.Draw(t, "from")
				cs.setHoles(c, c.holes.without(from, from+seq.Draw(t, "seqs")))
			case 4:
				cs.keepAhead(c, pim.Entry{Seq: c.known + 2 + seq.Draw(t, "above"), Payload: make([]byte, rapid.SampledFrom([]int{0, 1, maxAheadBytes / 2}).Draw(t, "bytes"))})
			case 5:
				if next, ok := cs.takeAhead(c); ok {
					if next.Seq != c.known+1 {
						t.Fatalf("%d follows %d", next.Seq, c.known)
					}
					c.known++
				} else if len(c.ahead) > 0 && c.ahead[0].Seq <= c.known+1 {
					t.Fatalf("%d is kept ahead of %d", c.ahead[0].Seq, c.known)
				}
			case 6:
				cs.clearAhead(c)
			}
			behind, holed, bytes := 0, 0, 0
			for _, c := range cs.byID {
				if c.target != 0 {
					behind++
				}
				if _, eager := c.holes.eager(); eager {
					holed++
				}
				for i := range c.ahead {
					bytes += len(c.ahead[i].Payload)
					if i > 0 && c.ahead[i].Seq <= c.ahead[i-1].Seq {
						t.Fatalf("%d is kept ahead after %d", c.ahead[i].Seq, c.ahead[i-1].Seq)
					}
				}
			}
			if behind != cs.behind || holed != cs.holed || bytes != cs.aheadBytes || bytes > maxAheadBytes {
				t.Fatalf("%d have a target, %d a hole, %d bytes are ahead; counted: %d, %d, %d", behind, holed, bytes, cs.behind, cs.holed, cs.aheadBytes)
			}
			if cs.complete() != (behind+holed == 0) {
				t.Fatalf("complete: %v", cs.complete())
			}
		}
	})
}

// With Watch only what is followed is taken; without, everything that has a name.
func TestWhichConversationsAreFollowed(t *testing.T) {
	all := conversations{byID: make(map[pim.ConversationID]*conversation)}
	if a := all.get("a"); all.get("") != nil || a == nil || all.get("a") != a {
		t.Error("without Watch everything that has a name is followed")
	}
	some := conversations{watch: true, byID: make(map[pim.ConversationID]*conversation)}
	if some.get("a") != nil || len(some.byID) != 0 {
		t.Error("what is not followed is kept")
	}
	c := some.add("a")
	if some.get("a") != nil {
		t.Error("a is not followed yet")
	}
	if c.followed = true; some.get("a") != c {
		t.Error("a is followed")
	}
}

func TestAheadIsBounded(t *testing.T) {
	cs := conversations{byID: make(map[pim.ConversationID]*conversation)}
	c := cs.get("a")
	for seq := range pim.Seq(2 * maxAhead) {
		cs.keepAhead(c, pim.Entry{Seq: seq + 2})
	}
	if len(c.ahead) != maxAhead {
		t.Errorf("%d entries are kept ahead", len(c.ahead))
	}
}
