package pim_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/conformance"
	"pgregory.net/rapid"
)

// written is a message as it reaches the writer, and the entry that it is to become.
type written struct {
	ID, Sender string
	Attempt    uint32
	Age        pim.Millis
	Wait       pim.Millis
	Node       int        // that writes it
	Set        pim.Millis // when the writer's clock was set, as far as it knows
	Clock      pim.Millis // the writer's
	Local      pim.Millis
	Seq        pim.Seq
	Server     pim.Millis
	Ahead      pim.Millis
	Order      pim.Millis
	Anchor     pim.Seq
}

// writer makes a conversation's entries, as the nodes of a server do.
type writer struct {
	node    int       // that has written last
	times   pim.Times // its
	senders map[string]*pim.Anchors
	entries []pim.Entry
	names   []string // of entries
}

func (w *writer) writes(m *written) *pim.Entry {
	if w.senders == nil {
		w.senders = map[string]*pim.Anchors{}
	}
	a := w.senders[m.Sender]
	if a == nil {
		a = new(pim.Anchors)
		w.senders[m.Sender] = a
	}
	if m.Node != w.node { // it takes over
		w.node, w.times = m.Node, pim.Times{}
		for i := range w.entries {
			w.times.Take(&w.entries[i])
		}
	}
	e := pim.Entry{Seq: pim.Seq(len(w.entries) + 1), Local: m.Local, Sender: pim.UserID(m.Sender)}
	e.Server, e.Ahead = w.times.Stamp(pim.Moment{Now: m.Clock, Set: m.Set})
	l := w.times.Order(pim.Sending{Local: m.Local, Attempt: m.Attempt, Age: m.Age, Wait: m.Wait}, a.Latest())
	if l != e.OrderTime() {
		e.Order = l
	}
	e.Anchor = a.Next(e.Seq, l, e.Server)
	w.entries, w.names = append(w.entries, e), append(w.names, m.ID)
	return &w.entries[len(w.entries)-1]
}

// shown returns the names of the entries in display order.
func (w *writer) shown() []string {
	entries := slices.Clone(w.entries)
	slices.SortFunc(entries, func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) })
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = w.names[entries[i].Seq-1]
	}
	return names
}

// The worked cases of a clock that is set, for every implementation of the
// writer and of the display.
func TestClockIsSet(t *testing.T) {
	const path = "testdata/display-order.json"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name     string
			Messages []written
			Order    []string
		} `json:"clock_set"`
	}
	if err := json.Unmarshal(data, &file); err != nil || len(file.Cases) == 0 {
		t.Fatal(err, len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			w := new(writer)
			for i := range c.Messages {
				m := &c.Messages[i]
				e := w.writes(m)
				if e.Seq != m.Seq || e.Server != m.Server || e.Ahead != m.Ahead || e.Order != m.Order || e.Anchor != m.Anchor {
					t.Errorf("%+v became %+v", m, e)
				}
			}
			if got := w.shown(); !slices.Equal(got, c.Order) {
				t.Errorf("shown %v, want %v", got, c.Order)
			}
			conformance.Ran(t, path, c.Name)
		})
	}
}

// A forged time reaches no further than OrderWindow and OrderSlack, whatever the
// clock did.
func TestForgedTimes(t *testing.T) {
	const most = math.MaxInt64
	for _, set := range []pim.Millis{0, 1_700_000_000_000} {
		for _, clock := range []pim.Millis{1_700_000_000_000, 1_600_000_000_000} {
			for _, said := range []pim.Sending{
				{Local: most}, {Local: -most - 1}, {Local: most, Age: most}, {Local: -most - 1, Age: most, Attempt: 2}, {Age: most}, {},
			} {
				var times pim.Times
				times.Stamp(pim.Moment{Now: 1_650_000_000_000})
				server, _ := times.Stamp(pim.Moment{Now: clock, Set: set})
				if l := times.Order(said, 0); l < server-pim.OrderWindow || l > server+pim.OrderSlack {
					t.Errorf("set %d, clock %d, %+v: L' is %d, server time %d", set, clock, said, l, server)
				}
			}
		}
	}
}

