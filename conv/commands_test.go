package conv_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

func command(owner pim.UserID, device pim.DeviceID, c pim.Command) *conv.Request {
	return &conv.Request{
		Conversation: pim.Own(owner), Kind: pim.EntryCommand, Sender: owner, Device: device,
		ClientID: pim.NewClientMessageID(time.Now()), Local: pim.MillisOf(time.Now()), Payload: wire.AppendCommand(nil, &c),
	}
}

func randomCommand(rng *rand.Rand, last pim.Seq) pim.Command {
	c := pim.Command{Known: pim.Seq(rng.IntN(int(last) + 1)), Subject: fmt.Sprint("u", rng.IntN(3))}
	switch c.Kind = pim.CommandKind(1 + rng.IntN(5)); c.Kind {
	case pim.CommandContact:
		c.Value = []byte{byte(rng.IntN(256))}
		c.Removed = rng.IntN(3) == 0
	case pim.CommandBlock:
		c.Removed = rng.IntN(2) == 0
	case pim.CommandRead:
		c.Subject, c.Seq = string(theGroup), pim.Seq(1+rng.IntN(50))
	default:
		c.Subject, c.Removed = string(theGroup), rng.IntN(2) == 0
	}
	return c
}

// readable puts theGroup into the store, with n entries that u0 may read.
func readable(t *testing.T, s store.Store, n int) {
	t.Helper()
	w := store.Write{Log: inbox.Entries(theGroup)}
	for i := range n {
		w.Records = append(w.Records, wire.AppendEntry(nil, &pim.Entry{Seq: pim.Seq(i + 1), Kind: pim.EntryMessage, Sender: "u1", Count: uint64(i + 1)}))
	}
	m := inbox.Membership{Periods: []inbox.Period{{From: 1}}}
	w.Cells = []store.CellWrite{{Partition: inbox.Members(theGroup), Cell: store.Cell{Key: "u0", Version: 1, Value: m.Value()}}}
	put(t, s, w)
}

