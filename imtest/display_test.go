package imtest_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"pgregory.net/rapid"
)

// The fold of a log, merged in any order, shows what the model shows.
func TestDisplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := []pim.Entry{{Seq: 1, Kind: pim.EntryMessage, Payload: []byte("first")}}
		for seq := pim.Seq(2); int(seq) < rapid.IntRange(2, 12).Draw(t, "length"); seq++ {
			e := pim.Entry{Seq: seq, Refers: 1, Sender: rapid.SampledFrom([]pim.UserID{"alice", "bob"}).Draw(t, "user")}
			e.Kind = rapid.SampledFrom([]pim.EntryKind{pim.EntryEdit, pim.EntryReaction, pim.EntryReaction, pim.EntryPin}).Draw(t, "kind")
			switch e.Kind {
			case pim.EntryEdit:
				e.Payload = []byte{byte('a' + seq)}
			case pim.EntryReaction:
				e.Reaction = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "text")
				fallthrough
			default:
				e.Removed = rapid.Bool().Draw(t, "removed")
			}
			if rapid.IntRange(0, 20).Draw(t, "recall") == 0 {
				e.Kind, e.Removed = pim.EntryRecall, false
			}
			log = append(log, e)
		}
		fold := pim.Fold{Target: 1}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for _, i := range r.Perm(len(log)) {
			if f, ok := pim.FoldOf(&log[i]); ok {
				fold.Merge(&f)
			}
		}
		message := log[0]
		if fold.Erases(&message) {
			message.Payload = nil
		}
		if got, want := imtest.Shown(&message, &fold), imtest.Display(log, 1); !reflect.DeepEqual(got, want) {
			t.Fatalf("shown %+v, the log says %+v: %+v", got, want, log)
		}
	})
}