// A writer that reads the log goes on as the one that wrote it, unless its first entry finds the clock set back by so little that it may be
// another node's.
func TestTimesAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOfN(rapid.Int64Range(-400_000, 400_000), 2, 30).Draw(t, "the clock goes by")
		cut := rapid.IntRange(0, len(steps)-1).Draw(t, "read back after")
		var whole, again pim.Times
		clock := pim.Millis(1_700_000_000_000)
		var last pim.Millis
		for i, by := range steps {
			least := pim.Millis(20)
			if i == cut+1 {
				least = pim.NodesApart
			}
			if pim.Millis(by) < 0 && pim.Millis(by) >= -least {
				by = 0
			}
			clock += pim.Millis(by)
			e := pim.Entry{Seq: pim.Seq(i + 1)}
			e.Server, e.Ahead = whole.Stamp(pim.Moment{Now: clock})
			if e.Server < last || e.Ahead < 0 || e.Time() != clock {
				t.Fatalf("at %d after %d: server time %d, ahead %d", clock, last, e.Server, e.Ahead)
			}
			last = e.Server
			if i <= cut {
				again.Take(&e)
			} else if server, ahead := again.Stamp(pim.Moment{Now: clock}); server != e.Server || ahead != e.Ahead {
				t.Fatalf("read back: server time %d, ahead %d, want %d, %d", server, ahead, e.Server, e.Ahead)
			}
			if again.State() != whole.State() && i >= cut {
				t.Fatalf("read back: %+v, want %+v", again.State(), whole.State())
			}
		}
	})
}

// scene is a server whose clock is set now and then, and devices that take some
// time to notice.
type scene struct {
	t     *rapid.T
	now   pim.Millis // the time that has really passed
	set   pim.Millis // how far the server's clock is off
	setAt pim.Millis
	knows map[string]pim.Millis // device → the set that it goes by
	sets  []int64               // by how much the clock may be set, one drawn at each step; 0: not
	rest  pim.Millis            // between two sets, at least
	w     writer
}

const noon pim.Millis = 1_700_000_000_000

func newScene(t *rapid.T, forward ...int64) *scene {
	return &scene{
		t: t, setAt: -2 * pim.SetWindow, knows: map[string]pim.Millis{},
		sets: append([]int64{0, 0, 0, 0, -300, -30_000, -3_600_000, -31_536_000_000}, forward...),
	}
}

// passes lets time pass, and may set the server's clock.
func (s *scene) passes() {
	s.now += pim.Millis(rapid.SampledFrom([]int64{1, 40, 700, 5_000, 70_000, 400_000}).Draw(s.t, "passes"))
	by := rapid.SampledFrom(s.sets).Draw(s.t, "set by")
	if by == 0 || s.now-s.setAt < s.rest {
		return
	}
	s.set, s.setAt = s.set+pim.Millis(by), s.now
	s.now += 11_000 // nothing is written until the clock has been steady
}

// local returns a device's calibrated time. The device may not have noticed yet that
// the clock was set.
func (s *scene) local(device string) pim.Millis {
	if _, ok := s.knows[device]; !ok || rapid.Bool().Draw(s.t, "notices") || s.now-s.setAt > 120_000 {
		s.knows[device] = s.set
	}
	return noon + s.now + s.knows[device] + pim.Millis(rapid.Int64Range(-20, 20).Draw(s.t, "off"))
}

// arrives writes m, which is transmitted now and travels for a while.
func (s *scene) arrives(m *written) {
	s.now += pim.Millis(rapid.Int64Range(1, 300).Draw(s.t, "travels"))
	m.Clock = noon + s.now + s.set
	if s.now-s.setAt <= pim.SetWindow {
		m.Set = noon + s.setAt + s.set
	}
	s.w.writes(m)
}

// Whatever the clocks do, the order is that of seq where nothing is sent again.
func TestOrderIsSeqWhateverTheClocksDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScene(t, 30_000, 3_600_000, 31_536_000_000)
		for i := range rapid.IntRange(2, 40).Draw(t, "messages") {
			s.passes()
			s.now += 700 // two devices of one sender agree only to within the time that a message travels
			device := rapid.SampledFrom([]string{"ann/phone", "ann/laptop", "bob/phone"}).Draw(t, "device")
			m := written{ID: string(rune('A' + i)), Sender: device[:3], Attempt: 1, Local: s.local(device)}
			s.arrives(&m)
		}
		if got := s.w.shown(); !slices.IsSorted(got) {
			t.Fatalf("shown %v", got)
		}
	})
}

