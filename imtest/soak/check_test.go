package soak

import (
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
)

// small is a sound soak of two devices and one conversation, to be broken.
type small struct {
	b      *book
	log    []pim.Entry
	handed []pim.Entry
}

func soundSmall() *small {
	s := &small{b: newBook(2, 1)}
	for n := range uint32(6) {
		st := stamp{n % 2, n / 2}
		id := pim.NewClientMessageID(time.UnixMilli(int64(n) + 1))
		seq := pim.Seq(n + 1)
		s.b.queued(st, id, 0)
		s.b.acknowledged(st, seq)
		s.log = append(s.log, pim.Entry{
			Conversation: "d:a:b", Seq: seq, Kind: pim.EntryMessage, ClientID: id, Payload: st.payload(),
			Anchor: seq, Local: pim.Millis(n), Server: pim.Millis(n),
		})
	}
	s.handed = slices.Clone(s.log)
	return s
}

func (s *small) check() *findings {
	f := &findings{}
	h := newHanded(1, f)
	for i := range s.handed {
		h.take("the device", 0, &s.handed[i], false)
	}
	l := newLogs(s.b, f)
	l.check(0, s.log)
	l.end()
	h.compare("the device", 0, s.log)
	return f
}

// renumber gives the log's entries the seqs 1, 2, 3 …
func (s *small) renumber() {
	for i := range s.log {
		s.log[i].Seq = pim.Seq(i + 1)
	}
}

func TestFaultsAreFound(t *testing.T) {
	if f := soundSmall().check(); f.words != nil {
		t.Fatalf("a sound soak: %v", f.words)
	}
	for name, c := range map[string]struct {
		breakIt func(s *small)
		counter func(f *findings) int
	}{
		"an entry gone from the log": {func(s *small) { s.log = slices.Delete(s.log, 2, 3) }, lost},
		"the newest gone from the log and the devices": {func(s *small) {
			s.log, s.handed = s.log[:5], s.handed[:5]
		}, lost},
		"never acknowledged": {func(s *small) { s.b.queued(stamp{0, 3}, pim.NewClientMessageID(time.UnixMilli(9)), 0) }, lost},
		"not handed over":    {func(s *small) { s.handed = slices.Delete(s.handed, 2, 3) }, lost},
		"twice in the log": {func(s *small) {
			s.log = append(s.log, s.log[1])
			s.renumber()
		}, doubled},
		"handed over twice": {func(s *small) { s.handed = append(s.handed, s.handed[5]) }, doubled},
		"sent by nobody": {func(s *small) {
			s.log = append(s.log, pim.Entry{Conversation: "d:a:b", Seq: 7, Kind: pim.EntryMessage, Payload: stamp{1, 3}.payload()})
		}, doubled},
		"a payload that was changed": {func(s *small) { s.log[3].Payload = []byte("another") }, doubled},
		"under another ID":           {func(s *small) { s.log[3].ClientID[9]++ }, doubled},
		"handed over and not in the log": {func(s *small) {
			e := s.handed[5]
			e.Seq = 7
			s.handed = append(s.handed, e)
		}, doubled},
		"two swapped in the log": {func(s *small) {
			s.log[1], s.log[3] = s.log[3], s.log[1]
			s.renumber()
		}, misordered},
		"displayed in disorder": {func(s *small) { s.log[2].Anchor = 6 }, misordered},
		"overtaken": {func(s *small) {
			for st, seq := range map[stamp]pim.Seq{{0, 0}: 3, {0, 1}: 1} {
				s.b.acknowledged(st, seq)
			}
			s.log[0], s.log[2] = s.log[2], s.log[0]
			s.renumber()
		}, func(f *findings) int { return len(f.overtaken) }},
		"acknowledged elsewhere":      {func(s *small) { s.b.acknowledged(stamp{1, 1}, 5) }, misordered},
		"handed over in disorder":     {func(s *small) { s.handed[1], s.handed[2] = s.handed[2], s.handed[1] }, misordered},
		"another place on a device":   {func(s *small) { s.handed[2].Anchor++ }, misordered},
		"another time on a device":    {func(s *small) { s.handed[2].Server++ }, misordered},
		"the log is read in disorder": {func(s *small) { s.log[4], s.log[5] = s.log[5], s.log[4] }, misordered},
	} {
		t.Run(name, func(t *testing.T) {
			s := soundSmall()
			c.breakIt(s)
			if f := s.check(); c.counter(f) == 0 {
				t.Errorf("lost %d, doubled %d, misordered %d: %v", f.Lost, f.Doubled, f.Misordered, f.words)
			}
		})
	}
}

func lost(f *findings) int       { return f.Lost }
func doubled(f *findings) int    { return f.Doubled }
func misordered(f *findings) int { return f.Misordered }

func TestStamps(t *testing.T) {
	for _, s := range []stamp{{0, 0}, {31, 1<<32 - 1}, {7, 255}, {7, 256}} {
		if got, ok := stampOf(s.payload()); !ok || got != s {
			t.Errorf("%v is read as %v, %t", s, got, ok)
		}
	}
	b := stamp{1, 200}.payload()
	b[50]++
	if _, ok := stampOf(b); ok {
		t.Error("a payload that was changed is taken for one of ours")
	}
}
