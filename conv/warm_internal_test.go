package conv

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// A state that was loaded at any time, and is brought forward later, is the one that a load finds then. If it is not
// brought forward, it is left as it was. PIM_STATES says how many schedules are played.
func TestBroughtForwardIsLoaded(t *testing.T) {
	first, schedules := seeds.Schedules(t, seeds.Many(160), "PIM_STATES")
	forward, not := 0, 0
	for seed := first; seed < first+schedules; seed++ {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem := storetest.NewMemory()
		o := Options{Outlet: handsOut{}, Shards: 1, Logger: slog.New(slog.DiscardHandler), Memory: []int{0, 1}[rng.IntN(2)]}
		one, other := New(mem, o), New(mem, o)
		chats := []pim.ConversationID{pim.Direct("ann", "bob"), pim.Own("ann"), ""}
		n := uint64(0)
		do := func(r *Request) Answer {
			n++
			r.Device, r.ClientID, r.Local = "d", id(n), pim.MillisOf(time.Now())
			done := make(chan Answer, 1)
			r.Origin = done
			one.Submit([]*Request{r})
			return <-done
		}
		chats[2] = do(&Request{Kind: pim.EntryCreate, Sender: "ann", Members: []pim.UserID{"bob", "cat"}}).Request.Conversation
		some := func(most int) {
			odd := rng.IntN(3) == 0
			for range rng.IntN(most) {
				do(anything(rng, chats, odd))
			}
		}
		some(200)
		for range 5 {
			c := chats[rng.IntN(len(chats))]
			old, err := other.load(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			some(60)
			if old.last == 0 { // Warm takes no empty logs
				continue
			}
			before := fingerprint(old)
			ok, err := old.bringForward(t.Context(), mem)
			if err != nil {
				t.Fatal(err)
			}
			want := before
			if forward++; ok {
				now, err := other.load(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				if want = fingerprint(now); now.fence != old.fence || now.front != old.front || now.stale && !old.stale {
					t.Fatalf("PIM_SEED=%d: %s: fence %d, front %d, stale %v, and not %d, %d, %v", seed, c, old.fence, old.front, old.stale, now.fence, now.front, now.stale)
				}
			} else {
				forward--
				not++
			}
			if got := fingerprint(old); !reflect.DeepEqual(got, want) {
				t.Fatalf("PIM_SEED=%d: %s, brought forward: %v:\n%+v\nand not\n%+v", seed, c, ok, got, want)
			}
		}
		one.Close()
		other.Close()
	}
	t.Logf("brought forward %d times, and not %d times", forward, not)
	if schedules > 1 && (forward < int(schedules) || not < int(schedules)/8) {
		t.Error("one of the two was hardly tried")
	}
}

// handsOut is an Outlet that sends each answer to the channel of its request.
type handsOut struct{}

func (handsOut) Deliver(answers []Answer, _ []Published) {
	for _, a := range answers {
		a.Request.Origin.(chan Answer) <- a
	}
}

// anything returns a request to one of chats, a direct conversation, an own log and a group. If odd is set, it may be of any kind.
func anything(rng *rand.Rand, chats []pim.ConversationID, odd bool) *Request {
	at := rng.IntN(len(chats))
	r := &Request{Conversation: chats[at], Kind: pim.EntryMessage, Sender: []pim.UserID{"ann", "bob"}[rng.IntN(2)], Payload: []byte("x")}
	what := rng.IntN(12)
	switch {
	case at == 1:
		cmd := pim.Command{Kind: pim.CommandRead, Subject: string(chats[2*rng.IntN(2)]), Seq: pim.Seq(1 + rng.IntN(30))}
		if odd && what < 2 {
			cmd = pim.Command{Kind: []pim.CommandKind{pim.CommandBlock, pim.CommandNoReceipts}[what], Subject: []string{"bob", "ann"}[what], Removed: rng.IntN(2) == 0}
		}
		r.Kind, r.Sender, r.Payload = pim.EntryCommand, "ann", wire.AppendCommand(nil, &cmd)
	case what < 2:
		r.Mentions = []pim.UserID{"bob"}
	case what == 2:
		r.MentionAll = true
	case odd && what == 3:
		r.Kind, r.Refers, r.Reaction, r.Payload = pim.EntryReaction, pim.Seq(1+rng.IntN(20)), "+1", nil
	case odd && what == 4:
		r.Kind, r.Refers, r.Payload = pim.EntryPin, pim.Seq(1+rng.IntN(20)), nil
	case odd && what == 5 && at == 2:
		r.Kind, r.Sender, r.Members, r.Payload = pim.EntryJoin, "ann", []pim.UserID{pim.UserID(fmt.Sprint("u", rng.IntN(9)))}, nil
	case odd && what == 6 && at == 2:
		r.Kind, r.Sender, r.Members, r.Payload = pim.EntryLeave, "ann", []pim.UserID{pim.UserID(fmt.Sprint("u", rng.IntN(9)))}, nil
	}
	return r
}

// print is what two states of the same end of a log have in common, whatever snapshots they were made from.
type print struct {
	Last, Pinned pim.Seq
	Count        uint64
	Times        pim.TimesState
	Written      pim.Millis
	Blocked      [2]bool
	Hidden       bool
	Settings     map[string]setting
	Pins         []pim.Seq
	Present      []pim.UserID
	Standings    map[pim.UserID]standing
	Members      map[pim.UserID]string
	Latest       map[pim.UserID]pim.Millis
}

func fingerprint(l *live) print {
	p := print{
		Last: l.last, Pinned: l.pinned, Count: l.count, Times: l.times.State(), Written: l.written, Hidden: l.hidden, Settings: make(map[string]setting),
		Pins: append([]pim.Seq{}, l.pins...), Present: slices.Sorted(slices.Values(l.present)),
		Standings: make(map[pim.UserID]standing), Members: make(map[pim.UserID]string), Latest: make(map[pim.UserID]pim.Millis),
	}
	for i := range p.Blocked {
		p.Blocked[i] = l.blocks.by[i].on
	}
	for entity, s := range l.settings {
		p.Settings[entity] = s
	}
	for i, u := range l.present {
		if i < len(l.marks) {
			p.Standings[u] = l.standingAt(i)
		}
	}
	for u, m := range l.members {
		p.Members[u] = fmt.Sprint(m.changed, m.Present(), bytes.Clone(m.Value()))
	}
	for u, a := range l.order {
		p.Latest[u] = a.Latest()
	}
	return p
}

// What Warm loads stays below its share of the memory, and pushes nothing out that was there before.
func TestWarmingPushesNothingOut(t *testing.T) {
	mem := storetest.NewMemory()
	o := Options{Outlet: handsOut{}, Shards: 2, Logger: slog.New(slog.DiscardHandler), Memory: 60 << 10}
	var all []pim.ConversationID
	send := func(w *Writers, c pim.ConversationID) {
		done := make(chan Answer, 1)
		r := message(c, "ann", uint64(len(all))<<32+rand.Uint64N(1<<32)+1, pim.MillisOf(time.Now()))
		r.Origin = done
		w.Submit([]*Request{r})
		if a := <-done; a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	old := New(mem, o)
	for i := range 100 {
		all = append(all, pim.Direct("ann", pim.UserID(fmt.Sprint("bob", i))))
		send(old, all[i])
	}
	old.Close()
	w := New(mem, o)
	defer w.Close()
	for _, c := range all[:3] {
		send(w, c)
	}
	w.Warm(t.Context(), append(all[3:], pim.Direct("ann", "nobody")))
	used := w.Recent(t.Context(), func(pim.ConversationID) bool { return true }, 10)
	slices.Sort(used)
	if want := slices.Sorted(slices.Values(all[:3])); !slices.Equal(used, want) {
		t.Errorf("in use are %v, and not %v", used, want)
	}
	// Half of the memory, and in each driver one conversation more: the one with which it notices.
	if weight := w.liveWeight.Load(); weight > 34<<10 || weight < 20<<10 {
		t.Errorf("%d bytes are in memory", weight)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n := New(mem, o).closed().Warm(ctx, all); n != 0 {
		t.Errorf("%d were loaded although nobody waits", n)
	}
}

func (w *Writers) closed() *Writers {
	w.Close()
	return w
}
