package pebble

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// check gives every op that can never succeed its error.
func (c *commit) check(d store.Durability, horizon pim.Millis) {
	for i := range c.ops {
		if err := checkWrite(c.ops[i].write, d, horizon); err != nil {
			c.ops[i].err = err
		}
	}
}

func checkWrite(w *store.Write, d store.Durability, horizon pim.Millis) *pim.Error {
	if len(w.Records) > 0 {
		if d == store.Relaxed {
			return pim.Errorf(pim.KindInvalid, "an append to %q cannot be relaxed", w.Log)
		}
		if err := checkName("log", string(w.Log)); err != nil {
			return err
		}
		for _, r := range w.Records {
			if len(r) > store.MaxRecordBytes {
				return tooLarge("record", len(r), store.MaxRecordBytes)
			}
		}
	}
	for i := range w.Cells {
		if err := checkCell(&w.Cells[i], horizon); err != nil {
			return err
		}
	}
	return nil
}

func checkCell(c *store.CellWrite, horizon pim.Millis) *pim.Error {
	if err := checkName("partition", string(c.Partition)); err != nil {
		return err
	}
	switch {
	case c.Key == "":
		return pim.Errorf(pim.KindInvalid, "a cell of %q has an empty key", c.Partition)
	case len(c.Key) > store.MaxKeyBytes:
		return tooLarge("key", len(c.Key), store.MaxKeyBytes)
	case len(c.Value) > store.MaxValueBytes:
		return tooLarge("value", len(c.Value), store.MaxValueBytes)
	case c.Expires > horizon:
		return pim.Errorf(pim.KindInvalid, "a cell of %q expires more than %v ahead", c.Partition, store.MaxLifetime)
	}
	return nil
}

func checkName(what, name string) *pim.Error {
	switch {
	case name == "":
		return pim.Errorf(pim.KindInvalid, "the name of a %s is empty", what)
	case len(name) > store.MaxNameBytes:
		return tooLarge("name of a "+what, len(name), store.MaxNameBytes)
	}
	return nil
}

func tooLarge(what string, n, bound int) *pim.Error {
	return pim.Errorf(pim.KindInvalid, "a %s has %d bytes, at most %d are allowed", what, n, bound)
}
