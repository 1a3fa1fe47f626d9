package store

import (
	"time"

	"github.com/pim-im/pim"
)

// Check returns why w can never succeed with durability d, as a *pim.Error of
// KindInvalid, or nil. Every engine's Begin calls it first.
func (w *Write) Check(d Durability) error {
	if w.Raise && len(w.Records)+len(w.Erase) > 0 {
		return pim.Errorf(pim.KindInvalid, "a write appends to %q, or erases, and raises its fence", w.Log)
	}
	if w.Trim != 0 && (w.Raise || w.Follows()) {
		return pim.Errorf(pim.KindInvalid, "a write trims %q, and appends to it, erases or raises its fence", w.Log)
	}
	if len(w.Erase) > MaxBatch {
		return pim.Errorf(pim.KindInvalid, "a write erases %d records, at most %d are allowed", len(w.Erase), MaxBatch)
	}
	if w.TouchesLog() {
		if d == Relaxed {
			return pim.Errorf(pim.KindInvalid, "a write to the log %q cannot be relaxed", w.Log)
		}
		if err := w.Log.Check(); err != nil {
			return err
		}
		size := 0
		for _, r := range w.Records {
			if len(r) > MaxRecordBytes {
				return tooLarge("record", len(r), MaxRecordBytes)
			}
			size += len(r)
		}
		for i := range w.Erase {
			if err := w.Erase[i].check(w); err != nil {
				return err
			}
			size += len(w.Erase[i].Rest)
		}
		if size > MaxAppendBytes {
			return tooLarge("write", size, MaxAppendBytes)
		}
	}
	for i := range w.Cells {
		if err := w.Cells[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// TouchesLog reports whether w appends to its log, erases, raises the log's fence or trims.
func (w *Write) TouchesLog() bool { return w.Follows() || w.Raise || w.Trim != 0 }

// Follows reports whether w takes effect only if After and Fence are the log's.
func (w *Write) Follows() bool { return len(w.Records) > 0 || len(w.Erase) > 0 }

// CheckTrim returns why w cannot trim its log, whose last seq is last, as a *pim.Error of
// KindInvalid. Every engine calls it before it writes anything of w.
func (w *Write) CheckTrim(last pim.Seq) error {
	if w.Trim > last {
		return pim.Errorf(pim.KindInvalid, "a trim of %q up to seq %d, its last is %d", w.Log, w.Trim, last)
	}
	return nil
}

func (e *Erasure) check(w *Write) error {
	switch {
	case e.Seq == 0 || e.Seq > w.After:
		return pim.Errorf(pim.KindInvalid, "a write after seq %d of %q erases seq %d", w.After, w.Log, e.Seq)
	case len(e.Rest) == 0:
		return pim.Errorf(pim.KindInvalid, "nothing is left of seq %d of %q; at least one byte stays", e.Seq, w.Log)
	case len(e.Rest) > MaxRecordBytes:
		return tooLarge("record", len(e.Rest), MaxRecordBytes)
	}
	return nil
}

func (c *CellWrite) check() error {
	if err := c.Partition.Check(); err != nil {
		return err
	}
	switch {
	case c.Key == "":
		return pim.Errorf(pim.KindInvalid, "a cell of %q has an empty key", c.Partition)
	case len(c.Key) > MaxKeyBytes:
		return tooLarge("key", len(c.Key), MaxKeyBytes)
	case len(c.Value) > MaxValueBytes:
		return tooLarge("value", len(c.Value), MaxValueBytes)
	case c.Version > MaxVersion:
		return pim.Errorf(pim.KindInvalid, "a cell of %q has the version %d, at most %d is allowed", c.Partition, c.Version, uint64(MaxVersion))
	case c.Lifetime != 0 && c.Partition.Passing():
		return pim.Errorf(pim.KindInvalid, "a cell of the passing partition %q cannot have a lifetime", c.Partition)
	case c.Forget && c.Lifetime != 0:
		return pim.Errorf(pim.KindInvalid, "a cell of %q is to be forgotten and has a lifetime", c.Partition)
	case c.Forget && len(c.Value) > 0:
		return pim.Errorf(pim.KindInvalid, "a cell of %q is to be forgotten and has a value", c.Partition)
	case c.Erase && (c.Lifetime != 0 || c.Partition.Passing()):
		return pim.Errorf(pim.KindInvalid, "a cell of %q that expires or may be forgotten cannot be erased", c.Partition)
	case c.Lifetime != 0 && (c.Lifetime < time.Millisecond || c.Lifetime > MaxLifetime):
		return pim.Errorf(pim.KindInvalid, "a cell of %q lives for %v; from 1 ms to %v are allowed", c.Partition, c.Lifetime, MaxLifetime)
	}
	return nil
}

// Check returns why l cannot name a log, as a *pim.Error of KindInvalid.
func (l Log) Check() error { return checkName("log", string(l)) }

// Check returns why p cannot name a partition, as a *pim.Error of KindInvalid.
func (p Partition) Check() error { return checkName("partition", string(p)) }

// Check returns why r can never succeed, as a *pim.Error of KindInvalid.
func (r *Read) Check() error {
	if err := r.Log.Check(); err != nil {
		return err
	}
	if r.WithLast && r.Limit == (Limit{}) {
		return nil
	}
	return r.Limit.Check()
}

// Check returns why l allows no Read, as a *pim.Error of KindInvalid.
func (l Limit) Check() error {
	if l.Records < 1 || l.Bytes < 1 {
		return pim.Errorf(pim.KindInvalid, "a read of at most %d records and %d bytes; both are at least 1", l.Records, l.Bytes)
	}
	return nil
}

// CheckBatch returns why one call cannot take n gets or reads, as a *pim.Error of KindInvalid.
func CheckBatch(n int) error {
	if n > MaxBatch {
		return pim.Errorf(pim.KindInvalid, "%d look-ups in one call, at most %d are allowed", n, MaxBatch)
	}
	return nil
}

func checkName(what, name string) error {
	switch {
	case name == "":
		return pim.Errorf(pim.KindInvalid, "the name of a %s is empty", what)
	case len(name) > MaxNameBytes:
		return tooLarge("name of a "+what, len(name), MaxNameBytes)
	}
	return nil
}

func tooLarge(what string, n, bound int) error {
	return pim.Errorf(pim.KindInvalid, "a %s has %d bytes, at most %d are allowed", what, n, bound)
}
