package pebble_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// trims trims log up to a seq.
func trims(t testing.TB, s store.Store, log store.Log, upTo pim.Seq) {
	t.Helper()
	w := &store.Write{Log: log, Trim: upTo}
	if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
}

// marked returns a record of a given size, of noise, which no compression changes, and its
// first bytes.
func marked(rng *rand.Rand, size int) (record, mark []byte) {
	record = make([]byte, size)
	for i := range record {
		record[i] = byte(rng.Uint32())
	}
	return record, record[:24]
}

// holding returns how many of marks the files in dir hold whose names end with suffix.
func holding(t testing.TB, fs vfs.FS, dir, suffix string, marks [][]byte) (n int) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, name := range names {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		f, err := fs.Open(filepath.Join(dir, name))
		if err != nil {
			continue // deleted meanwhile
		}
		data, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	for _, m := range marks {
		if bytes.Contains(all, m) {
			n++
		}
	}
	return n
}

// The bytes of trimmed records are in no file of the store once it has purged them: neither those of
// chunks under their log's key nor those of chunks that are kept apart, nor those of a chunk that
// the front divides. The records behind the front are there.
func TestTrimmedBytesLeaveTheDisk(t *testing.T) {
	fs := vfs.NewMem()
	o := pebble.Options{FS: fs, Logger: quiet()}
	s := open(t, "db", o)
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	var marks [][]byte
	var records [][]byte
	for _, sizes := range [][]int{ // of one append: in place, apart, and of several chunks
		{40, 40, 40}, {3000}, {40, 3000, 40}, {60_000, 60_000, 40}, {200}, {900, 900, 900, 900, 900}, {40, 40, 40, 40},
	} {
		w := &store.Write{Log: "log", After: pim.Seq(len(records))}
		for _, size := range sizes {
			record, mark := marked(rng, size)
			w.Records, records, marks = append(w.Records, record), append(records, record), append(marks, mark)
		}
		beside, _ := marked(rng, 3000)
		other := &store.Write{Log: store.Log(fmt.Sprint("other ", len(records))), Records: [][]byte{beside}}
		if err := store.Commit(context.Background(), s, []*store.Write{w, other}, store.Durable); err != nil || w.Err != nil {
			t.Fatal(err, w.Err)
		}
	}
	sinks(t, s)
	if n := holding(t, fs, "db", ".sst", marks); n != len(marks) {
		t.Fatalf("the tables hold %d of %d records before the trim", n, len(marks))
	}
	for _, upTo := range []int{2, 3, 6, 9, 13, 17, len(records) - 1, len(records)} {
		trims(t, s, "log", pim.Seq(upTo))
		if err := s.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := holding(t, fs, "db", "", marks[:upTo]); n != 0 {
			t.Errorf("the files hold %d of %d trimmed records", n, upTo)
		}
		reads := []store.Read{{Log: "log", From: 1, Limit: store.Limit{Records: 100, Bytes: 1 << 30}, WithLast: true}}
		if err := s.Read(context.Background(), reads); err != nil {
			t.Fatal(err)
		}
		r := &reads[0]
		if r.First != pim.Seq(upTo+1) || r.Front != r.First || r.Last != pim.Seq(len(records)) || len(r.Records) != len(records)-upTo {
			t.Fatalf("trimmed up to %d: first %d, front %d, last %d, %d records", upTo, r.First, r.Front, r.Last, len(r.Records))
		}
		for i, data := range r.Records {
			if !bytes.Equal(data, records[upTo+i]) {
				t.Fatalf("trimmed up to %d: record %d changed", upTo, upTo+i+1)
			}
		}
	}
	if n := s.Keys('v'); n != 7 {
		t.Errorf("%d chunks are kept apart, 7 are of the other logs", n)
	}
	if n := s.Keys('l'); n != 8 {
		t.Errorf("%d keys of logs, 7 of the other logs and the fence of this", n)
	}
	closes(t, s)
}

// A read of a log with a hole, or with records before a front that is not there, is corrupt. A
// fence of another form is, too.
func TestAFrontThatIsWrong(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "db", small(fs))
	appends(t, s, "log", 0, "one")
	appends(t, s, "log", 1, "two")
	trims(t, s, "log", 1)
	if err := s.SetChunk("log", ^pim.Seq(0), make([]byte, 8)); err != nil { // a fence, and no front
		t.Fatal(err)
	}
	closes(t, s)
	s = open(t, "db", small(fs))
	defer s.Close()
	if _, err := store.ReadLog(context.Background(), s, "log", 1, 0, store.Limit{Records: 9, Bytes: 99}); pim.KindOf(err) != pim.KindCorrupt {
		t.Errorf("read: %v", err)
	}
	for _, value := range [][]byte{{}, {1}, make([]byte, 16), bytes.Repeat([]byte{0xff}, 16), make([]byte, 17)} {
		if err := s.SetChunk("none", ^pim.Seq(0), value); err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.LogEnd(context.Background(), s, "none"); pim.KindOf(err) != pim.KindCorrupt {
			t.Errorf("last, with the fence %x: %v", value, err)
		}
	}
}

// Logs are trimmed while others read them. The chunks of a read may leave at any moment of it,
// and no read takes that for corruption.
func TestTrimsUnderReads(t *testing.T) {
	s := open(t, "db", small(vfs.NewMem()))
	defer closes(t, s)
	const records = 400
	for i := pim.Seq(0); i < records; i += 4 {
		var some []string
		for seq := i + 1; seq <= i+4; seq++ {
			some = append(some, fmt.Sprintf("%04d %080d", seq, seq))
		}
		appends(t, s, "log", i, some...)
	}
	var reading sync.WaitGroup
	var over atomic.Bool
	for range 3 {
		reading.Go(func() {
			for from := pim.Seq(1); !over.Load(); {
				reads := []store.Read{{Log: "log", From: from, Limit: store.Limit{Records: 50, Bytes: 1 << 20}}}
				if err := s.Read(context.Background(), reads); err != nil {
					t.Error(err)
					return
				}
				r := &reads[0]
				for i, data := range r.Records {
					if want := fmt.Sprintf("%04d ", r.First+pim.Seq(i)); !bytes.HasPrefix(data, []byte(want)) {
						t.Errorf("at %s there is %.9q", want, data)
						return
					}
				}
				from = r.First
			}
		})
	}
	for upTo := pim.Seq(1); upTo <= records; upTo++ {
		trims(t, s, "log", upTo)
	}
	over.Store(true)
	reading.Wait()
}
