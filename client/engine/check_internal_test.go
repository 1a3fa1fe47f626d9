package engine

import (
	"math/bits"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// logOf returns the entries of the given seqs as the server wrote them in one of its lives.
func logOf(life pim.Millis, seqs ...pim.Seq) (entries []pim.Entry) {
	for _, seq := range seqs {
		entries = append(entries, pim.Entry{Seq: seq, Count: uint64(seq), Server: 1000 * life})
	}
	return entries
}

// compares carries out the comparison d of a device's entries with a server's log that
// ends at newest and was trimmed before front. It returns how many pages it took.
func compares(t *rapid.T, d *check, stored, server []pim.Entry, newest, front pim.Seq) (pages int) {
	within := func(entries []pim.Entry, from, to pim.Seq) (some []pim.Entry) {
		for _, e := range entries {
			if from <= e.Seq && e.Seq <= to {
				some = append(some, e)
			}
		}
		return some
	}
	for next := d.next(); next != decided; {
		if next == readStored {
			below := within(stored, 0, d.at)
			next = d.read(below[max(0, len(below)-int(d.page)):])
			continue
		}
		if pages++; pages > 1000 {
			t.Fatal("it does not end")
		}
		if !d.asks() {
			t.Fatal("the server is to be asked, and no answer is needed")
		}
		from, to := d.ask()
		if to-from >= d.page {
			t.Fatalf("%d..%d is more than a page of %d seqs", from, to, d.page)
		}
		if rapid.IntRange(0, 9).Draw(t, "a failed pull") == 0 {
			d.take(within(server, from, to)[:0], from, min(to, newest), newest, front)
			from, to = d.ask()
		}
		to = min(to, newest)
		for to >= from && rapid.Bool().Draw(t, "another frame") { // the newest come first
			split := to - min(to-from, pim.Seq(rapid.IntRange(0, 2).Draw(t, "seqs")))
			d.take(within(server, split, to), split, to, newest, front)
			to = split - 1
		}
		d.take(within(server, from, to), from, to, newest, front)
		next = d.answered(true)
	}
	return pages
}

// Two logs have a random prefix in common; the device has holes; pages are small. The
// comparison finds exactly the last entry that both have, in few pages. What the server has
// trimmed it takes to be the same, as far as the server has written.
func TestComparison(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known := pim.Seq(rapid.IntRange(1, 300).Draw(t, "known"))
		common := pim.Seq(rapid.IntRange(0, int(known)).Draw(t, "common"))
		newest := common + pim.Seq(rapid.IntRange(0, 100).Draw(t, "written since"))
		page := pim.Seq(rapid.IntRange(1, 5).Draw(t, "page"))
		var stored, server []pim.Entry
		holes := rapid.IntRange(0, 9).Draw(t, "holes")
		for seq := pim.Seq(1); seq <= known; {
			if rapid.IntRange(0, 9).Draw(t, "hole") < holes {
				seq += pim.Seq(rapid.IntRange(1, 40).Draw(t, "wide"))
				continue
			}
			stored = append(stored, logOf(1, seq)...)
			seq++
		}
		front := pim.Seq(0)
		if rapid.Bool().Draw(t, "trimmed") {
			front = pim.Seq(rapid.IntRange(0, int(newest)+1).Draw(t, "front"))
		}
		for seq := max(front, 1); seq <= newest; seq++ {
			if seq <= common {
				server = append(server, logOf(1, seq)...)
			} else {
				server = append(server, logOf(2, seq)...)
			}
		}
		d := newCheck(false, known, page)
		pages := compares(t, d, slices.Clone(stored), server, newest, front)
		if most := bits.Len64(uint64(known)) + 2; pages > most {
			t.Errorf("%d pages for %d seqs, want at most %d", pages, known, most)
		}
		if len(stored) == 0 {
			if want := min(newest, known); d.same.Seq != want || d.lost != (newest < known) {
				t.Fatalf("nothing is stored: up to %d, lost %v; want %d of %d", d.same.Seq, d.lost, want, known)
			}
			return
		}
		same, lost := pim.Seq(0), false
		for _, e := range stored {
			switch {
			case e.Seq < front:
				same = min(front-1, newest, known)
			case e.Seq <= common:
				same = e.Seq
			default:
				lost = true
			}
		}
		lost = lost || same < front && newest < known
		if d.same.Seq != same || d.lost != lost || d.newest != newest {
			t.Fatalf("the same up to %d, lost %v, newest %d; want %d, %v, %d", d.same.Seq, d.lost, d.newest, same, lost, newest)
		}
	})
}

