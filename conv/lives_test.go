package conv

import (
	"fmt"
	"testing"

	"github.com/pim-im/pim"
	"github.com/prometheus/client_golang/prometheus"
)

// A shard may hold what the others leave, and gives it back when they need their
// part.
func TestShardsShareTheirMemory(t *testing.T) {
	const shards = 8
	const bound = 4 << 20
	shown := prometheus.NewRegistry()
	w := &Writers{metrics: NewMetrics(shown), memory: bound}
	use := func(s *shard, id string, weight int) {
		l := &live{conversation: newConversation(pim.ConversationID(id), 1), weight: weight}
		s.lives[l.id] = l
		s.link(l)
		s.weight += weight
		s.shrink()
	}
	const large = bound / 4
	busy := newShard(w, bound/shards)
	for i := range 6 {
		use(busy, fmt.Sprint("large", i), large)
	}
	if len(busy.lives) != 4 || busy.oldest.id != "large2" {
		t.Fatalf("the only shard in use holds %d conversations of a quarter of the bound", len(busy.lives))
	}
	var others []*shard
	for i := range shards - 1 {
		s := newShard(w, bound/shards)
		others = append(others, s)
		for j := range 100 {
			use(s, fmt.Sprint("small", j), s.part/10)
		}
		if len(s.lives) != 10 {
			t.Errorf("shard %d holds %d conversations of a tenth of its part", i, len(s.lives))
		}
	}
	use(busy, "small", 1)
	total := 0
	for _, s := range append(others, busy) {
		total += s.weight
	}
	if total > bound || len(busy.lives) != 1 {
		t.Errorf("%d of %d are used, %d conversations by the shard that had all", total, bound, len(busy.lives))
	}
	families, err := shown.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "pim_conversations_live_bytes" && int(f.Metric[0].GetGauge().GetValue()) != total {
			t.Errorf("the metric says %v; %d bytes are used", f.Metric[0].GetGauge(), total)
		}
	}
}
