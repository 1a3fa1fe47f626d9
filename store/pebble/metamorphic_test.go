package pebble_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/store/storetest"
	"pgregory.net/rapid"
)

// TestLikeMemory makes the same random calls to a store and to storetest.Memory, and
// closes, crashes, flushes and compacts the store in between. Both must give the same
// answers.
func TestLikeMemory(t *testing.T) { rapid.Check(t, likeMemory) }

// FuzzLikeMemory lets the fuzzer choose the calls of TestLikeMemory.
func FuzzLikeMemory(f *testing.F) { f.Fuzz(rapid.MakeFuzz(likeMemory)) }

func likeMemory(t *rapid.T) {
	m := &twins{T: t, fs: vfs.NewCrashableMem(), model: storetest.NewMemory(), gone: map[[2]string]uint64{}}
	m.open()
	t.Repeat(map[string]func(*rapid.T){
		"commit":  m.commit,
		"relaxed": m.relaxed,
		"read":    m.read,
		"last":    m.last,
		"get":     m.get,
		"list":    m.list,
		"reopen":  m.reopen,
		"crash":   m.crash,
		"flush":   m.flush,
		"compact": m.compact,
		"move":    m.move,
	})
	m.closes()
}

// twins is a store and its model.
type twins struct {
	*rapid.T
	fs      *vfs.MemFS
	store   *pebble.Store
	model   *storetest.Memory
	pending []store.CellWrite // relaxed, which a crash may lose

	gone map[[2]string]uint64 // by partition and key: the highest version that was forgotten
}

func (m *twins) open() {
	s, err := pebble.Open("db", small(m.fs))
	if err != nil {
		m.Fatal(err)
	}
	m.store = s
}

func (m *twins) closes() {
	if err := m.store.Close(); err != nil {
		m.Fatal(err)
	}
	m.pending = nil
}

// same fails unless both gave the same value, and the same kind of error.
func (m *twins) same(what string, got any, gotErr error, want any, wantErr error) {
	var a, b *store.ConflictError
	if errors.As(gotErr, &a) != errors.As(wantErr, &b) || a != nil && *a != *b || pim.KindOf(gotErr) != pim.KindOf(wantErr) || (gotErr == nil) != (wantErr == nil) {
		m.Fatalf("%s: error %v, the model's is %v", what, gotErr, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		m.Fatalf("%s: %.200v, the model says %.200v", what, fmt.Sprintf("%q", got), fmt.Sprintf("%q", want))
	}
}

var (
	logName   = rapid.SampledFrom([]store.Log{"a", "ab", "a\x00", "\xff", "\xff\xff"})
	partition = rapid.SampledFrom([]store.Partition{"a", "ab", "a\x00", "\xff", "~", "~a", "~ab"})
	cellKey   = rapid.SampledFrom([]string{"\x00", "a", "ab", "b", "\xff", "\xff\xff"})
	value     = rapid.SampledFrom([]string{"", "\x00", "a", "ab", "\xff"})
	version   = rapid.SampledFrom([]uint64{0, 1, 2, 127, 128, 1 << 62, store.MaxVersion})
	expiry    = rapid.SampledFrom([]time.Duration{0, 0, 0, time.Hour, 8 * 24 * time.Hour, 300 * 24 * time.Hour})
	position  = rapid.Custom(func(t *rapid.T) pim.Seq {
		return pim.Seq(rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 1000)).Draw(t, "seq"))
	})
	cellWrite = rapid.Custom(func(t *rapid.T) store.CellWrite {
		c := store.CellWrite{Partition: partition.Draw(t, "partition")}
		c.Key, c.Version, c.Value = cellKey.Draw(t, "key"), version.Draw(t, "version"), []byte(value.Draw(t, "value"))
		if c.Partition.Passing() {
			if rapid.IntRange(0, 2).Draw(t, "forget") == 0 {
				c.Forget, c.Value = true, nil
			}
		} else if d := expiry.Draw(t, "lifetime"); d != 0 {
			c.Key += "expiring" // either all writes of a cell expire or none
			c.Lifetime = d
		} else if rapid.IntRange(0, 19).Draw(t, "forget for good") == 0 {
			c.Forget, c.Version, c.Value = true, store.MaxVersion, nil
		}
		return c
	})
)

