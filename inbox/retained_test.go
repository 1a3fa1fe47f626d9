package inbox

import (
	"encoding/binary"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// What a cell says is what was written, and what an earlier version wrote, without a notice.
func TestRetainCells(t *testing.T) {
	c := pim.Direct("alice", "bob")
	for _, r := range []pim.Retention{{}, {Age: 7}, {Age: 7, Before: 30, From: 1 << 40}, {Age: 7, From: 1 << 40}} {
		cells := RetainCells(c, 5, r)
		if got, err := ParseRetainCell(cells[0].Cell); err != nil || got != r {
			t.Errorf("%+v is read as %+v, %v", r, got, err)
		}
		n := LogsOf(c)
		if cells[0].Partition != Retained(n) || cells[1].Partition != Retaining || cells[1].Key != RetainingKey(n) {
			t.Errorf("the cells are %+v", cells)
		}
	}
	old := store.Cell{Version: 5, Value: binary.AppendUvarint(nil, 1000)}
	if got, err := ParseRetainCell(old); err != nil || got != (pim.Retention{Age: 1000}) {
		t.Errorf("the cell of an earlier version is read as %+v, %v", got, err)
	}
	if got, err := ParseRetainCell(store.Cell{}); err != nil || got != (pim.Retention{}) {
		t.Errorf("no cell is read as %+v, %v", got, err)
	}
	for _, value := range []string{"", "\x80", "\x01\x02", "\x01\x02\x80"} {
		if got, err := ParseRetainCell(store.Cell{Version: 1, Value: []byte(value)}); pim.KindOf(err) != pim.KindCorrupt {
			t.Errorf("%x is read as %+v, %v", value, got, err)
		}
	}
}
