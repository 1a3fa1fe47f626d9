package cql_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/cql"
	"go.uber.org/goleak"
)

// Several processes use one store. They find one identity, and of their appends to one log one wins
// each seq.
func TestSeveralProcesses(t *testing.T) {
	o := fresh(keyspace(t, "pim_tiny", 7))
	const processes, want = 4, 30
	stores := make([]*cql.Store, processes)
	for i := range stores {
		stores[i] = open(t, o)
		defer closes(t, stores[i])
	}
	identities, won := make([]string, processes), make([][]pim.Seq, processes)
	var running sync.WaitGroup
	for i, s := range stores {
		running.Go(func() {
			var err error
			if identities[i], err = store.Identity(context.Background(), s); err != nil {
				t.Errorf("identity: %v", err)
			}
			for last := pim.Seq(0); last < want; {
				err := commits(s, appendTo("log", last, fmt.Sprint(i)))
				var conflict *store.ConflictError
				switch {
				case err == nil:
					last++
					won[i] = append(won[i], last)
				case errors.As(err, &conflict) && conflict.Last > last:
					last = conflict.Last
				default:
					t.Errorf("append behind seq %d: %v", last, err)
					return
				}
			}
		})
	}
	running.Wait()
	records, total := all(t, stores[0], "log"), 0
	for i := range stores {
		if identities[i] != identities[0] || identities[i] == "" {
			t.Errorf("process %d takes the store for %q, process 0 for %q", i, identities[i], identities[0])
		}
		for _, seq := range won[i] {
			if total++; int(seq) > len(records) || records[seq-1] != fmt.Sprint(i) {
				t.Errorf("process %d has won seq %d, the log is %q", i, seq, records)
			}
		}
	}
	if total != len(records) {
		t.Errorf("%d appends were acknowledged, the log has %d records", total, len(records))
	}
}

// A process that has never seen a log finds its end, and one that has seen an earlier part does, too.
// A trim that has died after it moved the front is completed by the next one.
func TestManyParts(t *testing.T) {
	ctx := context.Background()
	o := fresh(keyspace(t, "pim_tiny", 7))
	writer, reader := open(t, o), open(t, o)
	defer closes(t, writer)
	defer closes(t, reader)
	const records = 260 // more parts than a trim empties before it tells so
	for seq := pim.Seq(0); seq < records; seq++ {
		if err := commits(writer, appendTo("log", seq, fmt.Sprint(seq+1))); err != nil {
			t.Fatal(err)
		}
		if seq%50 != 0 {
			continue
		}
		if last, _, err := store.LogEnd(ctx, reader, "log"); last != seq+1 || err != nil {
			t.Fatalf("the reader finds the end at %d, %v; it is %d", last, err, seq+1)
		}
	}
	stranger := open(t, o)
	defer closes(t, stranger)
	if got := all(t, stranger, "log"); len(got) != records || got[records-1] != fmt.Sprint(records) {
		t.Fatalf("the stranger reads %q", got)
	}
	chunks := func() int {
		n, err := stranger.Chunks(ctx, "log", records/7+1)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := commits(writer, &store.Write{Log: "log", Trim: 10}); err != nil || chunks() != records-10 {
		t.Fatalf("trim: %v, %d chunks are left", err, chunks())
	}
	if err := writer.MoveFront(ctx, "log", 41); err != nil || chunks() != records-10 {
		t.Fatalf("half a trim: %v, %d chunks are left", err, chunks())
	}
	if _, err := store.ReadLog(ctx, stranger, "log", 40, 40, store.Limit{Records: 1, Bytes: 1}); pim.KindOf(err) != pim.KindNotFound {
		t.Errorf("a read before the front: %v", err)
	}
	if err := commits(stranger, &store.Write{Log: "log", Trim: 39}); err != nil || chunks() != records-40 {
		t.Errorf("the next trim: %v, %d chunks are left", err, chunks())
	}
	if err := commits(writer, &store.Write{Log: "log", Trim: records}); err != nil || chunks() != 0 {
		t.Errorf("a trim of all: %v, %d chunks are left", err, chunks())
	}
	// What comes late finds its part closed, and the log's first part is no new log. Nothing tells whether it had come before.
	for _, after := range []pim.Seq{0, 6, 7, 14} {
		if err := commits(writer, appendTo("log", after, "late")); !errors.Is(err, store.ErrUnknown) {
			t.Errorf("an append behind seq %d: %v", after, err)
		}
	}
	if got, _, err := store.LogEnd(ctx, stranger, "log"); got != records || err != nil {
		t.Errorf("the log ends at %d, %v, and ended at %d", got, err, records)
	}
}

// Cassandra may say of a transaction which it has carried out that it was not applied. If the records are trimmed by then, the
// outcome is unknown, also if the trim comes while it is looked for.
func TestTrimmedBeforeItIsSettled(t *testing.T) {
	ctx := context.Background()
	s := open(t, fresh(keyspace(t, "pim_tiny", 7)))
	defer closes(t, s)
	if err := commits(s, appendTo("log", 0, "it")); err != nil {
		t.Fatal(err)
	}
	if err := commits(s, appendTo("log", 1, "another")); err != nil {
		t.Fatal(err)
	}
	w := appendTo("log", 0, "it")
	var conflict *store.ConflictError
	if over, err := s.Settle(ctx, w, func() {}); !over || !errors.As(err, &conflict) {
		t.Errorf("another's append: %v, %v", over, err)
	}
	trims := func() {
		if err := commits(s, &store.Write{Log: "log", Trim: 1}); err != nil {
			t.Error(err)
		}
	}
	if over, err := s.Settle(ctx, w, trims); !over || !errors.Is(err, store.ErrUnknown) {
		t.Errorf("trimmed after its head was read: %v, %v", over, err)
	}
	if over, err := s.Settle(ctx, w, func() {}); !over || !errors.Is(err, store.ErrUnknown) {
		t.Errorf("trimmed: %v, %v", over, err)
	}
}

// When Close returns, the driver's goroutines end within a moment, whatever it was about to do.
func TestCloseEndsTheDriver(t *testing.T) {
	o := fresh(keyspace(t, "pim", 0))
	before := goleak.IgnoreCurrent()
	for n := range 20 {
		s := open(t, o)
		if n%2 == 0 {
			if _, err := store.Identity(context.Background(), s); err != nil {
				t.Error(err)
			}
		}
		closes(t, s)
		waits(t, fmt.Sprintf("the goroutines of store %d have ended", n+1), func() bool { return goleak.Find(before) == nil })
	}
}