// Pulls of the own log leave superseded commands out. While the server's store is
// believed to be the same, such a command is not lost.
func TestComparisonOfTheOwnLog(t *testing.T) {
	for name, test := range map[string]struct {
		own, believing bool
		server         []pim.Seq
		newest         pim.Seq
		lost           bool
	}{
		"superseded":               {true, true, []pim.Seq{1, 2, 4, 6}, 6, false},
		"superseded, all of them":  {true, true, []pim.Seq{6}, 6, false},
		"the log ends there":       {true, true, []pim.Seq{1, 2, 4}, 5, true},
		"in another store":         {true, false, []pim.Seq{1, 2, 4, 6}, 6, true},
		"not the own log":          {false, true, []pim.Seq{1, 2, 4, 6}, 6, true},
		"nothing has changed":      {true, false, []pim.Seq{1, 2, 3, 4, 5}, 5, false},
		"commands have come since": {true, false, []pim.Seq{1, 2, 3, 4, 5, 6}, 6, false},
	} {
		d := newCheck(test.own, 5, 10)
		if d.next() != readStored || d.read(logOf(1, 1, 2, 3, 4, 5)) != askServer {
			t.Fatalf("%s: what is stored is not compared", name)
		}
		from, to := d.ask()
		var found []pim.Entry
		for _, e := range logOf(1, test.server...) {
			if from <= e.Seq && e.Seq <= to {
				found = append(found, e)
			}
		}
		d.take(found, from, min(to, test.newest), test.newest, 0)
		if next := d.answered(test.believing); next != decided || d.lost != test.lost {
			t.Errorf("%s: lost %v, want %v; then %v", name, d.lost, test.lost, next)
		}
	}
}

// What is heard meanwhile is kept; a group that is gone has lost everything, and a server
// that can't read it nothing.
func TestComparisonThatIsRefused(t *testing.T) {
	d := newCheck(false, 9, 5)
	d.hear(7)
	d.hear(12)
	d.hear(11)
	if d.heard != 12 {
		t.Errorf("heard of %d", d.heard)
	}
	d.putOff()
	if d.lost || d.newest != 9 {
		t.Errorf("put off: %+v", d)
	}
	d.same = pim.Entry{Seq: 4}
	d.nothing()
	if !d.lost || d.same.Seq != 0 || d.newest != 0 || d.heard != 0 {
		t.Errorf("gone: %+v", d)
	}
}

// A server that sends more than was asked for fills no memory.
func TestComparisonIsBounded(t *testing.T) {
	d := newCheck(false, 9, 5)
	d.next()
	d.read(logOf(1, 9))
	d.ask()
	for range 5 {
		d.take(make([]pim.Entry, pim.MaxPageEntries), 9, 9, 9, 0)
	}
	if len(d.found) > 2*pim.MaxPageEntries {
		t.Errorf("%d entries are kept", len(d.found))
	}
}

// An entry that was lost and sent again may have everything in common with the old one
// but one time.
func TestSameEntry(t *testing.T) {
	a := pim.Entry{Seq: 1, Anchor: 1, Count: 1, Sender: "alice", Local: 5, Server: 5, Ahead: 1, Order: 6}
	for name, change := range map[string]func(*pim.Entry){
		"seq":     func(e *pim.Entry) { e.Seq++ },
		"anchor":  func(e *pim.Entry) { e.Anchor++ },
		"count":   func(e *pim.Entry) { e.Count++ },
		"sender":  func(e *pim.Entry) { e.Sender = "bob" },
		"message": func(e *pim.Entry) { e.ClientID[0]++ },
		"local":   func(e *pim.Entry) { e.Local++ },
		"server":  func(e *pim.Entry) { e.Server++ },
		"ahead":   func(e *pim.Entry) { e.Ahead++ },
		"order":   func(e *pim.Entry) { e.Order++ },
	} {
		b := a
		change(&b)
		if sameEntry(&a, &b) {
			t.Errorf("another %s: the same", name)
		}
	}
	b := a
	b.Payload = []byte("x") // the server may have written another, see sent
	if !sameEntry(&a, &b) {
		t.Error("not the same as itself")
	}
}
