package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// scanner returns the store as one that can be scanned, or skips the test.
func (s *suite) scanner() store.Scanner {
	s.Helper()
	sc, ok := s.store.(store.Scanner)
	if !ok {
		s.Skip("the engine can't tell all that it holds")
	}
	return sc
}

// contents are what a scan has told: each log and each cell in words.
type contents map[string]bool

func (c contents) logs(l store.LogState) {
	c[fmt.Sprintf("log %q: %d to %d, fence %d", l.Log, l.Front, l.Last, l.Fence)] = true
}

func (c contents) cell(p store.Partition, key string, version uint64, value string) {
	c[fmt.Sprintf("cell %q %q: version %d, %q", p, key, version, value)] = true
}

// scan returns all that a scan tells, and the number of its pages. After each page it calls between.
func (s *suite) scan(between func()) (got contents, pages int) {
	s.Helper()
	got = contents{}
	for token := ""; ; pages++ {
		page, err := s.scanner().Scan(s.ctx, token)
		if err != nil {
			s.Fatalf("scan behind %q: %v", token, err)
		}
		if n := len(page.Logs) + len(page.Cells); n > store.ScanItems {
			s.Errorf("a page has %d items, at most %d are allowed", n, store.ScanItems)
		}
		before := len(got)
		for _, l := range page.Logs {
			got.logs(l)
		}
		for _, c := range page.Cells {
			got.cell(c.Partition, c.Key, c.Version, string(c.Value))
			if expires := strings.HasPrefix(string(c.Partition), "expiring"); expires != (c.Left > 0) || c.Left < 0 {
				s.Errorf("a cell of %q has %v left", c.Partition, c.Left)
			}
			if c.Left > 0 && c.Left < scanLifetime-time.Hour {
				s.Errorf("a cell that was written to live for %v has %v left", scanLifetime, c.Left)
			}
		}
		if len(got) != before+len(page.Logs)+len(page.Cells) {
			s.Errorf("a page has an item that came before")
		}
		if token = page.Next; token == "" {
			return got, pages + 1
		}
		between()
	}
}

const scanLifetime = 3 * 24 * time.Hour

// fillForScan fills the store with logs and cells of all sorts, and returns what a scan must tell.
func (s *suite) fillForScan() contents {
	want := contents{}
	// Names that are the beginnings of others, and that hold any bytes.
	for i, name := range []string{"log", "log2", "lo", "l\x00g", "\xff\xff", strings.Repeat("n", store.MaxNameBytes)} {
		log, n := store.Log(name), 3+100*i
		s.commits(appendTo(log, 0, numbered(1, n)...))
		l := store.LogState{Log: log, Last: pim.Seq(n), Front: 1}
		if i%2 == 1 {
			s.commits(raise(log))
			l.Fence = 1
		}
		switch i {
		case 2:
			s.commits(trim(log, l.Last)) // no record is left
			l.Front = l.Last + 1
		case 3, 4:
			s.commits(trim(log, 70))
			l.Front = 71
		}
		want.logs(l)
	}
	s.commits(raise("a fence and no record"))
	want.logs(store.LogState{Log: "a fence and no record", Front: 1, Fence: 1})
	s.conflicts(appendTo("never written", 1, "x"), 0)

	var cells []store.CellWrite
	flush := func() { // many cells in a commit: each may take as long as one
		s.cells(cells...)
		cells = nil
	}
	for i := range 600 {
		for _, p := range []store.Partition{"p", "~p"} {
			key, value := fmt.Sprintf("%d\x00\xff", i), fmt.Sprint("value ", i)
			cells = append(cells, cell(p, key, uint64(i+1), value))
			want.cell(p, key, uint64(i+1), value)
		}
		if i%10 == 0 {
			flush()
			s.cells(cell("~p", fmt.Sprint("forgotten ", i), 3, "x"), cell("p", fmt.Sprint("forgotten ", i), 3, "x"))
			s.cells(forget("~p", fmt.Sprint("forgotten ", i), 3), forget("p", fmt.Sprint("forgotten ", i), store.MaxVersion))
		}
	}
	for i := range 300 {
		p := store.Partition(fmt.Sprint("p", i))
		cells = append(cells, cell(p, "k", 1, ""), cell("~"+p, "k", store.MaxVersion, "\x00"))
		want.cell(p, "k", 1, "")
		want.cell("~"+p, "k", store.MaxVersion, "\x00")
		c := cell("expiring"+p, fmt.Sprint(i), 7, "e")
		c.Lifetime = scanLifetime
		cells = append(cells, c)
		if i%3 == 0 { // another version, which lives longer: the engine may keep it elsewhere
			flush()
			c.Version, c.Lifetime = 8, 20*24*time.Hour
			s.cells(c)
		}
		want.cell(c.Partition, c.Key, c.Version, "e")
	}
	flush()
	return want
}

