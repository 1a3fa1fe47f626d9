package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math/bits"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"golang.org/x/sync/errgroup"
)

// Sum is a number of items, and the sum of their SHA-256, modulo 2²⁵⁶. Two stores that have the same
// items have the same sum, in whichever order they were read.
type Sum struct {
	Items uint64
	hash  [4]uint64 // the least significant word first
}

// Hash returns the sum in 64 hexadecimal digits.
func (s *Sum) Hash() string {
	var b [32]byte
	for i, word := range s.hash {
		binary.BigEndian.PutUint64(b[len(b)-8*(i+1):], word)
	}
	return hex.EncodeToString(b[:])
}

// add adds an item.
func (s *Sum) add(item [sha256.Size]byte) {
	s.Items++
	carry := uint64(0)
	for i := range s.hash {
		s.hash[i], carry = bits.Add64(s.hash[i], binary.BigEndian.Uint64(item[len(item)-8*(i+1):]), carry)
	}
}

// Summary is what a store holds, by sort.
type Summary struct {
	Logs     Sum
	Records  uint64 // of all logs
	Cells    Sum    // that neither pass nor expire
	Passing  Sum
	Expiring Sum // whose lifetime is not over
}

// of returns the sum to which c belongs.
func (s *Summary) of(c *store.LiveCell) *Sum {
	switch {
	case c.Left != 0:
		return &s.Expiring
	case c.Partition.Passing():
		return &s.Passing
	}
	return &s.Cells
}

func (s *Summary) progress(step Step) Progress {
	return Progress{step, s.Logs.Items, s.Records, s.Cells.Items + s.Passing.Items + s.Expiring.Items}
}

// Summarize reads all of s. Errors are those of the store, and KindNotFound if a log was trimmed while it was
// read, and ctx's.
func Summarize(ctx context.Context, s store.Scanner, o Options, step Step) (Summary, error) {
	o = o.withDefaults()
	var sum Summary
	err := o.pages(ctx, s, func(page *store.Page) error {
		var mu sync.Mutex
		g, all := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for i := range page.Logs {
			g.Go(func() error {
				l := &page.Logs[i]
				item, err := o.logHash(all, s, l)
				mu.Lock()
				defer mu.Unlock()
				sum.Logs.add(item)
				sum.Records += uint64(l.Last - l.Front + 1)
				return err
			})
		}
		for i := range page.Cells {
			c := &page.Cells[i]
			sum.of(c).add(cellHash(c))
		}
		err := g.Wait()
		o.Progress(sum.progress(step))
		return err
	})
	return sum, err
}

// pages calls do with each page of s.
func (o *Options) pages(ctx context.Context, s store.Scanner, do func(*store.Page) error) error {
	for token := ""; ; {
		var page store.Page
		err := o.try(ctx, func() (err error) {
			page, err = s.Scan(ctx, token)
			return err
		})
		if err == nil {
			err = do(&page)
		}
		if token = page.Next; err != nil || token == "" {
			return err
		}
	}
}

// logHash returns the hash of a log that is as l says.
func (o *Options) logHash(ctx context.Context, s store.Store, l *store.LogState) (item [sha256.Size]byte, err error) {
	h := sha256.New()
	putName(h, string(l.Log))
	putNumber(h, uint64(l.Front))
	putNumber(h, uint64(l.Last))
	putNumber(h, l.Fence)
	err = o.records(ctx, s, l, func(record []byte) error {
		putName(h, string(record))
		return nil
	})
	h.Sum(item[:0])
	return item, err
}

// records calls do with each record of a log that is as l says.
func (o *Options) records(ctx context.Context, s store.Store, l *store.LogState, do func([]byte) error) error {
	for next := l.Front; next <= l.Last; {
		records, err := o.read(ctx, s, l.Log, next, l.Last)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := do(r); err != nil {
				return err
			}
		}
		next += pim.Seq(len(records))
	}
	return nil
}

// read returns records from..to of a log that has them, as many as one append takes, and at least one.
func (o *Options) read(ctx context.Context, s store.Store, log store.Log, from, to pim.Seq) (records [][]byte, err error) {
	err = o.try(ctx, func() (err error) {
		records, err = store.ReadLog(ctx, s, log, from, to, store.Limit{Records: readRecords, Bytes: readBytes})
		return err
	})
	if err == nil && len(records) == 0 {
		err = pim.Errorf(pim.KindCorrupt, "the log %q has no record at seq %d", log, from)
	}
	return records, err
}

// cellHash returns the hash of what is to be equal of a cell. Its lifetime is not: engines know it only
// roughly.
func cellHash(c *store.LiveCell) (item [sha256.Size]byte) {
	h := sha256.New()
	putName(h, string(c.Partition))
	putName(h, c.Key)
	putNumber(h, c.Version)
	h.Write(c.Value)
	h.Sum(item[:0])
	return item
}

// putName writes a string whose end the hash can tell.
func putName(h hash.Hash, name string) {
	putNumber(h, uint64(len(name)))
	h.Write([]byte(name))
}

func putNumber(h hash.Hash, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	h.Write(b[:])
}
