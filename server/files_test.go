package server

import (
	"testing"

	"github.com/pim-im/pim"
)

// Whatever the limit is, the shares fit it, and none is smaller than a node can work with.
func TestShareOut(t *testing.T) {
	for _, most := range []int{1, 100, 19_000, 1_000_000} {
		for limit := uint64(0); limit < 30_000; limit += 1 + limit/20 {
			s, err := shareOut(limit, most)
			if err != nil {
				if pim.KindOf(err) != pim.KindInvalid || limit >= 400 {
					t.Errorf("limit %d: %v", limit, err)
				}
				continue
			}
			if used := s.connections + s.store + otherFiles; used > int(limit) || s.store < leastStoreFiles || s.connections < min(most, leastConnections) || s.connections > most {
				t.Errorf("limit %d, max-connections %d: %+v", limit, most, s)
			}
		}
		if s, err := shareOut(^uint64(0), most); err != nil || s != (share{most, storeFiles}) {
			t.Errorf("no limit, max-connections %d: %+v, %v", most, s, err)
		}
	}
	if s, err := shareOut(20_000, 19_000); err != nil || s != (share{19_000, storeFiles}) {
		t.Errorf("the defaults: %+v, %v", s, err)
	}
	if s, err := shareOut(1024, 19_000); err != nil || s.connections < 500 {
		t.Errorf("a limit of 1,024: %+v, %v", s, err)
	}
}
