package conv_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
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

// settingsOf reads the projection of a user's own log.
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

// replayed is what the entries of an own log come to, by the rules alone.
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

// The projection is what the log comes to, whatever the engine did with its
// writes, and a device that reads the log without what was superseded comes to the
// same.
func TestSettingsFollowTheLog(t *testing.T) {
	first := seed(t)
	for i := range uint64(20) {
		n := first + i
		mem := storetest.NewMemory()
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

// A direct message is refused while its reader blocks the sender, from the
// command's answer on; what was sent before keeps its answer.
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