// Whatever the clocks do, a message that a device resends stands where it would have
// stood at first, among those that the device sent before and after it. So does one that has waited at the servers.
func TestResendsFindTheirPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScene(t, 10_000) // forwards by less than OrderWindow: a message never goes back further than that
		s.rest = pim.SetWindow   // one set in the life of a lost message can be told from its times, two cannot
		type lost struct {
			written
			at    pim.Millis
			waits bool // at a server, which writes it later than what was sent after it
		}
		var away []lost
		again := func(l lost) {
			if l.waits {
				l.Wait = s.now - l.at
			} else {
				l.Attempt, l.Age = 2, max(1, s.now-l.at)
			}
			s.arrives(&l.written)
		}
		for i := range rapid.IntRange(2, 30).Draw(t, "messages") {
			s.passes()
			s.now += 1500 // more than a message travels: Age is inexact by that
			for len(away) > 0 && (s.now-away[0].at > 130_000 || rapid.IntRange(0, 3).Draw(t, "again") == 0) {
				if s.now-away[0].at < 170_000 { // after that the SDK gives up
					again(away[0])
				}
				away = away[1:]
				s.now += 1500
			}
			m := lost{written{ID: string(rune('A' + i)), Sender: "ann", Attempt: 1, Local: s.local("ann")}, s.now, rapid.Bool().Draw(t, "waits")}
			if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
				away = append(away, m)
				continue
			}
			s.arrives(&m.written)
		}
		for _, l := range away {
			if s.now-l.at < 170_000 {
				again(l)
			}
		}
		if got := s.w.shown(); !slices.IsSorted(got) {
			t.Fatalf("shown %v", got)
		}
	})
}

// One node's clock is set back by so little that two nodes might be as far apart, and Moment.Set does not tell it. The order is that of seq
// all the same, whether a device's local times go back with the clock or not.
func TestOneNodeIsSetBackALittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w writer
		var now, off pim.Millis
		if rapid.Bool().Draw(t, "it has taken over") {
			m := written{ID: " ", Sender: "ann", Attempt: 1, Node: 1, Local: noon - 700, Clock: noon}
			w.writes(&m)
			off = -pim.Millis(rapid.Int64Range(0, int64(pim.NodesApart)).Draw(t, "it is behind by"))
		}
		held := map[string]pim.Millis{} // by device, whose local times do not go back
		for i := range rapid.IntRange(2, 30).Draw(t, "messages") {
			now += pim.Millis(rapid.SampledFrom([]int64{1, 7, 40, 80, 300, 2_000, 20_000}).Draw(t, "passes"))
			off -= pim.Millis(rapid.SampledFrom([]int64{0, 0, 0, 5, 20, 100, 350, 400}).Draw(t, "set back by"))
			device := rapid.SampledFrom([]string{"phone", "laptop", "follows the clock"}).Draw(t, "device")
			m := written{ID: string(rune('A' + i)), Sender: "ann", Attempt: 1, Local: noon + now + off, Clock: noon + now + off + 10}
			if device != "follows the clock" {
				m.Local = max(m.Local, held[device]) // the SDKs add 1 ms, which is less than two devices agree to
				held[device] = m.Local
			}
			w.writes(&m)
		}
		if got := w.shown(); !slices.IsSorted(got) {
			t.Fatalf("shown %v", got)
		}
	})
}

// A process that has taken over holds the server time until its clock has caught up, over several entries. Only then, or if its own clock
// goes back meanwhile, is that another matter.
func TestAWriterHoldsUntilItsClockHasCaughtUp(t *testing.T) {
	for _, c := range []struct {
		name          string
		clock         []pim.Millis // of the node that has taken over behind noon
		server, ahead []pim.Millis
	}{
		{"it catches up", []pim.Millis{-400, -250, -20, 30}, []pim.Millis{0, 0, 0, 30}, []pim.Millis{0, 0, 0, 0}},
		{"its time is led", []pim.Millis{-500, -505, -300, 30}, []pim.Millis{0, 0, 0, 30}, []pim.Millis{0, 0, 0, 0}},
		{"by too much", []pim.Millis{-501, -400}, []pim.Millis{501, 602}, []pim.Millis{1002, 1002}},
		{"it is set back", []pim.Millis{-400, -430, -300}, []pim.Millis{0, 430, 560}, []pim.Millis{0, 860, 860}},
	} {
		var times pim.Times
		times.Take(&pim.Entry{Seq: 1, Server: noon})
		for i, at := range c.clock {
			if server, ahead := times.Stamp(pim.Moment{Now: noon + at}); server != noon+c.server[i] || ahead != c.ahead[i] {
				t.Errorf("%s: at %d: server time %d, ahead %d", c.name, at, server-noon, ahead)
			}
		}
	}
}