// settingsOf reads the settings of a user, which are the projection of the user's own log.
func settingsOf(t *testing.T, s store.Store, user pim.UserID) map[string]pim.Setting {
	t.Helper()
	cells, err := s.List(context.Background(), inbox.Settings(user), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]pim.Setting)
	for _, cell := range cells {
		if got[cell.Key], err = inbox.ParseSetting(cell); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// replayed returns the settings that follow from the entries of an own log by the rules alone.
func replayed(t *testing.T, entries []pim.Entry) map[string]pim.Setting {
	t.Helper()
	want := make(map[string]pim.Setting)
	for _, e := range entries {
		c, err := wire.ParseCommand(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		s := want[c.Entity()]
		if s.Apply(&c, e.Seq, e.Device) {
			want[c.Entity()] = s
		}
	}
	return want
}

// The stored settings are those that follow from the log, whatever the engine did with its
// writes. A device that reads the log without the superseded commands comes to the same
// settings.
func TestSettingsFollowTheLog(t *testing.T) {
	first, count := seeds.Schedules(t, 20, "")
	for n := first; n < first+count; n++ {
		mem := storetest.NewMemory()
		readable(t, mem, 50)
		loose := storetest.Loose(mem, n)
		loose.FailRate(0.3)
		rec := newRecorder()
		w := conv.New(loose, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		var devices sync.WaitGroup
		for d := range 3 {
			devices.Go(func() {
				rng := rand.New(rand.NewPCG(n, uint64(d)))
				last := pim.Seq(0)
				for range 40 {
					a, err := persist(w, rec, command("u0", pim.DeviceID(fmt.Sprint("d", d)), randomCommand(rng, last)))
					if err != nil {
						t.Errorf("refused: %v", err)
					}
					last = a.Seq
				}
			})
		}
		devices.Wait()
		w.Close()
		entries, err := readLog(mem, pim.Own("u0"))
		if err != nil {
			t.Fatal(err)
		}
		want := replayed(t, entries)
		if got := settingsOf(t, mem, "u0"); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: stored\n%+v\nwant\n%+v", n, got, want)
		}
		page, err := inbox.New(mem).Pull(context.Background(), "u0", inbox.PullRequest{Conversation: pim.Own("u0"), Limit: 1000})
		if err != nil || page.To != 120 {
			t.Fatalf("pulled up to %d of 120: %v", page.To, err)
		}
		current := parsed(t, page.Entries)
		if got := replayed(t, current); !reflect.DeepEqual(got, want) || len(current) == len(entries) {
			t.Fatalf("seed %d: %d of %d entries come to\n%+v\nwant\n%+v", n, len(current), len(entries), got, want)
		}
	}
}

func parsed(t *testing.T, encoded []inbox.Encoded) (entries []pim.Entry) {
	t.Helper()
	for _, x := range encoded {
		e, err := wire.ParseEntry(pim.Own("u0"), x.Data)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// While a user blocks the sender of a direct message, the message is refused. That begins
// when the block command is answered. A message that was sent before keeps its answer.
func TestBlocks(t *testing.T) {
	mem, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(mem, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()})
	defer func() { w.Close() }()
	chat := pim.Direct("alice", "bob")
	must := func(r *conv.Request) conv.Answer {
		t.Helper()
		a, err := persist(w, rec, r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	refused := func(r *conv.Request) {
		t.Helper()
		if _, err := persist(w, rec, r); pim.KindOf(err) != pim.KindForbidden {
			t.Fatalf("got %v, want kind forbidden", err)
		}
	}
	block := pim.Command{Kind: pim.CommandBlock, Subject: "bob"}
	before := message(chat, "bob", "before")
	must(before)
	must(command("alice", "d", block))
	refused(message(chat, "bob", "blocked"))
	if a := must(before); !a.Duplicate {
		t.Errorf("sent again: %+v", a)
	}
	must(message(chat, "alice", "she may write"))
	must(message(pim.Direct("bob", "bob"), "bob", "to himself"))
	w.Close()
	w = conv.New(mem, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()}) // a restart
	refused(message(chat, "bob", "still blocked"))
	block.Removed, block.Known = true, 1
	must(command("alice", "d", block))
	must(message(chat, "bob", "again"))
}

// A block or unblock takes effect by the time its command is answered, even if an earlier
// try had already written everything and its outcome was unknown.
func TestBlocksOnLooseEngines(t *testing.T) {
	first, count := seeds.Schedules(t, 10, "")
	chat := pim.Direct("alice", "bob")
	for n := first; n < first+count; n++ {
		rng := rand.New(rand.NewPCG(n, 0))
		loose, rec := storetest.Loose(storetest.NewMemory(), n), newRecorder()
		loose.FailRate(0.4)
		w := conv.New(loose, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()})
		last := pim.Seq(0)
		for i := range 60 {
			block := pim.Command{Kind: pim.CommandBlock, Subject: "bob", Removed: rng.IntN(2) == 0, Known: last}
			a, err := persist(w, rec, command("alice", "d", block))
			if err != nil {
				t.Fatal(err)
			}
			last = a.Seq
			want := pim.KindForbidden
			if block.Removed {
				want = 0
			}
			if _, err := persist(w, rec, message(chat, "bob", "hi")); pim.KindOf(err) != want || (err == nil) != block.Removed {
				t.Fatalf("seed %d, command %d: blocked %v, and bob's message: %v", n, i, !block.Removed, err)
			}
		}
		w.Close()
	}
}

// counted is a store that counts the reads of settings.
type counted struct {
	store.Store
	gets atomic.Int64
}

func (c *counted) Get(ctx context.Context, gets []store.Get) error {
	for i := range gets {
		if strings.HasPrefix(string(gets[i].Partition), "settings/") {
			c.gets.Add(1)
		}
	}
	return c.Store.Get(ctx, gets)
}

// The blocks of a direct conversation are read with its state. They are not read for each
// message, and not because others block somebody.
func TestBlocksAreReadSeldom(t *testing.T) {
	st, rec := &counted{Store: storetest.NewMemory()}, newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	reads := func(r *conv.Request) int64 {
		t.Helper()
		before := st.gets.Load()
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
		return st.gets.Load() - before
	}
	chat := pim.Direct("alice", "bob")
	block := func(whom string) pim.Command { return pim.Command{Kind: pim.CommandBlock, Subject: whom} }
	for i, step := range []struct {
		request *conv.Request
		want    int64
	}{
		{message(chat, "alice", "the first"), 2},
		{message(chat, "bob", "the second"), 0},
		{command("carol", "d", block("eve")), 0},
		{command("alice", "d", block("eve")), 0},
		{message(chat, "bob", "after a block that is not about him"), 0},
		{command("bob", "d", block("alice")), 0},
		{message(chat, "bob", "after he blocked her"), 2},
		{message(chat, "bob", "and on"), 0},
		{message(pim.Direct("bob", "bob"), "bob", "to himself"), 0},
	} {
		if got := reads(step.request); got != step.want {
			t.Errorf("step %d: %d settings read, want %d", i, got, step.want)
		}
	}
}

// A new device reads years of read positions in few and small pages, in either direction.
func TestPullOfALongOwnLog(t *testing.T) {
	mem, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	const history = 2500
	readable(t, mem, history)
	sent := make([]*conv.Request, 0, history)
	for i := range history {
		c := pim.Command{Kind: pim.CommandRead, Subject: string(theGroup), Seq: pim.Seq(i + 1)}
		if i < 8 {
			c = pim.Command{Kind: pim.CommandContact, Subject: fmt.Sprint("u", i)}
		}
		sent = append(sent, rec.track(command("u0", "d", c)))
	}
	w.Submit(sent)
	for _, r := range sent {
		if a := rec.wait(r); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	w.Close()
	want := []pim.Seq{1, 2, 3, 4, 5, 6, 7, 8, history}
	for _, down := range []bool{false, true} {
		for limit, pages := range map[int]int{0: 3, 3: 5, 1000: 3} {
			x, got, n := inbox.New(mem), []pim.Seq(nil), 0
			req := inbox.PullRequest{Conversation: pim.Own("u0"), Limit: limit, From: 1, NewestFirst: down}
			for from, to := pim.Seq(1), pim.Seq(history); from <= to; n++ {
				req.From, req.To = from, to
				page, err := x.Pull(context.Background(), "u0", req)
				if err != nil || page.From > page.To || down && page.To != to || !down && page.From != from {
					t.Fatalf("of %d..%d it got %d..%d, %v", from, to, page.From, page.To, err)
				}
				if limit != 0 && len(page.Entries) > limit {
					t.Fatalf("%d entries, at most %d were asked for", len(page.Entries), limit)
				}
				for _, e := range page.Entries {
					if e.Seq < page.From || e.Seq > page.To {
						t.Fatalf("seq %d is not in %d..%d", e.Seq, page.From, page.To)
					}
					got = append(got, e.Seq)
				}
				if down {
					to = page.From - 1
				} else {
					from = page.To + 1
				}
			}
			slices.Sort(got)
			if n > pages || !slices.Equal(got, want) {
				t.Errorf("limit %d, newest first %v: %d pages with %v, want %d with %v", limit, down, n, got, pages, want)
			}
		}
	}
}

func TestOwnLogRefuses(t *testing.T) {
	rec := newRecorder()
	w := conv.New(storetest.NewMemory(), conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	pin := pim.Command{Kind: pim.CommandPin, Subject: string(theGroup)}
	with := func(change func(*conv.Request)) *conv.Request {
		r := command("alice", "d", pin)
		change(r)
		return r
	}
	for name, test := range map[string]struct {
		r    *conv.Request
		want pim.Kind
	}{
		"another's log":            {with(func(r *conv.Request) { r.Sender = "bob" }), pim.KindNotMember},
		"a message":                {with(func(r *conv.Request) { r.Kind = pim.EntryMessage }), pim.KindInvalid},
		"a command elsewhere":      {with(func(r *conv.Request) { r.Conversation = pim.Direct("alice", "bob") }), pim.KindInvalid},
		"no command":               {with(func(r *conv.Request) { r.Payload = []byte("\xff") }), pim.KindInvalid},
		"of a later version":       {with(func(r *conv.Request) { r.Payload = []byte{8, 99} }), pim.KindUnsupported},
		"members":                  {with(func(r *conv.Request) { r.Members = []pim.UserID{"bob"} }), pim.KindInvalid},
		"a user that cannot exist": {with(func(r *conv.Request) { r.Conversation, r.Sender = "u:a b", "a b" }), pim.KindInvalid},
	} {
		sent := rec.track(test.r)
		w.Submit([]*conv.Request{sent})
		if a := rec.wait(sent); pim.KindOf(a.Err) != test.want {
			t.Errorf("%s: refused with %v, want %v", name, a.Err, test.want)
		}
	}
}
