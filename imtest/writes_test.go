package imtest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/server"
	"github.com/pim-im/pim/store"
)

// counting counts what is written: appends and raises, and cells by the first part of their partition's
// name.
type counting struct {
	store.Store
	mu    sync.Mutex
	count map[string]int
}

func (c *counting) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	c.mu.Lock()
	for _, w := range writes {
		switch {
		case len(w.Records) > 0:
			c.count["append"]++
		case w.TouchesLog():
			c.count["raise, trim or erase"]++
		}
		for i := range w.Cells {
			if cell := &w.Cells[i]; cell.Version != 0 {
				kind, _, _ := strings.Cut(string(cell.Partition), "/")
				if cell.Forget {
					kind += " (forget)"
				}
				c.count["cell "+kind]++
			}
		}
	}
	c.mu.Unlock()
	c.Store.Begin(ctx, writes, d, done)
}

// What one message writes is what docs/decisions/0043 counts: one append, and for each member a cell that
// says what is new to the user. What connected devices acknowledge is gathered for a second or so; here all of
// it is written at the end. -v prints it.
func TestWhatAMessageWrites(t *testing.T) {
	for _, test := range []struct {
		name            string
		members, online int
		messages        int
	}{
		{"direct, both connected", 2, 2, 1},
		{"direct, one connected", 2, 1, 1},
		{"group of 20, 8 connected", 20, 8, 1},
		{"group of 200, 8 connected", 200, 8, 1},
		{"group of 200, 8 connected", 200, 8, 16},
	} {
		counts := &counting{count: map[string]int{}}
		lab := imtest.NewLab(t, imtest.LabOptions{Break: server.Options{WrapStore: func(s store.Store) store.Store {
			counts.Store = s
			return counts
		}}})
		var names []pim.UserID
		for i := 1; i < test.members; i++ {
			names = append(names, pim.UserID(fmt.Sprintf("user%d", i)))
		}
		first := lab.User("alice")
		c := pim.Direct("alice", names[0])
		if test.members > 2 {
			c = first.Creates(names...)
		}
		var others []*imtest.Actor
		for _, name := range names[:test.online-1] {
			others = append(others, lab.User(name))
		}
		say := func(text string) {
			first.Sends(c, text)
			for _, a := range others {
				a.Sees(text)
			}
			lab.Settled()
		}
		say("warm")
		counts.mu.Lock()
		clear(counts.count)
		counts.mu.Unlock()
		for i := range test.messages {
			say(fmt.Sprint("message ", i))
		}
		lab.Finish()
		counts.mu.Lock()
		got := maps.Clone(counts.count)
		counts.mu.Unlock()
		line := fmt.Sprintf("%s, %d messages in a row; for one:", test.name, test.messages)
		for _, kind := range slices.Sorted(maps.Keys(got)) {
			line += fmt.Sprintf(" %s %.2f;", kind, float64(got[kind])/float64(test.messages))
		}
		t.Log(line)
		if got["append"] != test.messages || got["cell ~fresh"] != test.messages*test.members {
			t.Errorf("%s: %v for %d messages", test.name, got, test.messages)
		}
	}
}