// A writer that has lost the conversation and takes it back holds the server time again: it is no set-back of its clock that its entry comes
// after one of a node that is ahead.
func TestAWriterTakesAConversationBack(t *testing.T) {
	for name, back := range map[string]func(pim.Times, *pim.Entry) pim.Times{
		"it reads on": func(own pim.Times, e *pim.Entry) pim.Times { own.Take(e); return own },
		"it loads":    func(_ pim.Times, e *pim.Entry) pim.Times { return pim.TimesState{Server: e.Server}.Times() },
		"it loads what it has written, and its clock was set back meanwhile": func(own pim.Times, _ *pim.Entry) pim.Times {
			own.Stamp(pim.Moment{Now: noon + 400})
			return own.State().Times()
		},
	} {
		var own pim.Times
		own.Stamp(pim.Moment{Now: noon + 200})
		own = back(own, &pim.Entry{Seq: 2, Server: noon + 400})
		if server, ahead := own.Stamp(pim.Moment{Now: noon + 100}); server != noon+400 || ahead != 0 {
			t.Errorf("%s: server time %d, ahead %d", name, server-noon, ahead)
		}
	}
}

// A conversation has a small lead, from a version that took another node for a clock that was set back. A device whose node is ahead of the
// writer, but by no more than a node may be, is not taken for one that has not noticed.
func TestASmallLeadIsNoSign(t *testing.T) {
	for _, lead := range []pim.Millis{0, 4, 80} {
		var w writer
		w.times = pim.TimesState{Server: noon, Ahead: lead, Upset: noon - 900, Eve: noon - 900 - lead/2}.Times()
		for _, m := range []written{ // from a node that is 60 ms ahead
			{ID: "A", Local: 160, Clock: 120, Attempt: 1},
			{ID: "D", Local: 190, Clock: 150, Attempt: 1},
			{ID: "B", Local: 170, Clock: 3_000, Attempt: 2, Age: 2_860},
			{ID: "C", Local: 180, Clock: 3_001, Attempt: 2, Age: 2_880}, // B's way was longer
		} {
			m.Sender, m.Local, m.Clock = "ann", m.Local+noon, m.Clock+noon
			w.writes(&m)
		}
		if got := w.shown(); !slices.IsSorted(got) {
			t.Errorf("lead %d: shown %v", lead, got)
		}
	}
}

// Several nodes keep one time, but not to the millisecond: a device's messages are displayed in the order in which it sent them, whichever
// nodes it is connected to and whichever of them write in turns, as those do that have lost sight of each other.
func TestNodesThatKeepOneTimeTakeTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var off [3]pim.Millis // of the nodes' times
		for i := range off {
			off[i] = pim.Millis(rapid.Int64Range(0, int64(pim.NodesApart)).Draw(t, "a node's time is off by"))
		}
		type sent struct {
			written
			at pim.Millis
		}
		var w writer
		var now, last pim.Millis
		var away []sent
		writes := func(m sent) {
			now += pim.Millis(rapid.Int64Range(1, 40).Draw(t, "travels"))
			switch rapid.IntRange(0, 2).Draw(t, "comes") {
			case 0: // by the way of another transmission
				m.Attempt, m.Age = 2, max(1, now-m.at)
			case 1: // from the queue of a server
				m.Wait = now - m.at
			}
			m.Node = rapid.IntRange(0, len(off)-1).Draw(t, "writes")
			m.Clock = noon + now + off[m.Node]
			w.writes(&m.written)
		}
		for i := range rapid.IntRange(2, 30).Draw(t, "messages") {
			now += pim.Millis(rapid.SampledFrom([]int64{0, 1, 7, 40, 300, 2_000, 20_000}).Draw(t, "passes"))
			gateway := rapid.IntRange(0, len(off)-1).Draw(t, "is connected to")
			last = max(last+1, noon+now+off[gateway]) // as the SDKs do
			m := sent{written{ID: string(rune('A' + i)), Sender: "ann", Attempt: 1, Local: last}, now}
			if rapid.IntRange(0, 2).Draw(t, "away") == 0 {
				away = append(away, m)
			} else {
				writes(m)
			}
			for len(away) > 0 && (now-away[0].at > 100_000 || rapid.Bool().Draw(t, "comes late")) {
				writes(away[0])
				away = away[1:]
			}
		}
		for _, m := range away {
			writes(m)
		}
		if got := w.shown(); !slices.IsSorted(got) {
			t.Fatalf("shown %v", got)
		}
	})
}