func (m *twins) write(t *rapid.T) *store.Write {
	w := &store.Write{Log: logName.Draw(t, "log"), Cells: m.cells(t, 0, 3)}
	w.After, w.Fence, _ = store.LogEnd(context.Background(), m.model, w.Log)
	if rapid.IntRange(0, 9).Draw(t, "conflict") == 0 {
		w.After, w.Fence = position.Draw(t, "after"), rapid.Uint64Range(0, 3).Draw(t, "fence")
	}
	if w.Raise = rapid.IntRange(0, 9).Draw(t, "raise") == 0; w.Raise {
		return w
	}
	if rapid.IntRange(0, 7).Draw(t, "trim") == 0 {
		last, _, _ := store.LogEnd(context.Background(), m.model, w.Log)
		w.Trim = pim.Seq(rapid.Uint64Range(0, uint64(last)+1).Draw(t, "up to")) // last+1 is invalid, 0 is no trim
		return w
	}
	for i := range rapid.SampledFrom([]int{0, 1, 1, 2, 5, 300}).Draw(t, "records") {
		size := rapid.SampledFrom([]int{0, 1, 10, 200, 70_000}).Draw(t, "size")
		if i > 5 {
			size = min(size, 200)
		}
		w.Records = append(w.Records, bytes.Repeat([]byte{byte(i)}, size))
	}
	if rapid.IntRange(0, 3).Draw(t, "erase") == 0 {
		for range rapid.IntRange(1, 4).Draw(t, "erasures") {
			seq := rapid.Uint64Range(0, uint64(w.After)+1).Draw(t, "seq") // 0 and After+1 are invalid
			w.Erase = append(w.Erase, store.Erasure{Seq: pim.Seq(seq), Rest: []byte(rapid.SampledFrom([]string{"r", "rest"}).Draw(t, "rest"))})
		}
	}
	return w
}

// cells makes writes of cells. An engine need not remember forgotten versions, so no
// forgotten version or lower one is written again.
func (m *twins) cells(t *rapid.T, least, most int) []store.CellWrite {
	cells := rapid.SliceOfN(cellWrite, least, most).Draw(t, "cells")
	for i := range cells {
		c := &cells[i]
		name := [2]string{string(c.Partition), c.Key}
		switch gone := m.gone[name]; {
		case c.Forget:
			m.gone[name] = max(gone, c.Version)
		case c.Version <= gone && gone < store.MaxVersion:
			c.Version = gone + 1
		case c.Version <= gone:
			c.Version = 0
		}
	}
	return cells
}

// move writes and forgets so many cells of a passing partition that the next list takes
// too many steps and moves the partition.
func (m *twins) move(t *rapid.T) {
	p := rapid.SampledFrom([]store.Partition{"~", "~a", "~ab"}).Draw(t, "partition")
	var cells []store.CellWrite
	for i := range 100 {
		c := store.CellWrite{Partition: p, Cell: store.Cell{Key: fmt.Sprint("move", i)}}
		c.Version = m.gone[[2]string{string(p), c.Key}] + 1
		m.gone[[2]string{string(p), c.Key}] = c.Version
		f := c
		f.Forget = true
		cells = append(cells, c, f)
	}
	m.both("move", cells, store.Durable)
	m.pending = nil
	m.list(t)
	got, err := m.store.List(context.Background(), p, "", 10)
	want, _ := m.model.List(context.Background(), p, "", 10)
	m.same("list after a move", fmt.Sprintf("%+v", got), err, fmt.Sprintf("%+v", want), nil)
}

func (m *twins) commit(t *rapid.T) {
	var got, want []*store.Write
	for range rapid.IntRange(0, 4).Draw(t, "writes") {
		w := m.write(t)
		v := *w
		got, want = append(got, w), append(want, &v)
	}
	ctx := context.Background()
	m.same("commit", nil, store.Commit(ctx, m.store, got, store.Durable), nil, store.Commit(ctx, m.model, want, store.Durable))
	for i := range got {
		m.same(fmt.Sprintf("write %d", i), nil, got[i].Err, nil, want[i].Err)
		if got[i].Err == nil && writes(got[i]) {
			m.pending = nil // a durable write makes all earlier writes durable
		}
	}
}