func (s *suite) tells(what string, got, want contents) {
	s.Helper()
	for item := range got {
		if !want[item] {
			s.Errorf("%s: a scan tells of %.200s", what, item)
		}
	}
	for _, item := range slices.Sorted(maps.Keys(want)) {
		if !got[item] {
			s.Errorf("%s: a scan does not tell of %.200s", what, item)
		}
	}
}

// scans scans an empty store, and one with logs and cells of all sorts.
func (s *suite) scans() {
	got, _ := s.scan(func() {})
	s.tells("empty", got, contents{})
	want := s.fillForScan()
	got, pages := s.scan(func() {})
	s.tells("filled", got, want)
	if pages < len(want)/store.ScanItems {
		s.Errorf("%d items on %d pages", len(want), pages)
	}
	if _, err := s.scanner().Scan(s.ctx, "\xffno token"); pim.KindOf(err) != pim.KindInvalid {
		s.Errorf("a scan behind what is no token: %v", err)
	}
	big := strings.Repeat("v", store.MaxValueBytes)
	for i := range 5 {
		s.cells(cell("big", fmt.Sprint(i), 1, big))
		want.cell("big", fmt.Sprint(i), 1, big)
	}
	got, _ = s.scan(func() {})
	s.tells("with big cells", got, want)
}

// scansGoOn opens the store again after each page of a scan.
func (s *suite) scansGoOn() {
	if s.scanner(); s.reopen == nil {
		s.Skip("the engine keeps nothing over a Close")
	}
	want := s.fillForScan()
	page := 0
	got, _ := s.scan(func() {
		if page++; page%3 == 1 { // now and then, since a database takes long to open
			s.again()
		}
	})
	s.tells("opened again", got, want)
}

// restores makes logs with fronts and fences of all sorts, and uses them like any other.
func (s *suite) restores() {
	if s.restore == nil {
		s.Skip("no other store can be copied to the engine")
	}
	s.end()
	s.store, s.ended = s.restore(), false
	r, want := s.store.(store.Restorer), contents{}
	for i, front := range []pim.Seq{1, 2, 63, 64, 65, 66, 1024, 1025, 1026, 5000, 1 << 40} {
		fence := []uint64{0, 1, 7}[i%3]
		log := store.Log(fmt.Sprintf("%d %d", i, fence))
		l := store.LogState{Log: log, Last: front + 100, Front: front, Fence: fence}
		restore := func() {
			if front == 1 && fence == 0 {
				return // a log like any other
			}
			if err := r.RestoreLog(s.ctx, l); err != nil {
				s.Fatalf("restore of %q, front %d, fence %d: %v", log, front, fence, err)
			}
		}
		restore()
		restore()
		s.begins(log, front, front-1, fence, nil)
		for n := front - 1; n < front+99; n += 50 {
			w := appendTo(log, n, numbered(int(n)+1, int(n)+50)...)
			w.Fence = fence
			s.commits(w)
		}
		restore()
		if l.Last = front + 99; i%2 == 0 {
			s.commits(trim(log, front+3))
			l.Front = front + 4
		}
		want.logs(l)
		if front > 1 || fence > 0 {
			other := l
			other.Fence++
			if err := r.RestoreLog(s.ctx, other); pim.KindOf(err) != pim.KindConflict {
				s.Errorf("restore of %q with another fence: %v", log, err)
			}
		}
		if got := s.follow(log, l.Front, 0); len(got) != int(l.Last-l.Front+1) || string(got[0]) != fmt.Sprint("record ", l.Front) {
			s.Errorf("%q has the records %s", log, brief(got))
		}
	}
	if err := r.RestoreLog(s.ctx, store.LogState{Log: "l", Last: 1, Front: 3}); pim.KindOf(err) != pim.KindInvalid {
		s.Errorf("restore of a log that begins behind its end: %v", err)
	}
	note := strings.Repeat("n", store.MaxNoteBytes)
	for _, n := range []string{"first", note, "last"} {
		if err := r.SetNote(s.ctx, []byte(n)); err != nil {
			s.Fatal(err)
		}
		if got, err := r.Note(s.ctx); err != nil || string(got) != n {
			s.Errorf("the note is %.20q, %v, and should be %.20q", got, err, n)
		}
	}
	if err := r.SetNote(s.ctx, []byte(note+"n")); pim.KindOf(err) != pim.KindInvalid {
		s.Errorf("a long note: %v", err)
	}
	if err := r.EndRestore(s.ctx); err != nil {
		s.Fatal(err)
	}
	if s.reopen != nil {
		s.again()
	}
	got, _ := s.scan(func() {})
	s.tells("restored", got, want)
}
