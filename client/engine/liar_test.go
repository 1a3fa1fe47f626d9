package engine_test

import (
	"math"
	"testing"
	"time"

	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// A server whose answers make no sense is not asked again and again without a
// pause, and an engine can start from what is stored of them.
func TestServerThatMakesThingsUp(t *testing.T) {
	for name, lie := range map[string]*wirepb.PIMPullResp{
		"nothing, for ever":   {From: 1, To: 0, Newest: 50},
		"nothing, of all":     {From: 1, To: 0, Newest: math.MaxUint64},
		"all, without a word": {From: 1, To: math.MaxUint64, Newest: math.MaxUint64},
		"something else":      {From: 70, To: 80, Newest: 50},
		"out of order":        {From: 1, To: 9, Newest: 50, Entries: bobs(3, 2)},
		"one seq twice":       {From: 1, To: 9, Newest: 50, Entries: bobs(3, 3)},
		"not in the range":    {From: 1, To: 2, Newest: 50, Entries: bobs(3)},
	} {
		for _, newest := range []uint64{50, 50_000, math.MaxUint64} {
			for _, watch := range []bool{false, true} {
				s := newScript(t, func(p *phone) { p.watch = watch })
				s.quiets()
				if watch {
					s.must(engine.Follow{Conversation: chat})
					s.gets(push(newest))
				} else {
					s.gets(&wirepb.PIMPush{Behind: true})
					s.listed(newest)
				}
				asked := 0
				for asked < 100 && s.isLiedTo(lie) {
					asked++
				}
				if asked > 10 {
					t.Errorf("%s, newest %d, watch %v: asked %d times at once", name, newest, watch, asked)
				}
				s.lives(10 * time.Second)
				s.dies()
				s.starts()
			}
		}
	}
}

// listed answers the sync under way, without a last entry.
func (s *script) listed(newest uint64) {
	for _, m := range s.up {
		if m, ok := m.(*wirepb.PIMSyncReq); ok {
			s.gets(&wirepb.PIMSyncResp{RequestId: m.RequestId, Conversations: []*wirepb.Summary{{Conversation: string(chat), Newest: newest}}})
		}
	}
}

// isLiedTo answers the pulls that were transmitted; it reports whether there were
// any.
func (s *script) isLiedTo(lie *wirepb.PIMPullResp) (asked bool) {
	up := s.up
	s.up = nil
	for _, m := range up {
		if m, ok := m.(*wirepb.PIMPullReq); ok {
			s.gets(&wirepb.PIMPullResp{
				RequestId: m.RequestId, From: lie.From, To: lie.To, Newest: lie.Newest, Entries: lie.Entries, Done: true,
			})
			asked = true
		}
	}
	return asked
}