// writes reports whether w has anything to write. An empty write is durable without an
// fsync, and so does not make earlier writes durable.
func writes(w *store.Write) bool {
	return w.TouchesLog() || slices.ContainsFunc(w.Cells, func(c store.CellWrite) bool { return c.Version > 0 })
}

func (m *twins) relaxed(t *rapid.T) {
	cells := m.cells(t, 1, 5)
	m.both("relaxed commit", cells, store.Relaxed)
	m.pending = append(m.pending, cells...)
}

func (m *twins) both(what string, cells []store.CellWrite, d store.Durability) {
	ctx := context.Background()
	m.same(what, nil, store.Commit(ctx, m.store, []*store.Write{{Cells: cells}}, d),
		nil, store.Commit(ctx, m.model, []*store.Write{{Cells: cells}}, d))
}

func (m *twins) read(t *rapid.T) {
	log, from, to := logName.Draw(t, "log"), position.Draw(t, "from"), position.Draw(t, "to")
	limit := store.Limit{
		Records: rapid.SampledFrom([]int{0, 1, 2, 10, 1000}).Draw(t, "records"),
		Bytes:   rapid.SampledFrom([]int{0, 1, 11, 500, 1 << 20}).Draw(t, "bytes"),
	}
	got := []store.Read{{Log: log, From: from, To: to, Limit: limit, WithLast: rapid.Bool().Draw(t, "with last")}}
	want := slices.Clone(got)
	gotErr, wantErr := m.store.Read(context.Background(), got), m.model.Read(context.Background(), want)
	if r, w := &got[0], &want[0]; wantErr == nil {
		m.same("read", fmt.Sprint(r.First, r.Records, r.Last, r.Fence, r.Front), gotErr, fmt.Sprint(w.First, w.Records, w.Last, w.Fence, w.Front), nil)
		return
	}
	m.same("read", nil, gotErr, nil, wantErr)
}

func (m *twins) last(t *rapid.T) {
	log := logName.Draw(t, "log")
	got, gotFence, gotErr := store.LogEnd(context.Background(), m.store, log)
	want, wantFence, wantErr := store.LogEnd(context.Background(), m.model, log)
	m.same("last", [2]uint64{uint64(got), gotFence}, gotErr, [2]uint64{uint64(want), wantFence}, wantErr)
}

func (m *twins) get(t *rapid.T) {
	p, key := partition.Draw(t, "partition"), cellKey.Draw(t, "key")
	if rapid.Bool().Draw(t, "expiring") {
		key += "expiring"
	}
	got, gotOK, gotErr := store.Lookup(context.Background(), m.store, p, key)
	want, wantOK, wantErr := store.Lookup(context.Background(), m.model, p, key)
	m.same("get", fmt.Sprintf("%v %+v", gotOK, got), gotErr, fmt.Sprintf("%v %+v", wantOK, want), wantErr)
}

func (m *twins) list(t *rapid.T) {
	p, limit := partition.Draw(t, "partition"), rapid.IntRange(0, 7).Draw(t, "limit")
	after := rapid.SampledFrom([]string{"", "\x00", "a", "aa", "\xff"}).Draw(t, "after")
	got, gotErr := m.store.List(context.Background(), p, after, limit)
	want, wantErr := m.model.List(context.Background(), p, after, limit)
	m.same("list", fmt.Sprintf("%+v", got), gotErr, fmt.Sprintf("%+v", want), wantErr)
}

func (m *twins) reopen(*rapid.T) {
	m.closes()
	m.open()
}

// crash cuts the power and opens the store again. The test then writes again the relaxed
// cells that may be lost, as their owner would do.
func (m *twins) crash(t *rapid.T) {
	seed := rapid.Uint64().Draw(t, "seed")
	fs := crash(m.fs, rand.New(rand.NewPCG(seed, 0)))
	pending := m.pending
	m.closes()
	m.fs = fs
	m.open()
	if len(pending) > 0 {
		m.both("again", pending, store.Durable)
	}
}

func (m *twins) flush(t *rapid.T) {
	if err := m.store.Flush(); err != nil {
		t.Fatal(err)
	}
	m.pending = nil
}

func (m *twins) compact(t *rapid.T) {
	if err := m.store.Compact(); err != nil {
		t.Fatal(err)
	}
}
